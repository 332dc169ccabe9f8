"""Trade-offs in a run: who decides, that nothing happens without an answer, and that the record says who and why.

The search is replaced by its file: which trials there are is its business, what becomes of them is tried here.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import canary, choose_tradeoff, release, settle_canary, train_challenger, tune
from tests.crew.test_loop import Played
from tests.helpers.tiny_project import make_project
from tools.core.approval import Approval, ApprovalStore
from tools.core.contract import CallContext
from tools.core.policy import Level
from tools.integrations.optuna.backend import OptunaBackend
from tools.modeling.models import complete_config
from tools.modeling.search import SearchResult
from tools.modeling.trials import Trial, Trials, write_trials
from tools.session import open_gateway

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
TO_TRAINING = [
    "version_data", "check_data", "establish_champion", "detect_drift", "foresee", "assess_champion",
    "synthesize",
    "search_architecture", "choose_tradeoff", "tune", "train_challenger", "close_loop",
]  # fmt: skip
GOOD = complete_config({"family": "random_forest"}, "binary")
FAST = complete_config({"family": "linear"}, "binary")
WEIGHED = {"objectives": ["quality", "latency"], "budget": {"search_trials": 2, "tuning_trials": 1}}


def searched(_self: OptunaBackend, args: Any, ctx: CallContext) -> SearchResult:
    """What a search returns that found a good model, and a fast one."""
    trials = [
        Trial(number=0, value=0.80, config=dict(FAST), latency_ms=1.0, size_bytes=2e3),
        Trial(number=1, value=0.90, config=dict(GOOD), latency_ms=40.0, size_bytes=2e6),
    ]
    path = write_trials(
        Trials(study="s", metric="roc_auc", direction="maximize", trials=trials, best=1),
        ctx.workspace / "trials-s.json",
    )
    return SearchResult(
        study="s", metric="roc_auc", direction="maximize", best_value=0.9, best_config=dict(GOOD), start_value=0.8,
        completed=2, failed=0, stopped_by="trials", trials_path=ctx.show(path), message="Best roc_auc 0.9.",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A project whose search finds no model that is best in everything, and whose loop ends before production."""

    def make(*, timeout_s: float = 60, **goal: Any) -> Path:
        monkeypatch.setattr(OptunaBackend, "search", searched)
        options = {"tasks": TO_TRAINING, **WEIGHED, **goal}
        made = make_project(tmp_path / "p", mlflow_database=mlflow_database, **options)
        answer_within(made, timeout_s)
        return made

    return make


def answer_within(project: Path, seconds: float) -> None:
    path = project / "config" / "policy.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "approval_timeout_s": seconds}))


@contextmanager
def person(project: Path, answer: Callable[[ApprovalStore, Approval], Any]) -> Iterator[list[Approval]]:
    """Somebody at another terminal, who answers the questions to choose and approves the calls."""
    store, over, seen = ApprovalStore(project / ".mlops" / "approvals"), threading.Event(), list[Approval]()

    def watch() -> None:
        while not over.is_set():
            for waiting in store.pending():
                if waiting.asks:
                    seen.append(waiting)
                    answer(store, waiting)
                else:
                    store.decide(waiting.id, "approved", by="ada")
            time.sleep(0.05)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def choosing(option: str) -> Callable[[ApprovalStore, Approval], Any]:
    return lambda store, waiting: store.choose(waiting.id, option, by="ada", note="the shop is slow")


def report_of(played: Played) -> tuple[str, dict[str, Any]]:
    assert played.outcome.report is not None
    html = played.outcome.report.read_text(encoding="utf-8")
    return html, json.loads((played.outcome.folder / "report.json").read_text(encoding="utf-8"))


def trained_configs(played: Played) -> list[Any]:
    return [r["arguments"].get("config") for r in played.of("intent", server="mlflow", action="train_model")]


def test_an_autonomous_run_takes_what_the_goal_prefers_and_says_why(project: Callable[..., Path]) -> None:
    played = Played(project(preference="latency"), autonomy=Level.AUTONOMOUS)
    chosen = played.result("choose_tradeoff", choose_tradeoff.Result)
    assert (chosen.option, chosen.config, chosen.open) == ("latency", FAST, False)
    assert "the goal's stated preference: the goal prefers latency" in chosen.summary
    assert not played.of("approval_requested")
    assert played.of("intent", action="choose")[0]["decision"] == "allow"
    tuned = played.of("intent", action="tune")[0]["arguments"]["config"]
    assert json.loads(tuned) == FAST
    assert played.result("tune", tune.Result).config["family"] == "linear"
    assert played.result("train_challenger", train_challenger.Result)
    html, facts = report_of(played)
    (choice,) = facts["choices"]
    assert (choice["chosen"], choice["decided_by"]) == ("latency", "the goal's stated preference")
    assert choice["columns"] == ["roc_auc", "latency_ms", "size_mib"]
    assert "10 points less roc_auc (0.8 instead of 0.9), 40 times faster" in html
    assert "roc_auc against latency, ms per prediction. latency: 0.8 at 1; quality: 0.9 at 40." in html
    assert (played.outcome.folder / choice["plot"]).read_text().startswith("<svg")
    assert [d["by"] for d in facts["decisions"] if d["what"] == choice["question"]] == ["the goal's stated preference"]


def test_supervised_a_person_chooses_whatever_the_goal_prefers(project: Callable[..., Path]) -> None:
    made = project(preference="latency")
    with person(made, choosing("quality")) as seen:
        played = Played(made, autonomy=Level.SUPERVISED)
    chosen = played.result("choose_tradeoff", choose_tradeoff.Result)
    assert (chosen.option, chosen.config) == ("quality", GOOD)
    assert (chosen.decided_by, chosen.note) == ("ada", "the shop is slow")
    (asked,) = seen
    assert [option.name for option in asked.options] == ["quality", "latency"]
    assert asked.arguments["plot"].endswith(".svg")
    html, facts = report_of(played)
    assert facts["choices"][0]["decided_by"] == "ada" and facts["choices"][0]["note"] == "the shop is slow"
    assert "the shop is slow" in html


def test_nobody_answers_so_nothing_is_trained_and_the_run_says_what_to_do(project: Callable[..., Path]) -> None:
    made = project(timeout_s=0.3)
    played = Played(made, autonomy=Level.AUTONOMOUS)
    assert (played.outcome.outcome, played.outcome.exit_code) == ("undecided", 4)
    summary = played.outcome.summary
    assert summary.startswith("Version 1 stays the champion.")
    assert "the goal states no preference" in summary and "nobody answered" in summary
    assert "State `preference` in the goal (quality, latency, balanced), or run again" in summary
    skipped = {r["task"]: r["reason"] for r in played.of("task_skipped")}
    assert skipped["tune"] == skipped["train_challenger"] == "choose_tradeoff found open to be true"
    assert trained_configs(played) == [{}]  # the baseline alone
    html, facts = report_of(played)
    assert facts["verdict"]["headline"].startswith("Undecided")
    assert facts["choices"][0]["chosen"] == "" and "nobody chose" in html
    with open_gateway(made) as gateway:
        champion = gateway.call("mlflow", {"action": "get_champion", "name": "tiny"})
    assert champion.data is not None and champion.data["version"] == 1


def test_a_person_who_takes_none_of_the_options_leaves_the_champion(project: Callable[..., Path]) -> None:
    made = project(preference="latency")
    with person(made, lambda store, waiting: store.decide(waiting.id, "rejected", by="ada", note="ask me in May")):
        played = Played(made, autonomy=Level.SUPERVISED)
    assert played.outcome.outcome == "undecided"
    assert "rejected by ada: ask me in May" in played.outcome.summary


def test_with_one_objective_nothing_is_asked(project: Callable[..., Path]) -> None:
    made = project(objectives=["quality"])
    with person(made, choosing("quality")) as seen:
        played = Played(made, autonomy=Level.SUPERVISED)
    assert seen == [] and "people.choose" not in played.calls()
    assert "choose_tradeoff" not in played.outcome.results
    assert {r["task"]: r["reason"] for r in played.of("task_skipped")}[
        "choose_tradeoff"
    ] == "the goal names one objective"
    assert played.result("tune", tune.Result).config["family"] == "random_forest"
    assert report_of(played)[1]["choices"] == []


CANARY = {"batch_requests": 20, "max_requests": 20, "percent": 20}  # too few requests to be sure of anything


def test_at_the_deadline_an_autonomous_run_does_what_the_goal_states(project: Callable[..., Path]) -> None:
    canaried = {"tasks": None, "objectives": ["quality"], "canary": {**CANARY, "at_deadline": "promote"}}
    played = Played(project(**canaried), autonomy=Level.AUTONOMOUS)
    assert played.result("canary", canary.Result).undecided
    settled = played.result("settle_canary", settle_canary.Result)
    assert (settled.choice, settled.open) == ("promote", False)
    assert played.outcome.outcome == "promoted", played.outcome.summary
    assert "Chosen by the goal's stated preference: the goal prefers promote" in played.outcome.summary
    assert {"serving.promote_canary", "mlflow.promote_version"} <= set(played.calls())
    (reason,) = [
        r["arguments"]["reason"] for r in played.of("intent", action="promote_version") if r["task"] == "release"
    ]
    assert "the goal prefers promote" in reason


def test_at_the_deadline_nobody_answers_so_the_champion_stays(project: Callable[..., Path]) -> None:
    canaried = {"tasks": None, "objectives": ["quality"], "canary": {**CANARY, "at_deadline": None}}
    made = project(timeout_s=0.3, **canaried)
    played = Played(made, autonomy=Level.AUTONOMOUS)
    settled = played.result("settle_canary", settle_canary.Result)
    assert (settled.choice, settled.open) == ("keep_champion", True)
    assert (played.outcome.outcome, played.outcome.exit_code) == ("inconclusive", 0)
    assert "State `canary.at_deadline` in the goal (keep_champion, promote)" in played.outcome.summary
    assert played.result("release", release.Result).champion_version == 1
    assert "serving.promote_canary" not in played.calls()
    state = json.loads((played.home / "serving" / "state.json").read_text())
    assert state["champion"]["version"] == "1"
    (choice,) = report_of(played)[1]["choices"]
    assert [option["name"] for option in choice["options"]] == ["keep_champion", "promote"]
