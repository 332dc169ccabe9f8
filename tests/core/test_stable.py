"""The way back: a half-done canary ends at 100 % stable, through the gateway, whoever left it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.core.gateway import Gateway
from tools.core.policy import Policy, PolicyFile
from tools.core.stable import back_to_stable, watch
from tools.core.stop import StopSwitch
from tools.session import open_gateway

ROOT = Path(__file__).parents[2]
CANARY = {"model": {"uri": "models:/churn/2", "version": "2"}, "percent": 20.0, "seed": 0, "former": False}
HOLD = """
import sys, time
from pathlib import Path
from tools.core.stop import AtWork
AtWork(Path(sys.argv[1])).begin()
print("at work", flush=True)
time.sleep(60)
"""


def state(home: Path, canary: dict[str, Any] | None) -> Path:
    """What an engine left behind."""
    path = home / "serving" / "state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    champion = {"uri": "models:/churn/1", "version": "1"}
    path.write_text(json.dumps({"name": "churn", "champion": champion, "canary": canary}))
    return path


def open_one(project: Path, **policy: Any) -> Gateway:
    (project / "config").mkdir(exist_ok=True)
    (project / "config" / "stack.yaml").write_text("servers: {}\n")
    content = {"autonomy": "supervised", "integrations": {"serving": {"allow": "*"}}, **policy}
    return open_gateway(project, policy=Policy(PolicyFile.model_validate(content)), env={})


def test_a_canary_that_nobody_watches_is_rolled_back_whatever_the_policy_freezes(tmp_path: Path) -> None:
    path = state(tmp_path / ".mlops", CANARY)
    freeze = [{"from": "2026-01-01", "to": "2100-01-01", "reason": "holidays"}]
    StopSwitch(tmp_path / ".mlops").pull("ann")
    with open_one(tmp_path, freeze=freeze) as gateway:
        found = back_to_stable(gateway)
        records = gateway.journal.records()
    assert found.rolled_back == ["The canary (that its state named) was rolled back."]
    assert found.serves == ["Production serves version 1 of churn, alone."] and not found.failed
    assert json.loads(path.read_text())["canary"] is None
    called = [(r["server"], r["action"], r["decision"]) for r in records if r["kind"] == "intent"]
    assert called == [("serving", "status", "allow"), ("serving", "rollback_canary", "allow")]


def test_without_a_canary_it_says_what_is_served_and_changes_nothing(tmp_path: Path) -> None:
    path = state(tmp_path / ".mlops", None)
    before = path.read_text()
    with open_one(tmp_path) as gateway:
        assert str(back_to_stable(gateway)) == "Production serves version 1 of churn, alone."
    assert path.read_text() == before


def test_where_nothing_was_ever_deployed_there_is_nothing_to_say(tmp_path: Path) -> None:
    with open_one(tmp_path) as gateway:
        assert str(back_to_stable(gateway)) == ""


def test_the_state_of_a_canary_that_another_process_runs_is_left_to_that_one(tmp_path: Path) -> None:
    path = state(tmp_path / ".mlops", CANARY)
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".mlops")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        with open_one(tmp_path) as gateway:
            assert back_to_stable(gateway).rolled_back == []
        other.kill()
    assert json.loads(path.read_text())["canary"]["percent"] == 20.0


def test_a_way_back_that_fails_is_said_plainly(tmp_path: Path) -> None:
    state(tmp_path / ".mlops", CANARY)
    forbidden = {"serving": {"allow": "*", "forbid": ["rollback_canary"]}}
    with open_one(tmp_path, integrations=forbidden) as gateway:
        found = back_to_stable(gateway)
    assert found.failed == [
        "The canary of serving could not be rolled back, look at it now: the policy forbids serving.rollback_canary"
    ]


def test_a_session_that_waits_for_calls_goes_back_when_a_stop_appears(tmp_path: Path) -> None:
    path = state(tmp_path / ".mlops", CANARY)
    with open_one(tmp_path) as gateway:
        thread = watch(gateway)
        StopSwitch(tmp_path / ".mlops").pull("ann")
        for _ in range(200):
            if json.loads(path.read_text())["canary"] is None:
                break
            gateway.closed.wait(0.1)
        assert json.loads(path.read_text())["canary"] is None
    thread.join(30)
    assert not thread.is_alive()
