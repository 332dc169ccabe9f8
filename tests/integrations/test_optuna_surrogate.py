"""The Gaussian process that chooses among the children of an evolution."""

import math
from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.integrate import quad
from scipy.optimize import approx_fprime
from scipy.stats import norm

from tools.integrations.optuna.surrogate import (
    Embedding,
    GaussianProcess,
    Surrogate,
    log_expected_improvement,
    losses_to_learn,
)

SPACE: dict[str, BaseDistribution] = {
    "family": CategoricalDistribution(["line", "net"]),
    "net.width": IntDistribution(1, 100, log=True),
    "net.rate": FloatDistribution(0.0, 1.0),
    "one": CategoricalDistribution(["only"]),
}


def test_what_a_point_does_not_have_lies_in_the_middle() -> None:
    embedding = Embedding(SPACE)
    net: dict[str, Any] = {"family": "net", "net.width": 100, "net.rate": 0.25, "one": "only"}
    rows = embedding.rows([net, {"family": "line"}, {"net.rate": 1.0}])
    assert embedding.groups.tolist() == [0, 0, 1, 2], "by name; what has one value only is no dimension"
    half = math.sqrt(0.5)
    assert rows[0] == pytest.approx([0.0, half, 0.25, 0.998], abs=0.01)
    assert rows[1].tolist() == [half, 0.0, 0.5, 0.5]
    assert rows[2].tolist() == [0.0, 0.0, 1.0, 0.5]
    assert np.sum((rows[0, :2] - rows[1, :2]) ** 2) == pytest.approx(1.0), "categories are as far apart as both ends"


def fitted(count: int) -> tuple[GaussianProcess, np.ndarray, np.ndarray]:
    """A function of the first two of four numbers."""
    rows = np.random.default_rng(0).random((count, 4))
    values = np.sin(4.0 * rows[:, 0]) + rows[:, 1] ** 2
    targets = (values - values.mean()) / values.std()
    return GaussianProcess(rows, np.arange(4), targets), rows, targets


def test_the_process_predicts_points_it_has_not_seen_and_is_unsure_far_from_those_it_has() -> None:
    process, rows, targets = fitted(60)
    again, _, _ = fitted(20)
    mean, deviation = again.predict(rows[20:])
    assert np.corrcoef(mean, targets[20:])[0, 1] > 0.9
    at_known, known_deviation = process.predict(rows)
    assert np.abs(at_known - targets).max() < 0.2
    assert known_deviation.max() < deviation.max()
    _, far = process.predict(np.full((1, 4), 30.0))
    assert far[0] > 5 * known_deviation.max()


def test_the_gradient_of_the_fit_is_that_of_its_loss() -> None:
    process, _, _ = fitted(30)
    for theta in (np.zeros(5) - 1.0, np.array([0.5, -0.5, 1.0, 2.0, -4.0])):
        _, gradient = process.loss(theta)
        expected = approx_fprime(theta, lambda at: process.loss(at)[0], 1e-6)
        assert gradient == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("mean", [-2.0, 0.0, 0.9, 1.1, 3.0, 8.0])
def test_expected_improvement_is_the_integral_of_its_definition(mean: float) -> None:
    expected = quad(lambda value: -value * norm.pdf(value, mean, 1.0), -20.0 + mean, 0.0, epsabs=0.0)[0]
    ours = log_expected_improvement(np.array([mean]), np.array([1.0]), 0.0)[0]
    assert ours == pytest.approx(math.log(expected), rel=1e-6)


def test_expected_improvement_orders_points_however_hopeless() -> None:
    ours = log_expected_improvement(np.array([1.0, 10.0, 100.0, 1000.0]), np.ones(4), 0.0)
    assert np.isfinite(ours).all()
    assert (np.diff(ours) < 0).all()


def test_targets_keep_the_order_and_put_what_is_not_valid_last() -> None:
    losses = np.array([0.5, 0.1, 1e9, math.inf, 0.2])
    bad = [(2.0, -3.0), (1.0, 0.5), (math.inf,), (2.0, -3.0)]
    targets = losses_to_learn(losses, bad)
    assert targets.mean() == pytest.approx(0.0, abs=1e-9)
    assert targets.std() == pytest.approx(1.0)
    assert np.argsort(targets[[1, 4, 0, 2]]).tolist() == [0, 1, 2, 3]
    assert targets[2] == targets[3], "infinite: as the worst finite one"
    assert targets[3] < targets[6] < targets[5] == targets[8] < targets[7]
    assert losses_to_learn(np.full(3, 7.0), []).tolist() == [0.0, 0.0, 0.0]
    assert losses_to_learn(np.array([]), [(1.0,), (2.0,)]).tolist() == pytest.approx([-1.0, 1.0])
    assert losses_to_learn(2.0 + 30.0 * losses, bad) == pytest.approx(targets), "the unit of the objective is no matter"


def test_a_branch_that_has_been_good_promises_more_than_one_that_has_been_bad() -> None:
    rng = np.random.default_rng(1)
    nets: list[dict[str, Any]] = [
        {"family": "net", "net.width": int(w), "net.rate": r}
        for w, r in zip(rng.integers(1, 100, 10), rng.random(10), strict=True)
    ]
    points = [*nets, {"family": "line"}]
    unseen = {"family": "net", "net.width": 40, "net.rate": 0.5}
    promise: list[float] = []
    for of_nets, of_line in ((-0.5, 2.0), (0.5, -2.0)):
        targets = np.array([of_nets + 0.2 * p["net.rate"] for p in nets] + [of_line])
        promise += Surrogate(SPACE, points, targets).promise([unseen])
    assert promise[0] > promise[1] + 1.0
