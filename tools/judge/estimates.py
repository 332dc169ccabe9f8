"""A metric's value on scored rows, and how far that value can be trusted.

Each metric comes with its influence values (how much each row moves it; Hampel 1974). Their standard deviation over
sqrt(n) is the metric's standard error: DeLong's for the AUC, the delta method for the others, and the difference of two
models' influence values row by row is the paired test. No resampling, so no seed, and any number of rows.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Task = Literal["binary", "multiclass", "regression"]

LOSSES = ("log_loss", "mae", "rmse", "mape")  # lower is better, no upper bound
BOUNDED = ("accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision")
METRICS_OF: dict[str, tuple[str, ...]] = {
    "binary": (*BOUNDED, "log_loss"),
    "multiclass": ("accuracy", "balanced_accuracy", "f1", "log_loss"),
    "regression": ("mae", "rmse", "r2", "mape"),
}


LEAST_P = 1e-12  # of a smaller p-value the tails of approximations say nothing


def p_words(p_value: float) -> str:
    """A p-value as people are told it: no test proves that something is impossible."""
    return f"p = {p_value:.2g}" if p_value >= LEAST_P else f"p < {LEAST_P:g}"


@dataclass(frozen=True)
class Scores:
    """One model's scored rows, in time order.

    Args:
        y_true: labels as text, or numbers for regression; shape (n,).
        prediction: the same kind as `y_true`.
        loss: log loss, or absolute error for regression.
        probability: of the positive class, binary only.
        positive: the positive class, binary only.
    """

    y_true: NDArray[Any]
    prediction: NDArray[Any]
    loss: Floats
    probability: Floats | None = None
    positive: str | None = None

    def __len__(self) -> int:
        return len(self.y_true)

    def newest(self, count: int) -> "Scores":
        """The last `count` rows; all of them where there are fewer."""
        first = max(0, len(self) - count)
        probability = None if self.probability is None else self.probability[first:]
        return Scores(self.y_true[first:], self.prediction[first:], self.loss[first:], probability, self.positive)


@dataclass(frozen=True)
class Estimate:
    """A metric's value and each row's influence on it, shape (n,), mean 0, in the metric's unit."""

    value: float
    influence: Floats
    higher_is_better: bool


def positive_class(y_true: NDArray[Any], prediction: NDArray[Any], probability: Floats) -> str:
    """The class the probabilities speak of: the one predicted where they are high, else the last in sorted order."""
    classes = sorted({str(v) for v in np.concatenate([y_true, prediction])})
    high = prediction[probability > 0.5]
    low = prediction[probability < 0.5]
    votes = {c: int(np.sum(high == c)) - int(np.sum(low == c)) for c in classes}
    best = max(classes, key=lambda c: (votes[c], classes.index(c)))
    return best


def estimate(metric: str, task: Task, scores: Scores) -> Estimate:
    """Value and influence of `metric`.

    Raises:
        ValueError: the metric does not fit the task, or the rows lack a class or a probability it needs.
    """
    if metric not in METRICS_OF[task]:
        raise ValueError(f"metric {metric!r} cannot be judged for {task}; valid: {', '.join(METRICS_OF[task])}")
    if len(scores) < 2:
        raise ValueError(f"{len(scores)} rows are too few to judge {metric}")
    if task == "regression":
        return _regression(metric, scores)
    if metric in ("roc_auc", "average_precision"):
        return _ranking(metric, scores)
    if metric == "log_loss":
        return _mean(scores.loss, higher_is_better=False)
    correct = (scores.y_true == scores.prediction).astype(float)
    if metric == "accuracy":
        return _mean(correct, higher_is_better=True)
    if metric == "balanced_accuracy":
        return balanced_accuracy(scores.y_true, correct)
    return _f1(task, scores)


def _mean(values: Floats, *, higher_is_better: bool) -> Estimate:
    value = float(values.mean())
    return Estimate(value, values - value, higher_is_better)


def _regression(metric: str, scores: Scores) -> Estimate:
    y, error = scores.y_true.astype(float), scores.loss
    match metric:
        case "mae":
            return _mean(error, higher_is_better=False)
        case "mape":
            return _mean(error / np.maximum(np.abs(y), np.finfo(np.float64).eps), higher_is_better=False)
        case "rmse":
            squared = error**2
            value = float(np.sqrt(squared.mean()))
            return Estimate(value, (squared - squared.mean()) / max(2 * value, 1e-300), higher_is_better=False)
        case _:
            squared, spread = error**2, (y - y.mean()) ** 2
            if not spread.any():
                raise ValueError("r2 needs a target that varies; every value is the same")
            share = squared.mean() / spread.mean()
            influence = (share * (spread - spread.mean()) - (squared - squared.mean())) / spread.mean()
            return Estimate(float(1 - share), influence, higher_is_better=True)


def balanced_accuracy(y_true: NDArray[Any], correct: Floats) -> Estimate:
    """Mean recall of the classes; `correct` is 1 or 0 per row."""
    classes, index, counts = np.unique(y_true, return_inverse=True, return_counts=True)
    recall = np.bincount(index, weights=correct) / counts
    influence = (correct - recall[index]) * len(y_true) / counts[index] / len(classes)
    return Estimate(float(recall.mean()), influence, higher_is_better=True)


def _f1(task: Task, scores: Scores) -> Estimate:
    """F1 of the positive class, or the mean of F1 over the classes (macro)."""
    if task == "binary":
        classes = [scores.positive]
    else:
        classes = np.unique(np.concatenate([scores.y_true, scores.prediction]).astype(str)).tolist()
    values, influence = [], np.zeros(len(scores))
    for name in classes:
        truth, said = (scores.y_true == name).astype(float), (scores.prediction == name).astype(float)
        hits, total = (truth * said).mean(), (truth + said).mean()
        if total == 0:  # never true, never said
            values.append(0.0)
            continue
        values.append(2 * hits / total)
        influence += 2 * truth * said / total - 2 * hits * (truth + said) / total**2
    return Estimate(float(np.mean(values)), influence / len(classes), higher_is_better=True)


def _ranking(metric: str, scores: Scores) -> Estimate:
    if scores.probability is None:
        raise ValueError(f"{metric} needs probabilities, and the scores have none")
    truth, score, n = scores.y_true == scores.positive, scores.probability, len(scores)
    positives = int(truth.sum())
    if positives in (0, n):
        raise ValueError(f"{metric} needs both classes; all {n} rows have the same label")
    if metric == "roc_auc":
        return roc_auc(truth, score)
    # Average precision: the mean precision at the positives' scores, and what a row adds to each of those precisions.
    order = np.argsort(-score, kind="stable")
    last = np.searchsorted(-score[order], -score, side="right") - 1  # last position with a score as high as this row's
    hits, rank = np.cumsum(truth[order]), np.arange(1, n + 1)
    precision, selected = hits[last] / rank[last], rank[last] / n
    value = float(precision[truth].mean())
    at_hit = np.where(truth, 1.0 / selected, 0.0)[order]
    at_miss = np.where(truth, precision / selected, 0.0)[order]
    first = np.searchsorted(-score[order], -score, side="left")  # positives at or below this score start here
    sum_hit = np.concatenate([np.cumsum(at_hit[::-1])[::-1], [0.0]])[first] / positives
    sum_miss = np.concatenate([np.cumsum(at_miss[::-1])[::-1], [0.0]])[first] / positives
    influence = np.where(truth, (precision - value) * n / positives, 0.0) + np.where(truth, sum_hit, 0.0) - sum_miss
    return Estimate(value, influence - influence.mean(), higher_is_better=True)


def roc_auc(truth: NDArray[np.bool_], score: Floats) -> Estimate:
    """The AUC and each row's influence on it (DeLong's placements), shape (n,); both classes must be there."""
    n, positives = len(truth), int(truth.sum())
    ranks = rankdata(score)
    own = np.empty(n)
    own[truth], own[~truth] = rankdata(score[truth]), rankdata(score[~truth])
    below = ranks - own  # rows of the other class below this one, ties as half
    other = np.where(truth, n - positives, positives)
    placement = np.where(truth, below / other, 1 - below / other)
    value = float(placement[truth].mean())
    size = np.where(truth, positives, n - positives)
    return Estimate(value, (placement - value) * n / size, higher_is_better=True)


def standard_error(influence: Floats) -> float:
    """Standard error of a metric from its influence values in time order.

    Rows of a stream resemble their neighbours, which makes the usual formula too small; so the larger of it and the
    one from sqrt(n) batch means (Glynn and Whitt 1991) is used.
    """
    n = len(influence)
    plain = float(influence.std(ddof=1)) / np.sqrt(n)
    size = int(np.sqrt(n))
    if size < 10:
        return plain
    batches = influence[: n // size * size].reshape(-1, size).mean(axis=1)
    return max(plain, float(batches.std(ddof=1)) / np.sqrt(len(batches)))


def chance(probability: float) -> str:
    """A probability that draws gave: no number of draws makes it 0 or 1."""
    return "over 99%" if probability > 0.99 else "under 1%" if probability < 0.01 else f"{probability:.0%}"


def possible(metric: str, low: float, high: float) -> tuple[float, float]:
    """An interval, cut to the values that the metric can have at all."""
    floor = float("-inf") if metric == "r2" else 0.0
    ceiling = float("inf") if metric in LOSSES else 1.0
    return min(max(low, floor), ceiling), max(min(high, ceiling), floor)
