"""Metrics that are no mean of requests: both models' values on all requests so far, with the metric's own error.

Average precision, F1, the AUC and the mean recall of several classes are functions of all rows at once. Each row's
influence on them (`estimates`) gives the error of the two models' difference on the same rows, and of the margin that
a tolerance leaves. The tests on it hold in the long run, so the first look waits for rows of every class.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.judge.estimates import Scores, Task, estimate, standard_error
from tools.judge.sequential import Floats, asymptotic_interval, asymptotic_log_e, spread

MIN_ROWS = 50  # of each class before the first look: a normal approximation needs rows
GROWTH = 1.05  # of the rows from one look to the next
# Models that rarely disagree show no disagreement at first, and so no error. This share of one that moves the metric as
# much as a row can is added to what was seen: as many rows without any prove what exact binomial bounds would.
UNSEEN = 0.25


@dataclass(frozen=True)
class Tolerance:
    """The loss of a metric that is accepted: `points` of it, and never more than `share` of the champion's value."""

    points: float
    share: float = 1.0


@dataclass(frozen=True)
class Running:
    """Both models' values at growing numbers of rows; arrays of shape (looks,).

    Args:
        rows: the request after which each look counts.
        count: rows by then.
        champion, challenger: values, higher is better.
        deviation: of one row's influence on champion minus challenger.
        margin: what the tolerance leaves of that loss, positive where it is within.
        margin_deviation: of one row's influence on it.
        rarest: rows of the rarest class at the end; 0 where fewer than two classes were seen.
    """

    rows: NDArray[np.int64]
    count: NDArray[np.int64]
    champion: Floats
    challenger: Floats
    deviation: Floats
    margin: Floats
    margin_deviation: Floats
    rarest: int

    @property
    def harm(self) -> Floats:
        """Positive where the challenger is worse."""
        return self.champion - self.challenger

    def harm_log_e(self, n: int) -> Floats:
        """Log e-process of "the challenger is worse", per request, shape (n,)."""
        return spread(asymptotic_log_e(self.harm, self.deviation, self.count), self.rows, n)

    def within_log_e(self, n: int) -> Floats:
        """Log e-process of "its loss is within the tolerance", per request, shape (n,)."""
        return spread(asymptotic_log_e(self.margin, self.margin_deviation, self.count), self.rows, n)

    def intervals(self, alpha: float) -> Floats:
        """Confidence sequence of `harm`, shape (looks, 2)."""
        return asymptotic_interval(self.harm, self.deviation, self.count, alpha)


def running_of(
    metric: str, task: Task, champion: Scores, challenger: Scores, rows: NDArray[np.int64], tolerance: Tolerance
) -> Running:
    """The metric of all rows so far at looks whose distance grows, from `MIN_ROWS` rows of every class seen on.

    Args:
        champion, challenger: of the same rows, in the order in which their labels count.
        rows: the request after which each row counts.

    Raises:
        ValueError: the metric does not fit the task, or the scores lack what it needs.
    """
    rarest = _rarest(champion.y_true)
    classes = len(np.unique(champion.y_true)) if task == "multiclass" else 1  # whose values the metric averages
    found: list[tuple[float, ...]] = []
    looks = _looks(rarest)
    for n in looks:
        theirs, ours = (estimate(metric, task, _first(scores, n)) for scores in (champion, challenger))
        unseen = n / float(rarest[n - 1]) / classes
        share = 1.0 - tolerance.share if tolerance.share * theirs.value < tolerance.points else 1.0
        margin = ours.value - theirs.value + tolerance.points if share == 1.0 else ours.value - share * theirs.value
        found.append((
            theirs.value, ours.value, _deviation(theirs.influence - ours.influence, unseen),
            margin, _deviation(ours.influence - share * theirs.influence, unseen),
        ))  # fmt: skip
    columns = np.array(found, dtype=np.float64).reshape(-1, 5).T
    return Running(rows[looks - 1], looks, *columns, rarest=int(rarest[-1]) if len(rarest) else 0)


def _rarest(truth: NDArray[Any]) -> NDArray[np.int64]:
    """Rows of the rarest class seen so far, after each row; 0 before a second one is seen."""
    _, index = np.unique(truth, return_inverse=True)
    classes = int(index.max(initial=-1)) + 1
    count = np.cumsum(index[:, None] == np.arange(classes), axis=0)
    seen = count > 0
    least = np.where(seen, count, len(truth)).min(axis=1, initial=len(truth))
    return np.where(seen.sum(axis=1) > 1, least, 0).astype(np.int64)


def _looks(rarest: NDArray[np.int64]) -> NDArray[np.int64]:
    enough = np.flatnonzero(rarest >= MIN_ROWS)
    if not len(enough):
        return enough
    first = int(enough[0]) + 1
    steps = int(np.log(len(rarest) / first) / np.log(GROWTH)) + 2  # the last may end beyond, or within by rounding
    looks = np.unique((first * GROWTH ** np.arange(steps)).astype(np.int64))
    looks = looks[looks <= len(rarest)]
    return looks[rarest[looks - 1] >= MIN_ROWS]


def _first(scores: Scores, n: int) -> Scores:
    """The first `n` rows."""
    probability = None if scores.probability is None else scores.probability[:n]
    return Scores(scores.y_true[:n], scores.prediction[:n], scores.loss[:n], probability, scores.positive)


def _deviation(influence: Floats, unseen: float) -> float:
    """Of one row's influence; `unseen`: what one row can at most move it by."""
    n = len(influence)
    return float(np.sqrt(standard_error(influence) ** 2 * n + UNSEEN * unseen**2 / n))
