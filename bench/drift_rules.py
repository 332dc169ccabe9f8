"""What is used today to notice drift, for `bench/drift.py`: rules on features and on the stream of errors."""

import functools
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


@dataclass(eq=False)
class Table:
    """Features as float64 (NaN is null) or category codes as text, and a label of 0 or 1."""

    numbers: dict[str, Floats]
    texts: dict[str, NDArray[Any]]
    y: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Any) -> "Table":
        return Table(
            {name: values[rows] for name, values in self.numbers.items()},
            {name: values[rows] for name, values in self.texts.items()},
            self.y[rows],
        )

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame({**self.numbers, **{name: pd.Categorical(v) for name, v in self.texts.items()}})


@functools.lru_cache(maxsize=16)
def evidently_columns(reference: Table, current: Table) -> list[bool]:
    """Evidently's own default test and threshold for each column."""
    from evidently.legacy.calculations.stattests import get_stattest

    found: list[bool] = []
    for kind, before, now in (
        ("num", reference.numbers, current.numbers),
        ("cat", reference.texts, current.texts),
    ):
        for name, values in before.items():
            pair = pd.Series(values).dropna(), pd.Series(now[name]).dropna()
            test: Any = get_stattest(*pair, kind, None)
            found.append(bool(test(*pair, kind, None).drifted))
    return found


def evidently_preset(reference: Table, current: Table) -> bool:
    return bool(np.mean(evidently_columns(reference, current)) >= 0.5)


def evidently_any(reference: Table, current: Table) -> bool:
    return any(evidently_columns(reference, current))


def ks_any(reference: Table, current: Table) -> bool:
    for name, values in reference.numbers.items():
        pair = values[~np.isnan(values)], current.numbers[name][~np.isnan(current.numbers[name])]
        if stats.ks_2samp(*pair, method="asymp").pvalue < 0.05:
            return True
    for name, values in reference.texts.items():
        table = pd.crosstab(
            np.concatenate([values, current.texts[name]]), np.repeat([0, 1], [len(values), len(current)])
        )
        if len(table) > 1 and stats.chi2_contingency(table).pvalue < 0.05:
            return True
    return False


def psi_any(reference: Table, current: Table) -> bool:
    for name, values in reference.numbers.items():
        ends = np.unique(np.nanquantile(values, np.linspace(0, 1, 11)[1:-1]))
        counts = [
            np.bincount(np.searchsorted(ends, v), minlength=len(ends) + 1) for v in (values, current.numbers[name])
        ]
        if _psi(*counts) > 0.2:
            return True
    for name, values in reference.texts.items():
        levels, codes = np.unique(np.concatenate([values, current.texts[name]]), return_inverse=True)
        counts = [np.bincount(c, minlength=len(levels)) for c in (codes[: len(values)], codes[len(values) :])]
        if _psi(*counts) > 0.2:
            return True
    return False


def _psi(before: Any, now: Any) -> float:
    p, q = (np.maximum(counts / counts.sum(), 1e-4) for counts in (before, now))
    return float(np.sum((q - p) * np.log(q / p)))


# --- detectors on errors


class Adwin:
    """Adaptive windowing: drops the older part when the means of two parts differ by more than chance allows."""

    def __init__(self, delta: float = 0.002, clock: int = 32, per_row: int = 5) -> None:
        self.delta, self.clock, self.per_row = delta, clock, per_row
        self.rows: list[deque[tuple[float, float]]] = [
            deque()
        ]  # row i: buckets of 2**i values as (sum, M2), oldest left
        self.count, self.ticks = 0, 0

    def add(self, value: float) -> bool:
        self.rows[0].append((value, 0.0))
        self.count += 1
        self.ticks += 1
        for i in range(len(self.rows)):
            if len(self.rows[i]) <= self.per_row:
                break
            (s0, m0), (s1, m1) = self.rows[i].popleft(), self.rows[i].popleft()
            size = 2**i
            if i + 1 == len(self.rows):
                self.rows.append(deque())
            self.rows[i + 1].append((s0 + s1, m0 + m1 + (s0 / size - s1 / size) ** 2 * size / 2))
        return self.ticks % self.clock == 0 and self._cut()

    def _cut(self) -> bool:
        changed = False
        while self.count > 10 and self._differs():
            oldest = len(self.rows) - 1
            self.rows[oldest].popleft()
            self.count -= 2**oldest
            while len(self.rows) > 1 and not self.rows[-1]:
                self.rows.pop()
            changed = True
        return changed

    def _differs(self) -> bool:
        sizes = np.array([2**i for i in range(len(self.rows) - 1, -1, -1) for _ in self.rows[i]], dtype=float)
        parts = [bucket for row in reversed(self.rows) for bucket in row]
        sums, inner = np.array([s for s, _ in parts]), np.array([m for _, m in parts])
        n, total = sizes.sum(), sums.sum()
        variance = (inner.sum() + np.sum(sizes * (sums / sizes - total / n) ** 2)) / n
        n0, s0 = np.cumsum(sizes)[:-1], np.cumsum(sums)[:-1]
        n1, s1 = n - n0, total - s0
        valid = (n0 >= 5) & (n1 >= 5)
        harmonic = 1 / (1 / n0 + 1 / n1)
        log = np.log(2 * np.log(n) / self.delta)
        limit = np.sqrt(2 / harmonic * variance * log) + 2 / (3 * harmonic) * log
        return bool(np.any(valid & (np.abs(s0 / n0 - s1 / n1) > limit)))


class PageHinkley:
    """Cumulative deviation above the running mean; starts again after an alarm."""

    def __init__(self, delta: float = 0.005, threshold: float = 50.0, least: int = 30) -> None:
        self.delta, self.threshold, self.least = delta, threshold, least
        self._restart()

    def _restart(self) -> None:
        self.n, self.mean, self.sum, self.low = 0, 0.0, 0.0, np.inf

    def add(self, value: float) -> bool:
        self.n += 1
        self.mean += (value - self.mean) / self.n
        self.sum = 0.9999 * self.sum + value - self.mean - self.delta
        self.low = min(self.low, self.sum)
        if self.n >= self.least and self.sum - self.low > self.threshold:
            self._restart()
            return True
        return False


def fed(detector: Adwin | PageHinkley, errors: Any) -> bool:
    alarms = [detector.add(float(error)) for error in errors]  # every value must be fed
    return any(alarms)
