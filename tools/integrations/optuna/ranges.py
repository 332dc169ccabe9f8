"""Places in a parameter's range, and steps from one to another."""

import math
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

SMALLEST_STEP = 0.03


def mutate(distribution: BaseDistribution, value: Any, rng: np.random.Generator) -> Any:
    """Another value of the distribution.

    A category becomes any other one. A number moves by a step whose size is drawn on the logarithmic scale, from 3 % of
    its range (at least to the next value) to all of it.
    """
    if isinstance(distribution, CategoricalDistribution):
        others = [k for k in range(len(distribution.choices)) if k != distribution.to_internal_repr(value)]
        return distribution.choices[others[rng.integers(len(others))]]
    start = to_unit(distribution, value)
    while True:
        step = SMALLEST_STEP ** rng.random()
        reached = start + (step if rng.random() < 0.5 else -step)
        reached = -reached if reached < 0 else 2.0 - reached if reached > 1 else reached
        changed = from_unit(distribution, reached)
        if changed != value:
            return changed


def to_unit(distribution: BaseDistribution, value: float) -> float:
    """Where a number lies in its range, from 0 to 1, on the distribution's own scale."""
    low, high, log = _range(distribution)
    if log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def from_unit(distribution: BaseDistribution, share: float) -> Any:
    """The value at a place of the range; equal steps and categories have equal shares."""
    share = min(max(share, 0.0), 1.0)
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[min(int(share * len(distribution.choices)), len(distribution.choices) - 1)]
    low, high, log = _range(distribution)
    value = low * (high / low) ** share if log else low + (high - low) * share
    if isinstance(distribution, FloatDistribution):
        if distribution.step is None:
            return min(max(value, distribution.low), distribution.high)
        steps = round((value - distribution.low) / distribution.step)
        return min(max(distribution.low + steps * distribution.step, distribution.low), distribution.high)
    assert isinstance(distribution, IntDistribution)
    steps = round((value - distribution.low) / distribution.step)
    return min(max(distribution.low + steps * distribution.step, distribution.low), distribution.high)


def _range(distribution: BaseDistribution) -> tuple[float, float, bool]:
    """Low, high and whether the scale is logarithmic; half a step beyond both ends where there are steps."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    margin = (distribution.step or 0.0) / 2.0
    return distribution.low - margin, distribution.high + margin, distribution.log
