"""The assessment of the champion: cost, forecast, window."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tasks import assess_champion, detect_drift
from tasks.base import Evidence
from tests.conftest import Project
from tests.helpers.drifting_story import Story, drifting_rows, goal_of, play
from tests.helpers.results import data_like
from tools.integrations.judge.champion_spec import RetrainingDecision, RetrainingGain, RetrainingPlan

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def story(project: Project, mlflow_database: Path) -> Callable[..., Story]:
    store = project.ctx.home / "mlflow"
    store.mkdir(parents=True)
    (store / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    return lambda reference, current, **goal: Story(project, reference, current, **goal)


def assessed(story: Story) -> tuple[assess_champion.Result, Evidence]:
    story.results["detect_drift"] = detect_drift.Result.model_construct(share_drifted=0.5)
    result, calls = play(
        assess_champion.runbook(story.inputs), lambda tool, action, given: story.project.call(tool, action, **given)
    )
    return result, Evidence(tuple(calls), story.inputs)


def test_the_assessment_names_cost_forecast_and_window_and_a_dearer_retraining_is_not_done(
    story: Callable[..., Story],
) -> None:
    current = pd.concat([drifting_rows(400, 0.0, 5), drifting_rows(1600, 1.2, 6)], ignore_index=True)
    made = story(drifting_rows(1000, 0.0, 7), current, retrain={"cost": 50, "horizon_rows": 2000})
    result, evidence = assessed(made)
    assert result.act is True
    assert "Over the next 2000 rows the champion is forecast to lose" in result.summary
    assert "a retraining costs 50: it pays" in result.summary
    plan = evidence.last("judge.plan_retraining", RetrainingPlan)
    gain = evidence.last("judge.weigh_gain", RetrainingGain)
    assert plan is not None and gain is not None
    # 1,200 of the current rows are for training; the change came at row 400.
    assert int(plan.window.removeprefix("newest:")) == pytest.approx(800, abs=100)
    assert gain.wins and result.window == gain.window in plan.probe
    assert assess_champion.guardrail(result, evidence) == []
    assert assess_champion.guardrail(result.model_copy(update={"act": False}), evidence)
    assert assess_champion.guardrail(result.model_copy(update={"window": "none of them"}), evidence)

    assert result.savings is not None
    made.goal = goal_of(retrain={"cost": 10 * result.savings, "horizon_rows": 2000})
    dear, evidence = assessed(made)
    assert dear.act is False
    assert "So nothing is done yet. A new model, trained on" in dear.summary
    assert "would win too little" in dear.summary
    assert assess_champion.guardrail(dear, evidence) == []

    made.goal = goal_of(retrain={"cost": 10 * result.savings}, constraints={"min_metric": 0.95})
    assert assessed(made)[0].act is True, "a breached minimum is no matter of cost"


@pytest.mark.parametrize(
    ("decided", "breached", "pays", "enough", "act"),
    [
        (True, False, True, True, True),
        (True, False, False, True, False),
        (True, False, True, False, False),
        (True, True, False, False, True),
        (False, False, True, True, False),
    ],
)
def test_it_acts_when_worse_and_paying_and_learnable_or_below_the_minimum(
    decided: bool, breached: bool, pays: bool, enough: bool, act: bool
) -> None:
    plan = RetrainingPlan.model_validate(data_like(RetrainingPlan, pays=pays, enough_rows=enough))
    assert assess_champion.acts(decision(decided, breached), plan, None) is act


@pytest.mark.parametrize("wins", [True, False])
def test_a_new_model_that_would_win_is_a_reason_to_act_though_the_champion_is_as_good_as_it_was(wins: bool) -> None:
    plan = RetrainingPlan.model_validate(data_like(RetrainingPlan, pays=False, enough_rows=False))
    gain = RetrainingGain.model_validate(data_like(RetrainingGain, wins=wins, window="weighted"))
    assert assess_champion.acts(decision(False, False), plan, gain) is wins
    assert assess_champion.window_of(plan, gain) == "weighted"


def test_a_champion_that_was_never_good_is_replaced_by_what_a_new_model_would_win(
    story: Callable[..., Story],
) -> None:
    # The concept turned after the rows that the champion learned from and before the holdout that it is judged by.
    reference = pd.concat([drifting_rows(800, 0.0, 7), drifting_rows(200, 1.2, 8)], ignore_index=True)
    made = story(reference, drifting_rows(1500, 1.2, 6))
    result, evidence = assessed(made)
    decided = evidence.last("judge.decide_retraining", RetrainingDecision)
    assert decided is not None and not decided.act
    assert result.act is True
    assert result.summary.startswith(
        "Retrain: the champion is not proven worse than it was, but a new model would win."
    )
    assert (
        "A new model, trained on all rows, would win: on the newest 300 labelled rows its roc_auc is" in result.summary
    )
    assert assess_champion.guardrail(result, evidence) == []
    assert assess_champion.guardrail(result.model_copy(update={"act": False}), evidence)
    unasked = Evidence(tuple(call for call in evidence.calls if call[1] != "probe_windows"), evidence.inputs)
    assert assess_champion.guardrail(result, unasked)


def test_without_a_plan_the_decision_stands() -> None:
    assert assess_champion.acts(decision(True, False), None, None) is True


def decision(act: bool, breached: bool) -> RetrainingDecision:
    return RetrainingDecision.model_validate(data_like(RetrainingDecision, act=act, breached_minimum=breached))
