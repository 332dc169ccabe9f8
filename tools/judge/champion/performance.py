"""A model's metric on rows whose labels have not arrived, with an interval; and what the labels say once they are here.

Labels are drawn for the current rows as the reference says they go with such scores, many times, and the metric is
computed on each draw. For a binary model a label comes from its probability, calibrated on the reference by isotonic
regression (confidence-based performance estimation, CBPE; see arXiv 2401.08348). Otherwise each row takes
the error of a reference row with a like prediction (the same class, or the same twentieth of the predictions).

This holds while labels go with scores as they did. It sees a population that moves to harder rows; it cannot see a
change of concept. That is what `unexplained_p` is for, as soon as there are labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tools.judge.calibration import PREDICTION_BINS, PROBABILITY_FLOOR, calibrate
from tools.judge.champion.contradiction import contradiction, growth, residual
from tools.judge.estimates import Scores, Task, estimate, possible, standard_error

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DRAWS = 200
MAX_ROWS = 20_000  # of each file; more narrow the interval by less than the assumption is worth
MIN_ROWS = 100
MIN_LABELLED = 30


@dataclass(frozen=True)
class Performance:
    """An estimate of a metric on the current rows that have no label; on all of them when all have one.

    Args:
        rows: that the estimate is of.
        value: mean over the draws; `low` and `high` hold the metric that the labels will give with probability
            1 - alpha.
        actual: the metric on the current rows that have labels; None without enough of them.
        actual_low: with `actual_high`, its interval at level 1 - alpha.
        unexplained_p: p-value against "labels go with scores as in the reference": small after a change of concept.
    """

    reference_value: float
    value: float
    low: float
    high: float
    actual: float | None
    actual_low: float | None
    actual_high: float | None
    unexplained_p: float | None
    rows: int
    method: str


def estimate_performance(
    reference: Scores,
    current: Scores,
    labelled: NDArray[np.bool_],
    metric: str,
    task: Task,
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> Performance:
    """Estimate `metric` on the current rows.

    Args:
        reference: labelled rows the model was not trained on.
        current: `y_true` and `loss` are read only where `labelled`.
        labelled: shape (n,).

    Raises:
        ValueError: too few rows, or a metric that these scores cannot give.
    """
    before = estimate(metric, task, reference)
    if _calibrated(reference, current, task):
        reference, current = _coded(reference, reference.positive), _coded(current, reference.positive)
    asked = current if labelled.all() else _take(current, np.flatnonzero(~labelled))
    if min(len(reference), len(asked)) < MIN_ROWS:
        raise ValueError(f"{len(reference)} reference and {len(asked)} rows to estimate; at least {MIN_ROWS} of each")
    random = np.random.default_rng(seed)
    source = _thin(reference)
    values = np.array([_value(metric, task, drawn) for drawn in _draws(source, _thin(asked), task, random)])
    values = values[np.isfinite(values)]
    if not len(values):
        raise ValueError(f"{metric} cannot be computed on labels drawn for these rows")
    value = float(values.mean())
    # The level of a stream's labels wanders; how far is seen in the reference, and the interval grows with it.
    grown = max(growth(residual(source, task)), growth(source.loss))
    ends = value + grown * (np.quantile(values, [alpha / 2, 1 - alpha / 2]) - value)
    low, high = possible(metric, float(ends[0]), float(ends[1]))
    actual = actual_low = actual_high = unexplained = None
    if labelled.sum() >= MIN_LABELLED:
        known = _take(current, np.flatnonzero(labelled))
        now = estimate(metric, task, known)
        reach = float(norm.isf(alpha / 2)) * standard_error(now.influence)
        actual = now.value
        actual_low, actual_high = possible(metric, actual - reach, actual + reach)
        unexplained = contradiction(source, _thin(known), task)
    return Performance(
        before.value,
        value,
        low,
        high,
        actual,
        actual_low,
        actual_high,
        unexplained,
        len(asked),
        "calibrated probabilities" if _calibrated(source, current, task) else "errors of like predictions",
    )


def _calibrated(reference: Scores, current: Scores, task: Task) -> bool:
    return task == "binary" and reference.probability is not None and current.probability is not None


def _coded(scores: Scores, positive: str | None) -> Scores:
    """Labels as "1" and "0": comparing short texts is several times faster than comparing objects."""
    truth, said = (np.where(labels == positive, "1", "0") for labels in (scores.y_true, scores.prediction))
    return Scores(truth, said, scores.loss, scores.probability, "1")


def _draws(reference: Scores, current: Scores, task: Task, random: np.random.Generator) -> Iterator[Scores]:
    """The current rows with drawn labels, `DRAWS` times; the reference is resampled each time, so its noise counts."""
    for _ in range(DRAWS):
        sample = _take(reference, _blocks(len(reference), random))
        yield (
            _by_probability(sample, current, random)
            if _calibrated(reference, current, task)
            else _by_donor(sample, current, task, random)
        )


def _by_probability(reference: Scores, current: Scores, random: np.random.Generator) -> Scores:
    assert reference.probability is not None and current.probability is not None
    chance = calibrate(reference.probability, reference.y_true == reference.positive, current.probability)
    truth = random.random(len(current)) < chance
    right = np.clip(np.where(truth, current.probability, 1 - current.probability), PROBABILITY_FLOOR, 1)
    return Scores(
        np.where(truth, "1", "0"),
        current.prediction,
        -np.log(right),
        current.probability,
        reference.positive,
    )


def _by_donor(reference: Scores, current: Scores, task: Task, random: np.random.Generator) -> Scores:
    if task == "regression":
        said = reference.prediction.astype(np.float64)
        ends = np.unique(np.quantile(said, np.linspace(0, 1, PREDICTION_BINS + 1)[1:-1]))
        groups = np.searchsorted(ends, said), np.searchsorted(ends, current.prediction.astype(np.float64))
    else:
        _, codes = np.unique(
            np.concatenate([reference.prediction, current.prediction]).astype(str), return_inverse=True
        )
        groups = codes[: len(reference)], codes[len(reference) :]
    donor = _donors(groups[0], groups[1], random)
    if task == "regression":
        residual = (reference.y_true - reference.prediction).astype(np.float64)[donor]
        return Scores(current.prediction + residual, current.prediction, np.abs(residual))
    return Scores(
        reference.y_true[donor], current.prediction, reference.loss[donor], current.probability, reference.positive
    )


def _donors(reference_group: Ints, current_group: Ints, random: np.random.Generator) -> Ints:
    """For each current row, a random reference row of its group; any row where the group has none."""
    order = np.argsort(reference_group, kind="stable")
    ordered = reference_group[order]
    start = np.searchsorted(ordered, current_group, side="left")
    count = np.searchsorted(ordered, current_group, side="right") - start
    start, count = np.where(count == 0, 0, start), np.where(count == 0, len(ordered), count)
    return order[start + (random.random(len(current_group)) * count).astype(np.int64)]


def _value(metric: str, task: Task, scores: Scores) -> float:
    try:
        return estimate(metric, task, scores).value
    except ValueError:  # a draw with one class only has no ranking
        return float("nan")


def _blocks(n: int, random: np.random.Generator) -> Ints:
    """Rows of a moving-block bootstrap (Künsch 1989): neighbours stay together, as in a stream."""
    size = max(1, int(np.sqrt(n)))
    starts = random.integers(0, n - size + 1, -(-n // size))
    return (starts[:, None] + np.arange(size)).ravel()[:n]


def _thin_index(n: int) -> Ints:
    return np.linspace(0, n - 1, min(n, MAX_ROWS)).astype(np.int64)


def _thin(scores: Scores) -> Scores:
    return _take(scores, _thin_index(len(scores)))


def _take(scores: Scores, rows: Ints) -> Scores:
    probability = None if scores.probability is None else scores.probability[rows]
    return Scores(scores.y_true[rows], scores.prediction[rows], scores.loss[rows], probability, scores.positive)
