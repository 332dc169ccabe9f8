"""How far two samples are apart, in rows that would have to be changed to undo it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

KS_MEAN = 0.8687  # mean of the Kolmogorov distribution, sqrt(pi / 2) * ln 2


def moved(before: NDArray[Any], now: NDArray[Any]) -> float:
    """Share of rows moved, in excess of chance; 0 to 1."""
    noise = 1 / len(before) + 1 / len(now)
    if before.dtype == np.float64:
        points = np.concatenate([before, now])
        below = [np.searchsorted(np.sort(part), points, side="right") / len(part) for part in (before, now)]
        distance, chance = float(np.abs(below[0] - below[1]).max()), KS_MEAN * np.sqrt(noise)
    else:
        classes, index = np.unique(np.concatenate([before, now]), return_inverse=True)
        shares = [
            np.bincount(part, minlength=len(classes)) / len(part) for part in np.split(index.ravel(), [len(before)])
        ]
        pooled = np.bincount(index.ravel()) / len(index.ravel())
        distance = float(np.abs(shares[0] - shares[1]).sum()) / 2
        chance = float(np.sqrt(2 / np.pi * pooled * (1 - pooled) * noise).sum()) / 2
    return max(0.0, distance - float(chance))
