"""From scores to probabilities, by isotonic regression: what an estimate without labels and a canary's proxy share."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]

PROBABILITY_FLOOR = 1e-6
PREDICTION_BINS = 20  # of like predictions, where there is no probability


def calibrate(score: Floats, positive: NDArray[np.bool_], new_score: Floats) -> Floats:
    """Probability of the positive class at `new_score`, by isotonic regression on labelled scores."""
    values, index, counts = np.unique(score, return_inverse=True, return_counts=True)
    share = np.bincount(index, weights=positive.astype(np.float64)) / counts
    fitted = np.asarray(isotonic_regression(share, weights=counts.astype(np.float64)).x)
    return np.interp(new_score, values, fitted)
