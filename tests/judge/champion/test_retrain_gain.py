"""Whether a new model would win."""

import numpy as np
import pytest

from tools.judge.champion.retrain_gain import needed_gain, weigh_gain, windows_to_probe
from tools.judge.champion.retrain_plan import MIN_NEW_ROWS
from tools.judge.estimates import Scores

ROWS = 400


def answers(right: float, seed: int, classes: tuple[str, ...] = ("no", "yes"), rows: int = ROWS) -> Scores:
    """Rows with the same labels whatever the seed; `right` of them, by chance, are answered right."""
    truth = np.array(classes, dtype=object)[np.random.default_rng(1).integers(0, len(classes), rows)]
    hit = np.random.default_rng(seed).random(rows) < right
    other = np.roll(np.array(classes, dtype=object), 1)[np.searchsorted(classes, truth.astype(str))]
    loss = np.where(hit, 0.2, 1.7)
    if len(classes) > 2:
        return Scores(truth, np.where(hit, truth, other), loss)
    probability = np.where(hit == (truth == "yes"), 0.82, 0.18)
    return Scores(truth, np.where(hit, truth, other), loss, probability, "yes")


def weighed(champion: Scores, needed: float = 20, horizon: int = 2000, **probes: Scores):
    task = "binary" if champion.positive else "multiclass"
    return weigh_gain(champion, champion, probes, "accuracy", task, needed=needed, horizon=horizon)


@pytest.mark.parametrize("classes", [("no", "yes"), ("high", "low", "mid")], ids=["binary", "multiclass"])
def test_a_champion_that_was_always_bad_is_beaten_by_a_new_model_and_the_words_say_by_how_much(
    classes: tuple[str, ...],
) -> None:
    found = weighed(answers(0.6, 2, classes), all=answers(0.85, 3, classes))
    assert found.wins and found.window == "all"
    assert found.interval[0] < 0.25 * 1.5 < found.interval[1]
    assert found.metric_interval[0] < 0.25 < found.metric_interval[1]
    assert found.savings == pytest.approx(2000 * found.gain / np.log(len(classes)), rel=0.05)
    assert found.reasons[0].startswith("A new model, trained on all rows, would win: on the newest 400 labelled rows")
    assert "98% interval +0." in found.reasons[0] and "20 are needed" in found.reasons[0]


def test_a_new_model_as_good_as_the_champion_is_hardly_ever_said_to_win() -> None:
    # 60 seeds at a level of 1 %: more than 3 are refuted at the level 0.4 %.
    wins = [weighed(answers(0.7, seed), needed=0, all=answers(0.7, seed + 1000)).wins for seed in range(60)]
    assert sum(wins) <= 3


def test_a_gain_that_does_not_pay_is_told_and_not_acted_on() -> None:
    found = weighed(answers(0.6, 2), needed=5000, all=answers(0.85, 3))
    assert not found.wins
    assert "would win too little" in found.reasons[0] and "5000 are needed" in found.reasons[0]
    assert needed_gain(50, 0.03, 1000) == 50
    assert needed_gain(50, 0.03, 10_000) == 300


def test_a_lower_loss_without_a_better_metric_is_no_win() -> None:
    champion = answers(0.6, 2)
    sure = Scores(champion.y_true, champion.prediction, champion.loss * 0.5, champion.probability, "yes")
    found = weighed(champion, all=sure)
    assert found.gain > 0 and found.p_value < 0.01
    assert not found.wins


def test_the_planned_window_is_taken_unless_another_does_better_by_more_than_its_error() -> None:
    champion, same = answers(0.6, 2), answers(0.8, 3)
    for other, taken in ((same, "newest:300"), (answers(0.95, 4), "all")):
        probes = {"newest:300": same, "all": other}
        found = weigh_gain(champion, champion, probes, "accuracy", "binary", needed=20, horizon=2000)
        assert found.window == taken


def test_too_few_rows_or_labels_are_said_and_decide_nothing() -> None:
    few = weighed(answers(0.6, 2, rows=20), all=answers(0.9, 3, rows=20))
    assert not few.wins and few.window is None
    assert few.reasons == [
        "Whether a new model would win cannot be tested: there are 20 labelled rows to compare on, and 30 are needed."
    ]
    one = answers(0.9, 2)
    kept = one.y_true == "yes"
    assert one.probability is not None
    alone = Scores(one.y_true[kept], one.prediction[kept], one.loss[kept], one.probability[kept], "yes")
    found = weigh_gain(one, alone, {"all": alone}, "roc_auc", "binary", needed=0, horizon=100)
    assert "cannot be tested: roc_auc needs both classes" in found.reasons[0]


def test_scores_of_other_rows_are_refused() -> None:
    one = answers(0.6, 2)
    with pytest.raises(ValueError, match="not the same rows"):
        weighed(one, all=Scores(one.y_true[::-1], one.prediction, one.loss, one.probability, "yes"))


def test_windows_are_tried_the_planned_one_first_where_enough_rows_are_new() -> None:
    assert windows_to_probe("newest:250", MIN_NEW_ROWS) == ["newest:250", "all", "weighted", "recent"]
    assert windows_to_probe("all", MIN_NEW_ROWS) == ["all", "weighted", "recent"]
    assert windows_to_probe("all", MIN_NEW_ROWS - 1) == []
