"""The metric on rows without labels, with an interval that holds it."""

import numpy as np
import pytest

from tools.judge.champion.performance import estimate_performance
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


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss", "f1"])
def test_the_interval_holds_the_metric_that_the_labels_give(metric: str) -> None:
    inside = 0
    for seed in range(4):
        random = np.random.default_rng(seed)
        reference, current = scored(1000, random)[0], scored(500, random, shift=1.0)[0]
        found = estimate_performance(reference, current, np.ones(500, bool), metric, "binary", seed=seed)
        assert found.actual is not None
        inside += found.low <= found.actual <= found.high
    assert inside >= 3


def test_a_harder_population_is_seen_without_labels() -> None:
    random = np.random.default_rng(10)
    easy, hard = scored(4000, random, shift=2.0)[0], scored(4000, random, shift=0.0)[0]
    found = estimate_performance(easy, hard, np.zeros(4000, bool), "accuracy", "binary")
    assert found.actual is None
    assert found.unexplained_p is None
    assert found.high < found.reference_value


def test_labels_reveal_a_change_of_concept_and_only_that() -> None:
    random = np.random.default_rng(11)
    reference = scored(4000, random)[0]
    moved, turned = scored(1500, random, shift=1.0)[0], scored(1500, random, flip=0.15)[0]
    known = np.ones(1500, bool)
    explained = estimate_performance(reference, moved, known, "accuracy", "binary").unexplained_p
    unexplained = estimate_performance(reference, turned, known, "accuracy", "binary").unexplained_p
    assert explained is not None
    assert explained > 0.01
    assert unexplained is not None
    assert unexplained < 1e-4


def test_the_error_of_a_regression_follows_its_predictions() -> None:
    random = np.random.default_rng(12)

    def regression(low: float, high: float) -> Scores:
        said = random.uniform(low, high, 3000)
        truth = said + random.normal(0, 1, 3000) * said / 10
        return Scores(truth, said, np.abs(truth - said))

    found = estimate_performance(
        regression(0, 100), regression(80, 100), np.ones(3000, bool), "mae", "regression"
    )  # noise grows with the prediction
    assert found.value > 1.5 * found.reference_value
    assert found.actual == pytest.approx(found.value, rel=0.08)
    assert found.unexplained_p is not None
    assert found.unexplained_p > 0.001


def test_the_accuracy_of_many_classes_follows_the_predicted_classes() -> None:
    random = np.random.default_rng(13)

    def classes(share_of_hard: float) -> Scores:
        said = np.where(random.random(3000) < share_of_hard, "hard", random.choice(["p", "q"], 3000)).astype(object)
        wrong = random.random(3000) < np.where(said == "hard", 0.5, 0.05)
        truth = np.where(wrong, "p", said).astype(object)
        return Scores(truth, said, np.where(truth == said, 0.1, 2.0))

    found = estimate_performance(classes(0.1), classes(0.7), np.zeros(3000, bool), "accuracy", "multiclass")
    assert found.value == pytest.approx(1 - 0.7 * 0.5 - 0.3 * 0.025, abs=0.03)
