"""A paired comparison on held-out rows."""

import numpy as np
import pytest

from tools.judge.champion.compare import compare
from tools.judge.estimates import Scores


def binary(rows: int, seed: int, signal: float = 1.5, prevalence: float = 0.3, level: float = 0.0) -> Scores:
    """A model whose logit is `signal` apart between the classes, and shifted by `level`."""
    random = np.random.default_rng(seed)
    truth = random.random(rows) < prevalence
    logit = signal * (truth - 0.5) + random.normal(0, 1, rows) + np.log(prevalence / (1 - prevalence)) + level
    probability = 1 / (1 + np.exp(-logit))
    return labelled(truth, probability)


def labelled(truth: np.ndarray, probability: np.ndarray) -> Scores:
    names = np.array(["no", "yes"], dtype=object)
    right = np.where(truth, probability, 1 - probability)
    return Scores(
        names[truth.astype(int)], names[(probability > 0.5).astype(int)], -np.log(right.clip(1e-6)), probability, "yes"
    )


def pair(seed: int, gain: float = 0.0, rows: int = 500) -> tuple[Scores, Scores]:
    random = np.random.default_rng(seed)
    truth = random.random(rows) < 0.3
    shared = 1.2 * truth + random.normal(0, 1, rows)
    logits = [shared + random.normal(0, 0.5, rows) - 1, shared + gain * truth + random.normal(0, 0.5, rows) - 1]
    champion, challenger = (labelled(truth, 1 / (1 + np.exp(-x))) for x in logits)
    return champion, challenger


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss", "f1"])
def test_an_equal_challenger_is_called_better_in_at_most_the_stated_share(metric: str):
    called = [compare(*pair(seed), metric, "binary", alpha=0.05).better for seed in range(400)]
    assert np.mean(called) <= 0.045  # 2.5 % and three standard errors


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss", "average_precision"])
def test_a_better_challenger_is_recognised_and_the_difference_is_positive(metric: str):
    found = compare(*pair(1, gain=1.5, rows=2000), metric, "binary")
    assert found.better
    assert found.difference > 0
    assert found.interval[0] > 0
    champion, challenger = pair(1, gain=1.5, rows=2000)
    back = compare(challenger, champion, metric, "binary")
    assert not back.better
    assert back.difference == pytest.approx(-found.difference)


def test_a_gain_below_the_smallest_that_counts_is_not_better():
    champion, challenger = pair(1, gain=1.5, rows=2000)
    gain = compare(champion, challenger, "roc_auc", "binary").difference
    assert not compare(champion, challenger, "roc_auc", "binary", min_effect=gain).better


def test_identical_models_are_not_better():
    champion, _ = pair(1)
    found = compare(champion, champion, "accuracy", "binary")
    assert not found.better
    assert found.p_value == 1.0


def test_different_rows_are_refused():
    with pytest.raises(ValueError, match="not the same rows"):
        compare(binary(100, 1), binary(100, 2), "accuracy", "binary")
    with pytest.raises(ValueError, match="100 scored rows"):
        compare(binary(100, 1), binary(99, 1), "accuracy", "binary")
