"""Which calls belong to a task: what it says of itself is what its runbook does, and nothing that was not decided."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import establish_champion, release
from tasks.base import Evidence, Inputs, load_task
from tasks.goal import Goal
from tests.helpers.results import data_like
from tools.core.arguments import bound_arguments
from tools.core.contract import Effect
from tools.core.results import Status, ToolResult
from tools.registry import load_spec

TASKS = Path(__file__).parents[2] / "tasks"
CALL = re.compile(r"""call\(\s*"(\w+)",\s*"(\w+)\"""")
NAMES = sorted(p.stem for p in TASKS.glob("[!_]*.py") if load_task(p.stem).runbook is not None)
GOAL = Goal.model_validate(
    {"name": "churn", "task": "binary", "target": "left", "metric": "roc_auc", "data": {"source": "data/churn.csv"}}
)


def effect_of(call: str) -> Effect:
    server, _, action = call.partition(".")
    return load_spec(server).action(action).effect


@pytest.mark.parametrize("name", NAMES)
def test_a_task_names_the_calls_of_its_runbook(name: str) -> None:
    called = {".".join(found) for found in CALL.findall((TASKS / f"{name}.py").read_text(encoding="utf-8"))}
    assert called <= load_task(name).calls.keys()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_caller_must_state_is_a_bound_argument_of_that_action(name: str) -> None:
    for call, stated in load_task(name).calls.items():
        server, _, action = call.partition(".")
        assert set(stated) <= bound_arguments(load_spec(server).action(action).args).keys(), call


def test_some_tasks_change_production_and_most_do_not() -> None:
    assert len(NAMES) >= 15
    changing = {name for name in NAMES if any(effect_of(call) is Effect.RISKY for call in load_task(name).calls)}
    assert changing == {"establish_champion", "canary", "ab_test", "release", "restore_champion", "close_loop"}


def made(call: str, status: Status = Status.OK, **data: Any) -> tuple[str, str, dict[str, Any], ToolResult]:
    server, _, action = call.partition(".")
    model = load_spec(server).action(action).result
    result = ToolResult(status=status, data=data_like(model, **data) if status is Status.OK else None)
    return (server, action, {}, result)


def granted(task: str, results: dict[str, Any], *calls: Any) -> dict[str, dict[str, Any]]:
    inputs = Inputs(goal=GOAL, results=results)
    definition = load_task(task)
    assert definition.grants is not None
    return {item.call: dict(item.arguments) for item in definition.grants(inputs, Evidence(calls, inputs))}


RESULTS: dict[str, Any] = {
    "establish_champion": load_task("establish_champion").result.model_construct(
        version=1, model_uri="models:/churn/1", trained_now=False, summary="s"
    ),
    "register_challenger": load_task("register_challenger").result.model_construct(
        version=2, model_uri="models:/churn/2", summary="s"
    ),
}


RESULTS["canary"] = load_task("canary").result.model_construct(verdict="promote", challenger_digest="d1", summary="s")


@pytest.mark.parametrize("verdict", ["rollback", "wait"])
def test_a_release_may_only_roll_back_what_was_not_decided_to_be_promoted(
    verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "decided", lambda inputs: SimpleNamespace(verdict=verdict))
    assert granted("release", RESULTS) == {"serving.rollback_canary": {}}


def test_a_release_promotes_the_challenger_in_serving_first_and_goes_back_only_when_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(release, "decided", lambda inputs: SimpleNamespace(verdict="promote"))
    first = granted("release", RESULTS)
    assert first == {"serving.promote_canary": {"version": "2", "digest": "d1"}}  # the model that was judged
    then = granted("release", RESULTS, made("serving.promote_canary", champion_version="2"))
    assert then["mlflow.promote_version"] == {"version": 2, "digest": "d1"} and "serving.rollback_canary" not in then
    refused = granted("release", RESULTS, made("serving.promote_canary", Status.DENIED))
    assert "serving.rollback_canary" in refused and "mlflow.promote_version" not in refused
    half = granted("release", RESULTS, made("serving.promote_canary"), made("mlflow.promote_version", Status.FAILED))
    assert half["serving.deploy_model"]["version"] == "1"


def test_a_canary_is_set_up_once_and_each_batch_is_judged_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.canary.slices", lambda inputs: {"live": "live.parquet"})
    results = {
        **RESULTS,
        "train_challenger": load_task("train_challenger").result.model_construct(
            challenger_digest="d1", champion_scores="", challenger_scores="", summary="s"
        ),
    }
    share = GOAL.canary.percent

    def after(*calls: Any) -> dict[str, dict[str, Any]]:
        return granted("canary", results, *calls)

    def shared(percent: float) -> Any:
        return made("serving.set_traffic", canary_percent=percent)

    stable, started = made("serving.deploy_model"), made("serving.start_canary", canary_percent=share)
    sent = made("serving.send_traffic", next_start=200, rows_left=1000, evidence_path="e")
    waits = made("judge.judge_canary", verdict="wait", held=False)
    holds = made("judge.judge_canary", verdict="wait", held=True)
    assert after().keys() == {"serving.deploy_model"}
    assert after(stable).keys() == {"serving.deploy_model", "serving.start_canary"}
    assert after(stable, started).keys() == {"serving.start_canary", "serving.send_traffic"}
    assert after(stable, started, sent).keys() == {"judge.judge_canary"}
    judged = after(stable, started, sent, waits)
    assert judged.keys() == {"judge.judge_canary", "serving.send_traffic"}
    assert judged["serving.send_traffic"]["start"] == 200
    # The share changes only where the runbook would change it.
    assert after(stable, started, sent, holds)["serving.set_traffic"] == {"percent": 0.0}
    assert "serving.set_traffic" not in after(stable, started, sent, holds, shared(0.0))
    assert after(stable, started, sent, holds, shared(0.0), sent, waits)["serving.set_traffic"] == {"percent": share}
    assert after(stable, started, sent, made("judge.judge_canary", verdict="rollback")) == {}


def test_a_share_is_doubled_once_per_verdict_that_rules_harm_out_and_never_beyond_the_goals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.canary.slices", lambda inputs: {"live": "live.parquet"})
    trained = load_task("train_challenger").result.model_construct(
        challenger_digest="d1", champion_scores="", challenger_scores="", summary="s"
    )
    begun = made("serving.deploy_model"), made("serving.start_canary", canary_percent=5.0)
    sent = made("serving.send_traffic", next_start=200, rows_left=1000, evidence_path="e")
    safe = made("judge.judge_canary", verdict="wait", held=False, harm_ruled_out=True)
    unsure = made("judge.judge_canary", verdict="wait", held=False, harm_ruled_out=False)

    def share(*calls: Any) -> Any:
        found = granted("canary", {**RESULTS, "train_challenger": trained}, *begun, *calls)
        return found.get("serving.set_traffic", {}).get("percent")

    def shared(percent: float) -> Any:
        return made("serving.set_traffic", canary_percent=percent)

    assert share(sent, unsure) is None
    assert share(sent, safe) == 10.0
    assert share(sent, safe, shared(10.0)) is None, "each share is judged before the next"
    assert share(sent, safe, shared(10.0), sent) is None
    assert share(sent, safe, shared(10.0), sent, safe) == GOAL.canary.max_percent == 20.0
    assert share(sent, safe, shared(20.0), sent, safe) is None, "never beyond the goal's bound"
    assert share(sent, made("judge.judge_canary", verdict="promote", held=False, harm_ruled_out=True)) is None


def test_a_first_champion_is_only_what_was_trained_and_registered_here(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"reference": "r.parquet", "reference_all": "ra.parquet", "current_all": "ca.parquet"}
    monkeypatch.setattr("tasks.establish_champion.slices", lambda inputs: files)
    assert granted("establish_champion", {}).keys() == {"mlflow.get_champion"}
    found = made("mlflow.get_champion", version=1, model_uri="models:/churn/1")
    read = {"model_uri": "models:/churn/1", "data": ["ra.parquet", "ca.parquet"]}
    assert granted("establish_champion", {}, found) == {"mlflow.get_champion": {}, "mlflow.read_output": read}
    none = made("mlflow.get_champion", Status.NO_DATA)
    assert granted("establish_champion", {}, none).keys() == {"mlflow.get_champion", "mlflow.list_versions"}
    empty = made("mlflow.list_versions", Status.NO_DATA)
    assert granted("establish_champion", {}, none, empty)["mlflow.train_model"] == {"train": ["r.parquet"]}
    trained = made("mlflow.train_model", model_uri="models:/m-1", too_good="")
    # The note tells a baseline of ours from a version of others: with another one the next step would ask a person.
    registering = {"model_uri": "models:/m-1", "note": establish_champion.BASELINE}
    assert granted("establish_champion", {}, none, empty, trained)["mlflow.register_model"] == registering
    registered = made("mlflow.register_model", version=7, model_uri="models:/churn/7")
    assert granted("establish_champion", {}, none, empty, registered)["mlflow.promote_version"] == {"version": 7}


def test_versions_of_others_are_never_passed_over_and_only_a_person_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"reference": "r.parquet", "reference_all": "ra.parquet", "current_all": "ca.parquet"}
    monkeypatch.setattr("tasks.establish_champion.slices", lambda inputs: files)
    none = made("mlflow.get_champion", Status.NO_DATA)
    versions = [
        {"version": n, "model_uri": f"models:/churn/{n}", "run_id": None, "aliases": [], "created": "2026-01-01",
         "retired": None, "note": ""}
        for n in (5, 4, 3, 2)
    ]  # fmt: skip
    listed = made("mlflow.list_versions", name="churn", versions=versions, message="4 versions")
    asked = granted("establish_champion", {}, none, listed)
    assert asked.keys() == {"mlflow.get_champion", "mlflow.list_versions", "people.choose"}
    offered = [option["name"] for option in asked["people.choose"]["options"]]
    assert offered == ["version_5", "version_4", "version_3", "none_of_them"]

    def chose(name: str) -> Any:
        facts = {
            "title": "t",
            "consequences": "c",
            "decided_by": "ada",
            "by_preference": False,
            "note": "",
            "at": "now",
        }
        return made("people.choose", topic="champion", chosen=name, message="chosen", **facts)

    named = granted("establish_champion", {}, none, listed, chose("version_4"))
    assert named["mlflow.promote_version"] == {"version": 4}
    assert named["mlflow.read_output"]["model_uri"] == "models:/churn/4"
    assert "mlflow.train_model" not in named
    stopped = granted("establish_champion", {}, none, listed, chose("none_of_them"))
    assert stopped.keys() == asked.keys(), "none of them trains nothing"
    retired = [{**version, "retired": "2026-01-02"} for version in versions]
    alone = made("mlflow.list_versions", name="churn", versions=retired, message="4 versions")
    assert "mlflow.train_model" in granted("establish_champion", {}, none, alone)


def test_a_task_of_yaml_alone_has_no_grants() -> None:
    assert load_task("count_versions").grants is None
