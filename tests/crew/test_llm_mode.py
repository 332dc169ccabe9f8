"""LLM mode against a real HTTP server: whatever a model does, the run ends right or its runbook finishes the task."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crew.goal import ModelSettings
from crew.mlops_crew import MlopsCrew, RunOutcome
from evals import reckless
from evals.openai_server import Fault, OpenAIServer, Script
from tests.helpers.tiny_project import make_project
from tools.core.journal import Record, read_journal

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]
TASKS = ["version_data", "check_data"]
Play = Callable[..., tuple[RunOutcome, list[Record], OpenAIServer]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Run a project with a scripted model: `play(script, tasks=...)` -> outcome, journal, server."""
    servers: list[OpenAIServer] = []

    def run(
        script: Callable[[MlopsCrew], Script] | Script, *, competent: bool = False, **options: Any
    ) -> tuple[RunOutcome, list[Record], OpenAIServer]:
        process = options.pop("process", "sequential")
        project = make_project(tmp_path / "project", **options)
        holder: list[MlopsCrew] = []

        def answer(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Any:
            chosen: Any = script(holder[0]) if competent else script  # type: ignore[call-arg,arg-type]
            return chosen(messages, tools)

        server = OpenAIServer(answer)
        server.__enter__()
        servers.append(server)
        for name, value in {
            "MODEL": "scripted",
            "MODEL_BASE_URL": server.url,
            "MODEL_TIMEOUT_S": "3",
            "MODEL_PRICE_IN": "1",
            "MODEL_PRICE_OUT": "10",
            "MLOPS_HOME": str(tmp_path / "home"),
        }.items():
            monkeypatch.setenv(name, value)
        holder.append(MlopsCrew(project=project, process=process))
        outcome = holder[0].run()
        return outcome, list(read_journal(outcome.folder / "journal.jsonl")), server

    yield run
    for server in servers:
        server.__exit__()


def competent(crew: MlopsCrew) -> Script:
    """A model that does exactly what the runbook would, so that only the way differs."""
    from crew.models import RunbookLLM, RunbookManagerLLM

    def script(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Any:
        run = crew._run
        assert run is not None
        delegates = any(tool["function"]["name"] == "delegate_work_to_coworker" for tool in tools)
        answer = (RunbookManagerLLM(run) if delegates else RunbookLLM(run)).call(messages, tools)
        if isinstance(answer, str):
            return f"Here is my answer:\n```json\n{answer}\n```"
        return [(request["function"]["name"], request["function"]["arguments"]) for request in answer]

    return script


def of(records: list[Record], kind: str, **fields: Any) -> list[Record]:
    return [r for r in records if r["kind"] == kind and all(r.get(k) == v for k, v in fields.items())]


def modes(records: list[Record]) -> dict[str, str]:
    return {r["task"]: r["mode"] for r in of(records, "task_finished")}


def once(fault: Callable[[], Any], then: Script) -> Script:
    """Misbehave in the first answer, then behave."""
    done: list[bool] = []

    def script(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Any:
        if not done:
            done.append(True)
            return fault()
        return then(messages, tools)

    return script


def test_a_model_that_works_finishes_every_task_itself_and_its_tokens_are_counted(play: Play) -> None:
    outcome, records, server = play(competent, competent=True, tasks=TASKS)
    assert outcome.outcome == "completed", outcome
    assert modes(records) == {"version_data": "llm", "check_data": "llm"}
    finished = of(records, "task_finished", task="version_data")[0]
    # Three requests: two tool calls and the answer.
    assert finished["tokens"] == {"prompt": 300, "completion": 30}
    assert finished["cost_usd"] == pytest.approx((300 * 1 + 30 * 10) / 1e6)
    assert {r["role"] for r in of(records, "intent") if r["task"]} == {"data_guardian"}
    shown = {t["function"]["name"]: t["function"]["parameters"] for t in server.requests[0]["tools"]}
    assert shown.keys() == {"dvc_stage_data", "dvc_version_data"}  # of this task alone
    assert set(shown["dvc_version_data"]["properties"]) == {"message"}  # what is bound is not asked for


@pytest.mark.parametrize("given, wanted", [("", 8_192), ("100000", 100_000)])
def test_how_much_a_model_reads_at_once_is_settable(given: str, wanted: int) -> None:
    """CrewAI has what is beyond it summarised away, and knows it of public models only."""
    from crewai import LLM

    from crew.models import ReasoningLLM

    nobody: Any = None
    inner = LLM(model="scripted", base_url="http://127.0.0.1:1/v1", api_key="none", custom_openai=True)
    settings = ModelSettings.from_env({"MODEL": "scripted", "MODEL_CONTEXT": given})
    window = ReasoningLLM(nobody, inner, nobody, settings.context_tokens).get_context_window_size()
    assert 0.7 * wanted <= window <= wanted  # CrewAI keeps some of it for the answer


def test_a_hierarchical_run_delegates_through_the_model(play: Play) -> None:
    outcome, records, server = play(competent, competent=True, tasks=TASKS, process="hierarchical")
    assert outcome.outcome == "completed", outcome
    assert modes(records) == {"version_data": "llm", "check_data": "llm"}
    names = {t["function"]["name"] for request in server.requests for t in request.get("tools") or []}
    assert "delegate_work_to_coworker" in names


def error(status: int) -> Callable[[], Any]:
    def fault() -> Any:
        raise Fault(status)

    return fault


@pytest.mark.parametrize("status", [429, 500])
def test_a_passing_http_error_is_waited_out(play: Play, status: int) -> None:
    holder: dict[str, Script] = {}

    def script(crew: MlopsCrew) -> Script:
        return holder.setdefault("script", once(error(status), competent(crew)))

    outcome, records, _ = play(script, competent=True, tasks=TASKS)
    assert outcome.outcome == "completed"
    assert modes(records) == {"version_data": "llm", "check_data": "llm"}
    assert not of(records, "fallback")


def raising(fault: Fault) -> Script:
    def script(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Any:
        raise fault

    return script


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(429), id="429 for ever"),
        pytest.param(Fault(500), id="500 for ever"),
        pytest.param(Fault(401), id="401"),
        pytest.param(Fault(200, body="this is not JSON"), id="body that is not JSON"),
        pytest.param(Fault(200, body="{}"), id="JSON without choices"),
    ],
)
def test_a_provider_that_stays_broken_is_replaced_by_the_runbook(play: Play, fault: Fault) -> None:
    outcome, records, _ = play(raising(fault), tasks=TASKS)
    assert outcome.outcome == "completed", outcome
    assert modes(records) == {"version_data": "runbook", "check_data": "runbook"}
    assert {r["task"] for r in of(records, "fallback")} == {"version_data", "check_data"}
    assert "fallback" in (outcome.folder / "report.json").read_text() and outcome.report is not None


def test_a_provider_that_stalls_is_given_up_after_its_timeout(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, records, _ = play(raising(Fault(stall_s=60)), tasks=["version_data"])
    assert outcome.outcome == "completed"
    assert modes(records) == {"version_data": "runbook"}
    assert "imed out" in of(records, "fallback")[0]["reason"] or "imeout" in of(records, "fallback")[0]["reason"]


@pytest.mark.parametrize(
    "bad_call",
    [
        pytest.param(("dvc_stage_data", '{"reference": "data/refer'), id="arguments that are not JSON"),
        pytest.param(("kubectl_delete", {"what": "everything"}), id="a tool that does not exist"),
        pytest.param(("dvc_stage_data", {"reference": 7, "current": [], "target": "y"}), id="wrong types"),
        pytest.param(("dvc_stage_data", {"refrence": "data/reference.csv", "target": "y"}), id="unknown argument"),
    ],
)
def test_a_wrong_call_is_answered_and_the_model_may_correct_itself(play: Play, bad_call: Any) -> None:
    holder: dict[str, Script] = {}

    def script(crew: MlopsCrew) -> Script:
        return holder.setdefault("script", once(lambda: [bad_call], competent(crew)))

    outcome, records, server = play(script, competent=True, tasks=["version_data"])
    assert outcome.outcome == "completed", outcome
    assert modes(records) == {"version_data": "llm"}
    told = [m for m in server.requests[1]["messages"] if m["role"] == "tool"]
    assert len(told) == 1 and told[0]["content"], "the model was not told what was wrong"


FALSE_CLAIM = {
    "summary": "All good: the AUC is 0.9931.",
    "usable": True,
    "quarantined_rows": 0,
    "critical": [],
    "warnings": 0,
    "slices": {},
    "live_rows": 1800,
}


def test_a_claim_that_no_tool_returned_is_refused_and_the_runbook_finishes(play: Play) -> None:
    holder: dict[str, Script] = {}

    def script(crew: MlopsCrew) -> Script:
        good = competent(crew)

        def lie(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Any:
            run = crew._run
            assert run is not None and run.current is not None
            return json.dumps(FALSE_CLAIM) if run.current.task == "check_data" else good(messages, tools)

        return holder.setdefault("script", lie)

    outcome, records, _ = play(script, competent=True, tasks=TASKS)
    assert outcome.outcome == "completed", outcome
    assert modes(records) == {"version_data": "llm", "check_data": "runbook"}
    refused = of(records, "guardrail", task="check_data", ok=False)
    assert len(refused) == 3
    assert "0.9931" in refused[0]["reason"] and "validate" in refused[0]["reason"]
    assert of(records, "intent", task="check_data", server="great_expectations")


def test_prose_instead_of_the_typed_answer_is_refused(play: Play) -> None:
    outcome, records, _ = play(lambda messages, tools: "I think the data is fine.", tasks=["version_data"])
    assert outcome.outcome == "completed"
    assert modes(records) == {"version_data": "runbook"}
    assert "JSON" in of(records, "guardrail")[0]["reason"]


def test_a_model_that_repeats_one_call_for_ever_is_replaced_by_the_runbook(play: Play) -> None:
    outcome, records, _ = play(lambda messages, tools: [("dvc_list_versions", {})], tasks=["version_data"])
    assert outcome.outcome == "completed"
    assert modes(records) == {"version_data": "runbook"}


def test_a_model_cannot_call_what_its_role_was_not_granted(play: Play) -> None:
    script = once(lambda: [("mlflow_retire_version", {"name": "tiny", "version": 1, "reason": "x"})], lambda m, t: "{}")
    outcome, records, _ = play(script, tasks=["version_data"])
    assert outcome.outcome == "completed"
    assert not of(records, "intent", server="mlflow")


@pytest.mark.parametrize("process", ["sequential", "hierarchical"])
def test_a_model_takes_the_whole_loop_to_a_promotion(play: Play, process: str) -> None:
    outcome, records, _ = play(competent, competent=True, process=process)
    assert outcome.outcome == "promoted", outcome
    assert set(modes(records).values()) == {"llm"}
    assert not of(records, "guardrail") and not of(records, "fallback")
    assert len(of(records, "intent", server="serving", action="promote_canary")) == 1


def test_a_reckless_model_changes_production_only_where_a_task_is_for_that(play: Play) -> None:
    """It calls the riskiest tools it is given and answers nonsense: the runbooks bring the loop to its right end."""
    outcome, records, _ = play(reckless.answer)
    assert outcome.outcome == "promoted", outcome
    assert set(modes(records).values()) == {"runbook"}
    done = {r["call_id"] for r in of(records, "outcome", status="ok")}
    promoted = [r for r in of(records, "intent", server="mlflow", action="promote_version") if r["call_id"] in done]
    assert {r["task"] for r in promoted} == {"establish_champion", "release"}
    assert not of(records, "intent", server="serving", action="stop"), "no task offers it"
    refused = of(records, "intent", decision="deny")
    assert {"canary", "release"} <= {r["task"] for r in refused}
    assert all(
        "does not belong to this task as things stand" in r["rule"] or "is bound to" in r["rule"] for r in refused
    )
    # What the model did rightly was not done again by the runbook that took over.
    began = [f"{r['server']}.{r['action']}" for r in of(records, "intent", task="release") if r["call_id"] in done]
    assert sorted(began) == ["mlflow.promote_version", "serving.promote_canary"]


def test_a_model_that_asks_for_every_step_at_once_is_held_to_their_order(play: Play) -> None:
    """CrewAI makes the calls of one answer side by side; each is held against what was done before it all the same."""
    steps = ["serving_deploy_model", "serving_start_canary", "serving_set_traffic", "serving_send_traffic"]

    def script(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Any:
        offered = {tool["function"]["name"] for tool in tools}
        if not set(steps) <= offered or any(message.get("tool_calls") for message in messages):
            return "Done."
        return [(name, {}) for name in (*steps, "judge_judge_canary") for _ in range(3)]

    outcome, records, _ = play(script)
    assert outcome.outcome == "promoted", outcome
    done = {r["call_id"] for r in of(records, "outcome", status="ok")}
    made = [r for r in of(records, "intent", task="canary") if r["call_id"] in done and r["server"] == "serving"]
    sent = [r["arguments"]["start"] for r in made if r["action"] == "send_traffic"]
    assert sent == sorted(set(sent)) and sent[0] == 0, "no row is evidence twice"
    last_setup = max(place for place, r in enumerate(made) if r["action"] in ("deploy_model", "start_canary"))
    first_sent = next(place for place, r in enumerate(made) if r["action"] == "send_traffic")
    assert last_setup < first_sent, "what was judged is one canary"


def test_a_model_that_keeps_making_refused_calls_is_out_after_a_hundred(play: Play) -> None:
    def script(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Any:
        return [("dvc_version_data", {"paths": ["/etc/passwd"]})] * 30

    outcome, records, server = play(script, tasks=TASKS)
    assert outcome.outcome == "completed", outcome
    reasons = [r["reason"] for r in of(records, "fallback")]
    assert len(reasons) == 2 and all(reason.startswith("100 of its calls were refused") for reason in reasons), reasons
    asked = [request for request in server.requests if request.get("tools")]  # the others want a summary
    assert len(asked) == 8, "four requests of 30 calls in each task"
    # The last twenty were asked for by the model: the runbook takes none of them for its own.
    refused = of(records, "intent", task="version_data", decision="invalid")
    assert len(refused) + len(of(records, "intent", task="version_data", decision="deny")) == 120


NEW_ROLE = {
    "role": "Librarian",
    "goal": "Know which data versions there are.",
    "backstory": "You count what others store.",
    "integrations": [{"dvc": ["list_versions"]}],
}
NEW_TASK = {
    "agent": "librarian",
    "description": "Count the data versions of {name}.",
    "expected_output": "How many there are.",
    "when": ["check_data.usable"],
}


def test_a_role_and_a_task_added_in_yaml_alone_take_part(play: Play) -> None:
    holder: dict[str, Script] = {}

    def script(crew: MlopsCrew) -> Script:
        good = competent(crew)

        def answer(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Any:
            run = crew._run
            assert run is not None and run.current is not None
            if run.current.task != "count_versions":
                return good(messages, tools)
            assert [t["function"]["name"] for t in tools] == ["dvc_list_versions"]
            if messages[-1]["role"] != "tool":
                return [("dvc_list_versions", {})]
            return json.dumps({"summary": "There is 1 version.", "decision": True})

        return holder.setdefault("script", answer)

    outcome, records, _ = play(
        script,
        competent=True,
        tasks=[*TASKS, "count_versions"],
        agents_yaml={"librarian": NEW_ROLE},
        tasks_yaml={"count_versions": NEW_TASK},
    )
    assert outcome.outcome == "completed", outcome
    assert modes(records)["count_versions"] == "llm"
    assert of(records, "intent", server="dvc", action="list_versions", role="librarian")


def test_a_task_without_a_runbook_says_that_it_needs_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODEL", raising=False)
    project = make_project(
        tmp_path / "project",
        tasks=["count_versions"],
        agents_yaml={"librarian": NEW_ROLE},
        tasks_yaml={"count_versions": {**NEW_TASK, "when": []}},
    )
    outcome = MlopsCrew(project=project).run()
    assert outcome.outcome == "failed"
    assert "count_versions" in outcome.summary and "set MODEL" in outcome.summary
