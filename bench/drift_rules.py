"""What is used today to notice drift, for `bench/drift.py`: rules on features and on the stream of errors."""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from tools.judge.estimates import Scores

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
        table = np.array(_value_counts(values, current.texts[name]))
        if table.shape[1] > 1 and stats.chi2_contingency(table).pvalue < 0.05:
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
    return any(_psi(*_value_counts(values, current.texts[name])) > 0.2 for name, values in reference.texts.items())


def _value_counts(before: NDArray[Any], now: NDArray[Any]) -> list[Any]:
    codes, levels = pd.factorize(np.concatenate([before, now]))
    return [np.bincount(c, minlength=len(levels)) for c in (codes[: len(before)], codes[len(before) :])]


def _psi(before: Any, now: Any) -> float:
    p, q = (np.maximum(counts / counts.sum(), 1e-4) for counts in (before, now))
    return float(np.sum((q - p) * np.log(q / p)))


# --- detectors on the stream of a model's errors or losses


class Stream:
    """One of river's detectors at its defaults, fed value by value; it keeps what it has seen between batches."""

    def __init__(self, detector: Any, reads: Literal["errors", "losses"]) -> None:
        self.detector, self.reads = detector, reads

    def fed(self, scores: Scores) -> bool:
        """Whether any value of the batch raised an alarm."""
        values = scores.loss if self.reads == "losses" else (scores.y_true != scores.prediction).astype(int)
        alarm = False
        for value in values.tolist():
            self.detector.update(value)
            alarm = alarm or bool(self.detector.drift_detected)
        return alarm


def river_streams(seed: int) -> dict[str, Stream]:
    """River's detectors by name; empty where river is not installed."""
    try:
        from river import drift
        from river.drift import binary
    except ImportError:
        return {}
    return {
        "ADWIN on errors": Stream(drift.ADWIN(), "errors"),
        "DDM on errors": Stream(binary.DDM(), "errors"),
        "HDDM_A on errors": Stream(binary.HDDMA(), "errors"),
        "Page-Hinkley on errors": Stream(drift.PageHinkley(), "errors"),
        "KSWIN on losses": Stream(drift.KSWIN(seed=seed), "losses"),
    }
