"""`mlops-crew run` as a process: what scripts rely on (exit code, JSON on stdout) and how it is stopped."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import edit
from tests.helpers.tiny_project import make_project

RUN = [sys.executable, "-m", "crew.cli", "run", "--runbook", "--json"]
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(180)


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "MLOPS_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def left_behind(home: Path) -> list[psutil.Process]:
    """Processes that carry this test's state folder in their environment."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MLOPS_HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_policy_that_denies_everything_fails_the_run_with_one_clear_error(tmp_path: Path) -> None:
    project, home = make_project(tmp_path / "p"), tmp_path / "home"
    policy = project / "config" / "policy.yaml"
    policy.write_text(policy.read_text().split("integrations:")[0] + "integrations: {}\n")
    done = subprocess.run(RUN, cwd=project, env=environment(home), capture_output=True, text=True, timeout=150)
    assert done.returncode == 1
    result = json.loads(done.stdout)  # nothing else is on standard output
    assert (result["outcome"], result["exit_code"]) == ("failed", 1)
    assert "default: deny" in result["summary"]
    assert "ERROR" in done.stderr and "Traceback" not in done.stderr
    assert "DENIED" in done.stderr
    assert not (home / "dvc").exists() and not (home / "serving").exists()
    journal = (home / "runs" / result["run_id"] / "journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["kind"] == "run_finished"
    assert Path(result["report"]).is_file()


def test_a_signal_stops_the_run_cleanly_and_leaves_no_process(tmp_path: Path) -> None:
    project, home = make_project(tmp_path / "p"), tmp_path / "home"
    edit(project / "config" / "goal.yaml", "search_trials: 3", "search_trials: 200")
    process = subprocess.Popen(
        RUN, cwd=project, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        seen = ""
        for line in process.stderr:
            seen += line
            if "dvc.stage_data" in line:  # a call is done, so the crew is at work
                break
        process.send_signal(signal.SIGTERM)  # Ctrl-C takes the same way
        out, rest = process.communicate(timeout=120)
    finally:
        process.kill()
    result = json.loads(out)
    assert process.returncode == 130, rest
    assert result["outcome"] == "stopped"
    assert "Stopping after the step under way" in rest
    assert "Traceback" not in seen + rest
    assert left_behind(home) == []
    journal = (home / "runs" / result["run_id"] / "journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["outcome"] == "stopped"
