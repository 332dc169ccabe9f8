"""Optuna, Hyperopt and Ray Tune over the built-in trainer: the real libraries, small data."""

import dataclasses
import functools
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Project
from tools.core.errors import CallCancelled, ErrorKind
from tools.core.results import Status, ToolResult
from tools.integrations.optuna import evolution
from tools.integrations.optuna.evolution import AgingEvolutionSampler
from tools.modeling import trial_runner
from tools.modeling.trials import read_trials

ROOT = Path(__file__).parents[2]
START = {"family": "hist_gradient_boosting", "params": {"encode": "target", "iterations": 30}}
TUNERS = ["hyperopt", "ray"]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra 'ray' is not installed")


def write_rows(path: Path, rows: int = 300, seed: int = 0, labels: tuple[str, str] = ("no", "yes")) -> str:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"amount": rng.normal(size=rows), "noise": rng.normal(size=rows)})
    frame["plan"] = rng.choice(["free", "pro"], size=rows)
    signal = frame["amount"] * np.where(frame["plan"] == "pro", 1.0, -1.0) + rng.normal(scale=0.4, size=rows)
    frame["churn"] = np.where(signal > 0, labels[1], labels[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path)
    return path.name


def arguments(project: Project, **more: Any) -> dict[str, Any]:
    paths = [write_rows(project.root / "old.parquet", seed=1), write_rows(project.root / "new.parquet", seed=2)]
    return {
        "paths": paths,
        "target": "churn",
        "task": "binary",
        "metric": "roc_auc",
        "drop": ["noise"],
        "trials": 6,
        "seed": 7,
        **more,
    }


def decisions(project: Project, found: dict[str, Any]) -> list[tuple[int, float | None, dict[str, Any]]]:
    """What a search decided, without what a clock measured."""
    trials = read_trials(project.root / found["trials_path"]).trials
    return [(trial.number, trial.value, trial.config) for trial in trials]


@pytest.fixture
def other(tmp_path: Path) -> Project:
    """A second project, to search the same there from nothing."""
    (tmp_path / "other").mkdir()
    return Project(tmp_path / "other")


def listen(project: Project, on_progress: Callable[[float, float | None, str], None]) -> None:
    project.ctx = dataclasses.replace(project.ctx, report_progress=on_progress)


def test_a_search_starts_from_the_default_and_returns_the_best_it_tried(project: Project) -> None:
    told: list[tuple[float, float | None, str]] = []
    listen(project, lambda *step: told.append(step))
    found = project.ok("optuna", "search", **arguments(project))
    trials = read_trials(project.root / found["trials_path"])
    assert trials.engine == "optuna"
    assert trials.trials[0].config["family"] == "hist_gradient_boosting"
    assert found["start_value"] == trials.trials[0].value
    assert found["best_value"] == max(t.value for t in trials.trials if t.value is not None)
    best = trials.best_trial()
    assert best is not None
    assert best.config == found["best_config"]
    assert best.latency_ms is not None and best.latency_ms > 0
    assert best.size_bytes is not None and best.size_bytes > 0
    assert found["completed"] + found["failed"] == len(trials.trials) == 6
    assert [done for done, _, _ in told] == [1, 2, 3, 4, 5, 6]
    assert "roc_auc" in told[-1][2]


def test_a_search_tries_the_recommended_window_first_and_may_choose_another(project: Project) -> None:
    found = project.ok("optuna", "search", **arguments(project, window="newest:280"))
    windows = [trial.config["window"] for trial in read_trials(project.root / found["trials_path"]).trials]
    assert windows[0] == "newest:280"
    assert set(windows) <= {"newest:280", "all", "recent"} and len(set(windows)) > 1
    refused = project.call("optuna", "search", **arguments(project, window="last"))
    assert refused.error is not None and "valid windows: all, recent, weighted, newest:ROWS" in refused.error.message


def test_a_search_repeats_exactly_by_seed_and_differs_by_another(project: Project, other: Project) -> None:
    first = decisions(project, project.ok("optuna", "search", **arguments(project)))
    assert decisions(other, other.ok("optuna", "search", **arguments(other))) == first
    assert decisions(other, other.ok("optuna", "search", **arguments(other, seed=8)))[1:] != first[1:]


@pytest.mark.parametrize("sampler", ["tpe", "evolution"])
def test_a_search_interrupted_anywhere_goes_on_as_if_it_had_not_been(
    project: Project, other: Project, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    if sampler == "evolution":  # else 10 trials are made before the first child
        small = functools.partial(AgingEvolutionSampler, population_size=5, sample_size=3)
        monkeypatch.setattr(evolution, "AgingEvolutionSampler", small)
    whole = decisions(other, other.ok("optuna", "search", **arguments(other, trials=14, sampler=sampler)))

    def stop_after(trials: int) -> Callable[[float, float | None, str], None]:
        def progress(done: float, total: float | None, message: str) -> None:
            if done >= trials:
                raise CallCancelled

        return progress

    asked = arguments(project, trials=14, study="churn", sampler=sampler)
    listen(project, stop_after(3))
    with pytest.raises(CallCancelled):
        project.call("optuna", "search", **asked)

    # Killed in the middle of a trial: it stays "running" in the storage.
    listen(project, lambda *step: None)
    real, runs = trial_runner.run_trial, 0

    def killed(*args: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs == 3:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(trial_runner, "run_trial", killed)
        with pytest.raises(KeyboardInterrupt):
            project.call("optuna", "search", **asked)
    # Killed in the middle of a write.
    journal = project.root / ".mlops" / "optuna" / "churn.journal"
    with journal.open("ab") as handle:
        handle.write(b'{"op_code":6,"work')

    assert project.ok("optuna", "best_trial", study="churn")["completed"] == 5
    assert decisions(project, project.ok("optuna", "search", **asked)) == whole


def test_a_finished_search_is_not_run_again_and_a_larger_budget_continues_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = project.ok("optuna", "search", **arguments(project))
    made = decisions(project, first)

    def refuse(*args: Any) -> Any:
        raise AssertionError("a trial was run again")

    with monkeypatch.context() as patch:
        patch.setattr(trial_runner, "run_trial", refuse)
        assert project.ok("optuna", "search", **arguments(project)) == first
    longer = project.ok("optuna", "search", **arguments(project, trials=8))
    assert decisions(project, longer)[:6] == made
    assert longer["completed"] + longer["failed"] == 8


def test_a_search_says_what_its_winner_is_worth_on_rows_no_trial_saw_and_what_else_is_not_dominated(
    project: Project,
) -> None:
    asked = arguments(project)
    found = project.ok("optuna", "search", **asked)
    assert "On the 45 newest rows, which no trial saw: " in found["message"]
    assert f"{found['nested_value']:.4g}" in found["message"]
    assert found["nested_value"] != found["best_value"]
    trials = read_trials(project.root / found["trials_path"])
    front = found["pareto"]
    assert [point["trial"] for point in front] == trials.pareto[:8]
    assert front[0]["value"] == found["best_value"]
    assert [point["value"] for point in front] == sorted((point["value"] for point in front), reverse=True)

    # Only the nested rows change: every trial stays as it was, the winner's worth there does not.
    rows = pd.read_parquet(project.root / "new.parquet")
    rows.loc[rows.index[-45:], "churn"] = rows["churn"].map({"no": "yes", "yes": "no"})
    rows.to_parquet(project.root / "new.parquet")
    turned = project.ok("optuna", "search", **asked)
    assert decisions(project, turned) == [(t.number, t.value, t.config) for t in trials.trials]
    assert turned["nested_value"] == pytest.approx(1.0 - found["nested_value"])

    rows.iloc[-36:].to_parquet(project.root / "new.parquet")
    few = project.ok("optuna", "search", **{**asked, "trials": 1})
    assert few["nested_value"] is None
    assert "Too few rows" in few["message"]


HOLDER = """
import sys
from pathlib import Path
from tools.integrations.optuna.studies import StudyStore

with StudyStore(Path(sys.argv[1]), None).held("mine"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_study_that_another_process_searches_is_not_touched_until_that_process_has_ended(project: Project) -> None:
    asked = arguments(project, study="mine", trials=1)
    command = [sys.executable, "-c", HOLDER, str(project.root / ".mlops" / "optuna")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        refused = project.call("optuna", "search", **asked)
        assert refused.error is not None
        assert refused.error.kind is ErrorKind.RETRY
        assert "another search works on study 'mine'" in refused.message
        assert project.ok("optuna", "search", **{**asked, "study": "yours"})["completed"] == 1
        holder.kill()
        holder.wait()
    assert project.ok("optuna", "search", **asked)["completed"] == 1


def test_a_study_of_other_data_is_not_continued(project: Project) -> None:
    project.ok("optuna", "search", **arguments(project, study="mine", trials=1))
    asked = arguments(project, study="mine", trials=1)
    write_rows(project.root / "new.parquet", seed=3)
    refused = project.call("optuna", "search", **asked)
    assert refused.error is not None
    assert refused.error.kind is ErrorKind.FIXABLE
    assert "other data" in refused.message
    assert "evolution or tpe" in project.call("optuna", "search", **{**asked, "sampler": "best"}).message
    for wrong, words in {"../up": "is no name", "a b": "is no name"}.items():
        assert words in project.call("optuna", "search", **{**asked, "study": wrong}).message


def test_configs_that_cannot_be_trained_are_counted_not_fatal(project: Project) -> None:
    asked = arguments(project, trials=8)
    recent = pd.read_parquet(project.root / "new.parquet")
    recent.loc[: len(recent) * 3 // 4 - 1, "churn"] = "no"  # the window "recent" has one class, the validation two
    recent.to_parquet(project.root / "new.parquet")
    found = project.ok("optuna", "search", **asked)
    trials = read_trials(project.root / found["trials_path"]).trials
    assert found["failed"] == sum(trial.config["window"] == "recent" for trial in trials) > 0
    assert found["best_config"]["window"] == "all"
    alone = project.call("hyperopt", "tune", **{**asked, "config": {**START, "window": "recent"}, "trials": 2})
    assert alone.error is not None
    assert alone.error.kind is ErrorKind.FINAL
    assert "none of 2 trials could be trained" in alone.message
    assert "one value only" in alone.message


def failed(result: ToolResult, *words: str) -> None:
    assert result.error is not None, result
    assert result.error.kind is ErrorKind.FIXABLE, result
    assert all(word in result.message for word in words), result.message


@pytest.mark.parametrize(("engine", "action"), [("optuna", "search"), ("hyperopt", "tune"), ("ray", "tune")])
def test_bad_input_is_refused_before_any_trial(project: Project, engine: str, action: str) -> None:
    asked = arguments(project) | ({} if engine == "optuna" else {"config": START})
    failed(project.call(engine, action, **{**asked, "paths": ["absent.csv"]}), "absent.csv", "missing")
    failed(project.call(engine, action, **{**asked, "target": "churned"}), "no column 'churned'", "amount")
    failed(project.call(engine, action, **{**asked, "task": "ranking"}), "'binary', 'multiclass' or 'regression'")
    failed(project.call(engine, action, **{**asked, "metric": "mae"}), "roc_auc")
    failed(project.call(engine, action, **{**asked, "trials": 0}), "trials")
    if engine != "optuna":
        failed(project.call(engine, action, **{**asked, "config": {"family": "svm"}}), "random_forest")


@pytest.mark.parametrize(("engine", "action"), [("optuna", "search"), ("hyperopt", "tune"), ("ray", "tune")])
def test_a_budget_in_minutes_ends_a_search_after_its_first_trial_at_the_earliest(
    project: Project, engine: str, action: str
) -> None:
    asked = arguments(project, minutes=1e-6) | ({} if engine == "optuna" else {"config": START})
    found = project.ok(engine, action, **asked)
    assert found["stopped_by"] == "minutes"
    assert found["completed"] == 1
    assert found["best_value"] == found["start_value"]


def test_hyperopt_tunes_numbers_only_repeats_by_seed_and_is_never_worse(project: Project, other: Project) -> None:
    found = project.ok("hyperopt", "tune", **arguments(project, config=json.dumps(START)))
    assert found["best_value"] >= found["start_value"]
    made = decisions(project, found)
    assert made[0][2]["params"]["iterations"] == 30, "trial 0 is the given config"
    assert {config["params"]["encode"] for _, _, config in made} == {"target"}
    assert len({config["params"]["learning_rate"] for _, _, config in made}) == 6
    assert decisions(other, other.ok("hyperopt", "tune", **arguments(other, config=START))) == made


def test_a_tuner_stops_at_once_when_the_run_is_stopped(project: Project) -> None:
    def stop(done: float, total: float | None, message: str) -> None:
        raise CallCancelled

    listen(project, stop)
    for engine in TUNERS:
        with pytest.raises(CallCancelled):
            project.call(engine, "tune", **arguments(project, config=START))


def test_a_regression_is_searched_downwards(project: Project) -> None:
    asked = arguments(project, task="regression", metric="mae", target="amount", trials=3)
    found = project.ok("optuna", "search", **asked)
    assert found["direction"] == "minimize"
    values = [value for _, value, _ in decisions(project, found) if value is not None]
    assert found["best_value"] == min(values)


SPACE = {"x": {"type": "float", "low": -5.0, "high": 5.0}, "kind": {"type": "categorical", "choices": ["a", "b"]}}


def ask_and_tell(project: Project, trials: int, **more: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for index in range(trials):
        params = project.ok("optuna", "ask", study="bowl", index=index, space=SPACE, **more)["params"]
        value = params["x"] ** 2 + (params["kind"] == "a")
        project.ok("optuna", "tell", study="bowl", index=index, value=value)
        made.append(params)
    return made


def test_ask_and_tell_find_a_minimum_repeat_by_seed_and_may_be_repeated(project: Project, other: Project) -> None:
    made = ask_and_tell(project, 30, seed=3)
    best = project.ok("optuna", "best_trial", study="bowl")
    assert best["value"] < 0.5
    assert best["params"]["kind"] == "b"
    assert ask_and_tell(other, 30, seed=3) == made
    again = project.ok("optuna", "ask", study="bowl", index=4, space=json.dumps(SPACE), seed=99)
    assert again["params"] == made[4], "an index that was asked keeps its parameters"
    value = made[4]["x"] ** 2 + (made[4]["kind"] == "a")
    assert project.ok("optuna", "tell", study="bowl", index=4, value=value)["best_value"] == best["value"]
    failed(project.call("optuna", "tell", study="bowl", index=4, value=0.0), "cannot become 0.0")
    assert project.ok("optuna", "list_studies")["studies"] == [
        {"study": "bowl", "direction": "minimize", "completed": 30, "failed": 0, "best_value": best["value"]}
    ]


def test_a_failed_trial_is_told_without_a_value(project: Project) -> None:
    project.ok("optuna", "ask", study="s", index=0, space=SPACE, direction="maximize")
    assert project.ok("optuna", "tell", study="s", index=0)["state"] == "failed"
    nothing = project.call("optuna", "best_trial", study="s")
    assert nothing.status is Status.NO_DATA
    project.ok("optuna", "ask", study="s", index=1, space=SPACE, direction="maximize")
    assert project.ok("optuna", "tell", study="s", index=1, value=2.5)["best_index"] == 1


def test_wrong_asks_say_what_is_valid(project: Project) -> None:
    for space, words in (
        ({"x": {"type": "normal"}}, "valid types: float"),
        ({"x": {"type": "float", "low": 1}}, "high"),
        ({"x": {"type": "float", "low": 2.0, "high": 1.0}}, "low"),
        ({}, "object of parameters"),
        ("{", "not JSON"),
    ):
        failed(project.call("optuna", "ask", study="s", index=0, space=space), words)
    project.ok("optuna", "ask", study="s", index=0, space=SPACE)
    failed(project.call("optuna", "ask", study="s", index=2, space=SPACE), "the next index is 1")
    failed(project.call("optuna", "ask", study="s", index=0, space=SPACE, direction="maximize"), "minimize")
    failed(project.call("optuna", "ask", study="s", index=0, space={"x": SPACE["x"]}), "another space")
    failed(project.call("optuna", "tell", study="s", index=5, value=1), "has no trial 5")
    unknown = project.call("optuna", "tell", study="absent", index=0, value=1)
    assert unknown.status is Status.NO_DATA
    assert "studies: s" in unknown.message


def test_no_studies_is_no_data_and_says_where_it_looked(project: Project) -> None:
    nothing = project.call("optuna", "list_studies")
    assert nothing.status is Status.NO_DATA
    assert nothing.error is not None
    assert str(project.root) in str(nothing.error.tried)


def test_a_damaged_journal_costs_its_study_only(project: Project) -> None:
    project.ok("optuna", "ask", study="good", index=0, space=SPACE)
    project.ok("optuna", "ask", study="bad", index=0, space=SPACE)
    journal = project.root / ".mlops" / "optuna" / "bad.journal"
    journal.write_text("garbage\n" + journal.read_text())
    damaged = project.call("optuna", "best_trial", study="bad")
    assert damaged.error is not None
    assert damaged.error.kind is ErrorKind.FINAL
    assert "'bad' is damaged" in damaged.message
    assert project.ok("optuna", "tell", study="good", index=0, value=1.0)["state"] == "complete"


@pytest.mark.filterwarnings("ignore")  # SQLAlchemy's, about its own pool
def test_a_shared_database_holds_studies_when_it_is_configured(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{project.root}/studies.db")
    found = project.ok("optuna", "search", **arguments(project, trials=2, study="shared"))
    assert (project.root / "studies.db").stat().st_size > 0
    assert project.ok("optuna", "best_trial", study="shared")["value"] == found["best_value"]
    assert [s["study"] for s in project.ok("optuna", "list_studies")["studies"]] == ["shared"]


@needs_ray
@pytest.mark.slow
def test_ray_tune_gives_the_result_of_this_process_leaves_nothing_and_prints_nothing(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    from tools.modeling.space import spread_tuning
    from tools.modeling.training import load_split

    told: list[float] = []
    listen(project, lambda done, total, message: told.append(done))
    results: list[dict[str, Any]] = []
    asked = arguments(project, config=START, trials=4)
    # As behind MCP: in a worker thread, where signal handlers cannot be set.
    thread = threading.Thread(target=lambda: results.append(project.ok("ray", "tune", **asked)))
    thread.start()
    thread.join()
    found = results[0]
    assert found["best_value"] >= found["start_value"]
    assert found["completed"] == 4
    assert told[0] == 1
    assert told[-1] == 4

    split = load_split([project.root / p for p in asked["paths"]], "churn", ["noise"], "binary")
    expected = [decisions(project, found)[0]]
    for number, config in enumerate(spread_tuning(START, "binary", 3, seed=7), start=1):
        expected.append((number, trial_runner.run_trial(number, config, split, "roc_auc", 7).value, config))
    assert decisions(project, found) == expected
    assert not ray.is_initialized()
    assert [p.name for p in project.ctx.workspace.iterdir()] == [Path(found["trials_path"]).name]
    assert capfd.readouterr().out == ""


@needs_ray
def test_a_ray_cluster_that_does_not_answer_is_said_at_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound and not listening: nothing answers there
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{taken.getsockname()[1]}")
        refused = project.call("ray", "tune", **arguments(project, config=START, trials=2))
    assert refused.error is not None
    assert refused.error.kind is ErrorKind.RETRY
    assert "no Ray cluster answers at 127.0.0.1" in refused.message


@needs_ray
def test_a_ray_that_does_not_start_here_is_said_without_an_exceptions_name(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def fails(**options: Any) -> None:
        raise Exception("The current node timed out during startup.\nSee the logs.")

    monkeypatch.setattr(ray, "init", fails)
    refused = project.call("ray", "tune", **arguments(project, config=START, trials=2))
    assert refused.error is not None and refused.error.kind is ErrorKind.FINAL
    assert refused.message == (
        "Ray does not start on this machine: The current node timed out during startup. See the logs."
    )


@pytest.mark.parametrize("engine", ["optuna", "hyperopt", "ray"])
def test_health_names_the_library_and_its_version(project: Project, engine: str) -> None:
    from tools.registry import load_spec

    line = load_spec(engine).load_backend({}).health(project.ctx)
    assert line.lower().startswith(engine)
    assert any(character.isdigit() for character in line)


@needs_ray
def test_the_workers_of_a_local_ray_know_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.integrations.ray import backend

    monkeypatch.setenv("SLACK_BOT_TOKEN", "planted-in-ray")
    with backend.cluster(None) as ray:
        told = ray.get(ray.remote(environment_of_worker).remote())
    assert "PATH=" in told and "planted-in-ray" not in told


def environment_of_worker() -> str:
    """What a worker was started with and what it has now."""
    started = Path("/proc/self/environ").read_text() if Path("/proc/self/environ").exists() else ""
    return started + "\n".join(f"{name}={value}" for name, value in os.environ.items())
