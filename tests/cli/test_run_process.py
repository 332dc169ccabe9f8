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


def test_a_bare_machine_runs_it(tmp_path: Path) -> None:
    """No home, no git, no locale, nobody else may read what is written, a folder with an umlaut, a narrow terminal."""
    project = make_project(tmp_path / "Prüfung von Daten" / "p", tasks=["version_data", "check_data"])
    done = subprocess.run(
        RUN, cwd=project, capture_output=True, text=True, timeout=170, umask=0o077,
        env={"PATH": str(Path(sys.executable).parent), "LC_ALL": "C", "COLUMNS": "40", "PYTHONPATH": str(ROOT),
             "MLOPS_KEYS": os.environ["MLOPS_KEYS"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "completed"
    assert "Traceback" not in done.stderr
    assert (project / ".mlops").stat().st_mode & 0o077 == 0


def test_two_first_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    project, home = make_project(tmp_path / "p", tasks=["version_data", "check_data"]), tmp_path / "home"
    both = [
        subprocess.Popen(
            RUN, cwd=project, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=170) for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes, ended
    for code, (out, told) in zip(codes, ended, strict=True):
        assert "Traceback" not in told
        if code == 0:
            assert json.loads(out)["outcome"] == "completed"
        else:  # it was the second, and is told who is at work
            assert code == 1 and "another run" in " ".join(told.split()), told


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
