"""What a goal states of constraints and fairness, and a challenger that breaks it."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.common import constrained
from tasks.goal import FAIRNESS_MEASURES, Goal
from tasks.train_challenger import broken_constraints
from tests.helpers.results import data_like
from tools.integrations.mlflow.spec import Evaluation
from tools.modeling.constraints import read_constraints
from tools.modeling.data import TASKS
from tools.modeling.fairness import MEASURES
from tools.modeling.search import Fairness, SearchConstraints

GOAL: dict[str, Any] = {
    "name": "g",
    "task": "binary",
    "target": "y",
    "metric": "roc_auc",
    "data": {"reference": "a.csv", "current": "b.csv"},
}

EVALUATION = {"latency_ms_p95": 1.0, "size_bytes": 10, "value": 0.9, "metric": "roc_auc", "fairness_gap": 0.2}


def test_the_goal_knows_the_measures_that_there_are() -> None:
    for task in TASKS:
        assert FAIRNESS_MEASURES[task] == tuple(name for name, known in MEASURES.items() if task in known.tasks)


def test_a_goal_states_what_its_searches_keep_to() -> None:
    assert constrained(Goal.model_validate(GOAL)) == {}
    bounds = {"max_latency_ms": 5, "max_size_mib": 2, "min_metric": 0.7}
    fairness = {"column": "gender", "max_gap": 0.1}
    stated = constrained(Goal.model_validate({**GOAL, "constraints": bounds, "fairness": fairness}))
    read = read_constraints(json.dumps(stated["constraints"]))
    assert read == SearchConstraints(
        max_latency_ms=5,
        max_size_mib=2,
        fairness=Fairness(column="gender", measure="demographic_parity", max_gap=0.1),
    )
    for wrong, words in (
        ({"column": "y"}, "is the target"),
        ({"column": "g", "measure": "mae"}, "valid: demographic_parity"),
        ({"column": "g", "max_gap": 0}, "greater than 0"),
    ):
        with pytest.raises(ValidationError, match=words):
            Goal.model_validate({**GOAL, "fairness": wrong})


def test_a_challenger_beyond_the_gap_or_without_one_breaks_the_goal() -> None:
    def broken(gap: float | None, max_gap: float | None) -> list[str]:
        goal = Goal.model_validate({**GOAL, "fairness": {"column": "gender", "max_gap": max_gap}})
        seen = Evaluation.model_validate(data_like(Evaluation, **{**EVALUATION, "fairness_gap": gap}))
        return broken_constraints(goal, seen)

    assert broken(0.2, 0.1) == ["fairness gap 0.200 by gender is above the goal's 0.1"]
    assert broken(None, 0.1) == ["the fairness gap by gender cannot be computed on these rows"]
    assert broken(0.1, 0.1) == broken(0.9, None) == []
