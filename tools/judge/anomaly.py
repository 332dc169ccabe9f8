"""An anomaly score for a metric stream: each reading is judged by what came before it, never by what follows.

Four surprises are measured at each reading: how far it is from its conditional forecast (an autoregression, updated by
recursive least squares), how far from the recent level, how far the short-run level is from the long-run one, and how
unusual the short-run spread is. Each is compared with its own earlier values: its tail probability is empirical in the
bulk and a Pareto tail beyond (Hill's estimator), so it means the same on every series, however the noise is shaped.
Their joint evidence is the sum of the log probabilities (Fisher); since the four depend on each other, that sum is
compared with its own earlier values in the same way. An alarm is the start of an incident: for a while only a reading
that is ten times less likely raises another.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEARNING = 60  # readings before the first score
SHORT, LONG = 12, 288
LAGS = 3
FORGET = 0.999
TAIL = 0.03  # share of the earlier surprises that form the tail
MIN_TAIL = 8
MEMORY = 8000  # readings
ALARM_AT = 0.995  # score of an alarm
REST = 100  # readings after an alarm in which only a clearly bigger surprise raises another
BIGGER = 1.0  # in powers of ten of the probability
CAP = 14.0  # -log10 of the smallest probability told apart


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
        self._recent: deque[float] = deque(maxlen=LONG)
        self._tails = [_Tail() for _ in range(4)]
        self._joint = _Tail()
        self._weights = np.zeros(LAGS + 1)
        self._covariance = np.eye(LAGS + 1) * 100.0
        self._since_alarm = REST
        self._peak = 0.0
        self._seen = 0

    def update(self, value: float) -> Scored:
        """Score the next reading. A missing one (NaN) scores 0 and teaches nothing."""
        if not math.isfinite(value):
            return Scored(0.0, False)
        surprise = 0.0
        if len(self._recent) >= 2 * SHORT:
            sizes = self._magnitudes(value)
            parts = [tail.surprise(size) for tail, size in zip(self._tails, sizes, strict=True)]
            for tail, size in zip(self._tails, sizes, strict=True):
                tail.add(size)
            if self._seen >= LEARNING + 2 * SHORT:
                surprise = min(self._joint.surprise(sum(parts)), CAP)
                self._joint.add(sum(parts))
        self._recent.append(value)
        self._seen += 1
        return Scored(1 - 10**-surprise, self._starts_incident(surprise))

    def _starts_incident(self, surprise: float) -> bool:
        self._since_alarm += 1
        if surprise < self._alarm_at or (self._since_alarm < REST and surprise < self._peak + BIGGER):
            return False
        self._since_alarm, self._peak = 0, surprise
        return True

    def _magnitudes(self, value: float) -> tuple[float, float, float, float]:
        recent = np.fromiter(self._recent, dtype=np.float64)
        middle = float(np.median(recent))
        spread = 1.4826 * float(np.median(np.abs(recent - middle)))
        spread = max(spread, 0.25 * float(recent.std()), 1e-9 * max(abs(middle), 1.0))
        lags = np.append((recent[-LAGS:] - middle) / spread, 1.0)
        now = (value - middle) / spread
        error = now - float(self._weights @ lags)
        self._learn(lags.clip(-20, 20), min(max(now, -20.0), 20.0))
        last = np.append(recent[1 - SHORT :], value)
        shift = abs(float(np.median(last)) - middle) / spread
        ratio = (float(last.std()) + 0.01 * spread) / spread
        return abs(error), abs(now), shift, abs(math.log(ratio))

    def _learn(self, lags: Floats, now: float) -> None:
        carried = self._covariance @ lags
        gain = carried / (FORGET + float(lags @ carried))
        self._weights = self._weights + gain * (now - float(self._weights @ lags))
        self._covariance = np.minimum((self._covariance - np.outer(gain, carried)) / FORGET, 1e6)


def score_series(times: Floats, values: Floats, alarm_at: float = ALARM_AT) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores and alarms of a whole series, each from the readings up to it, in order of time; shape of `values`.

    Raises:
        ValueError: `alarm_at` is not between 0 and 1, or the lengths differ.
    """
    if len(times) != len(values):
        raise ValueError(f"{len(times)} times and {len(values)} values")
    scorer = AnomalyScorer(alarm_at)
    scores, alarms = np.zeros(len(values)), np.zeros(len(values), dtype=bool)
    for i in np.argsort(times, kind="stable"):
        found = scorer.update(float(values[i]))
        scores[i], alarms[i] = found.score, found.alarm
    return scores, alarms
