"""Simulated streams for rules of retraining: some to develop a rule on, others to confirm it.

Every stream has 8,000 rows in time order, the first 1,600 of them before any change. A concept is a random function of
eight features (linear, two products, one step); what changes, and when, is what a stream's name says. `DEVELOPMENT`
may be looked at while a rule is chosen. `CONFIRMATION` (other generators, from the literature: SEA, moving radial
basis functions, Agrawal, Friedman, STAGGER) is for afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROWS, FIRST = 8000, 1600
FEATURES = 8
Floats = NDArray[np.float64]
Random = np.random.Generator
Made = tuple[Floats, Floats]


@dataclass(frozen=True)
class Kind:
    """How a stream is made, what it is scored by, and whether refits can win anything on it."""

    make: Callable[[Random], Made]
    metric: str
    drifts: bool = True


def concept(random: Random) -> Callable[[Floats], Floats]:
    """A random function of the features with mean about 0 and standard deviation about 1.5."""
    weights = random.normal(size=FEATURES) * (random.random(FEATURES) < 0.7)
    pairs = random.choice(FEATURES, (2, 2), replace=False)
    step, at = int(random.integers(FEATURES)), float(random.normal(0, 0.5))

    def raw(X: Floats) -> Floats:
        return X @ weights + sum(1.2 * X[:, a] * X[:, b] for a, b in pairs) + 1.5 * (X[:, step] > at)

    sample = raw(random.normal(size=(2000, FEATURES)))
    centre, spread = sample.mean(), sample.std()
    return lambda X: 1.5 * (raw(X) - centre) / spread


def _features(random: Random) -> Floats:
    return random.normal(size=(ROWS, FEATURES))


def _labels(random: Random, odds: Floats) -> Floats:
    return (random.random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(float)


def _mixed(X: Floats, concepts: list[Callable[[Floats], Floats]], which: NDArray[np.int64]) -> Floats:
    return np.choose(which, [f(X) for f in concepts])


def _changes(random: Random, count: int) -> NDArray[np.int64]:
    """For each row, how many of `count` changes at random times came before it."""
    times = np.sort(random.uniform(FIRST, ROWS - 800, count))
    return np.searchsorted(times, np.arange(ROWS)).astype(np.int64)


def _gradual(random: Random) -> NDArray[np.int64]:
    """0 at first, 1 at the end, and in between 1 with growing probability over a quarter of the stream."""
    start = random.uniform(FIRST + 400, ROWS * 0.6)
    return (random.random(ROWS) < np.clip((np.arange(ROWS) - start) / (ROWS / 4), 0, 1)).astype(np.int64)


def _recurring(random: Random) -> NDArray[np.int64]:
    period = random.integers(1200, 2400)
    phase = np.arange(ROWS) - FIRST - random.integers(0, 800)
    return np.where(phase > 0, (phase // period + 1) % 2, 0).astype(np.int64)


def _walk(random: Random, step: float, pull: float = 0.0) -> Floats:
    """A random walk over the rows, 0 at first; `pull` draws it back."""
    out = np.zeros(ROWS)
    for i in range(1, ROWS):
        out[i] = (1 - pull) * out[i - 1] + random.normal(0, step)
    return out


def _turning(random: Random, X: Floats, share: float) -> Floats:
    """A concept that turns into another one step by step from the end of the first rows to the end of the stream."""
    a, b = concept(random), concept(random)
    t = np.clip((np.arange(ROWS) - FIRST) / (ROWS - FIRST), 0, 1) * share * np.pi / 2
    return np.cos(t) * a(X) + np.sin(t) * b(X)


def _binary(shape: Callable[[Random], NDArray[np.int64]], concepts: int, scale: float = 2.0, bias: float = 0.0):
    def make(random: Random) -> Made:
        X = _features(random)
        which = shape(random)
        return X, _labels(random, scale * _mixed(X, [concept(random) for _ in range(concepts)], which) + bias)

    return make


def _numbers(shape: Callable[[Random], NDArray[np.int64]], concepts: int, noise: float = 0.5):
    def make(random: Random) -> Made:
        X = _features(random)
        y = _mixed(X, [concept(random) for _ in range(concepts)], shape(random))
        return X, 10 + 3 * (y + random.normal(0, noise, ROWS))

    return make


def _turning_binary(random: Random) -> Made:
    X = _features(random)
    return X, _labels(random, 2 * _turning(random, X, 1.0))


def _turning_numbers(random: Random) -> Made:
    X = _features(random)
    return X, 10 + 3 * (_turning(random, X, 1.0) + random.normal(0, 0.5, ROWS))


def _covariates(random: Random) -> Made:
    """The features wander into regions that were rare; the concept stays."""
    X = _features(random)
    direction = random.normal(size=FEATURES)
    t = np.clip((np.arange(ROWS) - FIRST) / (ROWS - FIRST), 0, 1)[:, None]
    moved = X + 2.5 * t * direction / np.linalg.norm(direction) * np.sqrt(2)
    return moved, _labels(random, 2 * concept(random)(moved))


def _harmless(random: Random) -> Made:
    """Features that matter little wander; the concept uses the others."""
    X = _features(random)
    y = _labels(random, 2 * concept(random)(X))
    aside = random.normal(size=(ROWS, 4)) + np.linspace(0, 4, ROWS)[:, None]
    return np.hstack([X, aside]), y


def _harder(random: Random) -> Made:
    """Labels become noisier: a higher loss that no refit brings down."""
    X = _features(random)
    y = _labels(random, 3 * concept(random)(X))
    t = np.clip((np.arange(ROWS) - FIRST) / (ROWS - FIRST), 0, 1)
    flipped = random.random(ROWS) < 0.3 * t
    return X, np.where(flipped, 1 - y, y)


def _noisier_numbers(random: Random) -> Made:
    X = _features(random)
    jump = random.uniform(0.3, 0.6) * ROWS
    noise = np.where(np.arange(ROWS) > jump, 2.0, 0.5)
    return X, 10 + 3 * (concept(random)(X) + noise * random.normal(size=ROWS))


def _rare(random: Random) -> Made:
    """Few positives, whose share wanders; the concept changes once."""
    X = _features(random)
    odds = 1.5 * _mixed(X, [concept(random), concept(random)], _changes(random, 1))
    return X, _labels(random, odds - 3.2 + _walk(random, 0.02, 0.0005))


def _rare_still(random: Random) -> Made:
    X = _features(random)
    return X, _labels(random, 1.5 * concept(random)(X) - 3.2)


def _hidden_level(random: Random) -> Made:
    """A hidden level that lasts for a few batches decides much (prices, demand); the features know little of it."""
    X = _features(random)
    return X, _labels(random, 1.2 * concept(random)(X) + _walk(random, 0.12, 0.002))


def _growing(random: Random) -> Made:
    """Counts that double with a yearly season: demand."""
    X = _features(random)
    t = np.arange(ROWS)
    X[:, 0], X[:, 1] = np.sin(2 * np.pi * t / 24), np.cos(2 * np.pi * t / 24)
    level = np.exp(0.8 * t / ROWS + 0.4 * np.sin(2 * np.pi * t / 4000))
    y = 50 * level * np.exp(0.5 * concept(random)(X) + random.normal(0, 0.2, ROWS))
    return X, np.round(y).astype(np.float64)


def _seasonal(random: Random) -> Made:
    """A season that the features do not name, seen once in the first rows."""
    X = _features(random)
    a, b = concept(random), concept(random)
    t = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(ROWS) / 3200)
    return X, 10 + 3 * ((1 - t) * a(X) + t * b(X) + 1.0 * t + random.normal(0, 0.5, ROWS))


def _sampled(random: Random, odds: Floats) -> Floats:
    """Classes 0, 1, ... drawn by their log odds, shape (n, classes)."""
    share = np.exp(odds - odds.max(axis=1, keepdims=True)).cumsum(axis=1)
    return (random.random((len(odds), 1)) * share[:, -1:] > share).sum(axis=1).astype(float)


def _of_classes(shape: Callable[[Random], NDArray[np.int64]], concepts: int, walk: float = 0.0):
    """Four classes, each with a concept of its own; `walk`: a step of their levels, which wander apart."""

    def make(random: Random) -> Made:
        X = _features(random)
        which = shape(random)
        odds = [2 * _mixed(X, [concept(random) for _ in range(concepts)], which) for _ in range(4)]
        levels = [_walk(random, walk, 0.001) if walk else np.zeros(ROWS) for _ in range(4)]
        return X, _sampled(random, np.column_stack(odds) + np.column_stack(levels))

    return make


def _still(_: Random) -> NDArray[np.int64]:
    return np.zeros(ROWS, dtype=np.int64)


DEVELOPMENT: dict[str, Kind] = {
    "abrupt": Kind(_binary(lambda r: _changes(r, 1), 2), "accuracy"),
    "abrupt, three times": Kind(_binary(lambda r: _changes(r, 3), 4), "accuracy"),
    "gradual": Kind(_binary(_gradual, 2), "accuracy"),
    "incremental": Kind(_turning_binary, "accuracy"),
    "recurring": Kind(_binary(_recurring, 2), "accuracy"),
    "hidden level": Kind(_hidden_level, "accuracy"),
    "covariates": Kind(_covariates, "accuracy"),
    "rare, abrupt": Kind(_rare, "AUC"),
    "numbers, abrupt": Kind(_numbers(lambda r: _changes(r, 2), 3), "MAE"),
    "numbers, incremental": Kind(_turning_numbers, "MAE"),
    "numbers, seasonal": Kind(_seasonal, "MAE"),
    "numbers, growing": Kind(_growing, "MAE"),
    "classes, abrupt": Kind(_of_classes(lambda r: _changes(r, 2), 3), "accuracy"),
    "classes, gradual": Kind(_of_classes(_gradual, 2), "accuracy"),
    "classes, levels": Kind(_of_classes(_still, 1, walk=0.06), "accuracy"),
    "nothing": Kind(_binary(_still, 1), "accuracy", False),
    "nothing, rare": Kind(_rare_still, "AUC", False),
    "nothing, numbers": Kind(_numbers(_still, 1), "MAE", False),
    "nothing, classes": Kind(_of_classes(_still, 1), "accuracy", False),
    "harmless covariates": Kind(_harmless, "accuracy", False),
    "harder": Kind(_harder, "accuracy", False),
    "harder numbers": Kind(_noisier_numbers, "MAE", False),
}


def _sea(random: Random) -> Made:
    """SEA (Street and Kim 2001): the sum of two of three features against a threshold that changes three times."""
    X = random.uniform(0, 10, (ROWS, 3))
    order = random.permutation([7.0, 8.0, 9.0, 9.5])
    y = (X[:, 0] + X[:, 1] <= order[_changes(random, 3)]).astype(float)
    return X, np.where(random.random(ROWS) < 0.1, 1 - y, y)


def _moving_centres(random: Random) -> Made:
    """Radial basis functions whose centres move slowly (MOA's RandomRBFDrift)."""
    count = 30
    centres, labels = random.random((count, 10)), (random.random(count) < 0.5).astype(float)
    direction = random.normal(size=(count, 10))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    which = random.integers(0, count, ROWS)
    moved = np.maximum(np.arange(ROWS) - FIRST, 0)[:, None] / ROWS * 1.2
    return centres[which] + moved * direction[which] + random.normal(0, 0.2, (ROWS, 10)), labels[which]


def _agrawal(random: Random) -> Made:
    """Agrawal et al. 1993, functions 1 to 4 in random order: loan applications under changing rules."""
    salary, age = random.uniform(20, 150, ROWS), random.uniform(20, 80, ROWS)
    commission = np.where(salary >= 75, 0, random.uniform(10, 75, ROWS))
    education, loan = random.integers(0, 5, ROWS).astype(float), random.uniform(0, 500, ROWS)
    young, old = age < 40, age >= 60
    band = [(50.0, 100.0), (75.0, 125.0), (25.0, 75.0)]
    low = np.select([young, ~old], [band[0][0], band[1][0]], band[2][0])
    high = np.select([young, ~old], [band[0][1], band[1][1]], band[2][1])
    rules = [
        young | old,
        (salary >= low) & (salary <= high),
        np.select([young, ~old], [education <= 1, (education >= 1) & (education <= 3)], education >= 2),
        (salary + commission >= low) & (education <= 3),
    ]
    order = random.permutation(4)
    y = np.choose(order[_changes(random, 3)], [rule.astype(float) for rule in rules])
    X = np.column_stack([salary, commission, age, education, loan, random.normal(size=ROWS)])
    return X, np.where(random.random(ROWS) < 0.05, 1 - y, y)


def _friedman(random: Random) -> Made:
    """Friedman 1991 with its features exchanged at two times (global recurring abrupt drift of Ikonomovska 2010)."""
    X = random.random((ROWS, 10))
    orders = [np.arange(5), random.permutation(10)[:5], np.arange(5)]
    which = _changes(random, 2)
    U = np.choose(which[:, None], [X[:, order] for order in orders])
    y = 10 * np.sin(np.pi * U[:, 0] * U[:, 1]) + 20 * (U[:, 2] - 0.5) ** 2 + 10 * U[:, 3] + 5 * U[:, 4]
    return X, y + random.normal(0, 1, ROWS)


def _stagger(random: Random) -> Made:
    """STAGGER (Schlimmer and Granger 1986): three rules on three categories, gradually exchanged."""
    X = random.integers(0, 3, (ROWS, 3)).astype(float)
    rules = [(X[:, 0] == 0) & (X[:, 1] == 0), (X[:, 1] == 1) | (X[:, 2] == 1), X[:, 0] >= 1]
    which = np.minimum(_gradual(random) + _gradual(random), 2)
    y = np.choose(which, [rule.astype(float) for rule in rules])
    return X, np.where(random.random(ROWS) < 0.1, 1 - y, y)


def _hyperplane(random: Random) -> Made:
    """A hyperplane whose weights wander (Hulten et al. 2001), 5 % noise."""
    X = random.random((ROWS, 10))
    steps = random.choice([-1.0, 1.0], 5) * 2.0 / ROWS
    weights = np.tile(random.random(10), (ROWS, 1))
    weights[:, :5] += np.maximum(np.arange(ROWS) - FIRST, 0)[:, None] * steps
    y = ((X * weights).sum(axis=1) > weights.sum(axis=1) / 2).astype(float)
    return X, np.where(random.random(ROWS) < 0.05, 1 - y, y)


def _led(random: Random) -> Made:
    """LED (Breiman et al. 1984): ten digits from seven segments, 10 % of them inverted; segments are exchanged with
    others that mean nothing at two times (Bifet et al. 2009)."""
    segments = ("1110111", "0010010", "1011101", "1011011", "0111010", "1101011", "1101111", "1010010", "1111111")
    digits = np.array([[int(c) for c in text] for text in (*segments, "1111011")], dtype=float)
    y = random.integers(0, 10, ROWS)
    lit = np.where(random.random((ROWS, 7)) < 0.1, 1 - digits[y], digits[y])
    X = np.hstack([lit, random.integers(0, 2, (ROWS, 7)).astype(float)])
    orders = [random.permutation(14) for _ in range(3)]
    return np.choose(_changes(random, 2)[:, None], [X[:, order] for order in orders]), y.astype(float)


def _blobs_still(random: Random) -> Made:
    """Five classes, each of two normal clouds that overlap."""
    centres, y = random.normal(0, 1.5, (5, 2, 8)), random.integers(0, 5, ROWS)
    return centres[y, random.integers(0, 2, ROWS)] + random.normal(0, 1.3, (ROWS, 8)), y.astype(float)


def _sea_still(random: Random) -> Made:
    X = random.uniform(0, 10, (ROWS, 3))
    y = (X[:, 0] + X[:, 1] <= 8).astype(float)
    return X, np.where(random.random(ROWS) < 0.2, 1 - y, y)


def _friedman_still(random: Random) -> Made:
    X = random.random((ROWS, 10))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
    return X, y + random.standard_t(3, ROWS) * 2


CONFIRMATION: dict[str, Kind] = {
    "SEA": Kind(_sea, "accuracy"),
    "moving centres": Kind(_moving_centres, "accuracy"),
    "Agrawal": Kind(_agrawal, "accuracy"),
    "STAGGER, gradual": Kind(_stagger, "accuracy"),
    "hyperplane": Kind(_hyperplane, "accuracy"),
    "Friedman, abrupt": Kind(_friedman, "MAE"),
    "LED, abrupt": Kind(_led, "accuracy"),
    "clouds without drift": Kind(_blobs_still, "accuracy", False),
    "SEA without drift": Kind(_sea_still, "accuracy", False),
    "Friedman without drift": Kind(_friedman_still, "MAE", False),
}


def simulate(name: str, seed: int) -> tuple[Floats, Floats, str]:
    """Features, target and metric of a stream by its name; features rounded to a fifteenth of their spread, because
    weighted boosting is ten times quicker on few distinct values."""
    kind = (DEVELOPMENT | CONFIRMATION)[name]
    X, y = kind.make(np.random.default_rng([seed, *name.encode()]))
    return np.round(15 * X / X.std(axis=0)), y, kind.metric
