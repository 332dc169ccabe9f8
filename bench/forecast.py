"""Forecasting: warnings of a threshold crossing beside what people use today.

Run: python bench/forecast.py [--seeds 30] [--data ../shared/data] [--only incidents|real]

Incidents: series of one reading a minute with a threshold, made from seeds with random level, noise, onset and speed. A
method looks every 15 minutes at the last 4 hours and says whether the level will cross within 2 hours. The truth is the
level without noise.

- precision, recall: over all looks before the crossing; a look is positive if the crossing is at most 2 hours away. The
  looks at abrupt incidents that cross are left out of recall (nobody can foretell them) and kept in precision.
- lead: crossing minus the first warning of the last unbroken run of warnings, median over all incidents that build up,
  0 for the missed ones; at most 2 hours count.
- coverage: share of the positive looks with a warning whose crossing lies in the 90 % interval; width: median of the
  closed ones. error: median distance between expected and true crossing at those looks.
- false: share of the series that never cross in which a warning was given, a single one being enough.
- the cost of a look: processor time of the whole process, median over the looks; other
  work on the machine disturbs it less than the time that passes.
- step: share of the looks in the 30 minutes after a step to a level below the threshold at which a crossing is
  announced; n/f: at which "not forecastable" is said.

Real series (cloud metrics and counts of tweets): no incidents are labelled as crossings, so the threshold is each
series' own 98th percentile and the truth
the centred median of five readings. Most of these crossings are abrupt.

Rows: ours is `tools.judge.outlook.forecast` with its defaults; predict_linear is Prometheus's (least
squares over the range, extrapolated to now + 2 h), over 1 h and over 4 h; drift is the line from the first to the
last reading of the 4 h;
last value warns when the last reading is above the threshold (it sees no future, so its lead is 0 by design); last
value 90 % warns at 90 % of the threshold.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tools.judge.outlook.forecast import forecast_crossing

Floats = NDArray[np.float64]
MINUTES = 900
LOOKBACK, EVERY, HORIZON = 240, 15, 120
THRESHOLD = 100.0
AFTER_STEP = 30
NAN = float("nan")


@dataclass(frozen=True)
class Incident:
    """One series: readings, the minute of the level's first crossing (None: never) and of its step (None: no step)."""

    kind: str
    readings: Floats
    crossing: int | None
    step: int | None

    @property
    def abrupt(self) -> bool:
        return self.step is not None


@dataclass(frozen=True)
class Said:
    """What a method says at a look; minutes from now."""

    warning: bool
    expected: float = NAN
    low: float = NAN
    high: float = NAN
    abstained: bool = False


Method = Callable[[Floats], Said]


def make(kind: str, seed: int) -> Incident:
    """An incident of that kind: the level, plus noise that is partly white and partly with memory."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    minute = np.arange(MINUTES, dtype=np.float64)
    base = random.uniform(20, 50)
    onset = random.uniform(200, 450)
    after = np.maximum(minute - onset, 0.0)
    rise = random.uniform(120, 420)  # minutes from onset to the threshold
    gap = THRESHOLD - base
    season = random.uniform(0.15, 0.6) * gap * np.sin(2 * np.pi * (minute / random.uniform(50, 95) + random.random()))
    level = np.full(MINUTES, base)
    if kind == "linear burn":
        level += gap * after / rise
    elif kind == "accelerating burn":
        level += gap * (after / rise) ** 2
    elif kind == "burn with season":
        level += gap * after / rise + season
    elif kind == "leak from the start":
        level += gap * minute / random.uniform(400, 850)
    elif kind == "season":
        level += season
    elif kind == "random walk":
        level += np.cumsum(random.normal(0, 0.004 * gap, MINUTES))
    elif kind == "step below":
        level += gap * random.uniform(0.3, 0.7) * (minute >= onset)
    elif kind == "step across":
        level += gap * random.uniform(1.2, 1.8) * (minute >= onset)
    elif kind == "rise that ends":
        level += gap * random.uniform(0.3, 0.6) * np.minimum(after / random.uniform(60, 180), 1.0)
    noise = gap * random.uniform(0.01, 0.08)
    memory = random.uniform(0.3, 0.9)
    wave = np.zeros(MINUTES)
    for i, shock in enumerate(random.normal(0, noise * np.sqrt(1 - memory**2), MINUTES)):
        wave[i] = memory * wave[i - 1] + shock if i else shock
    readings = level + 0.5 * wave + random.normal(0, noise, MINUTES)
    if kind == "spikes":
        places = random.choice(MINUTES, 12, replace=False)
        readings[places] += gap * random.uniform(0.5, 1.5, 12)
    above = np.flatnonzero(level >= THRESHOLD)
    step = int(np.ceil(onset)) if kind.startswith("step") else None
    return Incident(kind, readings, int(above[0]) if len(above) else None, step)


KINDS = [
    "linear burn", "accelerating burn", "burn with season", "leak from the start",
    "noise", "season", "random walk", "spikes", "rise that ends", "step below", "step across",
]  # fmt: skip


def ours(readings: Floats) -> Said:
    found = forecast_crossing(np.arange(len(readings)) * 60.0, readings, THRESHOLD, HORIZON * 60.0)
    low, high = found.interval_s
    if found.outlook == "crossed":  # a warning, but no forecast: it has no interval to count
        return Said(warning=True, expected=0.0)

    def minutes(seconds: float | None) -> float:
        return float("inf") if seconds is None else seconds / 60

    return Said(
        warning=found.outlook == "crossing",
        expected=minutes(found.expected_s),
        low=minutes(low),
        high=minutes(high),
        abstained=found.outlook == "not_forecastable",
    )


def predict_linear(window: int) -> Method:
    def method(readings: Floats) -> Said:
        part = readings[-window:]
        slope, now = np.polyfit(np.arange(1 - len(part), 1, dtype=np.float64), part, 1)
        expected = (THRESHOLD - now) / slope if slope != 0 else float("inf")
        return Said(warning=now + slope * HORIZON >= THRESHOLD, expected=max(0.0, expected))

    return method


def drift(readings: Floats) -> Said:
    slope = (readings[-1] - readings[0]) / (len(readings) - 1)
    expected = (THRESHOLD - readings[-1]) / slope if slope != 0 else float("inf")
    return Said(warning=readings[-1] + slope * HORIZON >= THRESHOLD, expected=max(0.0, expected))


def last_value(at: float) -> Method:
    return lambda readings: Said(warning=bool(readings[-1] >= at), expected=0.0)


METHODS: dict[str, Method] = {
    "ours": ours,
    "predict_linear 1 h": predict_linear(60),
    "predict_linear 4 h": predict_linear(240),
    "drift": drift,
    "last value": last_value(THRESHOLD),
    "last value 90 %": last_value(0.9 * THRESHOLD),
}


@dataclass
class Tally:
    """Counts of one method over some incidents."""

    hits: int = 0
    false: int = 0
    missed: int = 0
    quiet: int = 0  # series that never cross
    quiet_warned: int = 0
    leads: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    after_step: list[tuple[bool, bool]] = field(default_factory=list)  # warned, abstained

    def add(self, incident: Incident, method: Method) -> None:
        end = incident.crossing if incident.crossing is not None else MINUTES
        looks = list(range(LOOKBACK, end, EVERY))
        run: int | None = None
        warned = False
        for at in looks:
            said = method(incident.readings[at - LOOKBACK : at])
            left = end - (at - 1)
            positive = incident.crossing is not None and left <= HORIZON
            warned = warned or said.warning
            run = (at if run is None else run) if said.warning else None
            self.look(said, positive, left, foreseeable=not incident.abrupt)
            if incident.step is not None and 0 < at - incident.step <= AFTER_STEP:
                self.after_step.append((said.warning, said.abstained))
        if incident.crossing is None:
            self.quiet += 1
            self.quiet_warned += warned
        elif not incident.abrupt:
            self.leads.append(0.0 if run is None else min(float(end - run), HORIZON))

    def look(self, said: Said, positive: bool, left: float, foreseeable: bool = True) -> None:
        """Count one look, `left` minutes before the crossing."""
        self.hits += positive and said.warning
        self.false += said.warning and not positive
        self.missed += positive and not said.warning and foreseeable
        if positive and said.warning:
            self.errors.append(abs(said.expected - left))
            if np.isfinite(said.low):
                self.covered.append(said.low <= left <= said.high)
                if np.isfinite(said.high):
                    self.widths.append(said.high - said.low)

    def row(self) -> str:
        def share(a: float, b: float, digits: int = 2) -> str:
            return f"{a / b:.{digits}f}" if b else "-"

        def middle(values: list[float]) -> str:
            return f"{np.median(values):.0f}" if values else "-"

        cells = [
            share(self.hits, self.hits + self.false),
            share(self.hits, self.hits + self.missed),
            middle(self.leads),
            middle(self.errors),
            share(sum(self.covered), len(self.covered)),
            middle(self.widths),
            share(self.quiet_warned, self.quiet),
            share(sum(warned for warned, _ in self.after_step), len(self.after_step)),
            share(sum(abstained for _, abstained in self.after_step), len(self.after_step)),
        ]
        return "".join(f"{cell:>10}" for cell in cells)


COLUMNS = ("precision", "recall", "lead", "error", "coverage", "width", "false", "step", "n/f")


def incidents(seeds: int) -> None:
    """Print the tables of the generated incidents."""
    made = {kind: [make(kind, seed) for seed in range(seeds)] for kind in KINDS}
    print(f"Generated incidents, {seeds} seeds of each of {len(KINDS)} kinds; times in minutes\n")
    tallies: dict[str, dict[str, Tally]] = {}
    for name, method in METHODS.items():
        spent: list[float] = []
        tallies[name] = {}
        for kind, series in made.items():
            tally = tallies[name][kind] = Tally()
            for incident in series:
                tally.add(incident, _timed(method, spent))
        print(f"  {name}: {1000 * np.median(spent):.2f} ms of processor time a look, {len(spent)} looks")
    print("\n" + f"{'all kinds':<22}" + "".join(f"{column:>10}" for column in COLUMNS))
    for name, by_kind in tallies.items():
        print(f"{name:<22}{_together(list(by_kind.values())).row()}")
    for kind in KINDS:
        print("\n" + f"{kind:<22}" + "".join(f"{column:>10}" for column in COLUMNS))
        for name, by_kind in tallies.items():
            print(f"{name:<22}{by_kind[kind].row()}")


def real(folder: Path) -> None:
    """Print the table of the real series: will the level reach its own 98th percentile within 120 readings?"""
    tallies = {name: Tally() for name in METHODS}
    abstained = looks = positives = 0
    for _, part in pd.read_csv(folder / "nab.csv.gz").groupby("series", sort=True):
        values = part["value"].to_numpy(dtype=np.float64)
        level = pd.Series(values).rolling(5, center=True, min_periods=1).median().to_numpy()
        threshold = float(np.quantile(level, 0.98))
        if threshold <= 0:
            continue
        above = np.flatnonzero(level >= threshold)
        every = len(level) // 60
        for at in range(LOOKBACK, len(level) - HORIZON, every):
            if level[at - 1] >= threshold:
                continue
            later = above[above >= at]
            left = float(later[0] - at + 1) if len(later) else float("inf")
            positive = left <= HORIZON
            looks, positives = looks + 1, positives + positive
            for name, method in METHODS.items():
                said = method(values[at - LOOKBACK : at] * (THRESHOLD / threshold))
                tallies[name].look(said, positive, left)
                abstained += name == "ours" and said.abstained
    print(
        f"\nReal series (cloud metrics and tweets): {looks} looks, {positives} before a crossing; 240 readings\n"
        f'seen, 120 readings ahead; ours says "not forecastable" at {abstained / looks:.0%} of the looks\n'
    )
    print(f"{'':<22}" + "".join(f"{column:>10}" for column in COLUMNS[:6]))
    for name, tally in tallies.items():
        print(f"{name:<22}{tally.row()[:60]}")


def _timed(method: Method, spent: list[float]) -> Method:
    """The method, whose processor time per look in seconds is added to `spent`."""

    def timed(readings: Floats) -> Said:
        began = time.process_time()
        said = method(readings)
        spent.append(time.process_time() - began)
        return said

    return timed


def _together(parts: list[Tally]) -> Tally:
    """The sum; lists are joined."""
    whole = Tally()
    for part in parts:
        for item in fields(Tally):
            setattr(whole, item.name, getattr(whole, item.name) + getattr(part, item.name))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description="Forecasts beside what people use today.")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", choices=("incidents", "real"))
    args = parser.parse_args()
    if args.only != "real":
        incidents(args.seeds)
    if args.only != "incidents":
        real(args.data / "nab")


if __name__ == "__main__":
    main()
