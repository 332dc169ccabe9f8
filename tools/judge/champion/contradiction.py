"""Do labels still go with a model's scores as they did? The test behind "the estimate cannot be trusted".

Rows are put into strata of like scores, by the reference's own quantiles. If labels go with scores as before, then
inside a stratum the rows of both samples are exchangeable, whatever became of the population. So in each stratum the
means of a quantity are compared, the differences are added with the newer rows' weights, and the sum is referred to its
permutation distribution: exact mean, variance and skewness, Pearson's type III between them (Mielke and Berry 2007). No
resampling, so no seed, and small p-values are as good as large ones. Two quantities are tested: the loss, and the level
of the labels.

For a binary model the strata's width would leave a trace where the population moved inside a stratum. Each label is
therefore taken as its deviation from an isotonic fit on both samples together, which is what they share if nothing
changed; the loss is linear in the label, so its deviation is that of the label times the log odds of the score.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearson3

from tools.judge.calibration import PROBABILITY_FLOOR, calibrate
from tools.judge.estimates import Scores, Task, standard_error

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STRATA = 20
STRATUM_ROWS = 25  # of the reference, at least


def contradiction(reference: Scores, known: Scores, task: Task) -> float:
    """P-value against "labels go with scores as in the reference", two-sided, of loss and level together (Bonferroni).

    At level alpha it raises at most alpha false alarms, also on rows that resemble their neighbours as long as the
    resemblance ends within about the square root of their number.

    Args:
        reference: labelled rows the model was not trained on.
        known: labelled rows of now.
    """
    if task == "binary" and reference.probability is not None and known.probability is not None:
        pairs = _deviations(reference, known)
        strata = _by_quantiles(reference.probability, known.probability)
    else:
        pairs = [(reference.loss, known.loss), (residual(reference, task), residual(known, task))]
        if task == "regression":
            strata = _by_quantiles(reference.prediction.astype(np.float64), known.prediction.astype(np.float64))
        else:
            both = np.concatenate([reference.prediction, known.prediction]).astype(str)
            codes = np.unique(both, return_inverse=True)[1]
            strata = codes[: len(reference)], codes[len(reference) :]
    return min(1.0, 2 * min(stratified(before, now, *strata) for before, now in pairs))


def stratified(before: Floats, now: Floats, stratum_before: Ints, stratum_now: Ints) -> float:
    """Two-sided p-value of equal means inside every stratum; strata without rows of both say nothing.

    Args:
        before: shape (n,), in the order of the rows.
        now: shape (m,).
        stratum_before: shape (n,), from 0.
        stratum_now: shape (m,).
    """
    size = int(max(stratum_before.max(), stratum_now.max())) + 1
    n, m = (np.bincount(codes, minlength=size).astype(np.float64) for codes in (stratum_before, stratum_now))
    used = (n > 0) & (m > 0)
    if not used.any():
        return 1.0
    total = np.where(used, n + m, 1.0)
    values, codes = np.concatenate([before, now]), np.concatenate([stratum_before, stratum_now])
    centre = np.bincount(codes, weights=values, minlength=size) / np.maximum(n + m, 1)
    centred = values - centre[codes]
    second, third = (np.bincount(codes, weights=centred**k, minlength=size) for k in (2, 3))
    variance = np.where(used & (total > 1), second / np.maximum(total - 1, 1), 0.0)
    third = np.where(used & (total > 2), third * total / np.maximum((total - 1) * (total - 2), 1), 0.0)
    n, m = np.where(used, n, 1.0), np.where(used, m, 1.0)
    weight = np.where(used, m, 0.0) / m[used].sum()
    gap = np.bincount(stratum_now, weights=centred[len(before) :], minlength=size) / m
    gap -= np.bincount(stratum_before, weights=centred[: len(before)], minlength=size) / n
    # What dependent rows are worth in independent ones.
    grown = growth(centred[: len(before)]) ** 2, growth(centred[len(before) :]) ** 2
    spread = float(np.sum(weight**2 * variance * (grown[0] / n + grown[1] / m)))
    difference = float(np.sum(weight * gap))
    if spread <= 0:
        return float(difference == 0)
    skewness = float(np.sum(weight**3 * third * (1 / m**2 - 1 / n**2))) / spread**1.5
    z = difference / np.sqrt(spread)
    return float(min(1.0, 2 * min(pearson3.sf(z, skewness), pearson3.cdf(z, skewness))))


def _deviations(reference: Scores, known: Scores) -> list[tuple[Floats, Floats]]:
    """Deviation of the loss, and of the label, from what both samples share."""
    assert reference.probability is not None and known.probability is not None
    score = np.concatenate([reference.probability, known.probability])
    positive = np.concatenate([reference.y_true == reference.positive, known.y_true == reference.positive])
    deviation = positive - calibrate(score, positive, score)
    clipped = np.clip(score, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    n = len(reference)
    return [(values[:n], values[n:]) for values in (deviation * np.log((1 - clipped) / clipped), deviation)]


def _by_quantiles(before: Floats, now: Floats) -> tuple[Ints, Ints]:
    count = int(np.clip(len(before) // STRATUM_ROWS, 1, STRATA))
    ends = np.unique(np.quantile(before, np.linspace(0, 1, count + 1)[1:-1]))
    return np.searchsorted(ends, before), np.searchsorted(ends, now)


def residual(scores: Scores, task: Task) -> Floats:
    """Label minus score; for many classes, whether the predicted one is right."""
    if task == "regression":
        return (scores.y_true - scores.prediction).astype(np.float64)
    if task == "multiclass" or scores.positive is None:
        return (scores.y_true == scores.prediction).astype(np.float64)
    said = scores.probability if scores.probability is not None else scores.prediction == scores.positive
    return (scores.y_true == scores.positive).astype(np.float64) - np.asarray(said, dtype=np.float64)


def growth(values: Floats) -> float:
    """How many times larger the standard error of the mean is than for independent rows; at least 1."""
    if len(values) < 2:
        return 1.0
    spread = float(values.std(ddof=1)) / np.sqrt(len(values))
    return standard_error(values) / spread if spread > 0 else 1.0
