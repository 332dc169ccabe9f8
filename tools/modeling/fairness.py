"""How differently a model treats groups of rows.

The gap of a measure is the largest difference between two groups (Agarwal et al., "A reductions approach to fair
classification", ICML 2018; Hardt, Price, Srebro, "Equality of opportunity in supervised learning", NeurIPS 2016; the
names are Fairlearn's without its suffix `_difference`). It is an estimate: two groups of n rows that are treated alike
differ by about 1/sqrt(n) at most by chance, so small groups are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tools.core.errors import FixableError
from tools.modeling.data import Task, as_text, positive_label
from tools.modeling.predictor import Predictions

MIN_GROUP_ROWS = 30
MAX_GROUPS = 20
MISSING = "(missing)"

_BINARY: tuple[Task, ...] = ("binary",)


@dataclass(frozen=True)
class _Truth:
    """What is known of the rows before a model is asked. Shapes (n,)."""

    values: np.ndarray
    positive: np.ndarray
    positive_text: str


def _all(truth: _Truth) -> list[np.ndarray]:
    return [np.ones(len(truth.values), dtype=bool)]


def _chosen(truth: _Truth, predictions: Predictions) -> np.ndarray:
    return as_text(predictions.values) == truth.positive_text


def _wrong(truth: _Truth, predictions: Predictions) -> np.ndarray:
    return as_text(predictions.values) != as_text(truth.values)


def _distance(truth: _Truth, predictions: Predictions) -> np.ndarray:
    return np.abs(truth.values.astype("float64") - predictions.values.astype("float64"))


@dataclass(frozen=True)
class Measure:
    """The mean of `of` over the rows of `among`, compared between groups; with several `among` the largest gap counts.

    Args:
        tasks: where it is defined.
    """

    tasks: tuple[Task, ...]
    among: Callable[[_Truth], list[np.ndarray]]
    of: Callable[[_Truth, Predictions], np.ndarray]


MEASURES: dict[str, Measure] = {
    "demographic_parity": Measure(_BINARY, _all, _chosen),
    "equal_opportunity": Measure(_BINARY, lambda truth: [truth.positive], _chosen),
    "equalized_odds": Measure(_BINARY, lambda truth: [truth.positive, ~truth.positive], _chosen),
    "error_rate": Measure(("binary", "multiclass"), _all, _wrong),
    "mae": Measure(("regression",), _all, _distance),
}
"""Name -> measure: share predicted positive; share of the positives predicted positive; that or the share of the
negatives predicted positive; share of wrong labels; mean absolute error (its gap is in the target's unit)."""


def get_measure(name: str, task: Task) -> Measure:
    """The measure of that name.

    Raises:
        FixableError: unknown, or not one of the task; names the valid ones.
    """
    measure = MEASURES.get(name)
    if measure is None or task not in measure.tasks:
        valid = ", ".join(name for name, known in MEASURES.items() if task in known.tasks)
        raise FixableError(f"no fairness measure {name!r} for a {task} task; valid measures: {valid}")
    return measure


@dataclass(frozen=True)
class Audit:
    """Labelled rows and their groups, ready to say how differently a model treats them.

    Args:
        parts: per population that the measure is taken over: group -> mask of its rows, shape (n,).
        left_out: groups with fewer than `MIN_GROUP_ROWS` rows in a population -> their fewest rows.
    """

    measure: Measure
    truth: _Truth
    parts: tuple[dict[str, np.ndarray], ...]
    left_out: dict[str, int]

    @property
    def compared(self) -> tuple[str, ...]:
        """The groups with enough rows."""
        return tuple(self.parts[0])

    @property
    def possible(self) -> bool:
        """Whether there are two groups to compare."""
        return len(self.compared) > 1

    def gap(self, predictions: Predictions) -> float | None:
        """The largest difference between two groups; None where there are no two, or predictions are not finite."""
        if not self.possible:
            return None
        scores = np.asarray(self.measure.of(self.truth, predictions), dtype="float64")
        rates = [[float(scores[mask].mean()) for mask in part.values()] for part in self.parts]
        widest = max(max(part) - min(part) for part in rates)
        return widest if np.isfinite(widest) else None

    @property
    def note(self) -> str:
        """Which groups are not compared, as a sentence; empty where all are."""
        if not self.left_out:
            return ""
        named = ", ".join(f"{name} ({rows})" for name, rows in self.left_out.items())
        return f"Groups with fewer than {MIN_GROUP_ROWS} rows to compare are left out: {named}."


def make_audit(measure: str, groups: pd.Series, y_true: Any, task: Task, positive: Any = None) -> Audit:
    """Prepare the rows of one table.

    Args:
        groups: the group of each row, shape (n,); null is a group of its own.
        y_true: the target of each row, shape (n,).
        positive: the label that "positive" means in a binary task; by default that of `y_true`.

    Raises:
        FixableError: no such measure, or too many groups.
    """
    known = get_measure(measure, task)
    names = np.where(as_text(groups) == "", MISSING, as_text(groups))
    found = sorted(set(names))
    if len(found) > MAX_GROUPS:
        raise FixableError(
            f"the fairness column {groups.name!r} has {len(found)} values; at most {MAX_GROUPS} groups are compared: "
            "use a column of groups, for example age bands"
        )
    values = np.asarray(y_true)
    label = ""
    if task == "binary":
        label = as_text([positive_label(values) if positive is None else positive])[0]
    truth = _Truth(values, as_text(values) == label, label)
    parts = [{name: among & (names == name) for name in found} for among in known.among(truth)]
    rows = {name: min(int(part[name].sum()) for part in parts) for name in found}
    kept = [name for name in found if rows[name] >= MIN_GROUP_ROWS]
    return Audit(
        measure=known,
        truth=truth,
        parts=tuple({name: part[name] for name in kept} for part in parts),
        left_out={name: count for name, count in rows.items() if name not in kept},
    )
