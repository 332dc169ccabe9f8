"""Isotonic calibration."""

import numpy as np
import pytest

from tools.judge.champion.performance import calibrate
from tools.judge.estimates import Scores


def scored(rows: int, random: np.random.Generator, shift: float = 0.0, flip: float = 0.0) -> tuple[Scores, np.ndarray]:
    """Scores that are overconfident, a population moved by `shift`, and labels of which a share is turned over."""
    x = random.normal(shift, 1.5, rows)
    truth = random.random(rows) < 1 / (1 + np.exp(-x))
    truth ^= random.random(rows) < flip
    probability = 1 / (1 + np.exp(-2 * x))
    names = np.array(["no", "yes"], dtype=object)
    right = np.clip(np.where(truth, probability, 1 - probability), 1e-6, 1)
    return Scores(
        names[truth.astype(int)], names[(probability > 0.5).astype(int)], -np.log(right), probability, "yes"
    ), truth


def test_calibration_repairs_overconfidence() -> None:
    scores, truth = scored(8000, np.random.default_rng(9))
    assert scores.probability is not None
    fixed = calibrate(scores.probability, truth, np.array([1 / (1 + np.exp(-4.0))]))
    assert fixed[0] == pytest.approx(1 / (1 + np.exp(-2.0)), abs=0.05)
