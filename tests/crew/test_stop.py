"""A stop at the wrong moment: no process is left behind, and production is what it was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from crew.mlops_crew import MlopsCrew
from tests.helpers.tiny_project import make_project
from tools.core.journal import read_journal
from tools.core.stop import StopSwitch

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).parents[2]
START_S = 240.0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, None], ids=["Ctrl-C", "SIGTERM", "mlops-crew stop"])
def test_a_run_stopped_during_the_canary_leaves_the_champion_alone(
    tmp_path: Path, stop: signal.Signals | None, mlflow_database: Path
) -> None:
    canary = {"batch_requests": 700, "percent": 20}
    project = make_project(tmp_path / "p", canary=canary, mlflow_database=mlflow_database)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MLOPS_PROJECT": str(project)}
    env.pop("MODEL", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "crew", "run"],
        cwd=project,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        journal = _wait_for_traffic(project, process)
        if stop is not None:
            process.send_signal(stop)
        else:  # from another terminal
            command = [sys.executable, "-m", "crew", "stop", "--reason", "odd labels"]
            told = subprocess.run(command, cwd=project, env=env, check=True, capture_output=True, text=True).stdout
            assert "Production serves version 1 of tiny" in told, told
        output, _ = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "Traceback" not in output, output
    assert "stopped" in output.lower()
    assert not _alive(project)
    records = list(read_journal(journal))
    assert records[-1]["kind"] == "run_finished" and records[-1]["outcome"] == "stopped"
    state = json.loads((project / ".mlops" / "serving" / "state.json").read_text(encoding="utf-8"))
    assert state["champion"]["version"] == "1" and state["canary"] is None
    summary = records[-1]["summary"]
    assert "during canary" in summary and "The canary (version 2) was rolled back." in summary
    assert "Production serves version 1 of tiny, alone." in summary
    assert stop is not None or ("(mlops-crew stop)" in summary and "odd labels" in summary)
    rollbacks = [r for r in records if r["kind"] == "intent" and r["action"] == "rollback_canary"]
    assert [r["decision"] for r in rollbacks] == ["allow"]


@pytest.mark.parametrize("after", ["promote_canary", "judge_canary"])
def test_a_stop_in_the_release_ends_in_its_safe_direction(tmp_path: Path, after: str, mlflow_database: Path) -> None:
    """Pulled once serving was promoted, it holds that of the registry, and serving goes back."""
    project = make_project(tmp_path / "p", mlflow_database=mlflow_database)
    home = project / ".mlops"
    named: dict[str, str] = {}

    def pull(record: dict[str, Any]) -> None:
        if record["kind"] == "intent":
            named[record["call_id"]] = record["action"]
        if record["kind"] == "outcome" and record["status"] == "ok" and named.get(record["call_id"]) == after:
            verdict = (record["data"] or {}).get("verdict", "promote")
            if verdict == "promote":
                StopSwitch(home).pull("ann", "odd labels")

    ended = MlopsCrew(project=project, on_record=pull).run()
    records = list(read_journal(ended.folder / "journal.jsonl"))
    assert ended.outcome == "stopped" and ended.exit_code == 130, ended.summary
    assert "ann" in ended.summary and "Production serves version 1 of tiny, alone." in ended.summary
    state = json.loads((home / "serving" / "state.json").read_text(encoding="utf-8"))
    assert state["champion"]["version"] == "1" and state["canary"] is None
    status = {r["call_id"]: r["status"] for r in records if r["kind"] == "outcome"}
    promoted = [
        status[r["call_id"]]
        for r in records
        if r["kind"] == "intent" and r["action"] == "promote_version" and r["arguments"]["version"] == 2
    ]
    assert promoted == (["denied"] if after == "promote_canary" else [])


def _wait_for_traffic(project: Path, process: "subprocess.Popen[str]") -> Path:
    """The journal, once the canary's traffic has begun."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        for journal in (project / ".mlops" / "runs").glob("*/journal.jsonl"):
            if any(r["kind"] == "intent" and r["action"] == "send_traffic" for r in read_journal(journal)):
                time.sleep(0.5)  # some requests are on their way
                return journal
        time.sleep(0.2)
    raise AssertionError(f"the canary never began: {process.communicate()[0] if process.poll() is not None else ''}")


def _alive(project: Path) -> list[str]:
    """Processes that were started with this project in their environment, whatever their session."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if f"MLOPS_PROJECT={project}".encode() in environment and command:
                found.append(command)
    return found
