"""When a metric will cross a threshold: the time, an interval, the probability within a horizon, or why nobody can say.

A series is reduced to evenly spaced medians, its season is taken out, isolated spikes are cleaned, and the models of
`trend` are fitted to the rest. Draws of the future from their mixture give the distribution of the first crossing. What
crosses is the level, not a single noisy reading. An abrupt jump has no course that could be continued: until enough
points lie behind it, the answer is "not forecastable".
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tools.judge.estimates import chance
from tools.judge.outlook import MIN_TREND
from tools.judge.outlook.season import Season, find_season
from tools.judge.trend import OUTLIERS, fit_trend

Floats = NDArray[np.float64]
Side = Literal["above", "below"]
Unit = Literal["s", "rows"]
Outlook = Literal["crossing", "crossed", "no_crossing", "not_forecastable"]

MIN_POINTS = 12
MAX_BINS = 144
MIN_PROBABILITY = 0.5  # of crossing within the horizon, to expect it
UNLIKELY = 0.1  # below it, no crossing is expected; between the two it is possible
SETTLED = 15  # steps after a jump until what follows is a course of its own
DRAWS = 600
FUTURE_STEPS = 240
FAN_STEPS = 60  # of the expected course, as it is drawn
LOOK_BEYOND = 3.0  # horizons that are simulated, so that the interval has an upper end


@dataclass(frozen=True)
class Fan:
    """The level expected after the last point up to the horizon, with its interval, at up to FAN_STEPS times."""

    ahead_s: tuple[float, ...]
    low: tuple[float, ...]
    middle: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Forecast:
    """What is expected. Times are seconds after the last point, or rows for a series that counts in rows.

    `interval_s` holds the first crossing with probability `level`; an end is None where it lies beyond three horizons.
    """

    outlook: Outlook
    probability: float  # of crossing within the horizon
    trend: float  # probability that the level, without season, moves towards the threshold until the horizon
    expected_s: float | None  # median time of the first crossing; None beyond three horizons
    interval_s: tuple[float | None, float | None]
    current_level: float
    slope_per_s: float
    season_s: float | None
    change_s: float | None  # how long ago an abrupt change happened, if one dominates
    reason: str
    fan: Fan | None = None  # None where nothing can be said about the course


def forecast_crossing(
    times: Floats,
    values: Floats,
    threshold: float,
    horizon_s: float,
    *,
    side: Side = "above",
    level: float = 0.9,
    min_probability: float = MIN_PROBABILITY,
    seed: int = 0,
    unit: Unit = "s",
) -> Forecast:
    """Forecast the first crossing of a threshold.

    Args:
        times: seconds, any order, shape (n,); repeated times are averaged.
        values: shape (n,); non-finite ones are left out.
        threshold: in the values' unit.
        horizon_s: how far ahead a crossing matters, in seconds.
        side: on which side of the threshold the trouble is.
        level: probability that the interval holds the crossing.
        unit: of the times, for the sentence.

    Raises:
        ValueError: `horizon_s` or `level` out of range, or arrays of different lengths.
    """
    if horizon_s <= 0 or not 0 < level < 1:
        raise ValueError(f"horizon must be positive and level between 0 and 1; got {horizon_s:g} and {level:g}")
    if len(times) != len(values):
        raise ValueError(f"{len(times)} times and {len(values)} values")
    known = np.isfinite(times) & np.isfinite(values)
    sign = 1.0 if side == "above" else -1.0
    step_s, series = even_series(times[known], values[known])
    if len(series) < MIN_POINTS:
        now = float(series[-1]) if len(series) else math.nan
        return _unknown(now, f"only {len(series)} points; at least {MIN_POINTS} are needed")
    found = _course(sign * series, sign * threshold, horizon_s / step_s, level, min_probability, seed)
    return _in_seconds(found, step_s, sign, threshold, horizon_s, unit)


def even_series(times: Floats, values: Floats) -> tuple[float, Floats]:
    """Medians over equal steps: (seconds per step, values). Empty steps are filled by interpolation."""
    if len(times) < 2:
        return 1.0, np.asarray(values, dtype=np.float64)
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    span = float(times[-1] - times[0])
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    if len(gaps) == 0:
        return 1.0, np.array([float(np.median(values))])
    # A whole number of readings per step, so that every step is about equally certain; the last step ends at the last
    # reading, so that nothing recent is thinned out.
    gap = float(np.median(gaps))
    step = gap * math.ceil(max((span / gap + 1) / MAX_BINS, 1.0))
    place = np.floor((times[-1] - times) / step + 0.5 * gap / step).astype(np.int64)
    bins = int(place[0]) + 1
    place = bins - 1 - place
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    ordered = values[np.lexsort((values, place))]  # so that each step's median lies in the middle of its part
    counts = np.diff(starts, append=len(values))
    medians = (ordered[starts + (counts - 1) // 2] + ordered[starts + counts // 2]) / 2
    return step, np.interp(np.arange(bins), place[starts], medians)


def clean_spikes(values: Floats) -> Floats:
    """Replace isolated spikes, up to two steps wide, by the local median; the last points stay as they are."""
    n = len(values)
    if n < 9:
        return values
    padded = np.pad(values, 3, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 7)
    middle = np.median(around, axis=1)
    about = np.abs(values - middle)
    scale = max(1.4826 * float(np.median(about)), 1e-12)
    spike = about > 5 * scale
    spike[n - OUTLIERS :] = False
    return np.where(spike, middle, values)


@dataclass(frozen=True)
class _Course:
    """A forecast in steps after the last point, with the trouble above."""

    outlook: Outlook
    probability: float
    quantiles: tuple[float | None, float | None, float | None]  # low, median, high
    level: float
    slope: float
    season: Season | None
    jump: tuple[int, float] | None  # steps ago, size
    fan: tuple[Floats, Floats] | None = None  # steps ahead, (3, steps): low, median, high
    trend: float = math.nan


def _course(series: Floats, threshold: float, horizon: float, level: float, needed: float, seed: int) -> _Course:
    season = find_season(series)
    n = len(series)
    pattern = season.at(np.arange(n, dtype=np.float64)) if season else np.zeros(n)
    rest = clean_spikes(series - pattern)
    reach = abs(threshold - float(np.median(rest[-5:])))
    trend = fit_trend(rest, reach)
    start = 0
    while True:  # an old jump belongs to another regime: begin after it
        at, size = trend.likeliest("jump")
        if trend.probability("jump") < 0.9 or at < MIN_POINTS // 2 or len(rest) - at < MIN_POINTS + SETTLED:
            break
        rest, start = rest[at:], start + at
        trend = fit_trend(rest, reach)
    n = len(rest)
    mean_level, mean_slope, _ = (float(value) for value in trend.weight @ trend.state)
    now = mean_level + (float(pattern[-1]) if season else 0.0)
    jump = (n - at, size) if trend.probability("jump", n - SETTLED) >= 0.5 else None
    if now >= threshold:
        return _Course("crossed", 1.0, (0.0, 0.0, 0.0), now, mean_slope, season, jump)
    if jump is not None:
        return _Course("not_forecastable", math.nan, (None, None, None), now, mean_slope, season, jump)
    ahead = np.linspace(0, LOOK_BEYOND * horizon, FUTURE_STEPS + 1)[1:]
    paths = trend.draw(DRAWS, ahead, seed)
    towards = float(np.mean(paths[:, FUTURE_STEPS // int(LOOK_BEYOND) - 1] > mean_level))
    if season:
        paths = paths + season.draw(DRAWS, start + n - 1 + ahead, seed)
    passage = first_passage(ahead, paths, threshold, now)
    probability = float(np.mean(passage <= horizon))
    tail = (1 - level) / 2
    ends = [float(np.quantile(passage, q, method="inverted_cdf")) for q in (tail, 0.5, 1 - tail)]
    low, middle, high = (end if math.isfinite(end) else None for end in ends)
    outlook: Outlook = "crossing" if probability >= needed else "no_crossing"
    near = np.unique(np.linspace(0, FUTURE_STEPS / LOOK_BEYOND - 1, FAN_STEPS).astype(np.int64))
    fan = np.quantile(paths[:, near], [tail, 0.5, 1 - tail], axis=0)
    return _Course(
        outlook, probability, (low, middle, high), now, mean_slope, season, None, (ahead[near], fan), towards
    )


def first_passage(ahead: Floats, paths: Floats, threshold: float, now: float) -> Floats:
    """When each path first reaches the threshold, interpolated between the steps; infinite where it never does.

    Args:
        ahead: increasing, above 0, shape (steps,).
        paths: shape (count, steps).
        now: where all paths are at 0, below the threshold.
    """
    above = paths >= threshold
    at = np.argmax(above, axis=1)
    row = np.arange(len(paths))
    before = np.where(at > 0, paths[row, at - 1], now)
    began = np.where(at > 0, ahead[at - 1], 0.0)
    after = paths[row, at]
    share = (threshold - before) / np.where(after > before, after - before, 1.0)
    return np.where(above.any(axis=1), began + share * (ahead[at] - began), np.inf)


def _unknown(now: float, why: str) -> Forecast:
    return Forecast(
        "not_forecastable",
        math.nan,
        math.nan,
        None,
        (None, None),
        now,
        math.nan,
        None,
        None,
        f"Not forecastable: {why}.",
    )


def _in_seconds(found: _Course, step_s: float, sign: float, threshold: float, horizon_s: float, unit: Unit) -> Forecast:
    low, middle, high = (None if q is None else q * step_s for q in found.quantiles)
    now = sign * found.level
    if found.outlook == "crossed":
        reason = f"The level is {now:.4g} and has crossed {threshold:g} already."
    elif found.outlook == "not_forecastable" and found.jump is not None:
        ago, size = found.jump
        reason = (
            f"Not forecastable: the level jumped by {sign * size:.4g} about {said(ago * step_s, unit)} ago; an abrupt "
            "change has no course to continue."
        )
    else:
        reason = f"The level is {now:.4g} {_crossing(found, (low, middle, high), threshold, horizon_s, unit)}."
    return Forecast(
        outlook=found.outlook,
        probability=found.probability,
        trend=found.trend,
        expected_s=middle,
        interval_s=(low, high),
        current_level=now,
        slope_per_s=sign * found.slope / step_s,
        season_s=found.season.period * step_s if found.season else None,
        change_s=found.jump[0] * step_s if found.jump else None,
        reason=reason,
        fan=_fan(found, step_s, sign),
    )


def _crossing(
    found: _Course,
    times: tuple[float | None, float | None, float | None],
    threshold: float,
    horizon_s: float,
    unit: Unit,
) -> str:
    """What is to be expected of a level that has not crossed and can be forecast."""
    low, middle, high = (said(time, unit) for time in times)
    likely, within = chance(found.probability), said(horizon_s, unit)
    if found.outlook == "crossing" and found.trend >= MIN_TREND:
        return (
            f"and is expected to cross {threshold:g} in {middle} (interval {low} to {high}); probability {likely} "
            f"within {within}"
        )
    if found.outlook == "crossing":
        if found.season:
            return (
                f"and its season takes it across {threshold:g} within {within} (probability {likely}); no trend beyond "
                "the season is proven"
            )
        return (
            f"and so near to {threshold:g} that chance alone may take it across within {within} (probability "
            f"{likely}); no trend towards it is proven"
        )
    if found.probability >= UNLIKELY:
        return f"and may cross {threshold:g} within {within}, but rather does not (probability {likely})"
    return f"and no crossing of {threshold:g} is expected within {within} (probability {likely})"


def _fan(found: _Course, step_s: float, sign: float) -> Fan | None:
    if found.fan is None:
        return None
    steps, (low, middle, high) = found.fan[0], sign * found.fan[1]
    columns = (steps * step_s, np.minimum(low, high), middle, np.maximum(low, high))
    return Fan(*(tuple(column.tolist()) for column in columns))


def said(seconds: float | None, unit: Unit = "s") -> str:
    """A duration as people say it, or a number of rows; None is "later"."""
    if seconds is None:
        return "later"
    if unit == "rows":
        return f"{seconds:,.0f} rows"
    for name, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
