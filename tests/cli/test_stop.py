"""`mlops-crew stop`, where no run is alive, and where a process is."""

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Cli
from tools.core.stop import StopSwitch, system_user

ROOT = Path(__file__).parents[2]
CANARY = {"model": {"uri": "models:/churn/2", "version": "2"}, "percent": 20.0, "seed": 0, "former": False}
STATE = {"name": "churn", "champion": {"uri": "models:/churn/1", "version": "1"}, "canary": CANARY}
HOLD = """
import sys, time
from pathlib import Path
from tools.core.stop import AtWork
AtWork(Path(sys.argv[1])).begin()
print("at work", flush=True)
time.sleep(60)
"""


def left_over(folder: Path) -> Path:
    """The state of a canary that a killed run left behind."""
    path = folder / ".mlops" / "serving" / "state.json"
    path.parent.mkdir(parents=True)
    (folder / ".mlops" / "runs").mkdir()
    path.write_text(json.dumps(STATE))
    return path


def test_it_stops_says_who_and_why_and_is_lifted(cli: Cli, folder: Path) -> None:
    ended = cli("stop", "--reason", "odd labels")
    assert ended.code == 0 and f"Stopped by {system_user()} at 20" in ended.out and ": odd labels." in ended.out
    switch = StopSwitch(folder / ".mlops")
    assert switch.current() is not None
    assert not (folder / ".mlops" / "runs").exists(), "nothing was ever done here, so there is nothing to record"
    again = cli("stop", "--reason", "later")
    assert "odd labels" in again.out and "later" not in again.out
    lifted = cli("stop", "--clear")
    assert lifted.code == 0 and "Lifted; it was stopped by" in lifted.out and switch.current() is None
    assert "Nothing was stopped." in cli("stop", "--clear").out


def test_a_canary_that_a_dead_run_left_is_rolled_back_through_the_gateway(cli: Cli, folder: Path) -> None:
    path = left_over(folder)
    ended = cli("stop")
    assert ended.code == 0, ended.err
    assert "was rolled back. Production serves version 1 of churn, alone." in ended.out
    assert json.loads(path.read_text())["canary"] is None
    journal = next((folder / ".mlops" / "runs").glob("*/journal.jsonl")).read_text()
    assert '"action":"rollback_canary"' in journal


def test_where_a_process_is_at_work_its_canary_is_its_own(cli: Cli, folder: Path) -> None:
    path = left_over(folder)
    command = [sys.executable, "-c", HOLD, str(folder / ".mlops")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        ended = cli("stop", "--wait", "0", "--json")
        other.kill()
    found = json.loads(ended.out)
    assert ended.code == 0 and found["stopped"] is True and found["alone"] is False
    assert StopSwitch(folder / ".mlops").current() is not None
    assert json.loads(path.read_text())["canary"]["percent"] == 20.0


def test_a_way_back_that_fails_ends_with_code_1(cli: Cli, folder: Path) -> None:
    path = left_over(folder)
    path.write_text("{")
    ended = cli("stop")
    assert ended.code == 1 and "could not be learned" in ended.out


def test_a_reason_is_no_reason_to_lift(cli: Cli) -> None:
    ended = cli("stop", "--clear", "--reason", "x")
    assert ended.code == 2 and "not both" in ended.err
