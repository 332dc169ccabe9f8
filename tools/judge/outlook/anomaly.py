"""Whether the newest values of one series are unusual, judged as they come, in constant memory.

Fourteen views of the last values each say how strange they are: shapes of 4, 12 and 24 values, and of 12 means of five,
against the nearest remembered ones, plain and whitened (what neighbouring values do not already tell); level, spread,
jump, shift, distribution and standstill against the past. Each view is ranked in its own past, with a Pareto tail
beyond the 90th percentile (Hill), and counts at most as once in a hundred: one wild view is noise, many views that find
the same moment strange are an incident. What is learned is clipped, values and views alike, so that an incident neither
fattens the tail nor hides the next one.

Ideas: nearest neighbours with a conformal rank (Burnaev and Ishimtsev, arXiv 1608.04585), relative entropy (Wang et
al., ICAC 2011). The rates behind `once_in` were measured on generated quiet series (bench/anomaly.py --only quiet).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEARN = 100  # points before the views say anything
MIN_POINTS = 150  # and before they are ranked, so that a value can be judged
MEMORY = 2000  # values and ranks remembered
SHAPES = 1000  # of them as shapes
COARSE = 5  # values per coarse one
REFRESH = 50  # points between two looks at the memory
REST = 150  # points after an alarm without another
STRANGER = 6.0  # unless the views' ranks sum up to so much more
GAP, SETTLE = 5.0, 24  # steps that make a gap; points after it that are not judged
ALARM = 12.0  # sum of the views' ranks from which a value is an alarm
RAISE, FADE = 2.0, 1000.0  # a series that alarms is believed less: what an alarm adds to that sum, fading in points
PER_RANK, PER_ALARM = (
    0.257,
    0.11,
)  # log10 of "once in", per unit of the sum below ALARM and above it: measured, see above
CLIP = 2.0  # a view counts at most as once in 10 ** CLIP
LEARNED = 4.0  # and is learned at most as once in 10 ** LEARNED
TAIL = 0.9  # quantile at which the Pareto tail begins
MIN_TAIL, PRIOR = 0.08, 3  # least Hill slope; points the prior slope of 0.2 counts for
FLOOR = 1e-3  # of a view, below which differences are rounding
NEIGHBOURS = 5
RIDGE = 0.02
STILL = 24  # equal values in a row that can be a standstill
LOCAL = 54  # the most recent values any view looks at
VIEWS = 14


class _Window:
    """The newest `size` numbers, contiguous."""

    def __init__(self, size: int) -> None:
        self._store, self._end, self._size = np.empty(3 * size), 0, size

    def append(self, value: float) -> None:
        if self._end == len(self._store):
            self._store[: self._size] = self._store[-self._size :]
            self._end = self._size
        self._store[self._end] = value
        self._end += 1

    def last(self, count: int) -> Floats:
        return self._store[max(self._end - min(count, self._size), 0) : self._end]


@dataclass(frozen=True)
class _Scale:
    """A robust centre and width; asinh keeps heavy tails within reach of ordinary values."""

    centre: float
    width: float

    @classmethod
    def of(cls, values: Floats) -> "_Scale":
        low, q1, centre, q3, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
        width = max((q3 - q1) / 1.35, (high - low) / 6)
        if width <= 0:
            apart = np.abs(values - centre)
            width = float(apart[apart > 0].mean()) if (apart > 0).any() else max(abs(float(centre)), 1.0) * 0.01
        return cls(float(centre), float(width))

    def __call__(self, values: Floats) -> Floats:
        return np.arcsinh((values - self.centre) / self.width)


class _Shapes:
    """Distance of the newest `width` values to the nearest remembered ones."""

    def __init__(self, width: int, *, white: bool) -> None:
        self.width, self._white = width, white

    def learn(self, past: Floats) -> None:
        windows = sliding_window_view(past[-SHAPES:], self.width)
        self._mean, self._whiten = np.zeros(self.width), np.eye(self.width)
        if self._white:
            self._mean = windows.mean(0)
            covariance = np.cov(windows.T) + RIDGE * np.eye(self.width)
            self._whiten = np.linalg.inv(np.linalg.cholesky(covariance)).T
        self._known = (windows - self._mean) @ self._whiten
        self._norms = (self._known**2).sum(1)

    def distance(self, recent: Floats) -> float:
        at = (recent[-self.width :] - self._mean) @ self._whiten
        squares = self._norms - 2 * (self._known @ at) + at @ at
        nearest = min(NEIGHBOURS, len(squares) - 1)
        return math.sqrt(max(float(np.partition(squares, nearest)[:nearest].mean()), 0.0))


class _Views:
    """The views of a series' newest values; all are at least 0, and 0 is ordinary. NaN: too little was seen for it."""

    def __init__(self) -> None:
        self._values, self._means = _Window(MEMORY), _Window(SHAPES // 2)
        self._fine = [
            _Shapes(12, white=True),
            _Shapes(12, white=False),
            _Shapes(4, white=False),
            _Shapes(24, white=True),
        ]
        self._wide = [_Shapes(12, white=True), _Shapes(12, white=False)]
        self._coarse, self._pending = [math.nan, math.nan], list[float]()
        self._wide_ready, self._seen, self._dwell, self._longest = False, 0, 0, 0

    def add(self, value: float) -> Floats | None:
        """The views after this value; None while too little was seen."""
        self._seen += 1
        if self._seen > 1 and value == float(self._newest[-1]):
            self._dwell += 1
        else:
            self._longest, self._dwell = max(self._longest, self._dwell), 0
        learned = value if self._seen <= LEARN else min(max(value, self._least), self._most)
        self._values.append(learned)
        self._newest = np.append(self._newest[-LOCAL + 1 :], value) if self._seen > 1 else np.array([value])
        self._pending.append(learned)
        due = self._seen >= LEARN and (self._seen - LEARN) % REFRESH == 0
        if due:
            self._refresh()
        if len(self._pending) == COARSE:
            self._means.append(float(np.mean(self._pending)))
            self._pending.clear()
            if self._wide_ready:
                recent = self._scale(self._means.last(12))
                self._coarse = [shapes.distance(recent) for shapes in self._wide]
        return self._views(value) if self._seen >= LEARN else None

    @property
    def stands_still(self) -> bool:
        """Whether a series that moved repeats one value for far longer than it ever did."""
        return STILL < self._dwell < self._seen - LEARN and self._dwell > 3 * self._longest

    def _refresh(self) -> None:
        past = self._values.last(MEMORY)[:-24]
        low, self._low, self._centre, self._high, high = np.quantile(past, (0.005, 0.05, 0.5, 0.95, 0.995))
        self._scale = _Scale.of(past)
        span = max(self._high - self._low, 3 * self._scale.width)
        self._least, self._most = float(low - span), float(high + span)
        y = self._scale(past)
        for shapes in self._fine:
            shapes.learn(y)
        means = self._scale(self._means.last(SHAPES // 2)[:-12])
        self._wide_ready = len(means) >= 48
        if self._wide_ready:
            for shapes in self._wide:
                shapes.learn(means)
        self._step = max(float(np.quantile(np.abs(np.diff(past)), 0.9)), FLOOR * self._scale.width)
        windows = sliding_window_view(y, 24)
        level, spread = windows.mean(1), np.log(windows.std(1) + 0.02)
        self._level = float(np.median(level)), max(float(level.std()), 0.02)
        self._spread = float(np.median(spread)), max(float(spread.std()), 0.05)
        self._edges = np.unique(np.quantile(past, (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)))
        counts = self._bins(past) + 0.5
        self._usual = counts / counts.sum()

    def _bins(self, values: Floats) -> Floats:
        return np.bincount(np.searchsorted(self._edges, values), minlength=len(self._edges) + 1).astype(np.float64)

    def _views(self, value: float) -> Floats:
        y = self._scale(self._newest)
        day = y[-24:]
        beyond = max(value - self._high, self._low - value, 0.0) / max(self._high - self._low, self._scale.width)
        now, before = y[-6:], y[:-6]
        shift = abs(now.mean() - before.mean()) / math.sqrt(now.var() / 6 + before.var() / len(before) + 0.01)
        share = self._bins(self._newest[-24:]) / 24
        held = share > 0
        return np.array(
            [
                *(shapes.distance(y) for shapes in self._fine),
                *self._coarse,
                beyond,
                abs(day.mean() - self._level[0]) / self._level[1],
                abs(math.log(day.std() + 0.02) - self._spread[0]) / self._spread[1],
                abs(value - float(self._newest[-2])) / self._step,
                min(self._dwell, LOCAL),
                shift,
                float(share[held] @ np.log(share[held] / self._usual[held])),
                abs(y[-1] - np.median(y[-13:-1])),
            ]
        )


class _Tails:
    """How rare each view is in its own past, as -log10 of the share that was stranger."""

    def __init__(self) -> None:
        self._ring, self._count = np.empty((VIEWS, MEMORY)), 0
        self._start, self._slope = np.full(VIEWS, np.inf), np.ones(VIEWS)

    def rank(self, views: Floats) -> Floats:
        logs = np.log(views + FLOOR)
        if self._count and self._count % REFRESH == 0:
            self._fit()
        over = logs - self._start
        rare = np.where(over > 0, -math.log10(1 - TAIL) + over / self._slope / math.log(10), 0.0)
        most = self._start + (LEARNED + math.log10(1 - TAIL)) * self._slope * math.log(10)
        self._ring[:, self._count % MEMORY] = np.minimum(logs, most)
        self._count += 1
        return rare

    def _fit(self) -> None:
        for view, past in enumerate(self._ring[:, : min(self._count, MEMORY)]):
            known = past[~np.isnan(past)]
            if len(known) < MIN_POINTS - LEARN:
                continue
            first = int(TAIL * len(known))
            top = np.partition(known, first)[first:]
            start = float(top.min())
            slope = (float((top - start).sum()) + 0.2 * PRIOR) / (len(top) + PRIOR)
            self._start[view], self._slope[view] = start, max(slope, MIN_TAIL)


@dataclass(frozen=True)
class Reading:
    """How unusual one value is. `once_in`: in so many points of a quiet series one such value; None: not judged.

    `score` is 1 - 1 / once_in, from 0 (ordinary) to 1. An alarm is followed by REST points without another, but for one
    that is much stranger.
    """

    once_in: float | None
    alarm: bool = False

    @property
    def score(self) -> float | None:
        return None if self.once_in is None else 1 - 1 / self.once_in


class AnomalyDetector:
    """Scores the values of one series in their order. One instance per series; not safe for several threads."""

    def __init__(self) -> None:
        self._views, self._tails = _Views(), _Tails()
        self._seen, self._rest, self._raise, self._peak = 0, 0, 0.0, 0.0

    def add(self, value: float) -> Reading:
        """The reading of the next value; a non-finite one is neither judged nor learned."""
        if not math.isfinite(value):
            return Reading(None)
        self._seen += 1
        self._raise *= math.exp(-1 / FADE)
        views = self._views.add(value)
        if views is None:
            return Reading(None)
        strange = float(np.minimum(self._tails.rank(views), CLIP).sum()) - self._raise
        if self._views.stands_still:
            strange = max(strange, ALARM)  # a frozen source: too few views see it
        if self._seen <= MIN_POINTS:
            return Reading(None)
        alone = strange + self._raise
        if self._rest:
            self._rest -= 1
            if alone < self._peak + STRANGER:
                return Reading(1.0)
        alarm = strange >= ALARM
        if alarm:
            self._rest, self._raise, self._peak = REST, self._raise + RAISE, alone
        return Reading(_once_in(strange), alarm)

    def after_gap(self) -> None:
        """The next values follow a gap: they are learned, and not judged until the short views hold them alone."""
        self._rest, self._peak = max(self._rest, SETTLE), math.inf


def _once_in(strange: float) -> float:
    usual, more = min(max(strange, 0.0), ALARM), max(strange - ALARM, 0.0)
    return 10.0 ** (PER_RANK * usual + PER_ALARM * more)


@dataclass(frozen=True)
class Alarm:
    """One value that is unusual: its position in the series as it was given, and the range of 90 % of those before."""

    position: int
    value: float
    score: float
    once_in: float
    usual: tuple[float, float]


@dataclass(frozen=True)
class Anomalies:
    """`judged`: values that were compared with those before them. `remarks`: what limits that, in words."""

    alarms: tuple[Alarm, ...]
    judged: int
    is_counter: bool  # judged by its increases
    remarks: tuple[str, ...]


def find_anomalies(times: Floats, values: Floats) -> Anomalies:
    """Judge a whole series as it would have been judged point by point.

    Args:
        times: of any unit, ascending, shape (n,).
        values: shape (n,); non-finite ones are left out. A counter (it only grows, or starts anew at the bottom) is
            judged by its increases.
    """
    known = np.flatnonzero(np.isfinite(values) & np.isfinite(times))
    remarks = (
        [f"{len(values) - len(known)} values are missing or infinite and left out"] if len(known) < len(values) else []
    )
    at, seen = times[known], values[known]
    is_counter = _is_counter(seen)
    if is_counter:
        steps = np.diff(seen)
        seen, at, known = np.where(steps < 0, seen[1:], steps), at[1:], known[1:]
        remarks.append("a counter: judged by its increases")
    if len(seen) <= MIN_POINTS:
        return Anomalies(
            (), 0, is_counter, (*remarks, f"cannot be judged: {len(seen)} points, more than {MIN_POINTS} are needed")
        )
    steps = np.diff(at)
    gaps = (
        np.flatnonzero(steps > GAP * max(float(np.median(steps)), 0.0)) + 1 if (steps > 0).any() else np.array([], int)
    )
    if len(gaps):
        remarks.append(f"{len(gaps)} gap{'s' if len(gaps) > 1 else ''}: {SETTLE} values after each are not judged")
    if float(np.ptp(seen)) == 0:
        remarks.append(f"constant at {seen[0]:g}")
    detector, after = AnomalyDetector(), set(gaps.tolist())
    alarms: list[Alarm] = []
    for index, value in enumerate(seen.tolist()):
        if index in after:
            detector.after_gap()
        found = detector.add(value)
        if found.alarm and found.once_in is not None and found.score is not None:
            low, high = np.quantile(seen[max(index - MEMORY, 0) : index], (0.05, 0.95))
            usual = float(low), float(high)
            alarms.append(Alarm(int(known[index]), value, found.score, found.once_in, usual))
    return Anomalies(tuple(alarms), len(seen) - MIN_POINTS, is_counter, tuple(remarks))


def _is_counter(values: Floats) -> bool:
    """Whether it grows nearly always and falls only to a new start."""
    steps = np.diff(values)
    if len(steps) < MIN_POINTS // 2 or values.min() < 0:
        return False
    falls = np.flatnonzero(steps < 0)
    fresh = values[falls + 1] <= 0.1 * values[falls]
    return bool((steps > 0).mean() > 0.5 and len(falls) <= 0.02 * len(steps) and fresh.all())
