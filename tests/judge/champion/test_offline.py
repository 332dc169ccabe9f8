"""Comparing two models offline, and deciding whether the champion got worse."""

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from tools.judge.champion.compare import compare
from tools.judge.champion.retrain import decide
from tools.judge.estimates import METRICS_OF, Scores, Task, estimate, positive_class, standard_error


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


def rows_of(scores: Scores, index: np.ndarray) -> Scores:
    probability = None if scores.probability is None else scores.probability[index]
    return Scores(scores.y_true[index], scores.prediction[index], scores.loss[index], probability, scores.positive)


def sklearn_value(metric: str, s: Scores) -> float:
    truth: Any = s.y_true == "yes"
    said: Any = s.prediction == "yes"
    match metric:
        case "accuracy":
            return float(sk.accuracy_score(truth, said))
        case "balanced_accuracy":
            return float(sk.balanced_accuracy_score(truth, said))
        case "f1":
            return float(sk.f1_score(truth, said))
        case "roc_auc":
            return float(sk.roc_auc_score(truth, s.probability))
        case "average_precision":
            return float(sk.average_precision_score(truth, s.probability))
        case "log_loss":
            return float(sk.log_loss(truth, s.probability))
        case "mae":
            return float(sk.mean_absolute_error(s.y_true, s.prediction))
        case "rmse":
            return float(sk.root_mean_squared_error(s.y_true, s.prediction))
        case "r2":
            return float(sk.r2_score(s.y_true, s.prediction))
        case _:
            return float(sk.mean_absolute_percentage_error(s.y_true, s.prediction))


@pytest.mark.parametrize("task, metric", [(t, m) for t in ("binary", "regression") for m in METRICS_OF[t]])
def test_every_metric_equals_scikit_learns_and_its_standard_error_the_bootstraps(task: Task, metric: str):
    scores = binary(600, 1) if task == "binary" else regression(600, 1)
    found = estimate(metric, task, scores)
    assert found.value == pytest.approx(sklearn_value(metric, scores), rel=1e-9)
    random = np.random.default_rng(2)
    again = [estimate(metric, task, rows_of(scores, random.integers(0, 600, 600))).value for _ in range(400)]
    plain = found.influence.std(ddof=1) / np.sqrt(600)
    assert plain == pytest.approx(np.std(again), rel=0.15)
    assert found.influence.mean() == pytest.approx(0.0, abs=1e-9)


def test_ties_in_probabilities_count_half_as_in_scikit_learn():
    random = np.random.default_rng(3)
    scores = labelled(random.random(300) < 0.4, random.integers(1, 5, 300) / 5)
    for metric in ("roc_auc", "average_precision"):
        assert estimate(metric, "binary", scores).value == pytest.approx(sklearn_value(metric, scores))


def test_multiclass_metrics_are_macro_averages():
    random = np.random.default_rng(4)
    truth = random.integers(0, 3, 200).astype(str).astype(object)
    said = np.where(random.random(200) < 0.7, truth, "1")
    scores = Scores(truth, said, random.random(200))
    assert estimate("f1", "multiclass", scores).value == pytest.approx(sk.f1_score(truth, said, average="macro"))
    assert estimate("balanced_accuracy", "multiclass", scores).value == pytest.approx(
        sk.balanced_accuracy_score(truth, said)
    )


def test_the_positive_class_is_the_one_predicted_at_high_probability():
    labels = np.array(["good", "bad", "bad"], dtype=object)
    assert positive_class(labels, labels, np.array([0.1, 0.8, 0.9])) == "bad"
    assert positive_class(labels, np.array(["bad"] * 3, dtype=object), np.array([0.1, 0.2, 0.3])) == "good"


def test_rows_that_resemble_their_neighbours_have_a_larger_standard_error():
    independent = np.random.default_rng(5).normal(size=2000)
    walk = np.convolve(independent, np.ones(20) / np.sqrt(20), mode="same").astype("float64")
    assert standard_error(walk) > 2.5 * walk.std() / np.sqrt(2000)


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
    assert "100% of the columns drifted, but the labels say the model still works." in found.reasons


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
