"""Metrics agree with scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as sk

from tests.helpers.mixed_rows import features_and_target
from tools.core.errors import FixableError
from tools.modeling.metrics import METRICS, get_metric, row_losses, score, score_blocks
from tools.modeling.models import (
    default_config,
)
from tools.modeling.predictor import Predictions, SklearnPredictor
from tools.modeling.training import fit


def test_metrics_agree_with_scikit_learn() -> None:
    X, y = features_and_target("binary")
    predictions = SklearnPredictor(fit(default_config("binary", "linear"), X, y, "binary", 0)).predict(X)
    positive = predictions.positive_probability
    assert positive is not None
    expected = {
        "accuracy": sk.accuracy_score(y, predictions.values),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predictions.values),
        "f1": sk.f1_score(y, predictions.values, pos_label="yes"),
        "roc_auc": sk.roc_auc_score(y, positive),
        "average_precision": sk.average_precision_score(y, positive, pos_label="yes"),
        "log_loss": sk.log_loss(y, predictions.probabilities),
    }
    for name, value in expected.items():
        assert score(get_metric(name, "binary"), y, predictions, "binary") == pytest.approx(value), name
    X, y = features_and_target("multiclass")
    predictions = SklearnPredictor(fit(default_config("multiclass", "linear"), X, y, "multiclass", 0)).predict(X)
    expected = {
        "f1": sk.f1_score(y, predictions.values, average="macro"),
        "roc_auc": sk.roc_auc_score(y, predictions.probabilities, multi_class="ovr"),
        "log_loss": sk.log_loss(y, predictions.probabilities),
    }
    for name, value in expected.items():
        assert score(get_metric(name, "multiclass"), y, predictions, "multiclass") == pytest.approx(value), name
    numbers, guesses = np.array([1.0, 2.0, 4.0]), Predictions(np.array([1.5, 2.0, 3.0]))
    assert score(get_metric("rmse", "regression"), numbers, guesses, "regression") == pytest.approx((1.25 / 3) ** 0.5)


def test_log_loss_is_the_mean_of_the_row_losses_and_a_new_class_costs_the_most() -> None:
    X, y = features_and_target("multiclass")
    predictions = SklearnPredictor(fit(default_config("multiclass", "linear"), X, y, "multiclass", 0)).predict(X)
    truth = y.to_numpy().copy()
    truth[0] = "never seen"
    loss, error = row_losses("multiclass", truth, predictions)
    assert loss[0] == pytest.approx(-np.log(1e-6))
    assert error[0] == 1.0
    assert score(get_metric("log_loss", "multiclass"), truth, predictions, "multiclass") == pytest.approx(loss.mean())
    assert row_losses("regression", [1, 2], Predictions(np.array([3.0, 2.0])))[0].tolist() == [2.0, 0.0]
    certain, _ = row_losses("binary", ["a", "b"], Predictions(np.array(["a", "a"])))
    assert certain.tolist() == pytest.approx([0.0, -np.log(1e-6)]), "without probabilities a label counts as certain"


def test_a_metric_of_another_task_is_refused_by_name_and_a_ranking_needs_two_classes() -> None:
    with pytest.raises(FixableError, match="mae, rmse, r2, mape"):
        get_metric("roc_auc", "regression")
    with pytest.raises(FixableError, match="all 2 rows have the label"):
        score(METRICS["roc_auc"], ["a", "a"], Predictions(np.array(["a", "b"])), "binary")


class TestScoreBlocks:
    def test_blocks_are_consecutive_rows_and_average_to_the_mean_metric(self) -> None:
        truth = np.arange(1000, dtype="float64")
        predictions = Predictions(truth + np.repeat(np.arange(20.0), 50))
        found = score_blocks(get_metric("mae", "regression"), truth, predictions, "regression")
        assert found == [float(k) for k in range(20)]

    @pytest.mark.parametrize(("rows", "count"), [(49, 0), (50, 2), (130, 5), (10_000, 20)])
    def test_a_block_has_at_least_25_rows_and_there_are_at_most_20(self, rows: int, count: int) -> None:
        truth = np.zeros(rows)
        assert len(score_blocks(get_metric("mae", "regression"), truth, Predictions(truth), "regression")) == count

    def test_a_block_of_one_class_has_no_ranking(self) -> None:
        truth = np.array([0] * 25 + [0, 1] * 25)
        probabilities = np.column_stack([1 - truth, truth]).astype("float64")
        predictions = Predictions(truth, probabilities, np.array([0, 1]))
        assert score_blocks(get_metric("roc_auc", "binary"), truth, predictions, "binary") == [None, 1.0, 1.0]

    def test_of_two_models_on_the_same_rows_the_blocks_carry_the_error_of_the_difference(self) -> None:
        """Batch means: over 200 draws of the rows, the 95 % interval holds the true difference in 95 % of them."""
        random = np.random.default_rng(5)
        metric, held = get_metric("mae", "regression"), 0
        for _ in range(200):
            truth, shared = random.normal(size=1000), random.normal(size=1000)
            # Mean absolute errors 0.8 E|Z| and 0.7 E|Z|; the two models err together.
            made = (Predictions(truth + scale * shared) for scale in (0.8, 0.7))
            a, b = (score_blocks(metric, truth, predictions, "regression") for predictions in made)
            differences = np.array(a, dtype=float) - np.array(b, dtype=float)
            half = 2.093 * differences.std(ddof=1) / np.sqrt(20)  # Student's t, 19 degrees of freedom
            held += abs(differences.mean() - 0.1 * np.sqrt(2 / np.pi)) <= half
        assert 0.90 * 200 <= held <= 0.99 * 200  # 0.95 and about three standard errors
