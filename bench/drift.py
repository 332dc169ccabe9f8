"""Drift decisions beside what is used today: false alarms, misses and delay on injected and on real drift.

Run: python bench/drift.py [--seeds 200] [--quick] [--workers 2] [--data ../shared/data] [--only TABLE ...]

The detectors on errors are river's own: `uv sync --all-extras --group dev --group bench` installs it. Without it their
rows are missing and everything else is printed.

Injected: rows of telco_churn, bank_marketing and noaa_weather, drawn at random, so only what is injected drifts. Models
are trained on one half; reference (2,000 rows) and batches (500 rows, five checks) come from the other. The seed also
chooses the column that drifts. "alarm/check" is the share of checks with an alarm, "missed" the share of seeds without
any alarm in five checks, "rows" the mean number of rows until the alarm where there was one.

- ours: `tools.judge.drift.verdict` at its defaults (alpha 0.01 per check, 5 % of the rows moved);
- Evidently: its own per-column tests at their defaults, alarm when half of the columns drifted (the preset's rule), and
  "any column";
- KS/chi-squared: p < 0.05 in any feature; PSI: above 0.2 in any feature (ten quantile cells, as usual);
- with labels, on a quarter of the seeds: river 0.26's ADWIN, DDM, HDDM_A, Page-Hinkley (on errors) and KSWIN (on
  losses, on a fortieth of the seeds: it is slow) at their defaults, fed with the reference first; ours is the judge's
  `contradiction` (labels no longer go with scores, p < 0.01) and `decide_retraining` (alpha 0.01).

What to doubt: injected drift is as we thought of it; a detector that alarms all the time misses nothing, so read
"missed" beside the alarms under "nothing"; river's detectors are made for streams that go on and have no reference, so
their alarms may mean that the reference itself wandered; a lower threshold would make any of them quicker and noisier.

Further tables: false alarms of the decision, and of `contradiction`, under many kinds of "nothing changed"; the
decision at growing numbers of rows; alarms on rows that resemble their neighbours; real streams in time order (elec2,
bank_marketing, noaa_weather), where a batch is harmful when the log loss rose by a fifth; and the estimate without
labels against what the labels then gave.
"""

import argparse
import functools
import itertools
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before scikit-learn: the workers share the machine's cores

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance

from bench.drift_rules import Floats, Stream, Table, evidently_any, evidently_preset, ks_any, psi_any, river_streams
from tools.judge.champion.contradiction import contradiction
from tools.judge.champion.performance import estimate_performance
from tools.judge.champion.retrain import decide
from tools.judge.drift.verdict import DriftVerdict, judge
from tools.judge.estimates import Scores
from tools.modeling.column_counts import count_categories, count_numbers

REFERENCE, BATCH, CHECKS = 2000, 500, 5
# name: target, positive label, dropped columns
SETS: dict[str, tuple[str, Any, list[str]]] = {
    "telco_churn": ("Churn", "Yes", ["customerID"]),
    "bank_marketing": ("y", "yes", ["duration", "year_reconstructed"]),
    "noaa_weather": ("rain", 1, []),
    "elec2": ("class", "UP", ["date", "nswprice"]),
}


def load(folder: Path, name: str) -> Table:
    target, positive, dropped = SETS[name]
    frame = pd.read_csv(folder / name / f"{name}.csv.gz")
    y = (frame[target] == positive).to_numpy()
    numbers: dict[str, Floats] = {}
    texts: dict[str, NDArray[Any]] = {}
    for column in frame.columns.drop([target, *dropped]):
        as_number = pd.to_numeric(frame[column], errors="coerce")
        if as_number.notna().mean() > 0.95:
            numbers[column] = as_number.to_numpy(np.float64)
        else:
            texts[column] = frame[column].astype(str).to_numpy(object)
    return Table(numbers, texts, y)


class Model:
    """A gradient boosting on ordinal codes."""

    def __init__(self, table: Table) -> None:
        self.codes = {name: {v: i for i, v in enumerate(sorted(set(vs)))} for name, vs in table.texts.items()}
        self.model = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(self.matrix(table), table.y)

    def matrix(self, table: Table) -> Floats:
        coded = [np.array([self.codes[n].get(v, np.nan) for v in vs]) for n, vs in table.texts.items()]
        return np.column_stack([*table.numbers.values(), *coded])

    def scores(self, table: Table) -> Scores:
        probability = self.model.predict_proba(self.matrix(table))[:, 1]
        right = np.clip(np.where(table.y, probability, 1 - probability), 0.01, 1)
        names = np.array(["0", "1"])
        said = names[(probability > 0.5).astype(int)]
        return Scores(names[table.y.astype(int)], said, -np.log(right), probability, "1")

    def importance(self, table: Table) -> dict[str, float]:
        found = permutation_importance(
            self.model, self.matrix(table), table.y, scoring="neg_log_loss", n_repeats=3, random_state=0
        )
        names = [*table.numbers, *table.texts]
        return dict(zip(names, map(float, found["importances_mean"]), strict=True))


# --- detectors on features


def ours(reference: Table, current: Table, importance: dict[str, float] | None = None) -> DriftVerdict:
    columns: list[Any] = [count_numbers(n, v, current.numbers[n]) for n, v in reference.numbers.items()]
    columns += [count_categories(n, v, current.texts[n]) for n, v in reference.texts.items()]
    return judge(columns, importance=importance)


FEATURES: dict[str, Callable[[Table, Table], bool]] = {
    "ours": lambda reference, current: ours(reference, current).drifted,
    "Evidently preset": evidently_preset,
    "Evidently any column": evidently_any,
    "KS/chi2 any, 0.05": ks_any,
    "PSI any, 0.2": psi_any,
}


# --- injected drift


def _column(table: Table, random: np.random.Generator) -> str:
    names = [n for n, v in table.numbers.items() if len(np.unique(v[~np.isnan(v)])) > 30]
    return str(random.choice(names))


def moved(table: Table, random: np.random.Generator, sizes: dict[str, float]) -> Table:
    numbers = dict(table.numbers)
    for name, by in sizes.items():
        numbers[name] = numbers[name] + by * SPREAD[id_of(table)][name]
    return Table(numbers, table.texts, table.y)


SPREAD: dict[frozenset[str], dict[str, float]] = {}  # standard deviations of the whole pool


def id_of(table: Table) -> frozenset[str]:
    return frozenset(table.numbers)


Change = Callable[[Table, np.random.Generator, str, str], Table]


def _wider(table: Table, random: np.random.Generator, number: str, text: str) -> Table:
    values = table.numbers[number]
    return Table(
        {**table.numbers, number: (values - np.nanmean(values)) * 1.5 + np.nanmean(values)}, table.texts, table.y
    )


def _nulls(table: Table, random: np.random.Generator, number: str, text: str) -> Table:
    values = np.where(random.random(len(table)) < 0.1, np.nan, table.numbers[number])
    return Table({**table.numbers, number: values}, table.texts, table.y)


def _category(table: Table, random: np.random.Generator, number: str, text: str) -> Table:
    if not text:
        return table
    values = table.texts[text].copy()
    values[random.random(len(table)) < 0.15] = random.choice(np.unique(values))
    values[random.random(len(table)) < 0.05] = "new"
    return Table(table.numbers, {**table.texts, text: values}, table.y)


def _flip(share: float) -> Change:
    def change(table: Table, random: np.random.Generator, number: str, text: str) -> Table:
        return Table(table.numbers, table.texts, table.y ^ (random.random(len(table)) < share))

    return change


def _segment(table: Table, random: np.random.Generator, number: str, text: str) -> Table:
    """The label means the opposite where a column is in its upper quarter."""
    values = table.numbers[number]
    return Table(table.numbers, table.texts, table.y ^ (values > np.nanquantile(values, 0.75)))


def _shift(by: float) -> Change:
    return lambda table, random, number, text: moved(table, random, {number: by})


def _all(by: float) -> Change:
    return lambda table, random, number, text: moved(table, random, dict.fromkeys(table.numbers, by))


def _population(table: Table, random: np.random.Generator, number: str, text: str) -> Table:
    """Rows drawn again, those with high values of a column up to e times as often."""
    rank = stats.rankdata(table.numbers[number], nan_policy="omit") / len(table)
    weight = np.exp(np.nan_to_num(rank, nan=0.5))
    return table.take(random.choice(len(table), len(table), p=weight / weight.sum()))


SCENARIOS: dict[str, Change] = {
    "nothing": lambda table, random, number, text: table,
    "one number +0.25 sd": _shift(0.25),
    "one number +0.5 sd": _shift(0.5),
    "one number +1 sd": _shift(1.0),
    "one number 1.5 x wider": _wider,
    "10 % nulls in one": _nulls,
    "one category changed": _category,
    "every number +0.15 sd": _all(0.15),
    "population moved": _population,
    "concept: 10 % flipped": _flip(0.10),
    "concept: a quarter flipped": _segment,
}
OURS_WITH_LABELS = ("ours, labels unexplained", "ours, decide_retraining")
SLOW = "KSWIN on losses"


@dataclass
class Tally:
    alarms: int = 0
    checks: int = 0
    missed: int = 0
    seeds: int = 0
    delay: int = 0

    def add(self, first: int | None, alarms: int, checks: int) -> None:
        self.alarms, self.checks, self.seeds = self.alarms + alarms, self.checks + checks, self.seeds + 1
        if first is None:
            self.missed += 1
        else:
            self.delay += (first + 1) * BATCH

    def cells(self, null: bool) -> str:
        if null:
            return f"{self.alarms / self.checks:8.1%} alarm/check"
        found = self.seeds - self.missed
        return f"{self.missed / self.seeds:6.1%} missed {self.delay / found if found else np.nan:6.0f} rows"


@functools.lru_cache(maxsize=1)
def _halves(folder: Path, name: str) -> tuple[Table, Model]:
    """The half that rows are drawn from, and a model of the other half."""
    pool = load(folder, name)
    order = np.random.default_rng(0).permutation(len(pool))
    SPREAD[id_of(pool)] = {n: float(np.nanstd(v)) for n, v in pool.numbers.items()}
    return pool.take(order[1::2]), Model(pool.take(order[::2]))


Tallies = dict[str, Tally]


def _scenario(folder: Path, name: str, scenario: str, seeds: int) -> Tallies:
    warnings.simplefilter("ignore")
    rest, model = _halves(folder, name)
    tallies: Tallies = {}
    if scenario != "one category changed" or rest.texts:
        for seed in range(seeds):
            _one(rest, model, scenario, seed, tallies)
    return tallies


def injected(folder: Path, seeds: int, names: list[str], workers: int) -> None:
    print(f"\n== Injected drift: {seeds} seeds; nothing: alarms per check, otherwise: missed within "
          f"{CHECKS * BATCH} rows, mean rows to the alarm")  # fmt: skip
    with ProcessPoolExecutor(workers) as pool:
        for name in names:
            started = time.monotonic()
            run = functools.partial(_scenario, folder, name, seeds=seeds)
            found = dict(zip(SCENARIOS, pool.map(run, SCENARIOS), strict=True))
            print(f"\n{name} ({time.monotonic() - started:.0f} s)")
            for scenario, tallies in found.items():
                if tallies:
                    print(f"  {scenario}")
                for detector, tally in tallies.items():
                    print(f"    {detector:28}{tally.cells(scenario == 'nothing')}", flush=True)


def _one(rest: Table, model: Model, scenario: str, seed: int, tallies: Tallies) -> None:
    random = np.random.default_rng([seed, len(scenario)])
    change = SCENARIOS[scenario]
    reference = rest.take(random.integers(0, len(rest), REFERENCE))
    number = _column(rest, random)
    text = str(random.choice(list(rest.texts))) if rest.texts else ""
    batches = [change(rest.take(random.integers(0, len(rest), BATCH)), random, number, text) for _ in range(CHECKS)]
    null = scenario == "nothing"

    def record(detector: str, alarm: Callable[[int], bool]) -> None:
        first, alarms, checks = None, 0, 0
        for i in range(CHECKS):
            checks += 1
            if alarm(i):
                alarms += 1
                first = i if first is None else first
                if not null:
                    break
        tallies.setdefault(detector, Tally()).add(first, alarms, checks)

    if seed % 4 == 0 or not scenario.startswith("concept"):  # which leaves the features as they are
        for detector, decides in FEATURES.items():
            record(detector, lambda i, decides=decides: decides(reference, batches[i]))
    if seed % 4:  # a quarter of the seeds for those that need a model's scores
        return
    before = model.scores(reference)
    scored = [model.scores(batch) for batch in batches]
    record(OURS_WITH_LABELS[0], lambda i: contradiction(before, scored[i], "binary") < 0.01)
    record(OURS_WITH_LABELS[1], lambda i: decide(before, scored[i], "roc_auc", "binary").act)
    for name, stream in river_streams(seed).items():
        if name != SLOW or seed % 40 == 0:
            stream.fed(before)
            record(name, lambda i, stream=stream: stream.fed(scored[i]))


# --- further tables


def normal(random: np.random.Generator, rows: int, first: float) -> Table:
    return Table({f"c{i}": random.normal(first * (i == 0), 1, rows) for i in range(10)}, {}, np.zeros(rows, bool))


def sizes(seeds: int, largest: int) -> None:
    print("\n== The same drift at growing numbers of rows (10 columns, one shifted): share of alarms")
    counts = [n for n in (500, 5_000, 50_000, 500_000) if n <= largest]
    for shift in (0.0, 0.05, 0.25, 0.5):
        for detector in ("ours", "KS/chi2 any, 0.05", "PSI any, 0.2", "Evidently preset", "Evidently any column"):
            row = []
            for n in counts:
                few = seeds if n <= 5_000 else max(2, seeds // 10)
                alarms = 0
                for seed in range(few):
                    random = np.random.default_rng(seed)
                    pair = [normal(random, n, by) for by in (0.0, shift)]
                    alarms += FEATURES[detector](pair[0], pair[1])
                row.append(f"{n:>8,}: {alarms / few:4.0%}")
            print(f"  +{shift:<4} sd  {detector:22}{'  '.join(row)}")


def dependent(seeds: int) -> None:
    print("\n== No change, but rows resemble their neighbours (AR(1), 5 columns, 2,000 and 1,000 rows): alarms/check")
    for correlation in (0.0, 0.5, 0.8, 0.95):
        row = []
        for detector, decides in FEATURES.items():
            alarms = 0
            for seed in range(seeds):
                random = np.random.default_rng(seed)
                pair = [
                    Table(
                        {
                            f"c{i}": lfilter([1.0], [1.0, -correlation], random.normal(size=n + 200))[200:]
                            for i in range(5)
                        },
                        {},
                        np.zeros(n, bool),
                    )
                    for n in (2000, 1000)
                ]
                alarms += decides(pair[0], pair[1])
            row.append(f"{detector} {alarms / seeds:.0%}")
        print(f"  correlation {correlation:<5} {'; '.join(row)}")


# --- calibration

ALPHA = 0.01


def _ar(random: np.random.Generator, rows: int, correlation: float) -> Floats:
    noise = random.normal(size=rows + 200)
    return lfilter([np.sqrt(1 - correlation**2)], [1.0, -correlation], noise)[200:] if correlation else noise[200:]


Draw = Callable[[np.random.Generator, int], NDArray[Any]]
NOTHING_CHANGED: dict[str, tuple[Literal["number", "category"], Draw]] = {
    "normal numbers": ("number", lambda random, n: random.normal(size=n)),
    "ties: ten values": ("number", lambda random, n: np.floor(random.exponential(2, n)).clip(max=9)),
    "mostly zero, heavy tail": ("number", lambda random, n: random.pareto(1.2, n) * (random.random(n) < 0.1)),
    "20 % nulls": ("number", lambda random, n: np.where(random.random(n) < 0.2, np.nan, random.normal(size=n))),
    "2 categories, 1 % rare": ("category", lambda random, n: random.choice(["a", "b"], n, p=[0.99, 0.01])),
    "300 categories, Zipf": ("category", lambda random, n: (random.zipf(1.5, n).clip(max=300)).astype(str)),
    "AR(1) 0.5": ("number", lambda random, n: _ar(random, n, 0.5)),
    "AR(1) 0.9": ("number", lambda random, n: _ar(random, n, 0.9)),
}


def _null_alarms(kind: str, columns: int, rows: int, seeds: int) -> tuple[int, int]:
    """Alarms at the proof alone (min_effect 0), and at the defaults."""
    form, draw = NOTHING_CHANGED[kind]
    alarms = [0, 0]
    for seed in range(seeds):
        random = np.random.default_rng([seed, columns, rows])
        count: Any = count_numbers if form == "number" else count_categories
        pairs = [count(f"c{i}", draw(random, rows), draw(random, max(500, rows // 2))) for i in range(columns)]
        alarms[0] += judge(pairs, alpha=ALPHA, min_effect=0.0).drifted
        alarms[1] += judge(pairs, alpha=ALPHA).drifted
    return alarms[0], alarms[1]


def calibration(seeds: int, largest: int, workers: int) -> None:
    print(f"\n== Nothing changed, alpha {ALPHA}: alarms/checks of the proof alone (min_effect 0), then at the defaults")
    cells = [
        (kind, columns, rows, max(2, min(10 * seeds, 20 * seeds // columns, 40_000 * seeds // (rows * columns))))
        for kind in NOTHING_CHANGED
        for columns, rows in ((1, 500), (10, 500), (100, 500), (1, 5_000), (10, 5_000), (1, 50_000), (1, 1_000_000))
        if rows <= largest
    ]
    totals = np.zeros(3)
    with ProcessPoolExecutor(workers) as pool:
        for (kind, columns, rows, count), found in zip(
            cells, pool.map(_null_alarms, *zip(*cells, strict=True)), strict=True
        ):
            totals += [found[0], found[1], count]
            # Of a true rate of alpha, so many alarms or more are this likely.
            p = stats.binom.sf(found[0] - 1, count, ALPHA)
            print(f"  {kind:24} {columns:3} columns {rows:>9,} rows: {found[0]:3}/{count:<5} (p = {p:.2f}), "
                  f"{found[1]}/{count}", flush=True)  # fmt: skip
    proven, counted, checks = totals
    least = 1 / stats.beta.ppf(0.95, counted + 1, checks - counted)
    print(f"  all: proof alone {proven / checks:.2%} per check; at the defaults {counted:.0f} alarms in {checks:,.0f} "
          f"checks, so one in more than {least:,.0f} (95 %); promised: one in at least {1 / ALPHA:.0f}")  # fmt: skip


def _labels_null(base: float, shift: float, correlation: float, n: int, m: int, seeds: int) -> int:
    def scores(random: np.random.Generator, rows: int, by: float) -> Scores:
        x = 1.5 * _ar(random, rows, correlation) + by
        truth = random.random(rows) < 1 / (1 + np.exp(-x - base))
        probability = 1 / (1 + np.exp(-2 * x - base))  # overconfident
        names = np.array(["0", "1"])
        right = np.clip(np.where(truth, probability, 1 - probability), 1e-6, 1)
        said = names[(probability > 0.5).astype(int)]
        return Scores(names[truth.astype(int)], said, -np.log(right), probability, "1")

    alarms = 0
    for seed in range(seeds):
        random = np.random.default_rng([seed, n, m])
        alarms += contradiction(scores(random, n, 0.0), scores(random, m, shift), "binary") < ALPHA
    return alarms


def label_calibration(seeds: int, workers: int) -> None:
    print(f"\n== Labels go with scores as before: alarms of `contradiction` at {ALPHA}, {5 * seeds} seeds each")
    cells = [
        (base, shift, correlation, n, m, 5 * seeds)
        for base in (0.0, -3.0)
        for shift in (0.0, 1.0)
        for correlation in (0.0, 0.9)
        for n, m in ((1500, 500), (500, 2000), (200, 200))
    ]
    with ProcessPoolExecutor(workers) as pool:
        for cell, alarms in zip(cells, pool.map(_labels_null, *zip(*cells, strict=True)), strict=True):
            base, shift, correlation, n, m, count = cell
            print(f"  base log odds {base:4}, population moved {shift}, scores AR {correlation}, {n:5} and {m:5} rows: "
                  f"{alarms / count:.2%}", flush=True)  # fmt: skip


def real(folder: Path) -> None:
    print("\n== Real streams in time order: trained on the first tenth, reference the second, then 32 batches")
    print("   alarms on harmful batches (log loss up by a fifth) and on the others")
    for name in ("elec2", "bank_marketing", "noaa_weather"):
        table = load(folder, name)
        tenth = len(table) // 10
        model, reference = Model(table.take(slice(0, tenth))), table.take(slice(tenth, 2 * tenth))
        before, importance = model.scores(reference), model.importance(reference)
        bounds = np.linspace(2 * tenth, len(table), 33).astype(int)
        harmful: list[bool] = []
        alarms: dict[str, list[bool]] = {}
        streams: dict[str, Stream] = river_streams(0)
        for stream in streams.values():
            stream.fed(before)
        for start, end in itertools.pairwise(bounds):
            batch = table.take(slice(int(start), int(end)))
            now = model.scores(batch)
            harmful.append(float(now.loss.mean()) > 1.2 * float(before.loss.mean()))
            found = {d: decides(reference, batch) for d, decides in FEATURES.items()}
            severity = ours(reference, batch, importance).severity
            found["ours, severity moderate up"] = severity in ("moderate", "high")
            found["ours, severity high"] = severity == "high"
            found["ours, labels unexplained"] = contradiction(before, now, "binary") < 0.01
            found["ours, decide_retraining"] = decide(before, now, "roc_auc", "binary").act
            found |= {n: stream.fed(now) for n, stream in streams.items()}
            for detector, alarm in found.items():
                alarms.setdefault(detector, []).append(alarm)
        bad = np.array(harmful)
        print(f"\n{name}: {bad.sum()} of {len(bad)} batches harmful")
        for detector, values in alarms.items():
            hit = np.array(values)
            print(
                f"  {detector:30} harmful {hit[bad].sum():2}/{bad.sum():<2}  others {hit[~bad].sum():2}/{(~bad).sum()}"
            )
        if name == "elec2":
            after = (
                int(np.searchsorted(bounds, 17_424, side="right")) - 1
            )  # vicprice, vicdemand, transfer start to vary
            print(f"  known change in batch {after}: " + "; ".join(
                f"{d} before {sum(v[:after])}/{after}, after {sum(v[after:])}/{32 - after}" for d, v in alarms.items()
                if d in ("ours", "Evidently preset")))  # fmt: skip


def estimates(folder: Path, seeds: int) -> None:
    print(
        "\n== Metric estimated without labels: mean error, beside assuming the reference's value; share in the interval"
    )

    def line(name: str, pairs: list[tuple[Scores, Scores]]) -> None:
        for metric in ("accuracy", "roc_auc"):
            found = [estimate_performance(a, b, np.ones(len(b), bool), metric, "binary") for a, b in pairs]
            actual = np.array([f.actual for f in found], dtype=float)
            off = np.abs(np.array([f.value for f in found]) - actual).mean()
            naive = np.abs(np.array([f.reference_value for f in found]) - actual).mean()
            inside = np.mean([f.low <= a <= f.high for f, a in zip(found, actual, strict=True)])
            print(f"  {name:44}{metric:9} {off:.3f}  no change assumed {naive:.3f}  in the 95 % interval {inside:.0%}")

    for name in ("telco_churn", "bank_marketing", "noaa_weather"):
        pool = load(folder, name)
        order = np.random.default_rng(0).permutation(len(pool))
        model, rest = Model(pool.take(order[::2])), pool.take(order[1::2])
        pairs: list[tuple[Scores, Scores]] = []
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            reference = model.scores(rest.take(random.integers(0, len(rest), REFERENCE)))
            batch = rest.take(random.integers(0, len(rest), 4 * BATCH))
            score = model.scores(batch).probability  # harder or easier rows become more frequent
            assert score is not None
            sure = np.abs(score - 0.5) * (1 if seed % 2 else -1) * 4
            rows = random.choice(len(batch), BATCH, p=np.exp(sure) / np.exp(sure).sum())
            pairs.append((reference, model.scores(batch.take(rows))))
        line(f"{name}, harder or easier rows", pairs)
    for name in ("elec2", "bank_marketing", "noaa_weather"):
        table = load(folder, name)
        scores = Model(table.take(slice(0, len(table) // 10))).scores(table)
        bounds = np.linspace(len(table) // 10, len(table), 37).astype(int)
        # The labels of the four batches before are known.
        line(f"{name}, real, in time order", [
            (_rows(scores, bounds[i - 4], bounds[i]), _rows(scores, bounds[i], bounds[i + 1])) for i in range(4, 36)
        ])  # fmt: skip


def _rows(scores: Scores, start: int, end: int) -> Scores:
    assert scores.probability is not None
    part = slice(int(start), int(end))
    return Scores(scores.y_true[part], scores.prediction[part], scores.loss[part], scores.probability[part], "1")


TABLES = ("calibration", "labels", "dependent", "sizes", "real", "estimates", "injected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="10 seeds, one data set: about a minute")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), help="these tables")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not river_streams(0):
        print("river is not installed, so ADWIN, DDM, HDDM_A, KSWIN and Page-Hinkley are missing below; to install it: "
              "uv sync --all-extras --group dev --group bench")  # fmt: skip
    seeds = 10 if options.quick else options.seeds
    names = ["telco_churn"] if options.quick else ["noaa_weather", "telco_churn", "bank_marketing"]
    tables: dict[str, Callable[[], None]] = {
        "calibration": lambda: calibration(seeds, 50_000 if options.quick else 1_000_000, options.workers),
        "labels": lambda: label_calibration(seeds, options.workers),
        "dependent": lambda: dependent(seeds // 2),
        "sizes": lambda: sizes(max(10, seeds // 4), 5_000 if options.quick else 50_000),
        "real": lambda: real(options.data),
        "estimates": lambda: estimates(options.data, seeds // 4),
        "injected": lambda: injected(options.data, seeds, names, options.workers),
    }
    for name in TABLES:
        if name in options.only:
            started = time.monotonic()
            tables[name]()
            print(f"({name}: {time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
