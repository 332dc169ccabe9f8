"""Scored rows as a series over time."""

import numpy as np
import pytest

from tools.judge.estimates import Scores
from tools.judge.outlook.course import course
from tools.judge.outlook.forecast import forecast_crossing


def scored(rows: int, seed: int, lost: np.ndarray | float = 0.0, shift: float = 0.0) -> Scores:
    """Scores of a binary champion that lost some skill: each row's probability means nothing with that chance."""
    random = np.random.default_rng(seed)
    odds = random.normal(shift, 2, rows)
    meant = np.where(random.random(rows) < lost, random.normal(0, 2, rows), odds)
    truth = random.random(rows) < 1 / (1 + np.exp(-meant))
    probability = np.asarray(1 / (1 + np.exp(-odds)), dtype=np.float64)
    loss = np.asarray(-np.log(np.where(truth, probability, 1 - probability)), dtype=np.float64)
    text = [np.where(value, "yes", "no").astype(object) for value in (truth, probability > 0.5)]
    return Scores(text[0], text[1], loss, probability, "yes")


def test_batches_cover_every_row_once_in_order():
    found = course("accuracy", "binary", scored(1000, 1))
    assert len(found.values) == 33 and found.last[-1] == 999
    assert set(np.diff(found.last)) <= {30, 31}
    assert len(course("accuracy", "binary", scored(100_000, 1)).values) == 72
    assert len(course("loss", "binary", scored(20, 1)).values) == 1


def test_the_mean_over_equal_batches_is_the_overall_value():
    scores = scored(30 * 40, 2)
    for measure in ("accuracy", "loss"):
        found = course(measure, "binary", scores)
        assert found.values.mean() == pytest.approx(found.overall)
    assert course("accuracy", "binary", scores).higher_is_better
    assert not course("loss", "binary", scores).higher_is_better


def test_a_batch_with_one_class_has_no_auc_and_the_others_do():
    scores = scored(300, 3)
    scores.y_true[:30] = "no"
    found = course("roc_auc", "binary", scores)
    assert np.isnan(found.values[0]) and np.isfinite(found.values[1:]).all()


def test_drift_is_about_zero_without_drift_and_the_share_moved_with_it():
    same = course("drift", "binary", scored(6000, 4), scored(3000, 5))
    assert same.values.mean() < 0.04 and same.overall < 0.02
    # Normal outputs moved by one standard deviation: the distance is 2 * cdf(1 / 2) - 1 = 0.383.
    moved = course("drift", "binary", scored(6000, 4, shift=2.0), scored(3000, 5))
    assert moved.overall == pytest.approx(0.383, abs=0.04)
    labels = Scores(np.array(["a"] * 400, dtype=object), np.array(["a"] * 400, dtype=object), np.zeros(400))
    other = Scores(labels.y_true, np.array(["a", "b"] * 200, dtype=object), labels.loss)
    assert course("drift", "multiclass", other, labels).overall == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("measure, said", [("rmse", "cannot be judged"), ("drift", "reference")])
def test_a_measure_that_does_not_fit_is_refused(measure: str, said: str):
    with pytest.raises(ValueError, match=said):
        course(measure, "binary", scored(300, 1))


def outlooks(lost: np.ndarray | float, threshold: float, seeds: int = 12) -> list[tuple[str, float]]:
    found = []
    for seed in range(seeds):
        made = course("roc_auc", "binary", scored(2400, seed, lost))
        seen = forecast_crossing(made.last * 1.0, made.values, threshold, 1200.0, side="below", unit="rows")
        found.append((seen.outlook, seen.trend))
    return found


def test_a_gradual_loss_of_skill_has_a_trend_and_a_level_near_the_threshold_has_none():
    burning = outlooks(np.clip(np.linspace(-0.3, 0.6, 2400), 0, 1), 0.6)
    assert sum(outlook == "crossing" and trend >= 0.8 for outlook, trend in burning) >= 6
    steady = outlooks(0.0, course("roc_auc", "binary", scored(20_000, 99)).overall - 0.02)
    assert sum(outlook == "crossing" and trend >= 0.8 for outlook, trend in steady) <= 1
