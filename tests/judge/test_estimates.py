"""Metrics and their standard errors."""

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

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
