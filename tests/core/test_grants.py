"""A call is held against what the goal and the task bind."""

from collections.abc import Mapping
from typing import Any

import pytest

from tools.core.contract import Action
from tools.core.dispatch import validate_arguments
from tools.core.errors import DeniedError, FixableError
from tools.core.grants import Grant, Scope, bind, grant, one_of
from tools.registry import load_spec

VALUES = {"goal.model": "churn", "goal.metric": "roc_auc", "goal.task": "binary", "goal.canary.tolerance": None}


def held(
    call: str, given: Mapping[str, Any], *grants: Grant, values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    server, _, name = call.partition(".")
    action: Action = load_spec(server).action(name)

    def normal(arguments: Mapping[str, Any]) -> dict[str, Any]:
        return validate_arguments(action, arguments).model_dump(mode="json", exclude_none=True)

    return bind(call, action, given, Scope(VALUES if values is None else values, grants), normal)


PROMOTE = grant("mlflow.promote_version", version=2)


def test_what_is_bound_is_filled_in() -> None:
    assert held("mlflow.promote_version", {"reason": "better"}, PROMOTE) == {
        "name": "churn",
        "version": 2,
        "reason": "better",
        "digest": "",
    }


@pytest.mark.parametrize("given", [{"version": 2}, {"version": "2"}, {"name": "churn", "version": 2}])
def test_saying_what_is_bound_anyway_is_no_fault(given: dict[str, Any]) -> None:
    assert held("mlflow.promote_version", {"reason": "r", **given}, PROMOTE)["version"] == 2


@pytest.mark.parametrize(
    "given", [{"version": 1}, {"version": "1"}, {"name": "credit"}, {"name": "credit", "version": 2}]
)
def test_another_value_than_the_bound_one_is_denied(given: dict[str, Any]) -> None:
    with pytest.raises(DeniedError, match="is bound to"):
        held("mlflow.promote_version", {"reason": "r", **given}, PROMOTE)


def test_a_call_that_does_not_belong_to_the_task_is_denied_and_the_ones_that_do_are_named() -> None:
    with pytest.raises(DeniedError, match=r"does not belong to this task.*its calls: mlflow.promote_version"):
        held("mlflow.retire_version", {"version": 1, "reason": "r"}, PROMOTE)


def test_a_bound_argument_that_nothing_binds_keeps_its_default() -> None:
    scores = {"champion_scores": "runs/a.parquet", "challenger_scores": "runs/b.parquet"}
    compare = grant("judge.compare_models", **scores)
    assert (
        "alpha" not in held("judge.compare_models", {}, compare)
        or held("judge.compare_models", {}, compare)["alpha"] == 0.05
    )
    with pytest.raises(DeniedError, match=r"alpha is bound to 0\.05"):
        held("judge.compare_models", {"alpha": 0.9}, compare)
    swapped = {"champion_scores": scores["challenger_scores"], "challenger_scores": scores["champion_scores"]}
    with pytest.raises(DeniedError, match="champion_scores is bound to"):
        held("judge.compare_models", swapped, compare)


def test_what_the_goal_does_not_state_cannot_be_stated_by_a_caller() -> None:
    judge = grant("judge.judge_canary", evidence="runs/e.parquet")
    with pytest.raises(DeniedError, match="tolerance"):
        held("judge.judge_canary", {"tolerance": 0.9}, judge)
    assert "tolerance" not in held("judge.judge_canary", {}, judge)


def test_a_choice_must_be_made_among_what_is_granted() -> None:
    share = grant("serving.set_traffic", percent=one_of(0.0, 5.0))
    assert held("serving.set_traffic", {"percent": 5}, share)["percent"] == 5
    with pytest.raises(DeniedError, match=r"percent must be 0.0 or 5.0, got 50"):
        held("serving.set_traffic", {"percent": 50}, share)
    with pytest.raises(DeniedError, match="percent must be given"):
        held("serving.set_traffic", {}, share)


def test_several_grants_are_told_apart_by_what_the_caller_states() -> None:
    both = [grant("mlflow.set_backup", version=1), grant("mlflow.set_backup", version=3)]
    assert held("mlflow.set_backup", {"version": 3, "reason": "r"}, *both)["version"] == 3
    with pytest.raises(FixableError, match="say which: version=1; or version=3"):
        held("mlflow.set_backup", {"reason": "r"}, *both)
    with pytest.raises(DeniedError, match=r"version is bound to 1.*version is bound to 3"):
        held("mlflow.set_backup", {"version": 2, "reason": "r"}, *both)


def test_without_a_task_the_goal_binds_what_it_can_and_nothing_else_is_believed() -> None:
    action = load_spec("mlflow").action("train_model")

    def normal(arguments: Mapping[str, Any]) -> dict[str, Any]:
        return validate_arguments(action, arguments).model_dump(mode="json", exclude_none=True)

    given = {"train": ["data/a.csv"], "target": "left", "task": "binary", "metric": "roc_auc"}
    goal = {**VALUES, "goal.target": "left", "goal.trainer": "builtin"}
    assert bind("mlflow.train_model", action, given, Scope(goal), normal)["trainer"] == "builtin"
    with pytest.raises(DeniedError, match="trainer is bound to 'builtin'"):
        bind("mlflow.train_model", action, {**given, "trainer": "command: id"}, Scope(goal), normal)
    with pytest.raises(DeniedError, match="no goal is known here"):
        bind("mlflow.train_model", action, given, Scope(), normal)
