"""Registry, serving and unfinished runs are compared before anything else: said, repaired, or left to a person."""

from pathlib import Path
from typing import Any

from crew.reconcile import Unfinished, compare, unfinished_in, unfinished_runs
from tests.helpers.shop_crew import make_shop

CHAMPION: dict[str, Any] = {
    "version": 2, "model_uri": "models:/churn/2", "since": "2026-11-29T10:00:00+00:00", "previous": 1,
    "unfinished": False,
}  # fmt: skip


def serving(version: str, name: str = "churn") -> dict[str, Any]:
    return {"name": name, "champion_version": version, "canary_version": None, "running": False}


def halfway(model: str = "churn") -> Unfinished:
    return Unfinished("run-1", model, (), touched_production=True)


def test_what_agrees_is_not_told() -> None:
    assert compare("churn", CHAMPION, serving("2"), []) == []
    assert compare("churn", CHAMPION, None, []) == [], "nothing was ever deployed"
    assert compare("churn", None, serving("2"), []) == [], "there is no champion yet"
    assert compare("churn", CHAMPION, serving("9", name="fraud"), []) == [], "another model is served"
    assert compare("churn", CHAMPION, serving("2"), [halfway()]) == []


def test_serving_that_missed_a_complete_promotion_is_put_right() -> None:
    (found,) = compare("churn", CHAMPION, serving("1"), [])
    assert "registry names version 2" in found.what and "serves version 1" in found.what
    assert found.repair is not None
    assert (found.repair.server, found.repair.action) == ("serving", "deploy_model")
    assert found.repair.arguments == {"model_uri": "models:/churn/2", "version": "2", "name": "churn"}


def test_what_an_unfinished_run_may_have_left_is_for_that_run_to_finish() -> None:
    (found,) = compare("churn", CHAMPION, serving("1"), [halfway()])
    assert found.repair is None and "mlops-crew resume run-1" in found.how
    (found,) = compare("churn", CHAMPION, serving("1"), [halfway("fraud")])
    assert found.repair is not None, "a run of another model has nothing to do with it"


def test_where_nothing_tells_which_is_right_a_person_says_it() -> None:
    for champion in ({**CHAMPION, "previous": None}, {**CHAMPION, "since": None}, CHAMPION):
        (found,) = compare("churn", champion, serving("3"), [])
        assert found.repair is None and "mlops-crew reconcile churn --keep" in found.how


def test_a_promotion_that_was_cut_off_is_completed() -> None:
    cut = {**CHAMPION, "unfinished": True}
    (found,) = compare("churn", cut, serving("2"), [])
    assert found.repair is not None and found.repair.action == "promote_version"
    assert compare("churn", cut, serving("2"), [halfway()]) == [], "resuming the run does it"


def test_a_run_counts_as_unfinished_until_it_ends() -> None:
    started: dict[str, Any] = {"kind": "run_started", "goal": {"name": "n", "model": "churn"}}
    intent = {
        "kind": "intent", "call_id": "c0001", "server": "serving", "action": "promote_canary", "arguments": {},
        "task": "release", "role": "deployment", "effect": "risky", "decision": "allow",
    }  # fmt: skip
    begun = {"kind": "begun", "call_id": "c0001", "key": "k", "approval_id": None}
    outcome = {"kind": "outcome", "call_id": "c0001", "status": "ok", "message": "", "data": {}, "error": None}
    assert unfinished_in("r", [intent, begun]) is None, "single calls are no run"
    assert unfinished_in("r", [started, {"kind": "run_finished"}]) is None
    assert unfinished_in("r", [started, intent]) == Unfinished("r", "churn", (), False)
    assert unfinished_in("r", [started, intent, begun]) == Unfinished("r", "churn", ("serving.promote_canary",), True)
    assert unfinished_in("r", [started, intent, begun, outcome]) == Unfinished("r", "churn", (), True)
    nameless = {"kind": "run_started", "goal": {"name": "n", "model": ""}}
    found = unfinished_in("r", [nameless])
    assert found is not None and found.model == "n"


def test_no_runs_are_no_trouble(tmp_path: Path) -> None:
    assert unfinished_runs(make_shop(tmp_path / "p") / ".mlops") == []
