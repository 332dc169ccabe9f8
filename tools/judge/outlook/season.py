"""A repeating pattern in an evenly spaced series: its period and its shape."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_PERIOD = 6  # steps; shorter patterns cannot be told from noise with memory
MIN_CYCLES = 2.5  # within the window; a rising flank seen once is no season
MIN_CORRELATION = 0.4
MAX_HARMONICS = 4
MIN_STRENGTH = 0.4  # share of the variance about the trend that one cycle predicts of another


@dataclass(frozen=True)
class Season:
    """A pattern that repeats every `period` steps (a fraction is possible), as harmonics about zero.

    `waves` (harmonics, 2) holds the cosine and sine coefficients of 1, 2, ... cycles per period; `covariance`
    (2 harmonics + 1, 2 harmonics + 1) belongs to the waves, as they lie in memory, and the period.
    """

    period: float
    waves: Floats
    covariance: Floats

    def at(self, steps: Floats) -> Floats:
        """What it adds at the (fractional) steps."""
        return _harmonics(steps, self.period, len(self.waves)) @ self.waves.ravel()

    def draw(self, count: int, steps: Floats, seed: int) -> Floats:
        """Possible patterns at the steps, shape (count, len(steps)): waves and period within their uncertainty."""
        values, vectors = np.linalg.eigh(self.covariance)
        spread = np.sqrt(np.maximum(values, 0.0)) * np.random.default_rng(seed).standard_normal((count, len(values)))
        return self.at(steps) + spread @ (_gradient(steps, self.period, self.waves) @ vectors).T


def _harmonics(steps: Floats, period: float, count: int) -> Floats:
    angle = 2 * np.pi / period * np.outer(steps, np.arange(1, count + 1))
    return np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(len(steps), -1)


def _gradient(steps: Floats, period: float, waves: Floats) -> Floats:
    """How the pattern changes with each wave and with the period, shape (len(steps), 2 harmonics + 1)."""
    order = np.arange(1, len(waves) + 1)
    turned = (np.stack([-waves[:, 1], waves[:, 0]], axis=1) * order[:, None]).ravel()  # a later phase
    harmonics = _harmonics(steps, period, len(waves))
    by_period = 2 * np.pi / period**2 * steps * (harmonics @ turned)
    return np.column_stack([harmonics, by_period])


def find_season(values: Floats) -> Season | None:
    """The season of a series, or None.

    The period is the lag of the highest autocorrelation after the first drop below zero, about a quadratic trend. The
    pattern, about a moving average, counts only if each cycle is predicted by the others; harmonics are fitted to it,
    and with them the fraction of a step in the period, without which the forecast would drift out of phase.

    Args:
        values: evenly spaced, finite, shape (n,).
    """
    n = len(values)
    longest = int(n / MIN_CYCLES)
    if longest < MIN_PERIOD:
        return None
    steps = np.linspace(-1, 1, n)
    about = values - np.polyval(np.polyfit(steps, values, 2), steps)
    if not about.std() > 1e-12 * (1 + np.abs(values).max()):
        return None
    last = min(n - 3, int(2.2 * longest))
    correlations = _autocorrelations(about, last)
    below = np.flatnonzero(correlations < 0)
    if len(below) == 0:
        return None
    first = max(int(below[0]), MIN_PERIOD)
    if first > longest:
        return None
    period = first + int(np.argmax(correlations[first : longest + 1]))
    double = min(2 * period, last)
    if correlations[period] < MIN_CORRELATION or correlations[double] < MIN_CORRELATION / 2:
        return None
    return _shape(values, period)


def _autocorrelations(values: Floats, last: int) -> Floats:
    """The correlation of the values with themselves at the lags 0 to `last`, each about the means of what it compares.

    As `_correlation` has it, from sums that all lags share; 0 where a part does not vary.
    """
    n = len(values)
    lags = np.arange(last + 1)
    sums, squares = (np.concatenate([[0.0], np.cumsum(values**power)]) for power in (1, 2))
    products = np.correlate(values, values, "full")[n - 1 : n + last]
    early, late = sums[n - lags], sums[n] - sums[lags]
    rows = n - lags
    early_spread = squares[n - lags] - early**2 / rows
    late_spread = squares[n] - squares[lags] - late**2 / rows
    varies = np.minimum(early_spread, late_spread) > 1e-12 * squares[n]
    scale = np.sqrt(np.where(varies, early_spread * late_spread, 1.0))
    return np.where(varies, (products - early * late / rows) / scale, 0.0)


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def _shape(values: Floats, period: int) -> Season | None:
    n = len(values)
    half = period // 2
    kernel = np.ones(period + 1 - period % 2)
    if period % 2 == 0:
        kernel[[0, -1]] = 0.5
    kernel /= period
    # Without the edges, where there is no whole cycle on both sides.
    middle = np.convolve(values, kernel, mode="valid")
    places = np.arange(half, half + len(middle))
    about = values[places] - middle
    cycles = np.full((n // period + 2, period), np.nan)
    cycles[places // period, places % period] = about
    cycles = cycles[np.isfinite(cycles).any(axis=1)]
    counts = np.isfinite(cycles).sum(axis=0)
    if counts.min() < 1 or np.median(counts) < 2:
        return None
    sums = np.nansum(cycles, axis=0)
    others = np.where(counts > 1, (sums - np.nan_to_num(cycles)) / np.maximum(counts - 1, 1), 0.0)
    known = np.isfinite(cycles) & (counts > 1)
    left = float(np.sum((cycles - others)[known] ** 2))
    total = float(np.sum(cycles[known] ** 2))
    if total <= 0 or 1 - left / total < MIN_STRENGTH:
        return None
    return _fit(places.astype(np.float64), about, period)


def _fit(steps: Floats, values: Floats, period: int) -> Season:
    count = max(1, min(MAX_HARMONICS, period // 4))
    best, fitted, left = float(period), np.zeros((count, 2)), np.inf
    for candidate in period + np.linspace(-1, 1, 21):
        design = _harmonics(steps, candidate, count)
        waves = np.linalg.lstsq(design, values, rcond=None)[0]
        error = float(np.sum((values - design @ waves) ** 2))
        if error < left:
            best, fitted, left = float(candidate), np.asarray(waves, dtype=np.float64).reshape(count, 2), error
    gradient = _gradient(steps, best, fitted)
    residual = values - _harmonics(steps, best, count) @ fitted.ravel()
    variance = left / max(len(values) - gradient.shape[1], 1)
    memory = min(max(_correlation(residual[1:], residual[:-1]), 0.0), 0.9)  # neighbours tell less than independent ones
    covariance = np.linalg.pinv(gradient.T @ gradient) * variance * (1 + memory) / (1 - memory)
    return Season(best, fitted, np.asarray(covariance, dtype=np.float64))
