"""A canary's evidence, and what it says about quality: paired observations in the metric's own terms."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.judge.canary.running import Running, Tolerance, running_of
from tools.judge.estimates import METRICS_OF, Scores, Task
from tools.judge.sequential import Floats

RATE_TOLERANCE = 0.02  # default tolerance of error rates and of the AUC: two points
# Rows of each class that a block needs. Small blocks are many and show a large loss soon; larger ones spare the noise
# of comparing single rows. Which is better depends on the models, so both are bet on.
BLOCK_SIZES = (1, 4)
LOSS_TOLERANCE = 0.05  # default tolerance of losses: a share of the champion's loss
# What is lost of a metric that has no unbiased form per request or block. Each is judged on all requests so far.
LOST = {
    ("binary", "average_precision"): "lost average precision (1 - AP)",
    ("binary", "f1"): "lost F1 (1 - F1)",
    ("multiclass", "f1"): "lost macro F1 (1 - F1)",
    ("multiclass", "balanced_accuracy"): "balanced error rate",
}
# Those of them that lie near 0 where positives are rare: points alone could be most of what the champion has.
FROM_ZERO = ("average_precision", "f1")


@dataclass(frozen=True)
class Evidence:
    """Requests in the order they were answered; arrays of shape (n,), NaN where unknown.

    Args:
        served_by_challenger: whose answer the user got.
        champion_status, challenger_status: HTTP status; NaN where that model was not asked.
        positive: binary only: whether the label is the positive class (1, 0, or NaN for no label yet).
        y_true: regression only.
        label: multiclass only: class names as text.
        segment: names, optional.
        champion_prediction, challenger_prediction: class names as text, or numbers for regression; optional.
        labelled_after: requests sent when the label was recorded; NaN where there is none or it was there at once.
        label_batch: number of that recording, which orders labels that arrive while no request does.
        routed_to_challenger: whose answer the user was to get; as served where unknown.
        late: 1 where the variant that the request was routed to did not answer it in time, so that another one had to
            or the user waited too long; 0 where it did.
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
    label: NDArray[Any] | None = None
    segment: NDArray[Any] | None = None
    champion_prediction: NDArray[Any] | None = None
    challenger_prediction: NDArray[Any] | None = None
    labelled_after: Floats | None = None
    label_batch: Floats | None = None
    routed_to_challenger: NDArray[np.bool_] | None = None
    late: Floats | None = None

    @property
    def routed(self) -> NDArray[np.bool_]:
        """Requests that were routed to the challenger, shape (n,)."""
        return self.served_by_challenger if self.routed_to_challenger is None else self.routed_to_challenger

    def __len__(self) -> int:
        return len(self.served_by_challenger)

    def since(self, start: int) -> "Evidence":
        """The requests from `start` on, as evidence of its own."""
        cut: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        cut = {name: None if values is None else values[start:] for name, values in cut.items()}
        if cut["labelled_after"] is not None:
            cut["labelled_after"] = cut["labelled_after"] - start
        return Evidence(**cut)


@dataclass(frozen=True)
class Rules:
    """What is asked of the canary.

    Args:
        tolerance: accepted loss of quality: points of an error rate, AUC, F1 or average precision (0.02; of the last
            two never more than a share of 0.05 of the champion's), or a share of the champion's loss (0.05). None takes
            these defaults; 0 asks for proof that the challenger is better.
        max_latency_ms: accepted 95th percentile of the challenger's latency.
        max_error_rate: accepted share of failed answers of the challenger.
        min_requests: labelled requests before any promotion.
        label_delay: requests sent after one until its label is known; see `maturity`.
        min_label_share: share of the requests older than that which must be labelled before any promotion.
    """

    metric: str
    task: Task
    alpha: float = 0.05
    tolerance: float | None = None
    max_latency_ms: float | None = None
    max_error_rate: float | None = None
    min_requests: int = 100
    label_delay: int = 0
    min_label_share: float = 0.9

    @property
    def rate_tolerance(self) -> float:
        """The tolerance of error rates and of the AUC."""
        return RATE_TOLERANCE if self.tolerance is None else self.tolerance


@dataclass(frozen=True)
class Quality:
    """Paired quality observations: `harm` is positive where the challenger is worse.

    Args:
        rows: the request after which each observation counts, never decreasing.
        margin: what promotion bets on: positive on average when the challenger is within the tolerance.
        bound: largest absolute value of `harm`; None when unknown.
        margin_bound: largest loss of the bet on `margin`.
        hoped: what `margin` is on average when the models are equal, as known before each observation.
        coarse: the same over larger blocks, for metrics of pairs of requests.
        running: computes the metric on all requests so far, for metrics that are no mean of requests.
        whole: `running` alone decides: nothing less than all requests stands for the metric, and the arrays are empty.
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
    hoped: Floats
    coarse: "Quality | None" = None
    running: Callable[[], Running] | None = None
    whole: bool = False

    @property
    def parts(self) -> tuple["Quality", ...]:
        """This, and the same over larger blocks where there are such."""
        return () if self.whole else (self,) if self.coarse is None else (self, self.coarse)

    @property
    def values(self) -> tuple[float | None, float | None]:
        """What champion and challenger lost by now; None before the first observation or look."""
        theirs, ours = self.champion, self.challenger
        if self.whole and self.running is not None:
            theirs, ours = (1 - values[-1:] for values in (self.running().champion, self.running().challenger))
        return (float(theirs.mean()), float(ours.mean())) if len(theirs) else (None, None)


def answered(evidence: Evidence) -> NDArray[np.bool_]:
    """Requests that both models answered."""
    return (evidence.champion_status == 200) & (evidence.challenger_status == 200)


def label_times(evidence: Evidence, rules: Rules) -> NDArray[np.int64]:
    """The request after which each request's label counts, shape (n,); n where it does not yet.

    That is `label_delay` requests later, or when the label was recorded if that came later still.
    """
    n = len(evidence)
    times = np.arange(n, dtype=np.int64) + rules.label_delay
    if evidence.labelled_after is not None:
        recorded = np.where(np.isfinite(evidence.labelled_after), evidence.labelled_after - 1, 0)
        times = np.maximum(times, recorded.astype(np.int64))
    known = np.isfinite(evidence.champion_loss - evidence.challenger_loss)
    return np.where(known, np.minimum(times, n), n)


def quality_of(evidence: Evidence, rules: Rules, chosen: NDArray[np.bool_] | None = None) -> Quality:
    """Paired observations whose mean is the loss of quality in the metric's own terms.

    Accuracy: errors. AUC: blocks of consecutive requests that hold both classes; the AUC within a block is an unbiased
    estimate of the AUC. Balanced accuracy of two classes: the same blocks with the mean of the two error rates. Average
    precision, F1 and the balanced accuracy of more classes have no such form: the metric on all requests so far. RMSE
    and R2: squared errors. Other losses: the loss itself.

    Args:
        chosen: use these requests only, shape (n,).

    Raises:
        ValueError: the metric does not fit the task, or the evidence lacks what it needs.
    """
    metric, task = rules.metric, rules.task
    if metric not in METRICS_OF[task]:
        raise ValueError(f"metric {metric!r} cannot be judged for {task}; valid: {', '.join(METRICS_OF[task])}")
    times = label_times(evidence, rules)
    index = np.flatnonzero((times < len(evidence)) if chosen is None else chosen & (times < len(evidence)))
    batch = np.zeros(len(index)) if evidence.label_batch is None else np.nan_to_num(evidence.label_batch[index])
    index = index[np.lexsort((index, batch, times[index]))]
    rows = times[index]
    if (task, metric) in LOST:
        return _whole_quality(evidence, rules, index, rows)
    if task == "binary" and metric in ("roc_auc", "balanced_accuracy"):
        return _block_quality(evidence, rules, index, rows)
    if metric == "accuracy":
        return _rate_quality(
            "error rate", rows, evidence.champion_error[index], evidence.challenger_error[index], rules
        )
    ours, theirs, measure = evidence.challenger_loss[index], evidence.champion_loss[index], "log loss"
    if task == "regression":
        measure = "absolute error"
        if metric in ("rmse", "r2"):
            ours, theirs, measure = ours**2, theirs**2, "squared error"
        elif metric == "mape":
            if evidence.y_true is None:
                raise ValueError("mape needs the column y_true in the evidence")
            size = np.maximum(np.abs(evidence.y_true[index]), np.finfo(np.float64).eps)
            ours, theirs, measure = ours / size, theirs / size, "relative error"
    share = LOSS_TOLERANCE if rules.tolerance is None else rules.tolerance
    return Quality(
        measure, rows, ours - theirs, (1 + share) * theirs - ours, None, 0.0, theirs, ours,
        f"at most {share:.1%} more {measure} than the champion", share * _mean_before(theirs),
    )  # fmt: skip


def _mean_before(values: Floats) -> Floats:
    """Mean of the values before each one; 0 before the first."""
    return np.concatenate([[0.0], np.cumsum(values)[:-1] / np.arange(1, len(values))]) if len(values) else values


def _rate_quality(measure: str, rows: NDArray[np.int64], theirs: Floats, ours: Floats, rules: Rules) -> Quality:
    allowed = rules.rate_tolerance
    harm = ours - theirs
    return Quality(
        measure, rows, harm, allowed - harm, 1.0, 1.0 - allowed, theirs, ours,
        f"at most {allowed:.3f} more {measure} than the champion", np.full(len(rows), allowed),
    )  # fmt: skip


def _block_quality(evidence: Evidence, rules: Rules, index: NDArray[np.int64], rows: NDArray[np.int64]) -> Quality:
    """Observations over consecutive blocks that hold both classes; every request is used at most once."""
    ranking = rules.metric == "roc_auc"
    scores, rows = _scores(evidence, rules, index, rows)
    truth = scores[0].y_true == scores[0].positive
    theirs, ours = (s.probability if ranking else (s.y_true != s.prediction).astype(np.float64) for s in scores)
    assert theirs is not None and ours is not None
    loss = misordered if ranking else _balanced_error
    measure = "share of wrongly ordered pairs (1 - AUC)" if ranking else "balanced error rate"
    fine, coarse = (
        _rate_quality(
            measure,
            rows[bounds[:, 1] - 1],
            np.array([loss(theirs[a:b], truth[a:b]) for a, b in bounds], dtype=float),
            np.array([loss(ours[a:b], truth[a:b]) for a, b in bounds], dtype=float),
            rules,
        )
        for bounds in (block_bounds(truth, size) for size in BLOCK_SIZES)
    )
    tolerance = Tolerance(rules.rate_tolerance)
    return replace(
        fine, coarse=coarse, running=cache(partial(running_of, rules.metric, rules.task, *scores, rows, tolerance))
    )


def _whole_quality(evidence: Evidence, rules: Rules, index: NDArray[np.int64], rows: NDArray[np.int64]) -> Quality:
    """The metric on all requests so far, where no mean of requests or blocks stands for it."""
    scores, rows = _scores(evidence, rules, index, rows)
    share = LOSS_TOLERANCE if rules.tolerance is None and rules.metric in FROM_ZERO else 1.0
    tolerance = Tolerance(rules.rate_tolerance, share)
    nothing = np.empty(0)
    empty = _rate_quality(LOST[rules.task, rules.metric], rows[:0], nothing, nothing, rules)
    return replace(
        empty,
        tolerance=empty.tolerance + (f", and never more than {share:.0%} of what it reaches" if share < 1 else ""),
        running=cache(partial(running_of, rules.metric, rules.task, *scores, rows, tolerance)),
        whole=True,
    )


def _scores(
    evidence: Evidence, rules: Rules, index: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[tuple[Scores, Scores], NDArray[np.int64]]:
    """Both models' scores of the chosen requests that have all that the metric needs, and when each of them counts."""
    if rules.task == "multiclass":
        return _class_scores(evidence, rules, index), rows
    ranking = rules.metric in ("roc_auc", "average_precision")
    if evidence.positive is None:
        raise ValueError(f"{rules.metric} needs the column y_true in the evidence")
    said = evidence.champion_error, evidence.challenger_error
    if ranking:
        if evidence.champion_probability is None or evidence.challenger_probability is None:
            raise ValueError(f"{rules.metric} needs the columns champion_probability and challenger_probability")
        said = evidence.champion_probability, evidence.challenger_probability
    index, rows = (
        values[np.isfinite(evidence.positive[index] + said[0][index] + said[1][index])] for values in (index, rows)
    )
    truth = evidence.positive[index] > 0
    label = np.where(truth, "1", "0")

    def of(values: Floats) -> Scores:
        if ranking:
            return Scores(label, label, values, values, "1")
        return Scores(label, np.where(truth ^ (values > 0), "1", "0"), values, None, "1")

    return (of(said[0][index]), of(said[1][index])), rows


def _class_scores(evidence: Evidence, rules: Rules, index: NDArray[np.int64]) -> tuple[Scores, Scores]:
    if evidence.label is None or evidence.champion_prediction is None or evidence.challenger_prediction is None:
        raise ValueError(
            f"{rules.metric} needs the columns y_true, champion_prediction and challenger_prediction in the evidence"
        )
    label = evidence.label[index].astype(str)
    said = (evidence.champion_prediction, evidence.challenger_prediction)
    lost = (evidence.champion_loss, evidence.challenger_loss)
    champion, challenger = (
        Scores(label, p[index].astype(str), loss[index]) for p, loss in zip(said, lost, strict=True)
    )
    return champion, challenger


def block_bounds(truth: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """Consecutive blocks, shape (blocks, 2): each ends with the first row that makes it hold `size` of both classes.

    Only labels decide where a block ends, so given the labels the rows of a class in a block are drawn like any others,
    and its AUC is unbiased.
    """
    of_class = np.flatnonzero(truth), np.flatnonzero(~truth)
    used, start, bounds = [0, 0], 0, []
    while all(used[k] + size <= len(of_class[k]) for k in (0, 1)):
        end = 1 + max(int(of_class[k][used[k] + size - 1]) for k in (0, 1))
        bounds.append((start, end))
        start, used = end, [int(np.searchsorted(of_class[k], end)) for k in (0, 1)]
    return np.array(bounds, dtype=np.int64).reshape(-1, 2)


def misordered(score: Floats, truth: NDArray[np.bool_]) -> float:
    """Share of pairs of a positive and a negative that the score puts in the wrong order, ties as half: 1 - AUC."""
    gap = score[truth][:, None] - score[~truth][None, :]
    return float(np.mean((gap < 0) + 0.5 * (gap == 0)))


def _balanced_error(error: Floats, truth: NDArray[np.bool_]) -> float:
    return 0.5 * float(error[truth].mean() + error[~truth].mean())
