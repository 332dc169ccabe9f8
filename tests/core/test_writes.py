"""What a write declares: its key, how it is read back, what takes it back."""

from dataclasses import replace
from typing import Any

import pytest

from tools.core.contract_suite import check_writes
from tools.core.writes import EACH_CALL, idempotency_key
from tools.integrations.ab_test import writes as ab_test
from tools.integrations.mlflow import writes as mlflow
from tools.integrations.serving import writes as serving
from tools.registry import load_spec


def test_a_key_is_the_same_for_a_repetition_and_another_one_for_everything_else() -> None:
    def key(run: str = "r", call: str = "c1", names: tuple[str, ...] = ("a",), **arguments: Any) -> str:
        return idempotency_key(run, call, "x.write", {"a": 1, "b": 2, **arguments}, names)

    assert key() == key(call="c2") == key(b=3)
    assert len({key(), key(run="s"), key(a=2), key(names=()), key(names=EACH_CALL)}) == 5
    assert key(names=()) != key(names=(), b=3)
    assert key(names=EACH_CALL, a=5) == key(names=EACH_CALL) != key(names=EACH_CALL, call="c2")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"key": None}, "key is missing"),
        ({"key": ("nothing",)}, "names no argument"),
        ({"read_back": None}, "read_back is missing"),
        ({"undo": "unmake"}, "names no action"),
    ],
)
def test_a_risky_action_that_leaves_a_fact_out_fails_the_contract(change: dict[str, Any], told: str) -> None:
    spec = load_spec("mlflow")
    changed = [replace(action, **change) if action.name == "promote_version" else action for action in spec.actions]
    check_writes(spec)
    with pytest.raises(AssertionError, match=told):
        check_writes(replace(spec, actions=tuple(changed)))


def test_a_promotion_is_read_back_from_the_alias() -> None:
    call = {"name": "m", "version": 2, "reason": "better"}
    champion = {"name": "m", "version": 2, "since": "now", "previous": 1, "unfinished": False}
    assert mlflow.promoted(call, champion, None) is True
    assert mlflow.promotion(call, champion)["previous_version"] == 1
    assert mlflow.promoted(call, {**champion, "unfinished": True}, None) is False, "made again, it is completed"
    assert mlflow.promoted(call, None, None) is False
    old = {**champion, "version": 1}
    assert mlflow.promoted(call, old, old) is False
    assert mlflow.promoted(call, old, None) is None, "nobody knows who made that one champion"
    assert mlflow.promoted(call, {**champion, "version": 3}, old) is None
    assert mlflow.promoting_back(call, {"previous_version": 1}, None) == {
        "name": "m",
        "version": 1,
        "reason": "the promotion of version 2 is taken back",
    }
    assert mlflow.promoting_back(call, None, None) is None


def test_a_retirement_that_left_an_alias_is_made_again() -> None:
    call = {"name": "m", "version": 1, "reason": "lost"}

    def listed(retired: str | None, *aliases: str) -> dict[str, Any]:
        return {"name": "m", "versions": [{"version": 1, "retired": retired, "aliases": list(aliases)}]}

    assert mlflow.retired(call, listed("then", "previous_champion"), None) is True
    assert mlflow.retired(call, listed("then", "challenger"), None) is False
    assert mlflow.retired(call, listed(None), None) is False
    assert mlflow.retired(call, {"name": "m", "versions": []}, None) is None


def test_what_an_ended_engine_did_is_told_by_what_is_on_disk() -> None:
    status: dict[str, Any] = {
        "running": False,
        "champion_version": "2",
        "canary_version": None,
        "canary_percent": 0.0,
        "former_version": None,
    }
    assert serving.deployed({"version": "2"}, status, None) is False, "the engine has to be started again"
    assert serving.canary_promoted({"version": "2"}, status, None) is True
    assert serving.canary_promoted({"version": "3"}, status, None) is False
    assert serving.canary_promoted({"version": ""}, status, None) is None
    assert serving.canary_promoted({"version": ""}, status, {"canary_version": "2"}) is True
    assert serving.canary_started({"version": "3", "percent": 5.0}, status, None) is False
    assert serving.canary_removed({}, status, None) is True
    live = {**status, "running": True, "canary_version": "3", "canary_percent": 5.0}
    assert serving.canary_started({"version": "3", "percent": 5.0}, live, None) is True
    assert serving.share_set({"percent": 0.0}, live, None) is False
    assert serving.share_before({}, None, live) == {"percent": 5.0}


def test_another_test_of_the_name_is_not_ours() -> None:
    call = {"test": "t", "champion": "1", "challenger": "2", "winner": "challenger", "verdict": "challenger_wins"}
    found = {"champion": "1", "challenger": "2", "state": "running", "winner": None, "verdict": None}
    assert ab_test.created(call, None, None) is False
    assert ab_test.created(call, found, None) is True
    assert ab_test.created(call, {**found, "champion": "5"}, None) is None
    assert ab_test.concluded(call, found, None) is False
    done = {**found, "state": "concluded", "winner": "champion", "verdict": "champion_wins"}
    assert ab_test.concluded(call, done, None) is None
    assert ab_test.concluded({**call, "winner": "champion", "verdict": "champion_wins"}, done, None) is True
