"""Metrics of a whole table, and losses of each row."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from sklearn import metrics as sk

from tools.core.errors import FixableError
from tools.modeling.data import Task
from tools.modeling.labels import as_text, positive_text
from tools.modeling.predictor import Predictions

Direction = Literal["maximize", "minimize"]
PROBABILITY_FLOOR = 1e-6
_NO_DIVISION: dict[str, Any] = {"zero_division": 0.0}  # a class nobody predicts scores 0, without a warning


@dataclass(frozen=True)
class _Labelled:
    """A classification in class numbers, so that 1, 1.0 and "1" are one label on both sides."""

    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None  # columns in the order of the class numbers
    positive: int

    @property
    def positive_probability(self) -> np.ndarray:
        if self.probabilities is None:
            return (self.predicted == self.positive).astype("float64")
        return self.probabilities[:, self.positive]


@dataclass(frozen=True)
class Metric:
    """A metric of a task.

    Args:
        name: as in goals and arguments.
        direction: "maximize" or "minimize".
        tasks: where it is defined.
        ranks: it needs both classes among the rows.
    """

    name: str
    direction: Direction
    tasks: tuple[Task, ...]
    compute: Callable[[Any, Task], float]
    ranks: bool = False

    @property
    def sign(self) -> float:
        """+1 to maximize, -1 to minimize: `sign * value` is always better when larger."""
        return 1.0 if self.direction == "maximize" else -1.0

    def better(self, value: float, than: float) -> bool:
        """Whether `value` is strictly better."""
        return self.sign * value > self.sign * than


def _f1(rows: _Labelled, task: Task) -> float:
    if task == "binary":
        return float(sk.f1_score(rows.truth == rows.positive, rows.predicted == rows.positive, **_NO_DIVISION))
    return float(sk.f1_score(rows.truth, rows.predicted, average="macro", **_NO_DIVISION))


def _balanced_accuracy(rows: _Labelled, task: Task) -> float:
    present = np.unique(rows.truth)
    return float(np.mean([np.mean(rows.predicted[rows.truth == k] == k) for k in present]))


def _roc_auc(rows: _Labelled, task: Task) -> float:
    if task == "binary":
        return float(sk.roc_auc_score(rows.truth == rows.positive, rows.positive_probability))
    # Macro one-against-rest over the classes among these rows: the others have no curve.
    present = np.unique(rows.truth)
    scores = rows.probabilities
    if scores is None:
        scores = np.eye(int(max(rows.truth.max(), rows.predicted.max())) + 1)[rows.predicted]
    return float(np.mean([sk.roc_auc_score(rows.truth == k, scores[:, k]) for k in present]))


def _log_loss(rows: _Labelled, task: Task) -> float:
    return float(_label_losses(rows).mean())


_CLASSIFY: tuple[Task, ...] = ("binary", "multiclass")
_REGRESS: tuple[Task, ...] = ("regression",)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "maximize", _CLASSIFY, lambda r, t: float(np.mean(r.truth == r.predicted))),
        Metric("balanced_accuracy", "maximize", _CLASSIFY, _balanced_accuracy),
        Metric("f1", "maximize", _CLASSIFY, _f1),
        Metric("roc_auc", "maximize", _CLASSIFY, _roc_auc, ranks=True),
        Metric("log_loss", "minimize", _CLASSIFY, _log_loss),
        Metric(
            "average_precision",
            "maximize",
            ("binary",),
            lambda r, t: float(sk.average_precision_score(r.truth == r.positive, r.positive_probability)),
            ranks=True,
        ),
        Metric("mae", "minimize", _REGRESS, lambda r, t: float(sk.mean_absolute_error(*r))),
        Metric("rmse", "minimize", _REGRESS, lambda r, t: float(sk.root_mean_squared_error(*r))),
        Metric("r2", "maximize", _REGRESS, lambda r, t: float(sk.r2_score(*r))),
        Metric("mape", "minimize", _REGRESS, lambda r, t: float(sk.mean_absolute_percentage_error(*r))),
    )
}
"""Name -> metric. f1, roc_auc and average_precision of a binary task are those of the stated positive class, else of
`positive_label`, of a multiclass task macro averages. log_loss is the mean of the row losses, so its probabilities are
clipped at 1e-6."""


def get_metric(name: str, task: Task) -> Metric:
    """The metric of that name.

    Raises:
        FixableError: unknown, or not a metric of the task; names the valid ones.
    """
    metric = METRICS.get(name)
    if metric is None or task not in metric.tasks:
        valid = ", ".join(m.name for m in METRICS.values() if task in m.tasks)
        raise FixableError(f"no metric {name!r} for a {task} task; valid metrics: {valid}")
    return metric


def score(metric: Metric, y_true: Any, predictions: Predictions, task: Task) -> float:
    """The metric over all rows.

    Raises:
        FixableError: no rows, or a ranking metric on rows of one class.
    """
    truth = np.asarray(y_true)
    if not len(truth):
        raise FixableError(f"cannot compute {metric.name}: there are no rows")
    if task == "regression":
        return metric.compute((truth.astype("float64"), predictions.values.astype("float64")), task)
    rows = _labelled(truth, predictions)
    if metric.ranks and len(np.unique(rows.truth)) < 2:
        raise FixableError(
            f"cannot compute {metric.name}: all {len(truth)} rows have the label {truth[0]!r}; "
            "use more rows, or accuracy or log_loss"
        )
    return metric.compute(rows, task)


BLOCKS = 20
MIN_BLOCK_ROWS = 25


def score_blocks(metric: Metric, y_true: Any, predictions: Predictions, task: Task) -> list[float | None]:
    """The metric on each of up to 20 consecutive blocks of the rows, at least 25 rows each; empty for fewer than two.

    Two models scored on the same rows differ by the mean of their paired differences over the blocks, with a standard
    error that holds when neighbouring rows are alike (batch means). None: the block has rows of one class only.
    """
    truth = np.asarray(y_true)
    count = min(BLOCKS, len(truth) // MIN_BLOCK_ROWS)
    if count < 2:
        return []
    parts = np.array_split(np.arange(len(truth)), count)
    if task == "regression":
        values = predictions.values.astype("float64")
        return [metric.compute((truth[part].astype("float64"), values[part]), task) for part in parts]
    rows = _labelled(truth, predictions)
    return [None if metric.ranks and len(np.unique(rows.truth[part])) < 2 else _of_rows(metric, rows, part, task)
            for part in parts]  # fmt: skip


def _of_rows(metric: Metric, rows: _Labelled, part: np.ndarray, task: Task) -> float:
    probabilities = None if rows.probabilities is None else rows.probabilities[part]
    kept = replace(rows, truth=rows.truth[part], predicted=rows.predicted[part], probabilities=probabilities)
    return metric.compute(kept, task)


def row_losses(task: Task, y_true: Any, predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Loss and error of each row, both of shape (n,).

    Classification: log loss of the true label (probability clipped to 1e-6 .. 1; a label the model has never seen has
    probability 0; without probabilities the predicted label counts as certain), and 1 for a wrong label, else 0.
    Regression: the absolute error, twice.
    """
    truth = np.asarray(y_true)
    if task == "regression":
        error = np.abs(truth.astype("float64") - predictions.values.astype("float64"))
        return error, error
    rows = _labelled(truth, predictions)
    return _label_losses(rows), (rows.truth != rows.predicted).astype("float64")


def _label_losses(rows: _Labelled) -> np.ndarray:
    if rows.probabilities is None:
        right = (rows.truth == rows.predicted).astype("float64")
    else:
        right = rows.probabilities[np.arange(len(rows.truth)), rows.truth]
    return -np.log(np.clip(right, PROBABILITY_FLOOR, 1.0))


def _labelled(truth: np.ndarray, predictions: Predictions) -> _Labelled:
    true_text, predicted_text = as_text(truth), as_text(predictions.values)
    if predictions.classes is None:
        known = sorted({*true_text, *predicted_text})
        positive = positive_text(truth, predictions.positive)
    else:
        known = as_text(predictions.classes).tolist()
        positive = positive_text(predictions.classes, predictions.positive)
    labels = known + sorted({*true_text, *predicted_text, positive}.difference(known))
    number = {label: k for k, label in enumerate(labels)}
    probabilities = predictions.probabilities
    if probabilities is not None and len(labels) > len(known):
        probabilities = np.pad(probabilities, ((0, 0), (0, len(labels) - len(known))))
    return _Labelled(
        truth=np.array([number[t] for t in true_text]),
        predicted=np.array([number[t] for t in predicted_text]),
        probabilities=probabilities,
        positive=number[positive],
    )
