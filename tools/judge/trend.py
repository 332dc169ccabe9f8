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
        values, vectors = np.linalg.eigh(self.covariance[model])
        spread = np.sqrt(np.maximum(values, 0.0)) * random.standard_normal((count, 3))
        level, slope, bend = (self.state[model] + noise[:, None] * np.einsum("kij,kj->ki", vectors, spread)).T
        wander, turn = self.ratios[model].T
        paths = np.empty((count, len(steps)))
        for j, dt in enumerate(np.diff(steps, prepend=0.0)):
            shock, twist = random.standard_normal((2, count)) * noise
            twist = twist * np.sqrt(turn * dt)
            wandered = shock * np.sqrt(wander * dt + turn * dt**3 / 12)
            level = level + slope * dt + bend * dt**2 / 2 + wandered + twist * dt / 2
            slope = slope + bend * dt + twist
            paths[:, j] = level
        return paths


def fit_trend(values: Floats, reach: float) -> Trend:
    """Fit all models to an evenly spaced series.

    Args:
        values: finite, shape (n,), n >= 2 * EDGE.
        reach: a change of the level that would matter (for example the distance to a threshold), in the values' unit;
            it scales the priors of jumps and slopes together with the spread of the series.
    """
    n = len(values)
    change, place, ratios, prior = _models(n)
    noise = noise_scale(values)
    scale = max(noise, 1e-6 * reach, 1e-9 * float(np.abs(values).max()), 1e-12)
    y = (values - values[0]) / scale
    spread = max(float(np.ptp(y)), reach / scale, 3.0)
    jump_variance, slope_variance, curve_variance = (spread / 2) ** 2, (4 * spread / n) ** 2, (18 * spread / n**2) ** 2
    count = len(change)
    level, slope, bend = np.full(count, float(np.median(y[:5]))), np.zeros(count), np.zeros(count)
    # Covariance of (level, slope, acceleration): ll ls lb / ss sb / bb.
    ll, ls, lb = np.full(count, jump_variance), np.zeros(count), np.zeros(count)
    ss, sb, bb = np.full(count, slope_variance), np.zeros(count), np.zeros(count)
    log_f, squares, jumped = np.zeros(count), np.zeros(count), np.zeros(count)
    wander, turn = ratios.T
    at = {i: np.flatnonzero(place == i) for i in range(n)}
    for i in range(n):
        here = at[i]
        kind = change[here]
        starts = here[(kind == _BEND) | (kind == _CURVE)]
        ss[starts] += slope_variance
        bb[here[kind == _CURVE]] += curve_variance
        if i:
            level = level + slope + bend / 2
            slope = slope + bend
            ll = ll + 2 * ls + ss + lb + sb + bb / 4 + wander
            ls = ls + ss + lb / 2 + 1.5 * sb + bb / 2
            lb = lb + sb + bb / 2
            ss = ss + 2 * sb + bb + turn
            sb = sb + bb
        ll[here[kind == _JUMP]] += jump_variance
        f = ll + 1.0
        f[here[kind == _OUTLIER]] += jump_variance
        v = y[i] - level
        k, m, o = ll / f, ls / f, lb / f
        jumped[here] = k[here] * v[here]
        level, slope, bend = level + k * v, slope + m * v, bend + o * v
        bb, sb, ss = bb - o * lb, sb - m * lb, ss - m * ls
        lb, ls, ll = lb - k * lb, ls - k * ls, ll - k * ll
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
        state=np.stack([level * scale + values[0], slope * scale, bend * scale], axis=1),
        covariance=np.stack([ll, ls, lb, ls, ss, sb, lb, sb, bb], axis=1).reshape(-1, 3, 3),
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
    """Change, its place, ratios and prior probability of each model."""
    places: dict[Change, range] = {
        "none": range(-1, 0),
        "jump": range(EDGE, n),
        "bend": range(EDGE, n),
        "curve": range(0, n - MIN_CURVE, max(1, n // 24)),
        "outlier": range(n - OUTLIERS, n),
    }
    kinds = [(CHANGES.index(name), at, PRIOR[name] / len(part)) for name, part in places.items() for at in part]
    change, place, prior = (np.repeat([kind[i] for kind in kinds], len(RATIOS)) for i in range(3))
    return change, place, np.tile(np.array(RATIOS), (len(kinds), 1)), prior / len(RATIOS)
