"""Units are assigned to a variant once and for all."""

import numpy as np
import pytest
from scipy.stats import chisquare

from tools.modeling.assignment import assign

HALVES = {"champion": 50.0, "challenger": 50.0}


def test_assignment_is_sticky_and_in_proportion_to_the_weights() -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 7.0}
    got = [assign("test", f"unit-{i}", weights) for i in range(20_000)]
    assert got == [assign("test", f"unit-{i}", dict(reversed(weights.items()))) for i in range(20_000)]
    counts = [got.count(name) for name in weights]
    assert chisquare(counts, [2_000, 4_000, 14_000]).pvalue > 1e-4


def test_a_raised_weight_moves_units_into_its_variant_only() -> None:
    for before, after in ((5.0, 20.0), (20.0, 50.0), (0.0, 100.0)):
        moved = {
            (assign("s", str(i), {"a": 30, "b": 70, "c": before}), assign("s", str(i), {"a": 30, "b": 70, "c": after}))
            for i in range(3_000)
        }
        assert {new for old, new in moved if old != new} == {"c"}


def test_two_tests_split_the_same_units_independently() -> None:
    table = np.zeros((2, 2))
    for i in range(10_000):
        first, second = (assign(salt, str(i), HALVES) == "challenger" for salt in ("one", "two"))
        table[int(first), int(second)] += 1
    assert chisquare(table.ravel()).pvalue > 1e-4


@pytest.mark.parametrize("weights", [{}, {"a": 0.0}, {"a": -1.0, "b": 2.0}, {"a": float("nan")}])
def test_weights_that_mean_nothing_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weights must be"):
        assign("s", "u", weights)
