"""A local linear trend with at most one sudden change, in closed form.

Model (Harvey 1989, chapter 2; Kalman filter): `y = level + noise`, `level += slope + w`, `slope += u`. Every variance is
a multiple of the noise variance, which has an inverse-gamma prior, so the marginal likelihood of a series is exact. A
series is compared under many such models: several ratios of the variances, each without a sudden change, with a jump of
the level at any step, with a bend of the slope at any step, or with one of the last points being a mere outlier. Their
posterior weights say whether something abrupt happened; their mixture is the forecast.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Change = Literal["none", "jump", "bend", "outlier"]
CHANGES: tuple[Change, ...] = ("none", "jump", "bend", "outlier")

# Variances of level and slope per step, as multiples of the noise variance: a straight line, slowly turning lines, a
# wandering level, a random walk, which has no trend at all.
RATIOS: tuple[tuple[float, float], ...] = (
    (0.0, 0.0), (0.0, 1e-6), (0.0, 1e-4), (0.03, 0.0), (0.03, 1e-5), (0.5, 0.0), (0.5, 1e-3), (10.0, 0.0),
)  # fmt: skip
PRIOR = {"none": 0.6, "jump": 0.15, "bend": 0.2, "outlier": 0.05}
OUTLIERS = 4  # of the last points; earlier ones are cleaned before
EDGE = 4  # no change is looked for among the first points
NOISE_SHAPE = 2.0  # of the inverse-gamma prior: worth four observations


@dataclass(frozen=True)
class Trend:
    """The mixture after the last point. Arrays have one entry per model; steps count from the first point.

    `level` and `slope` are posterior means, `covariance` (models, 3) holds var(level), cov, var(slope) as multiples of
    the noise variance, whose posterior is inverse-gamma with `shape` and `rate`.
    """

    weight: Floats
    change: NDArray[np.int64]  # index into CHANGES
    place: NDArray[np.int64]  # step of the change
    ratios: Floats  # (models, 2)
    level: Floats
    slope: Floats
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
        places = np.bincount(self.place[chosen], weights=self.weight[chosen])
        at = int(np.argmax(places))
        here = chosen[self.place[chosen] == at]
        weights = self.weight[here] + 1e-300
        return at, float(np.average(self.jump_size[here], weights=weights))

    def draw(self, count: int, steps: Floats, seed: int) -> Floats:
        """Possible levels at `steps` after the last point (increasing), shape (count, len(steps)); without noise."""
        random = np.random.default_rng(seed)
        model = random.choice(len(self.weight), size=count, p=self.weight)
        noise = np.sqrt(self.rate[model] / random.gamma(self.shape, size=count))
        a, b, c = self.covariance[model].T
        first, second = random.standard_normal((2, count))
        root = np.sqrt(np.maximum(a, 1e-300))
        level = self.level[model] + noise * root * first
        slope = self.slope[model] + noise * (b / root * first + np.sqrt(np.maximum(c - b * b / root**2, 0)) * second)
        wander, turn = self.ratios[model].T
        paths = np.empty((count, len(steps)))
        for j, dt in enumerate(np.diff(steps, prepend=0.0)):
            shock, bend = random.standard_normal((2, count)) * noise
            level = (
                level
                + slope * dt
                + shock * np.sqrt(wander * dt + turn * dt**3 / 12)
                + bend * np.sqrt(turn * dt) * dt / 2
            )
            slope = slope + bend * np.sqrt(turn * dt)
            paths[:, j] = level
        return paths


def fit_trend(values: Floats, reach: float) -> Trend:
    """Fit all models to an evenly spaced series.

    Args:
        values: finite, shape (n,), n >= 2 * EDGE.
        reach: a change of the level that would matter (for example the distance to a threshold), in the values' unit; it
            scales the priors of jumps and slopes together with the spread of the series.
    """
    n = len(values)
    models = _models(n)
    change, place, ratios, prior = models
    noise = noise_scale(values)
    scale = max(noise, 1e-6 * reach, 1e-9 * float(np.abs(values).max()), 1e-12)
    y = (values - values[0]) / scale
    spread = max(float(np.ptp(y)), reach / scale, 3.0)
    jump_variance = (spread / 2) ** 2
    slope_variance = (4 * spread / n) ** 2
    count = len(change)
    level, slope = np.full(count, float(np.median(y[:5]))), np.zeros(count)
    a, b, c = np.full(count, jump_variance), np.zeros(count), np.full(count, slope_variance)
    log_f, squares, jumped = np.zeros(count), np.zeros(count), np.zeros(count)
    is_jump, is_bend, is_outlier = (change == CHANGES.index(name) for name in ("jump", "bend", "outlier"))
    wander, turn = ratios.T
    for i in range(n):
        if i:
            level = level + slope
            a = a + 2 * b + c + wander
            b = b + c
            c = c + turn
        here = place == i
        a = a + np.where(here & is_jump, jump_variance, 0.0)
        bends = here & is_bend
        c = c + np.where(bends, slope_variance, 0.0)
        b, a = b + np.where(bends, slope_variance, 0.0), a + np.where(bends, slope_variance, 0.0)
        f = a + 1.0 + np.where(here & is_outlier, jump_variance, 0.0)
        v = y[i] - level
        gain, tilt = a / f, b / f
        jumped = np.where(here & is_jump, gain * v, jumped)
        level, slope = level + gain * v, slope + tilt * v
        a, b, c = a - gain * a, b - gain * b, c - tilt * b
        log_f += np.log(f)
        squares += v * v / f
    shape = NOISE_SHAPE + n / 2
    rate = NOISE_SHAPE + squares / 2
    log_weight = np.log(prior) - log_f / 2 - shape * np.log(rate)
    weight = np.exp(log_weight - log_weight.max())
    return Trend(
        weight=weight / weight.sum(),
        change=change,
        place=place,
        ratios=ratios,
        level=level * scale + values[0],
        slope=slope * scale,
        covariance=np.stack([a, b, c], axis=1),
        shape=shape,
        rate=rate * scale**2,
        jump_size=jumped * scale,
    )


def noise_scale(values: Floats) -> float:
    """Standard deviation of the noise about any smooth course, from second differences; outliers do not count."""
    second = np.abs(np.diff(values, 2))
    middle = float(np.median(second)) / (0.6745 * np.sqrt(6))
    return middle if middle > 0 else float(second.mean()) / (0.7979 * np.sqrt(6))


def _models(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    kinds: list[tuple[int, int, float]] = [(CHANGES.index("none"), -1, PRIOR["none"])]
    places = range(EDGE, n)
    for name in ("jump", "bend"):
        kinds += [(CHANGES.index(name), place, PRIOR[name] / len(places)) for place in places]
    last = range(n - OUTLIERS, n)
    kinds += [(CHANGES.index("outlier"), place, PRIOR["outlier"] / len(last)) for place in last]
    change = np.repeat([kind[0] for kind in kinds], len(RATIOS))
    place = np.repeat([kind[1] for kind in kinds], len(RATIOS))
    prior = np.repeat([kind[2] for kind in kinds], len(RATIOS)) / len(RATIOS)
    return change, place, np.tile(np.array(RATIOS), (len(kinds), 1)), prior
