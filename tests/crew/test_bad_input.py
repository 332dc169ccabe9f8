"""Bad input ends with one clear error; production is untouched, and nothing recorded is lost."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml

from crew.mlops_crew import MlopsCrew, RunOutcome
from tests.helpers.tiny_project import make_project
from tools.core.journal import JournalError, Record, read_journal
from tools.core.locks import LockedError
from tools.core.yamlfile import ConfigError

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "p")


def run(project: Path, **options: Any) -> RunOutcome:
    outcome = MlopsCrew(project=project, **options).run()
    records = list(read_journal(outcome.folder / "journal.jsonl"))
    assert records[-1]["kind"] == "run_finished", "the journal must say how the run ended"
    assert outcome.report is not None and outcome.report.is_file()
    return outcome


def set_goal(project: Path, **changes: Any) -> None:
    path = project / "config" / "goal.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def edit(project: Path, change: Callable[[pd.DataFrame], pd.DataFrame], name: str = "current") -> None:
    path = project / "data" / f"{name}.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def test_a_missing_file_is_told_before_anything_starts(project: Path) -> None:
    (project / "data" / "current.csv").unlink()
    with pytest.raises(ConfigError, match=r"data\.current: no such file: .*current\.csv"):
        MlopsCrew(project=project)
    assert not (project / ".mlops" / "runs").exists()


def test_an_empty_file_is_named(project: Path) -> None:
    (project / "data" / "current.csv").write_text("")
    outcome = run(project)
    assert (outcome.outcome, outcome.exit_code) == ("failed", 1)
    assert "current.csv" in outcome.summary and "empty" in outcome.summary


def test_an_unknown_target_names_the_columns_there_are(project: Path) -> None:
    set_goal(project, target="churn")
    outcome = run(project)
    assert outcome.exit_code == 1
    assert "churn" in outcome.summary and "a, b, c, y" in outcome.summary.replace("'", "")


def test_an_unknown_column_to_drop_is_an_error(project: Path) -> None:
    set_goal(project, data={"reference": "data/reference.csv", "current": "data/current.csv", "drop": ["custmer"]})
    outcome = run(project)
    assert outcome.exit_code in (1, 3)
    assert "custmer" in outcome.summary


def test_a_target_with_one_class_is_rejected(project: Path) -> None:
    edit(project, lambda frame: frame.assign(y="no"))
    outcome = run(project)
    assert outcome.exit_code in (1, 3)
    assert "y: a binary target has exactly two values" in outcome.summary


def test_an_all_null_column_is_rejected(project: Path) -> None:
    edit(project, lambda frame: frame.assign(b=None))
    outcome = run(project)
    assert (outcome.outcome, outcome.exit_code) == ("data_rejected", 3)


def test_a_file_that_is_no_table_is_named(project: Path) -> None:
    (project / "data" / "current.csv").write_bytes(os.urandom(5000))
    outcome = run(project)
    assert outcome.exit_code == 1
    assert "current.csv" in outcome.summary


def test_a_champion_that_cannot_be_loaded_ends_the_run_and_stays_registered(project: Path) -> None:
    set_goal(project, budget={"search_trials": 1, "tuning_trials": 1})
    short = project / "config" / "tasks.yaml"
    whole = short.read_text()
    tasks = yaml.safe_load(whole)
    first = ["version_data", "check_data", "establish_champion"]
    short.write_text(yaml.safe_dump({name: tasks[name] for name in first}, sort_keys=False))
    assert run(project).outcome == "completed"
    short.write_text(whole)
    store = project / ".mlops" / "mlflow"
    models = [*store.rglob("*.pkl"), *store.rglob("*.skops")]
    assert models
    for path in models:
        path.write_bytes(b"not a model")
    outcome = run(project)
    assert (outcome.outcome, outcome.exit_code) == ("failed", 1)
    assert "load" in outcome.summary


def test_a_taken_port_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("SERVING_PORT", str(port))
        outcome = run(project)
    assert outcome.exit_code == 1
    assert str(port) in outcome.summary and "SERVING_PORT" in outcome.summary


def test_an_engine_killed_during_the_canary_fails_the_run_and_leaves_the_champion(project: Path) -> None:
    killed: list[int] = []

    def kill(record: Record) -> None:
        if record["kind"] == "outcome" and not killed and "answers 20 %" in str(record["message"]):
            for child in psutil.Process().children():
                if "tools.integrations.serving.engine" in child.cmdline():
                    killed.append(child.pid)
                    child.kill()

    outcome = run(project, on_record=kill)
    assert killed, "the engine was not found"
    assert (outcome.outcome, outcome.exit_code) == ("failed", 1)
    state = json.loads((project / ".mlops" / "serving" / "state.json").read_text())
    assert state["champion"]["version"] == "1"


def test_broken_yaml_names_the_file_and_the_line(project: Path) -> None:
    (project / "config" / "policy.yaml").write_text("autonomy: [auto\nlimits: {")
    with pytest.raises(ConfigError, match=r"policy\.yaml: not valid YAML.*line"):
        MlopsCrew(project=project)


def test_a_policy_that_denies_everything_ends_at_the_first_call(project: Path) -> None:
    (project / "config" / "policy.yaml").write_text("default: deny\nintegrations: {}\n")
    outcome = run(project)
    assert (outcome.outcome, outcome.exit_code) == ("failed", 1)
    assert "dvc" in outcome.summary and "den" in outcome.summary
    assert not (project / ".mlops" / "dvc").exists()


def test_a_state_folder_that_cannot_be_written_is_an_error_before_anything(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = project / "state"
    in_the_way.write_text("a file where a folder is needed")
    monkeypatch.setenv("MLOPS_HOME", str(in_the_way / "mlops"))
    with pytest.raises((JournalError, ConfigError, LockedError)) as caught:
        MlopsCrew(project=project).run()
    assert str(in_the_way) in str(caught.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_state_folder_on_a_read_only_file_system_is_told_before_anything_is_done(
    project: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    monkeypatch.setenv("MLOPS_HOME", str(small_disk / "state"))
    with pytest.raises(LockedError, match=r"cannot write the lock .*Read-only file system; nothing was done"):
        MlopsCrew(project=project).run()


def test_a_full_disk_ends_the_run_and_keeps_what_was_recorded(
    project: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(small_disk / "state"))
    outcome = MlopsCrew(project=project).run()
    assert (outcome.outcome, outcome.exit_code) == ("failed", 1)
    assert "space" in outcome.summary.lower()
    records = list(read_journal(outcome.folder / "journal.jsonl"))
    assert records[0]["kind"] == "run_started"
    assert [r["seq"] for r in records] == list(range(len(records)))
