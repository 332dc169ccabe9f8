"""The period that repeats, if there is one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tools.judge.outlook.season import find_season

Floats = NDArray[np.float64]


def noise(seed: int, n: int = 200, size: float = 0.2) -> Floats:
    return np.random.default_rng(seed).normal(0, size, n)


def test_a_random_walk_has_no_season():
    walks = (np.cumsum(noise(seed, 144)) for seed in range(40))
    assert sum(find_season(walk) is not None for walk in walks) <= 2


def test_possible_seasons_differ_as_much_as_fits_of_other_noise_do():
    steps = np.arange(300.0)
    pattern = 2 * np.sin(2 * np.pi * steps / 31.3) + np.cos(4 * np.pi * steps / 31.3)
    later = np.arange(300.0, 340.0)
    fits = [find_season(pattern[:140] + noise(seed, 140, 0.4)) for seed in range(60)]
    found = np.array([season.at(later) for season in fits if season is not None])
    assert len(found) == 60
    drawn = np.array([season.draw(200, later, 0).std(axis=0) for season in fits if season is not None])
    assert np.median(drawn) == pytest.approx(np.median(found.std(axis=0)), rel=0.3)
