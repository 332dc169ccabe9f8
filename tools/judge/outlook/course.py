"""A champion's scored rows as a series over time: its metric, its loss, or the drift of its output, batch by batch.

Drift is the share of rows whose output moved: the Kolmogorov-Smirnov distance of the outputs between a batch and the
reference (the total variation, for labels), less what chance alone gives with so many rows.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.judge.distances import moved
from tools.judge.estimates import LOSSES, Scores, Task, estimate

Floats = NDArray[np.float64]

MIN_ROWS = 30  # per batch
MAX_POINTS = 72
LOSS, DRIFT = "loss", "drift"


@dataclass(frozen=True)
class Course:
    """One value per batch of neighbouring rows, in order; NaN where the measure is not defined on a batch.

    Args:
        last: position of each batch's last row, shape (points,).
        values: shape (points,).
        overall: the measure on all rows together.
    """

    last: NDArray[np.int64]
    values: Floats
    overall: float
    higher_is_better: bool


def course(measure: str, task: Task, scores: Scores, reference: Scores | None = None) -> Course:
    """The measure over equal batches of the rows.

    Args:
        measure: a metric of the task, `loss` (mean per row), or `drift` (of the output, against `reference`).

    Raises:
        ValueError: the measure does not fit the task, the rows lack what it needs, or drift without a reference.
    """
    n = len(scores)
    edges = np.linspace(0, n, min(max(n // MIN_ROWS, 1), MAX_POINTS) + 1).round().astype(np.int64)
    parts = [slice(int(a), int(b)) for a, b in pairwise(edges)]
    last = edges[1:] - 1
    if measure == LOSS:
        values = [float(scores.loss[part].mean()) for part in parts]
        return Course(last, np.array(values), float(scores.loss.mean()), higher_is_better=False)
    if measure == DRIFT:
        if reference is None:
            raise ValueError("drift needs the scores of reference rows")
        before, now = _output(task, reference), _output(task, scores)
        values = [moved(before, now[part]) for part in parts]
        return Course(last, np.array(values), moved(before, now), higher_is_better=False)
    overall = estimate(measure, task, scores)  # says what does not fit
    values = [_metric(measure, task, _rows(scores, part)) for part in parts]
    return Course(last, np.array(values), overall.value, measure not in LOSSES)


def _rows(scores: Scores, part: slice) -> Scores:
    probability = None if scores.probability is None else scores.probability[part]
    return Scores(scores.y_true[part], scores.prediction[part], scores.loss[part], probability, scores.positive)


def _metric(measure: str, task: Task, scores: Scores) -> float:
    try:
        return estimate(measure, task, scores).value
    except ValueError:  # one class only: not defined on this batch
        return float("nan")


def _output(task: Task, scores: Scores) -> NDArray[Any]:
    if task == "regression":
        return scores.prediction.astype(np.float64)
    return scores.prediction if scores.probability is None else scores.probability
