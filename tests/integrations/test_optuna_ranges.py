"""Ranges of a search: unit interval and mutation."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tools.integrations.optuna.ranges import from_unit, mutate, to_unit


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(1e-3, 10.0, log=True),
        FloatDistribution(-2.0, 2.0, step=0.5),
        IntDistribution(1, 100, log=True),
        IntDistribution(2, 12, step=5),
        CategoricalDistribution([None, "a", 3]),
    ],
)
def test_a_mutation_gives_another_valid_value_and_reaches_all_of_the_range(distribution: Any) -> None:
    rng = np.random.default_rng(0)
    value = from_unit(distribution, 0.5)
    reached = {mutate(distribution, value, rng) for _ in range(600)}
    assert value not in reached
    assert all(distribution._contains(distribution.to_internal_repr(other)) for other in reached)
    if isinstance(distribution, CategoricalDistribution):
        assert len(reached) == 2
    else:
        shares = [to_unit(distribution, other) for other in reached]
        assert min(shares) < 0.3
        assert max(shares) > 0.7
