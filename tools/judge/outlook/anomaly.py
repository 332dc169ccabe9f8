"""An anomaly score for a metric stream: each reading is judged by what came before it, never by what follows.

Each reading is looked at in several ways, since an incident rarely shows in all of them: its distance from a one-step
forecast (an autoregression, updated by recursive least squares), from the long-run level and from the same time of day
on earlier days; the distance of the level of the last 48 readings from the long-run one; the spread of the last 12; and
the shape of the last 32, by its distance to the third nearest among earlier windows (k-nearest-neighbour conformal
detection: Burnaev and Ishimtsev 2016, arXiv 1608.04585). Each distance is compared with its own earlier values: its
tail probability is empirical in the bulk and a Pareto tail beyond (Hill's estimator), so it means the same on every
series, however the noise is shaped. The smallest of the probabilities counts (a sum of their logarithms, as Fisher's,
drowns what only one of them sees), times the number of looks it was chosen from (Bonferroni, with an effective number).
An alarm is the start of an incident: for a while only a reading that is ten times less likely raises another.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEARNING = 60  # earlier distances that a probability needs
WARM_UP = 24  # readings before anything is measured
SPREAD, LEVEL, RECENT, LONG = 12, 48, 288, 2000  # readings that a spread, a level, the recent and the long run span
LAGS = 3
FORGET = 0.999
SHAPE, SHAPES, NEIGHBOUR = 32, 1500, 3  # readings of a window, earlier windows (every second one), which is compared
BLOCKS, DAYS = 96, 14  # blocks of a day, earlier days that are remembered
DAY_S = 86400.0
TAIL = 0.03  # share of the earlier distances that form the tail
MIN_TAIL = 8
MEMORY = 8000  # readings
ALARM_AT = 0.995  # score of an alarm
REST = 100  # readings after an alarm in which only a clearly bigger surprise raises another
BIGGER = 1.0  # in powers of ten of the probability
LOOKS = 4  # that the six ways amount to, since they overlap: on noise about 0.5 % reach 0.995
CAP = 14.0  # -log10 of the smallest probability told apart


class _Last:
    """The last numbers of a stream, in one piece."""

    def __init__(self, size: int) -> None:
        self._size, self._end = size, 0
        self._data = np.zeros(4 * size)

    def __len__(self) -> int:
        return min(self._end, self._size)

    def add(self, value: float) -> None:
        if self._end == len(self._data):
            self._data[: self._size] = self._data[-self._size :]
            self._end = self._size
        self._data[self._end] = value
        self._end += 1

    def last(self, count: int) -> Floats:
        return self._data[max(0, self._end - min(count, self._size)) : self._end]


def _middle_and_spread(values: Floats) -> tuple[float, float]:
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    return middle, max(spread, 0.25 * float(values.std()), 1e-9 * max(abs(middle), 1.0))


class _Tail:
    """The tail probability of a magnitude among the earlier ones."""

    def __init__(self) -> None:
        self._sorted: list[float] = []
        self._order: deque[float] = deque()

    def surprise(self, value: float) -> float:
        """-log10 of the probability of a value at least as large."""
        known = self._sorted
        n = len(known)
        k = max(MIN_TAIL, int(TAIL * n))
        if n < LEARNING:
            return 0.0
        edge = known[n - k]
        if value <= edge or edge <= 0:  # the edge is 0 where almost nothing ever happened: the tail has no scale
            return -math.log10((n - bisect_left(known, value) + 1) / (n + 1))
        shape = max(float(np.mean(np.log(np.array(known[n - k :]) / edge))), 0.05)
        return math.log10((n + 1) / (k + 1)) + math.log10(value / edge) / shape

    def add(self, value: float) -> None:
        insort(self._sorted, value)
        self._order.append(value)
        if len(self._order) > MEMORY:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]


class _Forecast:
    """A one-step autoregression by recursive least squares that slowly forgets."""

    def __init__(self) -> None:
        self._weights = np.zeros(LAGS + 1)
        self._covariance = np.eye(LAGS + 1) * 100.0

    def error(self, before: Floats, now: float) -> float:
        """How far `now` is from what the readings `before` foretell; then learn from it."""
        lags = np.append(before, 1.0)
        error = now - float(self._weights @ lags)
        lags, now = lags.clip(-20, 20), min(max(now, -20.0), 20.0)
        carried = self._covariance @ lags
        gain = carried / (FORGET + float(lags @ carried))
        self._weights = self._weights + gain * (now - float(self._weights @ lags))
        self._covariance = np.minimum((self._covariance - np.outer(gain, carried)) / FORGET, 1e6)
        return error


class _Shapes:
    """How unlike every earlier window the newest one is."""

    def __init__(self) -> None:
        self._readings = _Last(2 * SHAPES + 2 * SHAPE)
        self._squares = _Last(2 * SHAPES + SHAPE)  # of the window that ends at each reading

    def novelty(self, value: float) -> float | None:
        """Distance to the third nearest of the earlier windows that do not overlap it; None: too few of them."""
        self._readings.add(value)
        if len(self._readings) < SHAPE:
            return None
        window = self._readings.last(SHAPE)
        self._squares.add(float(window @ window))
        if len(self._squares) < 2 * SHAPE + LEARNING:
            return None
        squares = self._squares.last(2 * SHAPES + SHAPE)
        earlier = self._readings.last(len(squares) + SHAPE - 1)[:-SHAPE]
        across = np.correlate(earlier, window, "valid")
        apart = (squares[:-SHAPE] - 2 * across)[::2]
        nearest = float(np.partition(apart, NEIGHBOUR - 1)[NEIGHBOUR - 1]) + float(squares[-1])
        return math.sqrt(max(nearest, 0.0) + 1e-4 * SHAPE)  # a hundredth of the spread is no difference


class _Daily:
    """How far a reading is from those of the same time of day on earlier days."""

    def __init__(self) -> None:
        self._means = np.full((DAYS + 1) * BLOCKS, np.nan)
        self._errors = _Last(LONG)
        self._block = -1
        self._sum, self._count = 0.0, 0
        self._usual: tuple[float, float] | None = None

    def distance(self, value: float, time: float) -> float | None:
        """In usual deviations; None while fewer than two earlier days are known."""
        block = int(time // (DAY_S / BLOCKS))
        if block != self._block:
            self._enter(block)
        self._sum, self._count = self._sum + value, self._count + 1
        if self._usual is None:
            return None
        usual, deviation = self._usual
        self._errors.add(abs(value - usual))
        return abs(value - usual) / deviation if deviation > 0 else None

    def _enter(self, block: int) -> None:
        size = len(self._means)
        if self._count:
            self._means[self._block % size] = self._sum / self._count
            self._means[np.arange(self._block + 1, min(block, self._block + size) + 1) % size] = np.nan
        self._block, self._sum, self._count, self._usual = block, 0.0, 0, None
        same = block - BLOCKS * np.arange(1, DAYS + 1)[:, None] + np.arange(-1, 2)
        known = self._means[same.ravel() % size]
        known = known[np.isfinite(known)]
        if len(known) > 3:
            usual = float(np.median(known))
            apart = 1.4826 * float(np.median(np.abs(known - usual)))
            pooled = float(np.median(self._errors.last(LONG))) if len(self._errors) else 0.0
            self._usual = usual, apart + pooled + 1e-9 * abs(usual)


@dataclass(frozen=True)
class Scored:
    """A reading's score: one minus the probability of so surprising a reading; 0 while learning."""

    score: float
    alarm: bool


class AnomalyScorer:
    """Scores a stream one reading at a time; not thread-safe.

    Args:
        alarm_at: score from which an incident starts, between 0 and 1.
    """

    def __init__(self, alarm_at: float = ALARM_AT) -> None:
        if not 0 < alarm_at < 1:
            raise ValueError(f"alarm_at must be between 0 and 1; got {alarm_at:g}")
        self._alarm_at = -math.log10(1 - alarm_at)
        self._readings = _Last(LONG)
        self._forecast, self._shapes, self._daily = _Forecast(), _Shapes(), _Daily()
        self._tails = [_Tail() for _ in range(6)]
        self._long_run = (0.0, 1.0)
        self._since_alarm = REST
        self._peak = 0.0
        self._seen = 0

    def update(self, value: float, time: float | None = None) -> Scored:
        """Score the next reading; a missing one (NaN) scores 0 and teaches nothing.

        Args:
            time: in seconds, never before that of the reading before; without it the time of day is not looked at.
        """
        if not math.isfinite(value):
            return Scored(0.0, False)
        surprise = 0.0
        daily = self._daily.distance(value, time) if time is not None and math.isfinite(time) else None
        if self._seen >= WARM_UP:
            for tail, distance in zip(self._tails, (*self._distances(value), daily), strict=True):
                if distance is not None:
                    surprise = max(surprise, tail.surprise(distance))
                    tail.add(distance)
            surprise = min(max(surprise - math.log10(LOOKS), 0.0), CAP)
        self._readings.add(value)
        self._seen += 1
        return Scored(1 - 10**-surprise, self._starts_incident(surprise))

    def _starts_incident(self, surprise: float) -> bool:
        self._since_alarm += 1
        if surprise < self._alarm_at or (self._since_alarm < REST and surprise < self._peak + BIGGER):
            return False
        self._since_alarm, self._peak = 0, surprise
        return True

    def _distances(self, value: float) -> tuple[float | None, ...]:
        recent = self._readings.last(RECENT)
        middle, spread = _middle_and_spread(recent)
        if self._seen % WARM_UP == 0:
            self._long_run = _middle_and_spread(self._readings.last(LONG))
        usual, deviation = self._long_run
        away = (value - usual) / deviation
        error = self._forecast.error((recent[-LAGS:] - middle) / spread, (value - middle) / spread)
        level = (float(recent[1 - LEVEL :].sum()) + value) / min(LEVEL, len(recent) + 1)
        ratio = float(np.append(recent[1 - SPREAD :], value).std()) / spread + 0.01
        shape = self._shapes.novelty(math.asinh(away))
        return abs(error), abs(away), abs(level - usual) / deviation, abs(math.log(ratio)), shape


def score_series(times: Floats, values: Floats, alarm_at: float = ALARM_AT) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores and alarms of a whole series, each from the readings up to it, in order of time; shape of `values`.

    Times are in seconds; with two days of them or more, the time of day counts.

    Raises:
        ValueError: `alarm_at` is not between 0 and 1, or the lengths differ.
    """
    if len(times) != len(values):
        raise ValueError(f"{len(times)} times and {len(values)} values")
    scorer = AnomalyScorer(alarm_at)
    scores, alarms = np.zeros(len(values)), np.zeros(len(values), dtype=bool)
    for i in np.argsort(times, kind="stable"):
        found = scorer.update(float(values[i]), float(times[i]))
        scores[i], alarms[i] = found.score, found.alarm
    return scores, alarms
