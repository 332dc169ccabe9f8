"""A local trend with at most one sudden change, in closed form.

Model (Harvey 1989, chapter 2; Kalman filter): `y = level + noise`, `level += slope + w`, `slope += acceleration + u`.
Every variance is a multiple of the noise variance, which has an inverse-gamma prior, so the marginal likelihood of a
series is exact. A series is compared under many such models: several ratios of the variances, each without a sudden
change, with a jump of the level at any step, with a bend of the slope at any step, with an acceleration that starts
somewhere, or with one of the last points being a mere outlier. Their posterior weights say whether something abrupt
happened; their mixture is the forecast.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tools.judge.filtering import filtered

Floats = NDArray[np.float64]
Change = Literal["none", "jump", "bend", "curve", "outlier"]
CHANGES: tuple[Change, ...] = ("none", "jump", "bend", "curve", "outlier")

# Variances of level and slope per step, as multiples of the noise variance: a straight line, slowly turning lines, a
# wandering level, a random walk, which has no trend at all.
RATIOS: tuple[tuple[float, float], ...] = (
    (0.0, 0.0), (0.0, 1e-6), (0.0, 1e-4), (0.03, 0.0), (0.03, 1e-5), (0.5, 0.0), (0.5, 1e-3), (10.0, 0.0),
)  # fmt: skip
PRIOR = {"none": 0.55, "jump": 0.15, "bend": 0.2, "curve": 0.05, "outlier": 0.05}
OUTLIERS = 4  # of the last points; earlier ones are cleaned before
EDGE = 4  # no change is looked for among the first points
MIN_CURVE = 8  # steps; no acceleration is read from fewer
NOISE_SHAPE = 2.0  # of the inverse-gamma prior: worth four observations
STEPS_AT_ONCE = 10  # of a drawn future: so few that they stay in the processor's cache


_JUMP, _BEND, _CURVE, _OUTLIER = (CHANGES.index(name) for name in ("jump", "bend", "curve", "outlier"))


@dataclass(frozen=True)
class Trend:
    """The mixture after the last point. Arrays have one entry per model; steps count from the first point.

    `state` (models, 3) holds the posterior means of level, slope and acceleration; `covariance` (models, 3, 3) is a
    multiple of the noise variance, whose posterior is inverse-gamma with `shape` and `rate`.
    """

    weight: Floats
    change: NDArray[np.int64]  # index into CHANGES
    place: NDArray[np.int64]  # step of the change
    ratios: Floats  # (models, 2)
    state: Floats
    covariance: Floats
    shape: float
    rate: Floats
    jump_size: Floats  # by how much the level differed from what was expected, where the change is a jump

    def probability(self, change: Change, first: int = 0) -> float:
        """Posterior probability of that change at step `first` or later."""
        chosen = (self.change == CHANGES.index(change)) & (self.place >= first)
        return float(self.weight[chosen].sum())

    def likeliest(self, change: Change) -> tuple[int, float]:
        """The likeliest step of that change and, for a jump, its size."""
        chosen = np.flatnonzero(self.change == CHANGES.index(change))
        weight = np.maximum(self.weight[chosen], 1e-300)  # all of them may have underflown to 0
        at = int(np.argmax(np.bincount(self.place[chosen], weights=weight)))
        here = self.place[chosen] == at
        return at, float(np.average(self.jump_size[chosen][here], weights=weight[here]))

    def draw(self, count: int, steps: Floats, seed: int) -> Floats:
        """Possible levels at `steps` after the last point (increasing), shape (count, len(steps)); without noise."""
        random = np.random.default_rng(seed)
        model = random.choice(len(self.weight), size=count, p=self.weight)
        noise = np.sqrt(self.rate[model] / random.gamma(self.shape, size=count))
        # The square root of a covariance that may be singular: a straight line has no acceleration.
        drawn, own = np.unique(model, return_inverse=True)
        values, vectors = np.linalg.eigh(self.covariance[drawn])
        spread = np.sqrt(np.maximum(values, 0.0))[own] * random.standard_normal((count, 3))
        start = self.state[model] + noise[:, None] * np.einsum("kij,kj->ki", vectors[own], spread)
        level, slope, bend = np.ascontiguousarray(start.T)
        wander, turn = self.ratios[model].T
        turning, wandering, cubed = noise * np.sqrt(turn), noise**2 * wander, noise**2 * turn / 12
        paths = np.empty((len(steps), count))
        every = np.diff(steps, prepend=0.0)[:, None]
        for first in range(0, len(steps), STEPS_AT_ONCE):
            here = slice(first, first + STEPS_AT_ONCE)
            dt = every[here]
            random_steps = random.standard_normal((len(dt), 2, count))
            moves, turns = random_steps[:, 0], random_steps[:, 1]  # of the level and of the slope
            moves *= np.sqrt(wandering * dt + cubed * dt**3)
            turns *= turning * np.sqrt(dt)
            turns += bend * dt
            moves -= turns * (dt / 2)
            turns[0] += slope
            slopes = np.cumsum(turns, axis=0)  # after each step
            moves += slopes * dt
            moves[0] += level
            np.cumsum(moves, axis=0, out=paths[here])
            level, slope = paths[here][-1], slopes[-1]
        return paths.T


def fit_trend(values: Floats, reach: float) -> Trend:
    """Fit all models to an evenly spaced series.

    Args:
        values: finite, shape (n,), n >= 2 * EDGE.
        reach: a change of the level that would matter (for example the distance to a threshold), in the values' unit;
            it scales the priors of jumps and slopes together with the spread of the series.
    """
    n = len(values)
    change, place = _changes(n)
    prior = np.array([PRIOR[name] for name in CHANGES])[change] / np.bincount(change)[change]
    noise = noise_scale(values)
    scale = max(noise, 1e-6 * reach, 1e-9 * float(np.abs(values).max()), 1e-12)
    y = (values - values[0]) / scale
    spread = max(float(np.ptp(y)), reach / scale, 3.0)
    jump, slope, curve = (spread / 2) ** 2, (4 * spread / n) ** 2, (18 * spread / n**2) ** 2
    base = filtered(y, RATIOS, jump, slope)
    parts = [
        base.without(),
        base.with_one(base.jumps(place[change == _JUMP]), jump),
        base.with_one(base.bends(place[change == _BEND]), slope),
        base.with_curve(place[change == _CURVE], slope, curve),
        base.with_one(base.outliers(place[change == _OUTLIER]), jump),
    ]
    state, covariance, log_f, squares = (
        np.concatenate(found).reshape(-1, *found[0].shape[2:]) for found in zip(*parts, strict=True)
    )
    jumped = np.zeros((len(change), len(RATIOS)))
    f, v = base.f[place[change == _JUMP]], base.v[place[change == _JUMP]]
    jumped[change == _JUMP] = (f - 1 + jump) / (f + jump) * v
    shape = NOISE_SHAPE + n / 2
    rate = NOISE_SHAPE + np.maximum(squares, 0.0) / 2
    log_weight = np.log(np.repeat(prior, len(RATIOS))) - log_f / 2 - shape * np.log(rate)
    weight = np.exp(log_weight - log_weight.max())
    return Trend(
        weight=weight / weight.sum(),
        change=np.repeat(change, len(RATIOS)),
        place=np.repeat(place, len(RATIOS)),
        ratios=np.tile(np.array(RATIOS), (len(change), 1)),
        state=state * scale + np.array([values[0], 0.0, 0.0]),
        covariance=covariance,
        shape=shape,
        rate=rate * scale**2,
        jump_size=jumped.ravel() * scale,
    )


def noise_scale(values: Floats) -> float:
    """Standard deviation of the noise about any smooth course, from second differences; outliers do not count."""
    second = np.abs(np.diff(values, 2))
    middle = float(np.median(second)) / (0.6745 * np.sqrt(6))
    return middle if middle > 0 else float(second.mean()) / (0.7979 * np.sqrt(6))


def _changes(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What may have changed (an index into CHANGES), and where; each is compared under all `RATIOS`."""
    places: dict[Change, range] = {
        "none": range(-1, 0),
        "jump": range(EDGE, n),
        "bend": range(EDGE, n),
        "curve": range(0, n - MIN_CURVE, max(1, n // 24)),
        "outlier": range(n - OUTLIERS, n),
    }
    kinds = np.array([(CHANGES.index(name), at) for name, part in places.items() for at in part], dtype=np.int64)
    return kinds[:, 0], kinds[:, 1]
