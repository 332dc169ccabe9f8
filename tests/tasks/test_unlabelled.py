"""When an estimate without labels is a reason to look again."""

from typing import Any

from tasks.goal import Goal
from tasks.unlabelled import to_watch
from tests.helpers.results import data_like
from tools.integrations.judge.champion_spec import PerformanceEstimate


def goal(**extra: Any) -> Goal:
    data = {"reference": "a.csv", "current": "b.csv"}
    return Goal.model_validate(
        {"name": "g", "task": "binary", "target": "y", "metric": "accuracy", "data": data, **extra}
    )


def estimated(low: float, high: float, trusted: bool | None = True) -> PerformanceEstimate:
    stated = {"reference_value": 0.8, "estimated_low": low, "estimated_high": high, "rows": 500, "trusted": trusted}
    return PerformanceEstimate.model_validate(data_like(PerformanceEstimate, **stated))


def test_only_an_estimate_wholly_beyond_the_floor_is_watched() -> None:
    assert to_watch(goal(), None) is None
    assert to_watch(goal(), estimated(0.75, 0.81)) is None
    assert "all of it worse than it was before (0.8000)." in str(to_watch(goal(), estimated(0.7, 0.79)))
    stated = goal(constraints={"min_metric": 0.7})
    assert to_watch(stated, estimated(0.65, 0.79)) is None
    assert "worse than the goal's minimum (0.7000)" in str(to_watch(stated, estimated(0.6, 0.69)))
    loss = goal(metric="log_loss")
    assert to_watch(loss, estimated(0.7, 0.79)) is None
    assert to_watch(loss, estimated(0.81, 0.9)) is not None
    assert "contradict the estimate" in str(to_watch(goal(), estimated(0.7, 0.79, trusted=False)))
