"""An anomaly score for a metric stream: each reading is judged by what came before it, never by what follows.

Four surprises are measured at each reading: how far the next reading is from its conditional forecast (an
autoregression, updated by recursive least squares), how far it is from the recent level, how far the short-run mean is
from the long-run one, and how unusual the short-run spread is. Each is compared with all its own earlier values: its tail
probability is empirical in the bulk and a Pareto tail beyond (Hill's estimator), so the score means the same on every
series, however its noise is shaped. The smallest probability counts, corrected for their number. A surprise that goes on
is one incident: until it has faded, only a bigger one counts again.
"""

import math
from bisect import bisect_left, insort
from collections import deque

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
FADE = 0.99  # per reading, of the surprise that a later one must exceed
CAP = 12.0  # -log10 of the smallest probability told apart


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
        if value <= edge or edge <= 0:
            above = n - bisect_left(known, value)
            if edge <= 0 < value:  # almost all were zero: nothing is known of the scale beyond
                above = min(above, n - bisect_left(known, value))
            return -math.log10((above + 1) / (n + 1))
        shape = max(float(np.mean(np.log(np.array(known[n - k :]) / edge))), 0.05)
        return math.log10((n + 1) / (k + 1)) + math.log10(value / edge) / shape

    def add(self, value: float) -> None:
        insort(self._sorted, value)
        self._order.append(value)
        if len(self._order) > MEMORY:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]


class AnomalyScorer:
    """Scores a stream one reading at a time; not thread-safe."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=LONG)
        self._tails = [_Tail() for _ in range(4)]
        self._weights = np.zeros(LAGS + 1)
        self._covariance = np.eye(LAGS + 1) * 100.0
        self._peak = 0.0
        self._seen = 0

    def update(self, value: float) -> float:
        """The score of the next reading: between 0 and 1, the share of CAP that its surprise reaches; 0 while learning.

        A missing reading (NaN) scores 0 and teaches nothing.
        """
        if not math.isfinite(value):
            return 0.0
        surprise = 0.0
        if len(self._recent) >= 2 * SHORT:
            found = self._magnitudes(value)
            if self._seen >= LEARNING:
                p = max(tail.surprise(size) for tail, size in zip(self._tails, found, strict=True))
                surprise = min(max(p - math.log10(len(found)), 0.0), CAP)
            for tail, size in zip(self._tails, found, strict=True):
                tail.add(size)
        self._recent.append(value)
        self._seen += 1
        shown = surprise if surprise > self._peak else 0.0
        self._peak = max(self._peak * FADE, surprise)
        return shown / CAP

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


def score_series(times: Floats, values: Floats) -> Floats:
    """Scores of a whole series, each from the readings up to it, in order of time; shape of `values`."""
    scorer = AnomalyScorer()
    scores = np.zeros(len(values))
    for i in np.argsort(times, kind="stable"):
        scores[i] = scorer.update(float(values[i]))
    return scores
