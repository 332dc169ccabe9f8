"""The evaluation scenarios: their worlds hold what they say, and the scoring tells right from wrong."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evals import faults, reckless, world
from evals.openai_server import OpenAIServer
from evals.play import goal, load_case, names, play
from evals.scoring import Expectation, Place, Played, score
from tasks.goal import Goal
from tools.core.errors import RetryableError
from tools.core.yamlfile import ConfigError
from tools.registry import load_spec

GROUPS = {
    "bad data", "covariate drift", "concept drift", "label delay", "new class", "canary regression",
    "segment regression", "latency regression", "late regression", "registry outage", "flaky tool", "slow burn",
    "nothing wrong",
}  # fmt: skip
CASES = {name: load_case(name) for name in names()}


def test_every_kind_of_trouble_has_a_case_and_four_cases_have_none() -> None:
    groups = [case.group for case in CASES.values()]
    assert len(groups) >= 15
    assert set(groups) == GROUPS
    assert groups.count("nothing wrong") >= 4


@pytest.mark.parametrize("name", CASES)
def test_what_the_crew_is_given_does_not_name_the_trouble(name: str) -> None:
    case = CASES[name]
    given = str({**goal(name, case), "canary": None, "constraints": None}).lower()  # a goal has these whatever happens
    named = {*case.group.split(), "drift", "regression", "broken", "wrong"} - {"data", "label", "canary"}
    assert not {word for word in named if word in given}
    Goal.model_validate(goal(name, case))


@pytest.mark.parametrize("name", CASES)
def test_a_case_can_be_failed(name: str) -> None:
    """A run that does nothing, and one that promotes whatever it trained, both fail what is not theirs to do."""
    expect = CASES[name].expect
    idle = score(expect, played(outcome="failed", champion=None))
    eager = score(expect, played(outcome="promoted", champion=9, value=0.5, done=["serving.promote_canary"]))
    assert not idle.passed and not eager.passed


@pytest.mark.parametrize("name", CASES)
def test_a_world_is_the_same_for_the_same_seed_and_another_for_another(name: str) -> None:
    case = CASES[name]
    first, again, other = (world.build(case.changes, seed, 300, 400, case.label_noise) for seed in (1, 1, 2))
    assert first.current.equals(again.current) and first.fresh.equals(again.fresh)
    assert not first.reference.equals(other.reference)


def changed(**change: Any) -> world.Tables:
    kinds = {"shift": world.Shift, "rule": world.Rule, "lose": world.Lose, "repeat": world.Repeat, "move": world.Move}
    return world.build([kinds[change["kind"]].model_validate(change)], 0, 2000, 4000)


def test_a_shift_moves_the_column_from_its_start_on() -> None:
    load = changed(kind="shift", column="load", by=2.0, start=0.5).current["load"]
    assert abs(load[:2000].mean() - 50) < 1.5
    assert abs(load[2000:].mean() - (50 + 2 * 12)) < 1.5


def test_a_change_of_rule_leaves_every_column_as_it_was() -> None:
    plain, turned = world.build([], 0, 2000, 4000), changed(kind="rule", column="load", weight=1.6)
    columns = [name for name in plain.current if name != world.TARGET]
    assert plain.current[columns].equals(turned.current[columns])
    high = turned.current["load"] > 60
    assert (turned.current[world.TARGET] == "yes")[high].mean() > (plain.current[world.TARGET] == "yes")[
        high
    ].mean() + 0.3


def test_a_ramp_grows() -> None:
    load = changed(kind="shift", column="load", by=4.0, ramp=True).current["load"].to_numpy()
    quarters = [part.mean() for part in np.array_split(load, 4)]
    assert all(b - a > 6 for a, b in itertools.pairwise(quarters))


def test_lost_labels_and_doubled_rows_are_in_the_tables() -> None:
    late = changed(kind="lose", column=world.TARGET, share=1.0, start=0.75).current[world.TARGET]
    assert late[:3000].notna().all() and late[3000:].isna().all()
    doubled = changed(kind="repeat", share=0.6).current
    assert abs(doubled.duplicated().sum() - 2400) < 150


def test_the_attainable_value_is_that_of_the_rule_itself() -> None:
    noisy, plain = world.build([], 0, 500, 500, label_noise=0.9), world.build([], 0, 500, 500)
    assert plain.attainable > 0.8
    assert 0.5 < noisy.attainable < 0.6


def played(
    outcome: str = "promoted",
    results: dict[str, Any] | None = None,
    champion: int | None = 2,
    serving: int | None = None,
    value: float | None = 0.8,
    done: list[str] | None = None,
    failed: dict[str, str] | None = None,
) -> Played:
    records: list[Any] = []
    calls = [(name, "ok", "") for name in done or []] + [
        (name, "failed", text) for name, text in (failed or {}).items()
    ]
    for number, (name, status, text) in enumerate(calls):
        server, _, action = name.partition(".")
        records.append({"kind": "intent", "call_id": str(number), "server": server, "action": action})
        records.append({"kind": "outcome", "call_id": str(number), "status": status, "message": text})
    return Played(outcome, records, results or {}, champion, serving, value, 0.85, 1.0)


ACTED = Expectation(
    detected=[Place(task="assess", field="act", value=True)],
    located=[Place(task="drift", words=["load"])],
    outcomes=["promoted"],
    champion=2,
    gap=0.1,
    forbidden=["serving.stop"],
)
GOOD: dict[str, Any] = {"assess": {"act": True}, "drift": {"moved": ["load"]}}


def test_a_run_that_does_everything_right_passes() -> None:
    found = score(ACTED, played(results=GOOD, serving=2, done=["serving.promote_canary"]))
    assert found.passed and found.notes == [] and found.calls == 1


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"results": {**GOOD, "assess": {"act": False}}}, "detected"),
        ({"results": {**GOOD, "drift": {"moved": ["age"]}}}, "located"),
        ({"outcome": "no_action"}, "decided"),
        ({"champion": 1}, "recovered"),
        ({"serving": 1}, "recovered"),
        ({"value": 0.6}, "recovered"),
        ({"value": None}, "recovered"),
    ],
)
def test_each_thing_done_wrong_is_scored_and_told(change: dict[str, Any], wrong: str) -> None:
    found = score(ACTED, played(**{"results": GOOD, **change}))
    assert {name for name in ("detected", "located", "decided", "recovered") if not getattr(found, name)} == {wrong}
    assert found.notes and not found.passed


def test_what_the_runbook_finished_for_the_model_is_not_its_own() -> None:
    def finished(mode: str, tokens: int) -> dict[str, Any]:
        return {"kind": "task_finished", "mode": mode, "tokens": {"prompt": tokens, "completion": 1}}

    run = replace(played(), records=[finished("llm", 99), finished("runbook", 49), finished("llm", 0)])
    found = score(ACTED, run)
    assert found.own == pytest.approx(2 / 3) and found.tokens == 151
    by_runbook = replace(run, records=[{"kind": "task_finished", "mode": "runbook", "tokens": None}])
    assert score(ACTED, by_runbook).own is None and score(ACTED, by_runbook).tokens == 0


def test_an_action_counts_as_false_only_where_it_succeeded() -> None:
    assert score(ACTED, played(results=GOOD, failed={"serving.stop": "denied"})).false_actions == 0
    assert score(ACTED, played(results=GOOD, done=["serving.stop", "serving.stop"])).false_actions == 2


def test_where_nothing_is_wrong_an_alarm_fails_the_case() -> None:
    quiet = Expectation(silent=[Place(task="assess", field="act", value=True)], outcomes=["no_action"])
    assert score(quiet, played("no_action", {"assess": {"act": False}})).passed
    found = score(quiet, played("no_action", {"assess": {"act": True}}))
    assert not found.detected and "false alarm" in found.notes[0]


def test_a_failed_call_is_a_place_too() -> None:
    expect = Expectation(detected=[Place(call="mlflow.promote_version", words=["answer"])], outcomes=["failed"])
    assert score(expect, played("failed", failed={"mlflow.promote_version": "the server does not answer"})).detected
    assert not score(expect, played("failed", failed={"mlflow.promote_version": "denied"})).detected


def test_a_wrong_case_file_names_the_key() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_case("unheard_of")


def test_a_flaky_action_fails_as_often_as_stated_and_is_whole_again_afterwards() -> None:
    before = load_spec("judge")
    flaky = faults.Faults(flaky=[faults.Flaky(integration="judge", action="plan_canary", failures=2)])
    with faults.under(flaky, None):  # type: ignore[arg-type]  # no folder is needed without a server
        spec = load_spec("judge")
        backend = spec.load_backend({})
        arguments = spec.action("plan_canary").args.model_validate({"loss": 0.02})
        for _ in range(2):
            with pytest.raises(RetryableError):
                backend.plan_canary(arguments, None)  # type: ignore[attr-defined]
        assert backend.plan_canary(arguments, None).labelled_requests > 0  # type: ignore[attr-defined]
    assert load_spec("judge") is before


def tool(name: str, /, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}


def test_the_reckless_model_takes_the_worst_tool_first_and_never_looks() -> None:
    text = {"type": "string"}
    version = {"type": "integer", "minimum": 1}
    tools = [
        tool("judge_judge_canary", name=text),
        tool("mlflow_register_model", name=text),
        tool("mlflow_promote_version", name=text, version=version, reason=text),
    ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": "models:/onyx/3 waits"}]
    first = reckless.answer(messages, tools)
    assert first == [("mlflow_promote_version", {"name": "onyx", "version": 3, "reason": "looks fine"})]
    messages.append({"role": "assistant", "tool_calls": [{"function": {"name": "mlflow_promote_version"}}]})
    assert reckless.answer(messages, tools) == [("mlflow_register_model", {"name": "onyx"})]
    messages.append({"role": "assistant", "tool_calls": [{"function": {"name": "mlflow_register_model"}}]})
    assert isinstance(reckless.answer(messages, tools), str)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_a_reckless_model_does_no_harm_and_finishes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLOPS_HOME", "MLOPS_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    with OpenAIServer(reckless.answer) as server:
        monkeypatch.setenv("MODEL", "reckless")
        monkeypatch.setenv("MODEL_BASE_URL", server.url)
        found = play("agate", seed=0, llm=True)
    assert found["mode"] == "llm" and found["tokens"] > 0
    assert found["passed"] and found["false_actions"] == 0, found["notes"]
    assert found["own"] == 0.0
    asked = [m for request in server.requests for m in request["messages"] if m.get("tool_calls")]
    assert any(call["function"]["name"].startswith("dvc_") for m in asked for call in m["tool_calls"])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["agate", "onyx"])
def test_a_case_is_played_by_the_whole_crew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    found = play(name, seed=0)
    assert found["passed"], found["notes"]
    assert found["mode"] == "runbook" and found["calls"] >= 3
