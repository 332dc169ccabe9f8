"""A canary's evidence, and what it says about quality: paired observations in the metric's own terms."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.judge.estimates import METRICS_OF, Task
from tools.judge.sequential import Floats

RATE_TOLERANCE = 0.02  # default tolerance of error rates and of the AUC: two points
LOSS_TOLERANCE = 0.05  # default tolerance of losses: a share of the champion's loss


@dataclass(frozen=True)
class Evidence:
    """Requests in the order they were answered; arrays of shape (n,), NaN where unknown.

    Args:
        served_by_challenger: whose answer the user got.
        champion_status, challenger_status: HTTP status; NaN where that model was not asked.
        positive: binary only: whether the label is the positive class (1, 0, or NaN for no label yet).
        y_true: regression only.
        segment: names, optional.
    """

    served_by_challenger: NDArray[np.bool_]
    champion_error: Floats
    challenger_error: Floats
    champion_loss: Floats
    challenger_loss: Floats
    champion_status: Floats
    challenger_status: Floats
    champion_latency_ms: Floats
    challenger_latency_ms: Floats
    champion_probability: Floats | None = None
    challenger_probability: Floats | None = None
    positive: Floats | None = None
    y_true: Floats | None = None
    segment: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.served_by_challenger)


@dataclass(frozen=True)
class Rules:
    """What is asked of the canary.

    Args:
        tolerance: accepted loss of quality: points of an error rate or AUC (0.02), or a share of the champion's loss
            (0.05). None takes these defaults; 0 asks for proof that the challenger is better.
        max_latency_ms: accepted 95th percentile of the challenger's latency.
        max_error_rate: accepted share of failed answers of the challenger.
        min_requests: labelled requests before any promotion.
    """

    metric: str
    task: Task
    alpha: float = 0.05
    tolerance: float | None = None
    max_latency_ms: float | None = None
    max_error_rate: float | None = None
    min_requests: int = 100


@dataclass(frozen=True)
class Quality:
    """Paired quality observations: `harm` is positive where the challenger is worse.

    Args:
        rows: the request at which each observation is complete, increasing.
        margin: what promotion bets on: positive on average when the challenger is within the tolerance.
        bound: largest absolute value of `harm`; None when unknown.
        margin_bound: largest loss of the bet on `margin`.
    """

    measure: str
    rows: NDArray[np.int64]
    harm: Floats
    margin: Floats
    bound: float | None
    margin_bound: float
    champion: Floats
    challenger: Floats
    tolerance: str


def quality_of(evidence: Evidence, rules: Rules) -> Quality:
    """Paired observations whose mean is the loss of quality in the metric's own terms.

    Accuracy: errors. AUC (and average precision, which has no unbiased per-request form): blocks of consecutive
    requests that close when they hold both classes; the AUC within a block is an unbiased estimate of the AUC. Balanced
    accuracy and F1 of two classes: the same blocks with the mean of the two error rates. RMSE and R2: squared errors.
    Other losses: the loss itself.
    """
    metric, task = rules.metric, rules.task
    if metric not in METRICS_OF[task]:
        raise ValueError(f"metric {metric!r} cannot be judged for {task}; valid: {', '.join(METRICS_OF[task])}")
    if task == "binary" and metric in ("roc_auc", "average_precision", "balanced_accuracy", "f1"):
        return _block_quality(evidence, rules)
    if metric in ("accuracy", "balanced_accuracy", "f1"):
        ours, theirs = evidence.challenger_error, evidence.champion_error
        rows = np.flatnonzero(np.isfinite(ours) & np.isfinite(theirs))
        return _rate_quality("error rate", rows, theirs[rows], ours[rows], rules)
    ours, theirs, measure = evidence.challenger_loss, evidence.champion_loss, "log loss"
    if task == "regression":
        measure = "absolute error"
        if metric in ("rmse", "r2"):
            ours, theirs, measure = ours**2, theirs**2, "squared error"
        elif metric == "mape":
            if evidence.y_true is None:
                raise ValueError("mape needs the column y_true in the evidence")
            size = np.maximum(np.abs(evidence.y_true), np.finfo(np.float64).eps)
            ours, theirs, measure = ours / size, theirs / size, "relative error"
    rows = np.flatnonzero(np.isfinite(ours) & np.isfinite(theirs))
    ours, theirs = ours[rows], theirs[rows]
    share = LOSS_TOLERANCE if rules.tolerance is None else rules.tolerance
    return Quality(
        measure, rows, ours - theirs, (1 + share) * theirs - ours, None, 0.0, theirs, ours,
        f"at most {share:.1%} more {measure} than the champion",
    )  # fmt: skip


def _rate_quality(measure: str, rows: NDArray[np.int64], theirs: Floats, ours: Floats, rules: Rules) -> Quality:
    allowed = RATE_TOLERANCE if rules.tolerance is None else rules.tolerance
    harm = ours - theirs
    return Quality(
        measure, rows, harm, allowed - harm, 1.0, 1.0 - allowed, theirs, ours,
        f"at most {allowed:.3f} more {measure} than the champion",
    )  # fmt: skip


def _block_quality(evidence: Evidence, rules: Rules) -> Quality:
    """Observations over the shortest consecutive blocks that hold both classes; every request is used once."""
    ranking = rules.metric in ("roc_auc", "average_precision")
    positive = evidence.positive
    if positive is None:
        raise ValueError(f"{rules.metric} needs the column y_true in the evidence")
    if ranking:
        if evidence.champion_probability is None or evidence.challenger_probability is None:
            raise ValueError(f"{rules.metric} needs the columns champion_probability and challenger_probability")
        theirs, ours = evidence.champion_probability, evidence.challenger_probability
    else:
        theirs, ours = evidence.champion_error, evidence.challenger_error
    rows = np.flatnonzero(np.isfinite(positive) & np.isfinite(theirs) & np.isfinite(ours))
    truth, theirs, ours = positive[rows] > 0, theirs[rows], ours[rows]
    ends, champion, challenger = [], [], []
    start = 0
    while start < len(rows):
        later = np.flatnonzero(truth[start:] != truth[start])
        if not len(later):
            break
        end = start + int(later[0])  # all before it are of one class, so this row completes the block
        single, many = end, slice(start, end)
        for scores, out in ((theirs, champion), (ours, challenger)):
            if ranking:
                gap = scores[single] - scores[many] if truth[single] else scores[many] - scores[single]
                out.append(1 - float(np.mean((gap > 0) + 0.5 * (gap == 0))))
            else:
                out.append(0.5 * (float(scores[single]) + float(np.mean(scores[many]))))
        ends.append(rows[end])
        start = end + 1
    measure = "share of wrongly ordered pairs (1 - AUC)" if ranking else "balanced error rate"
    return _rate_quality(
        measure,
        np.array(ends, dtype=np.int64),
        np.array(champion, dtype=float),
        np.array(challenger, dtype=float),
        rules,
    )
