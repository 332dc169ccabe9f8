"""Every argument of every action says who fills it in."""

import re

import pytest

from tasks.goal import Goal
from tools.core.arguments import Bound, Free, ModelRole, PathRole, bound_arguments, declared, roles, split_column
from tools.core.schema import agent_schema, input_schema
from tools.registry import INTEGRATIONS, load_spec

ACTIONS = [(name, action) for name in INTEGRATIONS for action in load_spec(name).actions]
GOAL = Goal.model_validate(
    {"name": "churn", "task": "binary", "target": "left", "metric": "roc_auc", "data": {"source": "data/churn.csv"}}
)
DECIDING = re.compile(
    r"trainer|config|alpha|tolerance|metric$|max_|min_|_scores|evidence|threshold|target|percent|version$|champion|"
    r"challenger|options|question|space"
)
NAMES = re.compile(r"(?:^|_)(?:path|paths|data|scores|evidence|labels|plan|design|units|history)$|_path$|model_uri$")
NO_FILE = {("ab_test.assign", "units")}  # a list of ids


@pytest.mark.parametrize(("name", "action"), ACTIONS, ids=lambda item: getattr(item, "name", item))
def test_every_argument_is_bound_or_free_with_a_reason(name: str, action: object) -> None:
    for argument, info in action.args.model_fields.items():  # type: ignore[attr-defined]
        kind = declared(info)
        assert kind is not None, f"{name}.{argument}: declare it Bound or Free"
        if isinstance(kind, Free):
            assert len(kind.reason.split()) >= 2, f"{name}.{argument}: the reason says nothing"


def test_every_name_that_a_spec_binds_is_bound_by_the_goal() -> None:
    known = GOAL.bound(seed=0)
    for name, action in ACTIONS:
        for argument, bound in bound_arguments(action.args).items():
            assert not bound.name or bound.name in known, f"{name}.{action.name}.{argument}: {bound.name}"


def test_what_decides_or_opens_something_is_never_free() -> None:
    free = {
        (f"{name}.{action.name}", argument)
        for name, action in ACTIONS
        for argument, info in action.args.model_fields.items()
        if isinstance(declared(info), Free) and (DECIDING.search(argument) or NAMES.search(argument))
    }
    # A plan in numbers decides nothing; the version to restore and its place are held to what was recorded.
    assert free - NO_FILE == {("judge.plan_canary", "alpha"), ("dvc.restore_version", "version")}


def test_what_names_a_file_or_a_model_has_its_type() -> None:
    untyped = {
        (f"{name}.{action.name}", argument)
        for name, action in ACTIONS
        for argument, info in action.args.model_fields.items()
        if NAMES.search(argument) and not list(roles(info))
    }
    assert untyped == NO_FILE
    assert {
        type(role) for _, action in ACTIONS for info in action.args.model_fields.values() for role in roles(info)
    } == {
        PathRole,
        ModelRole,
    }


def test_a_model_sees_what_is_free_and_what_it_must_state() -> None:
    action = load_spec("mlflow").action("promote_version")
    assert set(input_schema(action)["properties"]) == {"name", "version", "reason", "digest"}
    assert agent_schema(action, None) == input_schema(action)
    assert set(agent_schema(action, ())["properties"]) == {"reason"}
    stated = agent_schema(action, ("version",))
    assert set(stated["properties"]) == {"version", "reason"} and set(stated["required"]) == {"version", "reason"}


def test_a_bound_argument_is_one_that_the_gateway_fills_in() -> None:
    bound = bound_arguments(load_spec("mlflow").action("train_model").args)
    assert bound["trainer"] == Bound("goal.trainer") and bound["train"] == Bound()
    assert "run_name" not in bound


@pytest.mark.parametrize(
    ("value", "file", "column"),
    [
        ("runs/a/current_all.parquet:ts", "runs/a/current_all.parquet", "ts"),
        ("runs/a/current_all.parquet:time:utc", "runs/a/current_all.parquet", "time:utc"),
        ("runs/a.parquet:b.parquet:c", "runs/a.parquet", "b.parquet:c"),
        ("data/x.csv.gz:a:b", "data/x.csv.gz", "a:b"),
        ("odd:name:ts", "odd:name", "ts"),
    ],
)
def test_the_file_that_is_checked_is_the_file_that_is_read(value: str, file: str, column: str) -> None:
    assert split_column(value) == (file, column)
    assert PathRole("read", before=":").path_in(value) == file


def test_what_a_goal_says_of_reading_is_bound() -> None:
    stated = {"separator": "semicolon", "nulls": ["?"], "skip_rows": 1}
    goal = GOAL.model_copy(
        update={"data": GOAL.data.model_validate({"source": "a.csv", "time_column": "t", "read": stated})}
    )
    bound = goal.bound(seed=0)
    assert bound["goal.read"] == {"separator": ";", "nulls": ["?"], "skip_rows": 1}
    assert bound["goal.labels_read"] == {"nulls": ["?"]} and bound["goal.needs_clock"] is False
    timed = Goal.model_validate({**goal.model_dump(), "watch": {"horizon": "7 d"}})
    assert timed.bound(seed=0)["goal.needs_clock"] is True
