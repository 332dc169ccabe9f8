"""A stop at the wrong moment: no process is left behind, and production is what it was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.tiny_project import make_project
from tools.core.journal import read_journal

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
START_S = 240.0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_run_stopped_during_the_canary_leaves_the_champion_alone(
    tmp_path: Path, stop: signal.Signals, mlflow_database: Path
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
        process.send_signal(stop)
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
    assert state["champion"]["version"] == "1"


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
