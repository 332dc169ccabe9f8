"""A Kalman filter of level and slope, and in closed form what it would be with a change at any one step.

A change of variance c that moves the one-step errors v (variances f) by e per unit changes their sum of squares by
`-R**2 / (1/c + S)` and the logarithm of the determinant by `log(1 + c S)`, where `S = sum e**2/f`, `R = sum e v/f`. The
filter passes on what is left of a unit change of its states from step to step by a matrix, so that one pass backwards
gives S and R for a change at every step (de Jong and Penzer 1998, Diagnosing shocks in time series).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Models = tuple[Floats, Floats, Floats, Floats]
"""Per place (k) and ratio (m): mean of the states after the last point (k, m, 3), its covariance (k, m, 3, 3), the sum
of the logarithms of the variances of the one-step errors and the sum of their standardised squares (k, m)."""

STEP = np.array([[1.0, 1.0, 0.5], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])  # of level, slope and acceleration
BEND, CURVE = STEP[:, 1], STEP[:, 2]  # a unit of slope or acceleration from before a step, after it


@dataclass(frozen=True)
class Filtered:
    """The filter without a change. Axes: steps (n), ratios (m), states (3); in multiples of the noise."""

    state: Floats  # (m, 3), after the last point
    covariance: Floats  # (m, 3, 3)
    f: Floats  # (n, m), variances of the one-step errors
    v: Floats  # (n, m), the errors
    gain: Floats  # (n, m, 3)
    sums: Floats  # (n + 1, m, 4, 4): S of a unit change of the states at a step and, last row and column, R
    left: Floats  # (n + 1, m, 3, 3): of a unit change of the states, after the last point

    def without(self) -> Models:
        """No change: one place."""
        return self.state[None], self.covariance[None], np.log(self.f).sum(axis=0)[None], self.sums[None, 0, :, 3, 3]

    def jumps(self, at: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """A unit change of the level at each step: its S and R (k, m), and what is left of it (k, m, 3)."""
        return self.sums[at, :, 0, 0], self.sums[at, :, 0, 3], self.left[at, :, :, 0]

    def bends(self, at: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """The same of the slope, before each step's transition (at least 1)."""
        sums = self.sums[at]
        return (sums[..., :3, :3] @ BEND) @ BEND, sums[..., 3, :3] @ BEND, self.left[at] @ BEND

    def outliers(self, at: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """The same of a single point."""
        missed = -self.gain[at] @ STEP.T  # by the filter, at the next step
        sums = self.sums[at + 1]
        squares = np.einsum("kmi,kmij,kmj->km", missed, sums[..., :3, :3], missed)
        products = np.einsum("kmi,kmi->km", missed, sums[..., 3, :3])
        f, v = self.f[at], self.v[at]
        return 1 / f + squares, v / f + products, np.einsum("kmij,kmj->kmi", self.left[at + 1], missed)

    def with_one(self, change: tuple[Floats, Floats, Floats], variance: float) -> Models:
        """A change of that prior variance at one step, for each of the steps."""
        squares, products, left = change
        state, covariance, log_f, total = self.without()
        posterior = 1 / (1 / variance + squares)
        return (
            state + left * (posterior * products)[..., None],
            covariance + posterior[..., None, None] * left[..., :, None] * left[..., None, :],
            log_f + np.log1p(variance * squares),
            total - posterior * products**2,
        )

    def with_curve(self, at: NDArray[np.int64], slope_variance: float, variance: float) -> Models:
        """A change of slope and acceleration before each step's transition; before the first point at step 0."""
        change = np.where((at == 0)[:, None, None], np.eye(3)[:, 1:], STEP[:, 1:])[:, None]  # (k, 1, 3, 2)
        sums = self.sums[at]
        squares = change.swapaxes(2, 3) @ sums[..., :3, :3] @ change
        products = change.swapaxes(2, 3) @ sums[..., :3, 3:]
        left = self.left[at] @ change
        state, covariance, log_f, total = self.without()
        posterior = np.linalg.inv(np.diag([1 / slope_variance, 1 / variance]) + squares)
        mean = posterior @ products
        return (
            state + (left @ mean)[..., 0],
            covariance + left @ posterior @ left.swapaxes(2, 3),
            log_f + np.log(slope_variance * variance / np.linalg.det(posterior)),
            total - (products * mean).sum(axis=(2, 3)),
        )


def filtered(
    y: Floats, ratios: Sequence[tuple[float, float]], level_variance: float, slope_variance: float
) -> Filtered:
    """Run the filter, and backwards what each step passes on.

    Args:
        y: in multiples of the noise, shape (n,).
        ratios: variances of level and slope per step.
        level_variance, slope_variance: at the first point, about the median of the first five and 0.
    """
    n, m = len(y), len(ratios)
    wander, turn = np.array(ratios).T
    level, slope = np.full(m, float(np.median(y[:5]))), np.zeros(m)
    ll, ls, ss = np.full(m, level_variance), np.zeros(m), np.full(m, slope_variance)
    f, v, gain = np.empty((n, m)), np.empty((n, m)), np.zeros((n, m, 3))
    for i, value in enumerate(y.tolist()):
        if i:
            level = level + slope
            ll = ll + 2 * ls + ss + wander
            ls = ls + ss
            ss = ss + turn
        f[i] = ll + 1.0
        v[i] = value - level
        gain[i, :, 0] = k = ll / f[i]
        gain[i, :, 1] = o = ls / f[i]
        level, slope = level + k * v[i], slope + o * v[i]
        ss, ls, ll = ss - o * ls, ls - k * ls, ll - k * ll
    zero = np.zeros(m)
    covariance = np.stack([ll, ls, zero, ls, ss, zero, zero, zero, zero], axis=1).reshape(m, 3, 3)
    passed, effect = np.zeros((n, m, 4, 4)), np.zeros((n, m, 4))  # the fourth is the error itself
    passed[..., :3, :3] = STEP @ (np.eye(3) - gain[..., None] * np.eye(3)[0])
    passed[..., 3, 3] = effect[..., 0] = 1.0
    effect[..., 3] = v
    added = effect[..., :, None] * effect[..., None, :] / f[..., None, None]
    onwards = passed.swapaxes(2, 3)
    sums, left = np.zeros((n + 1, m, 4, 4)), np.empty((n + 1, m, 3, 3))
    left[n] = np.linalg.inv(STEP)  # no transition follows the last point
    for i in reversed(range(n)):
        sums[i] = added[i] + onwards[i] @ sums[i + 1] @ passed[i]
        left[i] = left[i + 1] @ passed[i, :, :3, :3]
    return Filtered(np.stack([level, slope, zero], axis=1), covariance, f, v, gain, sums, left)
