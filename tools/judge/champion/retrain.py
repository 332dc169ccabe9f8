"""Whether the champion has become worse, from labelled rows before and after."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import stats

from tools.judge.estimates import LOSSES, Estimate, Scores, Task, estimate, p_words, standard_error

# Smaller changes are not worth a retraining, however certain they are.
MIN_LOSS_INCREASE = 0.05  # share of the reference loss
MIN_METRIC_DROP = 0.01  # of accuracy, AUC, F1, R2, ...
MIN_ROWS = 30
DRIFT_WATCH = 0.3  # share of drifted columns that is worth a note

Urgency = Literal["none", "watch", "soon", "now"]


@dataclass(frozen=True)
class Assessment:
    """Whether to retrain, and the evidence.

    `loss_increase` is the mean loss per row now minus then, in the loss's unit, with its two-sided interval.
    """

    act: bool
    urgency: Urgency
    reference_value: float
    current_value: float
    loss_increase: float
    interval: tuple[float, float]
    p_value: float
    breached_minimum: bool
    reasons: list[str] = field(default_factory=list)


def _one_sided(worse_by: float, error: float, floor: float = 0.0) -> float:
    """P-value against "worse by at most `floor`"."""
    if error == 0:
        return 0.0 if worse_by > floor else 1.0
    return float(stats.norm.sf((worse_by - floor) / error))


def decide(
    reference: Scores,
    current: Scores,
    metric: str,
    task: Task,
    *,
    alpha: float = 0.01,
    min_metric: float | None = None,
    drift_share: float | None = None,
) -> Assessment:
    """Decide whether the champion must be retrained.

    Two questions are tested: did the loss per row rise, did the goal's metric fall (accuracy hides drift on imbalanced
    data, and a ranking metric hides a wrong level), and with `min_metric` a third: is the metric below it. The level
    is divided among them (Bonferroni), so with nothing changed it acts with probability at most `alpha`. A change must
    also be large enough to matter. Drifted features alone do not make it act: the labels say whether the model is fine.

    Raises:
        ValueError: the metric cannot be computed on these rows.
    """
    before, now = estimate(metric, task, reference), estimate(metric, task, current)
    increase, error = _loss_change(reference, current)
    worse_by = (before.value - now.value) * (1.0 if now.higher_is_better else -1.0)
    metric_error = float(np.hypot(standard_error(before.influence), standard_error(now.influence)))
    tests = 2 if metric not in ("log_loss", "mae") else 1  # for these two, the metric is the mean loss
    tests += min_metric is not None
    level = alpha / tests
    reach = float(stats.norm.isf(alpha / 2)) * error
    interval = (increase - reach, increase + reach)

    loss_p, metric_p = _one_sided(increase, error), _one_sided(worse_by, metric_error)
    base = float(reference.loss.mean())
    loss_matters = increase >= MIN_LOSS_INCREASE * base
    metric_floor = MIN_LOSS_INCREASE * before.value if metric in LOSSES else MIN_METRIC_DROP
    breach, breach_p, short_by = _minimum(now, min_metric, level)
    worst = "minimum" if now.higher_is_better else "maximum"

    reasons: list[str] = []
    if len(current) < MIN_ROWS or len(reference) < MIN_ROWS:
        reasons.append(
            f"Only {len(reference)} reference and {len(current)} current labelled rows; at least {MIN_ROWS} of each "
            "are needed to decide."
        )
        return Assessment(False, "none", before.value, now.value, increase, interval, 1.0, False, reasons)
    loss_act, metric_act = loss_p < level and loss_matters, metric_p < level and worse_by >= metric_floor
    act = loss_act or metric_act or breach
    p_value = min(1.0, tests * min(loss_p, metric_p, breach_p))
    if metric_act or not act:
        reasons.append(_course(metric, before, now, metric_p, level, metric_floor))
    if loss_act and tests > 1:
        reasons.append(
            f"The loss per row rose from {base:.4f} to {base + increase:.4f} (by {interval[0]:.4f} to "
            f"{interval[1]:.4f}, {p_words(loss_p)}, tested at {level:.2g})."
        )
    if breach:
        reasons.append(f"{metric} {now.value:.4f} misses the goal's {worst} {min_metric} ({p_words(breach_p)}).")
    elif short_by > 0:
        reasons.append(f"{metric} {now.value:.4f} misses the goal's {worst} {min_metric}, but within the noise.")
    drifted = drift_share is not None and drift_share >= DRIFT_WATCH
    if drift_share is not None and not act and drift_share > 0:
        reasons.append(f"{drift_share:.0%} of the columns drifted, but the labels do not prove that the model suffers.")
    relative = increase / base if base > 0 else 0.0
    if act:
        urgency: Urgency = "now" if breach or relative > 0.25 else "soon"
    else:
        urgency = "watch" if drifted or short_by > 0 or min(loss_p, metric_p) < level else "none"
    return Assessment(act, urgency, before.value, now.value, increase, interval, p_value, breach, reasons)


def _course(metric: str, before: Estimate, now: Estimate, p_value: float, level: float, floor: float) -> str:
    """What became of the metric: worse by enough, worse by less than matters, or not proven to be worse."""
    verb, noun = ("fell", "fall") if now.higher_is_better else ("rose", "rise")
    tested = f"({p_words(p_value)}, tested at {level:.2g})"
    if p_value >= level:
        return f"{metric} was {before.value:.4f} and is {now.value:.4f}: no {noun} is proven {tested}."
    told = f"{metric} {verb} from {before.value:.4f} to {now.value:.4f} {tested}"
    matters = abs(now.value - before.value) >= floor
    return f"{told}." if matters else f"{told}, by less than the {floor:.3g} from which it matters."


def _loss_change(reference: Scores, current: Scores) -> tuple[float, float]:
    """Rise of the mean loss and its standard error."""
    before, now = reference.loss, current.loss
    error = np.hypot(standard_error(before - before.mean()), standard_error(now - now.mean()))
    return float(now.mean() - before.mean()), float(error)


def _minimum(now: Estimate, minimum: float | None, level: float) -> tuple[bool, float, float]:
    """Whether the metric is below the goal's minimum (above, for a loss): breach, p-value, by how much it misses."""
    if minimum is None:
        return False, 1.0, 0.0
    short_by = (minimum - now.value) * (1.0 if now.higher_is_better else -1.0)
    p_value = _one_sided(short_by, standard_error(now.influence))
    return short_by > 0 and p_value < level, p_value, short_by
