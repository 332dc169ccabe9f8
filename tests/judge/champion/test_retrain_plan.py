"""Whether a retraining pays, and on which rows."""

import numpy as np
import pytest

from tools.judge.champion.retrain_plan import MIN_NEW_ROWS, RetrainPlan, plan_retraining
from tools.judge.estimates import Scores


def scores(level: np.ndarray | list[float], seed: int = 0, share: float = 0.5) -> Scores:
    """Binary rows whose loss has mean `level`, row by row; half of the labels are positive unless told otherwise."""
    random = np.random.default_rng(seed)
    loss = random.gamma(4, np.asarray(level, dtype=float) / 4)
    truth = np.where(random.random(len(loss)) < share, "yes", "no").astype(object)
    return Scores(truth, truth, loss, None, "yes")


def planned(level: np.ndarray, seed: int = 0, cost: float = 50, reference_rows: int = 800, **more: int) -> RetrainPlan:
    return plan_retraining(
        scores(np.full(reference_rows, 0.3), seed + 1000), scores(level, seed), "binary", cost=cost, **more
    )


LN2 = float(np.log(2))  # what a row costs that is answered without a model, where both labels are equally frequent
STILL = np.full(3000, 0.3)
JUMP = np.concatenate([np.full(900, 0.3), np.full(2100, 0.5)])
SLOPE = np.concatenate([np.full(900, 0.3), np.linspace(0.3, 0.6, 2100)])


def test_without_a_change_a_retraining_pays_in_no_more_than_one_of_twenty_seeds():
    # 40 seeds: more than 5 are refuted by a rate of 5 % at the level 1.4 %.
    plans = [planned(STILL, seed, cost=100) for seed in range(40)]
    assert sum(plan.pays for plan in plans) <= 5
    assert sum(plan.window == "all" for plan in plans) >= 34


def test_the_savings_of_a_jump_are_its_height_times_the_horizon_in_rows_without_a_model():
    plan = planned(JUMP, horizon=3000)
    expected = 3000 * 0.2 / LN2
    assert plan.savings == pytest.approx(expected, rel=0.25)
    assert plan.interval[0] < expected < plan.interval[1]
    assert plan.pays and plan.probability > 0.95
    assert planned(JUMP, horizon=300).savings == pytest.approx(expected / 10, rel=0.25)


def test_a_sudden_change_is_found_where_it_was_and_the_rows_since_are_trained_on():
    plan = planned(JUMP)
    assert plan.course == "sudden"
    assert plan.change_row == pytest.approx(900, abs=130)  # two of 48 batches
    assert plan.window == f"newest:{plan.new_rows}"
    assert plan.new_rows == 3000 - (plan.change_row or 0)


def test_only_rows_that_may_be_trained_on_count_as_new():
    plan = planned(JUMP, train_rows=1800)
    assert plan.new_rows == 1800 - (plan.change_row or 0)
    assert plan.enough_rows
    late = planned(JUMP, train_rows=940)
    assert late.new_rows < MIN_NEW_ROWS
    assert not late.enough_rows
    assert any(reason.endswith(f"fewer than {MIN_NEW_ROWS}: wait for more.") for reason in late.reasons)


def test_rows_before_a_late_change_teach_where_the_champion_was_worse_on_them_too():
    worse_twice = np.concatenate([np.full(2400, 0.5), np.full(600, 1.2)])
    plan = planned(worse_twice, train_rows=1800)
    assert (plan.course, plan.new_rows, plan.enough_rows, plan.window) == ("sudden", 0, True, "weighted")
    assert "so those rows teach as well." in plan.reasons[2]
    fine_before = np.concatenate([np.full(2400, 0.3), np.full(600, 1.2)])
    assert not planned(fine_before, train_rows=1800).enough_rows
    fine_now = np.concatenate([np.full(2400, 0.9), np.full(600, 0.3)])
    assert not planned(fine_now, train_rows=1800).enough_rows


def test_with_few_rows_since_the_change_the_older_ones_are_weighted_down_instead_of_left_out():
    assert planned(JUMP, reference_rows=5000).window == "weighted"
    assert planned(JUMP, train_rows=1800).window == "weighted"  # half of what can be trained on


def test_a_gradual_change_asks_for_weights_and_its_trend_is_continued():
    plan = planned(SLOPE)
    assert (plan.course, plan.window, plan.change_row) == ("gradual", "weighted", None)
    # At 0.6 now and rising: more than if it stayed at its mean over the current rows.
    assert plan.savings > 3000 * (0.6 - 0.3) / LN2


def test_a_change_before_the_first_current_row_asks_for_the_current_rows_alone():
    plan = planned(np.full(3000, 0.5))
    assert (plan.course, plan.window, plan.change_row) == ("before", "recent", 0)


def test_a_dearer_retraining_does_not_pay_and_the_reason_says_both_numbers():
    savings = planned(JUMP).savings
    cheap, dear = planned(JUMP, cost=savings / 2), planned(JUMP, cost=savings * 2)
    assert cheap.pays and not dear.pays
    assert f"a retraining costs {savings * 2:g}: it does not pay" in dear.reasons[0]
    assert f"forecast to lose {savings:.0f} rows' worth" in dear.reasons[0]


def test_a_change_of_the_unit_of_a_regression_changes_nothing():
    random = np.random.default_rng(3)
    truth = random.normal(100, 20, 2000)
    error = random.normal(0, np.where(np.arange(2000) < 800, 5, 12))
    before = Scores(truth[:500], truth[:500], np.abs(random.normal(0, 5, 500)))
    plans = [
        plan_retraining(
            Scores(unit * before.y_true, unit * before.prediction, unit * before.loss),
            Scores(unit * truth, unit * (truth + error), unit * np.abs(error)),
            "regression",
            cost=50,
        )
        for unit in (1.0, 1e6)
    ]
    assert plans[0].savings == pytest.approx(plans[1].savings)
    assert plans[0].change_row == plans[1].change_row
    assert plans[0].pays


def test_few_rows_are_judged_by_their_mean_alone():
    plan = planned(np.full(120, 0.5), horizon=1000)
    assert (plan.course, plan.pays) == ("before", True)
    assert plan.interval[0] < 1000 * 0.2 / LN2 < plan.interval[1]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cost": -1}, "cost must not be negative"),
        ({"horizon": 0}, "horizon at least 1"),
        ({"train_rows": 9000}, "1 to"),
    ],
)
def test_arguments_out_of_range_are_named(wrong: dict[str, int], words: str):
    with pytest.raises(ValueError, match=words):
        planned(STILL, **wrong)
    with pytest.raises(ValueError, match="needs 30 of each"):
        planned(STILL[:20])
