"""Whether the champion became worse: level, power, and what does not count."""

import numpy as np
import pytest

from tools.judge.champion.retrain import decide
from tools.judge.estimates import Scores, estimate


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


def regression(rows: int, seed: int, noise: float = 1.0) -> Scores:
    random = np.random.default_rng(seed)
    truth = random.normal(10, 3, rows)
    said = truth + random.normal(0, noise, rows)
    return Scores(truth, said, np.abs(truth - said))


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_without_drift_retraining_is_asked_for_in_at_most_1_percent(metric: str):
    acts = [decide(binary(800, 2 * s), binary(400, 2 * s + 1), metric, "binary").act for s in range(600)]
    assert np.mean(acts) <= 0.01 + 3 * np.sqrt(0.01 / 600)


def test_without_drift_a_regression_is_left_alone_in_at_least_99_percent():
    acts = [decide(regression(500, 2 * s), regression(300, 2 * s + 1), "rmse", "regression").act for s in range(400)]
    assert np.mean(acts) <= 0.01 + 3 * np.sqrt(0.01 / 400)


def test_a_fall_of_the_auc_that_accuracy_hides_is_acted_on():
    # As on bank_marketing: nearly everything is "no" before and after, but the ranking is lost.
    reference = binary(3000, 1, signal=2.0, prevalence=0.1)
    current = binary(3000, 2, signal=0.1, prevalence=0.1, level=-1.5)
    gap = np.mean(reference.prediction == reference.y_true) - np.mean(current.prediction == current.y_true)
    assert gap < 0.03
    found = decide(reference, current, "roc_auc", "binary")
    assert found.act
    assert "roc_auc fell" in found.reasons[0]


def test_a_rise_of_the_loss_is_acted_on_though_the_ranking_is_intact():
    found = decide(binary(3000, 1), binary(3000, 2, level=2.5), "roc_auc", "binary")
    assert found.act
    assert found.urgency == "now"
    assert found.interval[0] > 0
    assert any("loss per row rose" in reason for reason in found.reasons)


def test_drifted_features_alone_do_not_cause_retraining():
    found = decide(binary(2000, 1), binary(2000, 2), "accuracy", "binary", drift_share=1.0)
    assert not found.act
    assert found.urgency == "watch"
    assert "100% of the columns drifted, but the labels do not prove that the model suffers." in found.reasons


def test_a_change_too_small_to_matter_is_left_alone_however_certain():
    found = decide(regression(400_000, 1), regression(400_000, 2, noise=1.02), "mae", "regression")
    assert found.p_value < 1e-6
    assert not found.act


def test_missing_the_goals_minimum_is_acted_on_when_it_is_beyond_the_noise():
    reference, current = binary(2000, 1), binary(2000, 2)
    now = estimate("accuracy", "binary", current).value
    found = decide(reference, current, "accuracy", "binary", min_metric=now + 0.1)
    assert found.act and found.breached_minimum and found.urgency == "now"
    near = decide(reference, current, "accuracy", "binary", min_metric=now + 0.001)
    assert not near.act and not near.breached_minimum and near.urgency == "watch"
    maximum = decide(regression(2000, 1), regression(2000, 2), "mae", "regression", min_metric=0.5)
    assert maximum.breached_minimum


def test_too_few_rows_never_cause_retraining():
    found = decide(binary(500, 1), binary(20, 2, signal=-5), "accuracy", "binary")
    assert not found.act
    assert "20 current labelled rows" in found.reasons[0]
