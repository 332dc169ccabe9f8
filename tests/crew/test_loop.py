"""The whole loop on real libraries and real HTTP: every way it may end, in both processes."""

import functools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crew.mlops_crew import MlopsCrew, RunOutcome
from tasks import canary, close_loop, release, tune, watch_production
from tests.helpers.tiny_project import make_project
from tools.core.approval import ApprovalStore
from tools.core.journal import Record, read_journal
from tools.core.policy import Level
from tools.session import open_gateway

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]


class Played:
    """A finished run with its journal."""

    def __init__(self, project: Path, **options: Any) -> None:
        self.project = project
        self.home = project / ".mlops"
        self.outcome: RunOutcome = MlopsCrew(project=project, **options).run()
        self.records: list[Record] = list(read_journal(self.outcome.folder / "journal.jsonl"))

    def of(self, kind: str, **fields: Any) -> list[Record]:
        return [r for r in self.records if r["kind"] == kind and all(r.get(k) == v for k, v in fields.items())]

    def calls(self) -> list[str]:
        """Of the tasks; a run begins by reading what production is."""
        return [f"{r['server']}.{r['action']}" for r in self.of("intent") if r["task"]]

    def data(self, server: str, action: str) -> list[dict[str, Any]]:
        ids = {r["call_id"] for r in self.of("intent", server=server, action=action)}
        return [r["data"] for r in self.of("outcome", status="ok") if r["call_id"] in ids]

    def result(self, task: str, kind: type[Any]) -> Any:
        found = self.outcome.results[task]
        assert isinstance(found, kind)
        return found


@pytest.fixture(scope="module", autouse=True)
def no_model() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def tiny(mlflow_database: Path) -> Callable[..., Path]:
    """`make_project` with an MLflow store that is made already."""
    return functools.partial(make_project, mlflow_database=mlflow_database)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Path]) -> Played:
    return Played(tiny(tmp_path_factory.mktemp("promoted") / "p"), seed=3)


def test_a_drifted_model_is_replaced_by_a_judged_challenger(promoted: Played) -> None:
    assert promoted.outcome.outcome == "promoted", promoted.outcome.summary
    assert promoted.outcome.exit_code == 0
    assert promoted.result("canary", canary.Result).verdict == "promote"
    closed = promoted.result("close_loop", close_loop.Result)
    assert (closed.champion_version, closed.retired_version) == (2, 1)
    calls = promoted.calls()
    expected = [
        "dvc.version_data",
        "great_expectations.validate",
        "evidently.detect_drift",
        "judge.decide_retraining",
        "optuna.search",
        "mlflow.log_trials",
        "wandb.log_trials",
        "hyperopt.tune",
        "serving.start_canary",
        "serving.send_traffic",
        "judge.judge_canary",
        "serving.promote_canary",
        "prometheus.watch",
        "mlflow.register_model",
        "mlflow.retire_version",
    ]
    positions = [calls.index(name) for name in expected[:10]]
    assert positions == sorted(positions)
    assert set(expected) <= set(calls)
    assert "synthetic.generate_rows" not in calls


def test_every_effect_has_its_intent_before_it_in_the_journal(promoted: Played) -> None:
    intents = {r["call_id"]: r["seq"] for r in promoted.of("intent")}
    outcomes = {r["call_id"]: r["seq"] for r in promoted.of("outcome")}
    assert intents.keys() == outcomes.keys()
    assert all(intents[call] < outcomes[call] for call in intents)
    assert [r["seq"] for r in promoted.records] == list(range(len(promoted.records)))


def test_the_canary_gets_real_requests_and_its_stated_share(promoted: Played) -> None:
    started = promoted.data("serving", "start_canary")[0]
    assert started["canary_percent"] == 20
    traffic = promoted.data("serving", "send_traffic")[0]
    assert traffic["requests"] == 180 and traffic["failed_requests"] == 0
    assert 0 < traffic["challenger"]["served"] < traffic["champion"]["served"]
    assert traffic["challenger"]["scored"] == 180, "shadow scoring must cover every request"


def test_the_next_run_on_the_same_data_finds_nothing_to_do(promoted: Played) -> None:
    again = Played(promoted.project, seed=3)
    assert again.outcome.outcome == "no_action", again.outcome.summary
    assert again.data("mlflow", "get_champion")[0]["version"] == 2


def test_no_process_is_left_and_the_registry_keeps_the_history(promoted: Played) -> None:
    assert not _processes_of(promoted.home)
    with open_gateway(promoted.project) as gateway:
        history = gateway.call("mlflow", {"action": "production_history", "name": "tiny"})
    assert history.data is not None
    assert [period["version"] for period in history.data["periods"]] == [2, 1]


def test_the_report_tells_the_same_as_the_journal(promoted: Played) -> None:
    assert promoted.outcome.report is not None
    html = promoted.outcome.report.read_text(encoding="utf-8")
    assert "promote" in html.lower()
    searched = promoted.data("optuna", "search")[0]
    assert f"which no trial saw: {searched['nested_value']:.4g}" in " ".join(html.split())
    content = json.loads((promoted.outcome.folder / "report.json").read_text(encoding="utf-8"))
    assert content["run"]["outcome"] == "promoted"


DECIDED = ("assess_champion", "search_architecture", "tune", "train_challenger", "canary", "release")
# Ids and paths of a run, hashes of files that hold those, and sentences that may name them.
NOT_DECISIONS = {
    "model_uri", "evidence_path", "trials_path", "champion_scores", "challenger_scores", "summary",
    "challenger_digest", "evidence_digest",
}  # fmt: skip


# The newest rows are as before, so training again would not pay; but the goal's minimum is missed, and that decides.
BREACHED = {"max_latency_ms": 2000, "min_metric": 0.6}


def decisions(played: Played) -> dict[str, Any]:
    return {task: played.outcome.results[task].model_dump(exclude=NOT_DECISIONS | {"reasons"}) for task in DECIDED}


def test_a_hierarchical_run_with_the_same_seed_repeats_every_decision(
    promoted: Played, tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Path]
) -> None:
    again = Played(tiny(tmp_path_factory.mktemp("hierarchical") / "p"), seed=3, process="hierarchical")
    assert again.outcome.outcome == "promoted", again.outcome.summary
    assert decisions(again) == decisions(promoted)
    assert again.calls() == promoted.calls()


def test_without_drift_the_crew_says_so_and_does_nothing_else(tmp_path: Path, tiny: Callable[..., Path]) -> None:
    played = Played(tiny(tmp_path / "p", story="same"))
    assert played.outcome.outcome == "no_action", played.outcome.summary
    assert played.outcome.exit_code == 0
    done = set(played.calls())
    assert not {name for name in done if name.startswith(("optuna", "hyperopt", "serving", "wandb"))}
    assert {r["task"] for r in played.of("task_skipped")} >= {"search_architecture", "canary", "release", "close_loop"}


def test_a_challenger_that_is_not_better_leaves_the_champion(tmp_path: Path, tiny: Callable[..., Path]) -> None:
    played = Played(tiny(tmp_path / "p", story="noise"))
    assert played.outcome.outcome == "champion_kept", played.outcome.summary
    assert not {name for name in played.calls() if name.startswith("serving")}
    assert played.result("close_loop", close_loop.Result).champion_version == 1


def test_a_challenger_that_fails_on_live_traffic_is_rolled_back(tmp_path: Path, tiny: Callable[..., Path]) -> None:
    played = Played(tiny(tmp_path / "p", story="returning", constraints=BREACHED))
    assert played.outcome.outcome == "rolled_back", played.outcome.summary
    assert played.result("canary", canary.Result).verdict == "rollback"
    assert played.result("release", release.Result).promoted is False
    closed = played.result("close_loop", close_loop.Result)
    assert (closed.champion_version, closed.retired_version) == (1, 2)
    state = json.loads((played.home / "serving" / "state.json").read_text())
    assert state["champion"]["version"] == "1"


DELAYED = {"batch_requests": 90, "percent": 20, "label_delay_requests": 180}


def test_labels_that_come_late_delay_the_promotion_until_they_are_mature(
    tmp_path: Path, tiny: Callable[..., Path]
) -> None:
    played = Played(tiny(tmp_path / "p", canary=DELAYED), seed=3)
    assert played.outcome.outcome == "promoted", played.outcome.summary
    judged = played.data("judge", "judge_canary")
    assert [j["labelled"] for j in judged[:3]] == [0, 0, 90], "labels are known 180 requests later"
    assert all(j["verdict"] == "wait" for j in judged[:-1])
    assert judged[-1]["requests"] - judged[-1]["labelled"] == 180
    assert judged[-1]["labelled"] >= 100 and judged[-1]["label_share"] == 1.0
    assert any("labels:" in reason for reason in judged[-1]["reasons"])
    assert played.result("watch_production", watch_production.Result).probation in ("open", "confirmed")
    assert "serving.end_probation" in played.calls()


def test_a_harmful_challenger_whose_labels_come_after_its_promotion_is_restored_in_probation(
    tmp_path: Path, tiny: Callable[..., Path]
) -> None:
    late = {"batch_requests": 100, "percent": 20, "label_delay_requests": 90, "probation_requests": 270}
    played = Played(tiny(tmp_path / "p", story="relapsing", canary=late, constraints=BREACHED), seed=3)
    assert played.outcome.outcome == "rolled_back", played.outcome.summary
    assert played.result("canary", canary.Result).verdict == "promote"
    watched = played.result("watch_production", watch_production.Result)
    assert (watched.healthy, watched.probation) == (False, "restore")
    calls = played.calls()
    assert calls.index("serving.promote_canary") < calls.index("judge.judge_probation")
    back = len(calls) - 1 - calls[::-1].index("serving.deploy_model")
    assert back < calls.index("mlflow.retire_version"), "the champion is back before the loser is retired"
    restored = played.data("serving", "deploy_model")[-1]
    assert restored["champion_version"] == "1"
    closed = played.result("close_loop", close_loop.Result)
    assert (closed.champion_version, closed.retired_version) == (1, 2)
    assert "harm is proven" in watched.summary


def test_synthetic_rows_are_made_when_the_goal_asks_for_them(tmp_path: Path, tiny: Callable[..., Path]) -> None:
    played = Played(tiny(tmp_path / "p", synthetic={"rows": 200}, canary={"max_requests": 20, "percent": 20}))
    assert played.data("synthetic", "generate_rows")[0]["rows"] == 200
    trained = [r["arguments"]["train"] for r in played.of("intent", server="mlflow", action="train_model")]
    assert any("synthetic" in path for path in trained[-1]), trained


OWN_TRAINER = """
import mlflow
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def train(train_data, target, task, metric, seed, drop, params):
    frame = pd.concat([pd.read_parquet(path) for path in train_data[-1:]]).drop(columns=drop)
    features, labels = frame.drop(columns=target), frame[target]
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["c"]), remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression(C=params.get("C", 1.0)))
    with mlflow.start_run():
        mlflow.log_metric(metric, cross_val_score(model, features, labels, scoring=metric).mean())
        mlflow.sklearn.log_model(model.fit(features, labels), name="model", serialization_format="cloudpickle")
"""


def test_the_goals_own_trainer_is_searched_trained_and_promoted(tmp_path: Path) -> None:
    space = {"C": {"type": "float", "low": 0.01, "high": 10.0, "log": True}}
    project = make_project(
        tmp_path / "p",
        train={"trainer": "own_trainer:train", "space": space},
        budget={"search_trials": 2, "tuning_trials": 1},
    )
    (project / "own_trainer.py").write_text(OWN_TRAINER)
    played = Played(project)
    assert played.outcome.outcome == "promoted", played.outcome.summary
    calls = played.calls()
    assert calls.count("optuna.ask") == calls.count("optuna.tell") == 2
    assert calls.count("mlflow.train_model") == 4  # a baseline, two trials, the challenger
    best = played.data("optuna", "best_trial")[0]["params"]
    assert played.of("intent", action="train_model")[-1]["arguments"]["config"] == best


def test_supervised_asks_a_person_and_a_refusal_leaves_production_as_it_was(
    tmp_path: Path, tiny: Callable[..., Path]
) -> None:
    """Everything risky is approved but the promotion, which is rejected with a reason."""
    project = tiny(tmp_path / "p")
    store = ApprovalStore(project / ".mlops" / "approvals")
    over = threading.Event()

    def person() -> None:
        while not over.is_set():
            for waiting in store.pending():
                if waiting.action == "promote_canary":
                    store.decide(waiting.id, "rejected", by="ada", note="not on a Friday")
                else:
                    store.decide(waiting.id, "approved", by="ada")
            time.sleep(0.05)

    thread = threading.Thread(target=person)
    thread.start()
    try:
        played = Played(project, autonomy=Level.SUPERVISED)
    finally:
        over.set()
        thread.join()
    assert played.outcome.outcome == "failed"
    assert "not on a Friday" in played.outcome.summary
    asked = [r["approval"]["action"] for r in played.of("approval_requested")]
    assert asked[:3] == ["promote_version", "deploy_model", "start_canary"]
    assert {r["state"] for r in played.of("approval_decided")} == {"approved", "rejected"}
    assert "serving.rollback_canary" in played.calls()
    with open_gateway(project) as gateway:
        champion = gateway.call("mlflow", {"action": "get_champion", "name": "tiny"})
    assert champion.data is not None and champion.data["version"] == 1


def test_observe_reads_and_changes_nothing(tmp_path: Path, tiny: Callable[..., Path]) -> None:
    played = Played(tiny(tmp_path / "p"), autonomy=Level.OBSERVE)
    assert played.outcome.outcome == "failed"
    assert "observe allows reads only" in played.outcome.summary
    assert not played.data("dvc", "stage_data")


def test_a_broken_file_stops_the_run_before_any_model_sees_it(tmp_path: Path, tiny: Callable[..., Path]) -> None:
    project = tiny(tmp_path / "p")
    current = project / "data" / "current.csv"
    lines = current.read_text().splitlines()
    emptied = [lines[0], *(",".join(["", *line.split(",")[1:]]) for line in lines[1:])]
    current.write_text("\n".join(emptied) + "\n")
    played = Played(project)
    assert played.outcome.outcome == "data_rejected"
    assert played.outcome.exit_code == 3
    assert "critical checks: a: " in played.outcome.summary
    assert not {name for name in played.calls() if name.startswith(("mlflow", "optuna", "serving"))}


def test_the_tuner_follows_what_is_installed_unless_the_goal_says(promoted: Played) -> None:
    assert promoted.result("tune", tune.Result).engine == "hyperopt"


def _processes_of(home: Path) -> list[str]:
    """Command lines of running processes that mention a state folder."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if str(home) in command:
                found.append(command)
    return found
