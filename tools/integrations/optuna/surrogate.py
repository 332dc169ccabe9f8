"""A Gaussian process over the trials of a conditional space, to choose among candidates before one is tried.

Sources: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2 and 5; Jones, Schonlau,
Welch, "Efficient Global Optimization of Expensive Black-Box Functions", 1998 (expected improvement), in the form that
does not underflow: Ament et al., "Unexpected Improvements to Expected Improvement", NeurIPS 2023 (arXiv 2310.20708).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import erfcx, ndtr

from tools.integrations.optuna.ranges import to_unit

Floats = NDArray[np.float64]

ITERATIONS = 15
# Normal priors of the logarithms: a length scale is around the whole range, the noise a small share of the variance.
SCALE_CENTRE, SCALE_WIDTH = 0.0, 1.0
NOISE_CENTRE, NOISE_WIDTH = -6.0, 1.5
# In standard deviations: less than that is no improvement, else a plateau would be searched for ever.
MARGIN = 0.3
# The last bits differ between machines; the choices that follow should not.
DIGITS = 2


class Surrogate:
    """What is known of a conditional space, and what may be found in it.

    Args:
        space: the parameters with more than one value.
        points: parameters of the trials.
        targets: of each, to be minimized; see `losses_to_learn`.
    """

    def __init__(
        self, space: Mapping[str, BaseDistribution], points: Sequence[Mapping[str, Any]], targets: Floats
    ) -> None:
        self._embedding = Embedding(space)
        self._process = GaussianProcess(self._embedding.rows(points), self._embedding.groups, targets)
        self._goal = float(targets.min()) - MARGIN

    def promise(self, points: Sequence[Mapping[str, Any]]) -> list[float]:
        """The logarithm of the expected improvement at each point."""
        mean, deviation = self._process.predict(self._embedding.rows(points))
        return log_expected_improvement(mean, deviation, self._goal).round(6).tolist()


class Embedding:
    """Points of a conditional space as rows of numbers.

    A number becomes its place in the range, a category one column per choice; what a point does not have lies in the
    middle: half the range, no choice at all.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.space = {name: distribution for name, distribution in sorted(space.items()) if not distribution.single()}
        self.columns: dict[str, int] = {}
        groups: list[int] = []
        for group, (name, distribution) in enumerate(self.space.items()):
            self.columns[name] = len(groups)
            groups += [group] * (len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 1)
        self.groups = np.array(groups, dtype=int)

    def rows(self, points: Sequence[Mapping[str, Any]]) -> Floats:
        """One row per point."""
        rows = np.zeros((len(points), len(self.groups)))
        for name, distribution in self.space.items():
            column = self.columns[name]
            if isinstance(distribution, CategoricalDistribution):
                for row, point in zip(rows, points, strict=True):
                    if name in point and point[name] in distribution.choices:
                        row[column + int(distribution.to_internal_repr(point[name]))] = math.sqrt(0.5)
            else:
                rows[:, column] = [to_unit(distribution, point[name]) if name in point else 0.5 for point in points]
        return rows


class GaussianProcess:
    """Regression with a Matérn 5/2 kernel and one length scale per parameter, those of the highest posterior density.

    Args:
        rows: of an `Embedding`.
        groups: the parameter of each column.
        targets: of each row; around 0.
    """

    def __init__(self, rows: Floats, groups: NDArray[np.int_], targets: Floats) -> None:
        self._rows, self._targets = rows, targets
        self._groups = groups
        count = int(groups.max()) + 1
        apart = np.zeros((count, len(rows), len(rows)))
        for column, group in enumerate(groups):
            apart[group] += (rows[:, None, column] - rows[None, :, column]) ** 2
        self._apart = apart.reshape(count, -1)
        self._prior = np.array([SCALE_CENTRE] * count + [NOISE_CENTRE])
        self._widths = np.array([SCALE_WIDTH] * count + [NOISE_WIDTH])
        found = minimize(
            self.loss, self._prior, jac=True, method="L-BFGS-B",
            bounds=[(-3.0, 8.0)] * count + [(-14.0, 0.0)], options={"maxiter": ITERATIONS},
        )  # fmt: skip
        self._theta = np.round(found.x, DIGITS)
        gram, _ = self._kernel(self._apart.T @ self._weights(self._theta))
        gram = gram.reshape(len(rows), len(rows)) + self._noise(self._theta) * np.eye(len(rows))
        self._factor = np.linalg.cholesky(gram)
        self._alpha = cho_solve((self._factor, True), targets)
        self._signal = max(float(targets @ self._alpha) / len(rows), 1e-12)

    def predict(self, rows: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation at each row."""
        scale = np.sqrt(self._weights(self._theta))[self._groups]
        ours, theirs = self._rows * scale, rows * scale
        squared = (theirs**2).sum(1)[:, None] + (ours**2).sum(1)[None, :] - 2.0 * theirs @ ours.T
        cross, _ = self._kernel(np.maximum(squared, 0.0))
        explained = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        variance = np.maximum(1.0 - (explained**2).sum(axis=0), 1e-10) * self._signal
        return cross @ self._alpha, np.sqrt(variance)

    def loss(self, theta: Floats) -> tuple[float, Floats]:
        """Negative log posterior, the signal's variance profiled out, and its gradient."""
        n = len(self._targets)
        weights = self._weights(theta)
        kernel, slope = self._kernel(self._apart.T @ weights)
        gram = kernel.reshape(n, n) + self._noise(theta) * np.eye(n)
        factor = cho_factor(gram, lower=True, check_finite=False)
        inverse = cho_solve(factor, np.eye(n), check_finite=False)
        alpha = inverse @ self._targets
        signal = max(float(self._targets @ alpha) / n, 1e-12)
        away = (theta - self._prior) / self._widths
        loss = 0.5 * n * math.log(signal) + np.log(np.diag(factor[0])).sum() + 0.5 * float(away @ away)
        pull = 0.5 * (inverse - np.outer(alpha, alpha) / signal)
        gradient = np.empty_like(theta)
        gradient[:-1] = -2.0 * weights * (self._apart @ (pull.ravel() * slope))
        gradient[-1] = self._noise(theta) * np.trace(pull)
        return loss, gradient + away / self._widths

    @staticmethod
    def _weights(theta: Floats) -> Floats:
        return np.exp(-2.0 * theta[:-1])

    @staticmethod
    def _noise(theta: Floats) -> float:
        return math.exp(theta[-1]) + 1e-8

    @staticmethod
    def _kernel(squared: Floats) -> tuple[Floats, Floats]:
        """Matérn 5/2 of squared distances and its derivative by them."""
        root = np.sqrt(5.0 * squared)
        decay = np.exp(-root)
        return (1.0 + root + 5.0 / 3.0 * squared) * decay, -5.0 / 6.0 * (1.0 + root) * decay


def log_expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """The logarithm of how far below `best` a value is expected to lie."""
    z = (best - mean) / deviation
    near = np.maximum(z, -1.0)
    direct = np.log(near * ndtr(near) + np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi))
    far = np.minimum(z, -1.0)
    tail = 1.0 + far * erfcx(-far / math.sqrt(2.0)) * math.sqrt(math.pi / 2.0)
    indirect = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) + np.log(np.maximum(tail, 1e-300))
    return np.log(deviation) + np.where(z > -1.0, direct, indirect)


def losses_to_learn(losses: Floats, bad: Sequence[Sequence[float]]) -> Floats:
    """What the process is fitted to: comparable between objectives, mean 0 and standard deviation 1.

    The logarithm keeps what is far worse than the median from flattening the differences between good trials.

    Args:
        losses: to be minimized, of the trials that have a valid value.
        bad: keys of the others, better ones smaller; they count as worse than every valid one, in their order.

    Returns:
        One target per loss, then one per key.
    """
    finite = losses[np.isfinite(losses)]
    targets = np.zeros(len(losses))
    if len(finite):
        losses = np.clip(losses, finite.min(), finite.max())
        scale = float(np.median(losses) - losses.min()) or float(np.ptp(losses)) or 1.0
        targets = np.log1p((losses - losses.min()) / scale)
    worst = float(targets.max(initial=0.0))
    places = {key: k + 1 for k, key in enumerate(sorted({tuple(key) for key in bad}))}
    targets = np.concatenate([targets, [worst + places[tuple(key)] / len(places) for key in bad]])
    centred = targets - targets.mean()
    return centred / (float(centred.std()) or 1.0)
