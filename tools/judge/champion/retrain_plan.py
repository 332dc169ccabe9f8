"""Whether a retraining pays, and on which rows: forecast loss against its cost.

The champion's loss per row, batch by batch, is continued over a horizon (`trend`). What it will exceed the reference
loss by is the most that a retraining can win back; it is stated in rows answered without a model (by the label shares
or the median of the reference rows), so that a cost means the same for every task and metric. Whether the new model
wins that much, only its comparison with the champion on later rows can say.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tools.judge.estimates import Scores, Task, chance, standard_error
from tools.judge.trend import EDGE, fit_trend

Floats = NDArray[np.float64]
Course = Literal["none", "sudden", "gradual", "before"]

MAX_BATCHES = 48
MIN_BATCH_ROWS = 30
MIN_BATCHES = 2 * EDGE
MIN_NEW_ROWS = 100  # trained on fewer rows of a new concept, a model says more about those rows than about it
# Rows since a change train a model without the older ones when they are at least these shares of the reference rows and
# of the trainable ones: a search holds the newest 40 % of the latter back to choose by, and something must be left.
ALONE, ALONE_OF_TRAINABLE = 0.5, 0.6
STEPS = 24  # of the forecast
DAMPING = 0.9  # of the trend per batch (Gardner and McKenzie 1985): a trend does not go on for ever
DRAWS = 1000
LEVEL = 0.9
LIKELY = 0.5
CERTAIN = 0.01  # p-value below which the current loss differs from the reference loss
CLIP = 1e-3  # label shares are kept this far from 0


@dataclass(frozen=True)
class RetrainPlan:
    """Savings and cost are in rows answered without a model.

    `course`: no change of the loss; a sudden one at `change_row`; a gradual one; or one before the first current row.
    """

    pays: bool
    enough_rows: bool
    window: str  # as the trainer takes it: all, recent, weighted or newest:N
    savings: float  # median forecast of what the champion will lose beyond the reference loss
    interval: tuple[float, float]  # that holds it with probability 0.9
    probability: float  # that it is above the cost
    course: Course
    change_row: int | None  # of the current rows, from 0; None where there is no sudden change
    new_rows: int  # trainable rows since the change; all trainable ones where there is none
    reasons: list[str] = field(default_factory=list)


def plan_retraining(
    reference: Scores,
    current: Scores,
    task: Task,
    *,
    cost: float,
    horizon: int | None = None,
    train_rows: int | None = None,
    seed: int = 0,
) -> RetrainPlan:
    """Weigh the champion's forecast loss against the cost of a retraining, and choose the rows to train on.

    Args:
        reference, current: in time order; reference rows are some the champion was not trained on.
        cost: of a retraining, in rows answered without a model.
        horizon: rows that the next version is to answer; None: as many as the current ones.
        train_rows: the first current rows, which a new model may be trained on; None: all.

    Raises:
        ValueError: too few rows, or a cost or horizon out of range.
    """
    count = len(current)
    ahead = count if horizon is None else horizon
    trainable = count if train_rows is None else train_rows
    if cost < 0 or ahead < 1 or not 0 < trainable <= count:
        raise ValueError(
            f"cost must not be negative, horizon at least 1, and train_rows 1 to {count}; got {cost:g}, {ahead} and "
            f"{trainable}"
        )
    if min(count, len(reference)) < MIN_BATCH_ROWS:
        raise ValueError(
            f"{len(reference)} reference and {count} current rows; a forecast needs {MIN_BATCH_ROWS} of each"
        )
    unit = max(loss_without_model(reference, current, task), 1e-12)
    before, now = reference.loss / unit, current.loss / unit
    level, error = float(before.mean()), standard_error(before - before.mean())
    paths, course, at = _outlook(now, level, error, seed)
    random = np.random.default_rng(seed)
    # No loss is below 0, so nothing can lose less than the reference rows did by more than all of that.
    rise = np.maximum(paths, 0.0).mean(axis=1) - level - error * random.standard_normal(len(paths))
    savings = ahead * np.maximum(rise, -level)
    tail = (1 - LEVEL) / 2
    low, middle, high = (float(q) for q in np.quantile(savings, (tail, 0.5, 1 - tail)))
    probability = float((savings > cost).mean())
    new_rows = max(0, trainable - (at or 0))
    enough = course == "none" or new_rows >= MIN_NEW_ROWS
    if not enough and at:
        # Worse before the change and after it: the rows before it are no longer the champion's world either.
        both = now[: min(at, trainable)], now[at:]
        enough = trainable >= MIN_NEW_ROWS and all(_worse(part, level, error) for part in both)
    alone = new_rows >= max(MIN_NEW_ROWS, ALONE * len(reference), ALONE_OF_TRAINABLE * trainable)
    window = _window(course, at, new_rows, alone)
    plan = RetrainPlan(probability > LIKELY, enough, window, middle, (low, high), probability, course, at, new_rows)
    return replace(plan, reasons=_reasons(plan, cost, ahead))


def _worse(loss: Floats, level: float, error: float) -> bool:
    """Whether a mean loss is proven to be above the reference's."""
    if len(loss) < MIN_BATCH_ROWS:
        return False
    noise = float(np.hypot(standard_error(loss - loss.mean()), error))
    return bool(stats.norm.sf((float(loss.mean()) - level) / max(noise, 1e-12)) < CERTAIN)


def loss_without_model(reference: Scores, current: Scores, task: Task) -> float:
    """Mean loss on the current rows of the reference rows' label shares, or of their median."""
    if task == "regression":
        middle = float(np.median(reference.y_true.astype(float)))
        return float(np.abs(current.y_true.astype(float) - middle).mean())
    labels, counts = np.unique(reference.y_true.astype(str), return_counts=True)
    share = dict(zip(labels.tolist(), (counts / counts.sum()).tolist(), strict=True))
    now, rows = np.unique(current.y_true.astype(str), return_counts=True)
    return float(np.average([-np.log(max(CLIP, share.get(str(name), 0.0))) for name in now], weights=rows))


def _outlook(loss: Floats, level: float, error: float, seed: int) -> tuple[Floats, Course, int | None]:
    """Draws of the loss over the horizon, shape (draws, steps); how it changed; at which row, if suddenly."""
    random = np.random.default_rng([seed, 1])
    spread = standard_error(loss - loss.mean())
    distance = abs(float(loss.mean()) - level)
    differs = 2 * stats.norm.sf(distance / max(float(np.hypot(spread, error)), 1e-12)) < CERTAIN
    batches = min(MAX_BATCHES, len(loss) // MIN_BATCH_ROWS)
    if batches < MIN_BATCHES:
        paths = float(loss.mean()) + spread * random.standard_normal((DRAWS, 1)) * np.ones(STEPS)
        return paths, "before" if differs else "none", 0 if differs else None
    edges = np.linspace(0, len(loss), batches + 1).astype(int)
    series = np.array([loss[a:b].mean() for a, b in pairwise(edges.tolist())])
    trend = fit_trend(series, max(distance, float(series.std()), 1e-9))
    ahead = np.linspace(batches / STEPS, batches, STEPS)
    paths = trend.draw(DRAWS, DAMPING * (1 - DAMPING**ahead) / (1 - DAMPING), seed)
    third = len(loss) // 3
    first, last = loss[:third], loss[-third:]
    noise = np.hypot(standard_error(first - first.mean()), standard_error(last - last.mean()))
    moved = 2 * stats.norm.sf(abs(float(last.mean() - first.mean())) / max(float(noise), 1e-12)) < CERTAIN
    if moved or trend.probability("jump") > LIKELY:
        at = _step(series)
        return (paths, "gradual", None) if at is None else (paths, "sudden", int(edges[at]))
    return (paths, "before", 0) if differs else (paths, "none", None)


def _step(series: Floats) -> int | None:
    """Where a series steps from one level to another, least squares; None where a straight line fits better (BIC)."""
    n = len(series)
    steps = [
        float(((series[:k] - series[:k].mean()) ** 2).sum() + ((series[k:] - series[k:].mean()) ** 2).sum())
        for k in range(1, n)
    ]
    x = np.arange(n) - (n - 1) / 2
    centred = series - series.mean()
    line = float((centred**2).sum() - (x @ centred) ** 2 / (x @ x))
    best = int(np.argmin(steps))
    # The place of the step is one more parameter than the line has.
    return best + 1 if n * np.log(max(steps[best], 1e-300) / max(line, 1e-300)) + np.log(n) < 0 else None


def _window(course: Course, at: int | None, new_rows: int, alone: bool) -> str:
    """All rows where nothing changed; those since a sudden change where they suffice; else older rows weigh less."""
    if course == "none":
        return "all"
    if course == "gradual" or not alone:
        return "weighted"
    return "recent" if at == 0 else f"newest:{new_rows}"


WINDOW_WORDS: dict[str, Callable[[RetrainPlan], str]] = {
    "all": lambda plan: "Train on all rows: the loss did not change its course.",
    "weighted": lambda plan: "Train on all rows with older ones weighted down: " + (
        "the change is gradual." if plan.course == "gradual" else "those since the change are too few to train alone."
    ),
    "recent": lambda plan: "Train on the current rows alone: the loss had changed before the first of them.",
}  # fmt: skip


def _more(rows: float) -> str:
    return "less" if round(rows) < 0 else "more"


def _between(low: float, high: float) -> str:
    """An interval of rows' worth, its ends in words where they differ: `12 less to 40 more`, `5 to 40 more`."""
    if _more(low) == _more(high):
        near, far = sorted((abs(low), abs(high)))
        return f"{near:.0f} to {far:.0f} {_more(low)}"
    return f"{abs(low):.0f} less to {high:.0f} more"


def _reasons(plan: RetrainPlan, cost: float, horizon: int) -> list[str]:
    verb = "pays" if plan.pays else "does not pay"
    reasons = [
        f"Over the next {horizon} rows the champion is forecast to lose {abs(plan.savings):.0f} rows' worth "
        f"{_more(plan.savings)} than on the reference rows ({_between(*plan.interval)}), a row's worth being what a "
        f"row costs that is answered without a model; a retraining costs {cost:g}: it {verb} (the probability that it "
        f"pays is {chance(plan.probability)})."
    ]
    if plan.course == "sudden":
        reasons.append(f"The loss changed suddenly at current row {plan.change_row}.")
    if plan.enough_rows and plan.course == "sudden" and plan.new_rows < MIN_NEW_ROWS:
        reasons.append("It was worse than on the reference rows before that change too, so those rows teach as well.")
    if not plan.enough_rows:
        reasons.append(
            f"Only {plan.new_rows} rows to train on lie after the change, fewer than {MIN_NEW_ROWS}: wait for more."
        )
    newest = f"Train on the newest {plan.new_rows} rows, those since the change."
    words = WINDOW_WORDS.get(plan.window)
    reasons.append(newest if words is None else words(plan))
    return reasons
