"""The stop: while it is there no process makes a write; reads and the way back go on."""

import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.core import fake
from tests.core.fake import accept, effects, make_gateway
from tools.core.calls import PERSON, Caller
from tools.core.contract import Effect
from tools.core.errors import RetryableError
from tools.core.grants import Scope, grant, way_back
from tools.core.results import Status
from tools.core.stop import AtWork, Stop, StopSwitch, system_user

ROOT = Path(__file__).parents[2]
PULL = """
import sys
from pathlib import Path
from tools.core.stop import StopSwitch
StopSwitch(Path(sys.argv[1])).pull("ann", "odd")
"""
HOLD = """
import sys, time
from pathlib import Path
from tools.core.stop import AtWork
AtWork(Path(sys.argv[1])).begin()
print("at work", flush=True)
time.sleep(60)
"""


def python(code: str, *arguments: Any) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_a_stop_holds_writes_at_once_and_is_lifted(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway:
        assert gateway.call("fake", {"action": "add"}).ok
        subprocess.run(python(PULL, tmp_path), cwd=ROOT, check=True)  # from another process
        held = [gateway.call("fake", {"action": action}) for action in ("add", "put", "drop")]
        assert gateway.call("fake", {"action": "double", "x": 1}).ok
        StopSwitch(tmp_path).lift()
        assert gateway.call("fake", {"action": "add"}).ok
        records = gateway.journal.records()
    assert [result.status for result in held] == [Status.DENIED] * 3
    assert "stopped by ann at " in held[0].message and ": odd; fake.add is not made" in held[0].message
    assert "mlops-crew stop --clear" in held[0].message
    assert effects(tmp_path, "add") == 2 and effects(tmp_path, "put") == effects(tmp_path, "drop") == 0
    denied = [record for record in records if record["kind"] == "intent" and record["decision"] == "deny"]
    assert len(denied) == 3 and all("stopped by ann" in record["rule"] for record in denied)


def test_a_stop_that_comes_while_a_person_thinks_holds_the_call(tmp_path: Path) -> None:
    policy = {"integrations": {"fake": {"allow": "*", "ask": ["add"]}}}

    def stop_and_approve(_approval: Any, _answered: Any) -> bool:
        StopSwitch(tmp_path).pull("ann")
        return True

    with make_gateway(tmp_path, policy=policy, prompt=stop_and_approve) as gateway:
        result = gateway.call("fake", {"action": "add"})
    assert result.status is Status.DENIED and "stopped by ann" in result.message
    assert effects(tmp_path, "add") == 0


def test_a_write_that_waits_behind_a_long_call_is_held_when_its_turn_comes(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway, ThreadPoolExecutor(2) as pool:
        begun, queued = threading.Event(), threading.Event()
        gateway.journal.subscribe(lambda r: begun.set() if r["kind"] == "progress" else None)
        gateway.journal.subscribe(lambda r: queued.set() if r.get("action") == "add" else None)
        long = pool.submit(gateway.call, "fake", {"action": "wait_long", "seconds": 1.5})
        assert begun.wait(30)
        write = pool.submit(gateway.call, "fake", {"action": "add"})
        assert queued.wait(30)
        StopSwitch(tmp_path).pull("ann")
        assert not long.done(), "the write still waits"
        assert long.result(60).ok and write.result(60).status is Status.DENIED
    assert effects(tmp_path, "add") == 0


def test_a_write_is_not_repeated_once_a_stop_is_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def busy(_self: Any, _args: Any, _ctx: Any) -> Any:
        tried.append(1)
        StopSwitch(tmp_path).pull("ann")
        raise RetryableError("busy")

    monkeypatch.setattr(fake.FakeBackend, "fail_put", busy)
    with make_gateway(tmp_path) as gateway:
        assert gateway.call("fake", {"action": "fail_put", "times": 9}).status is Status.FAILED
    assert tried == [1]


def test_nobody_is_asked_about_a_call_that_is_held(tmp_path: Path) -> None:
    StopSwitch(tmp_path).pull("ann")
    policy = {"integrations": {"fake": {"allow": "*", "ask": ["add"]}}}
    with make_gateway(tmp_path, policy=policy) as gateway:
        assert gateway.call("fake", {"action": "add"}).status is Status.DENIED
        kinds = [record["kind"] for record in gateway.journal.records()]
    assert kinds == ["intent", "outcome"]


def test_a_tool_of_somebody_else_is_held_unless_it_is_classified_as_a_read(tmp_path: Path) -> None:
    stack = {"mcpServers": {"other": {"command": sys.executable, "args": ["-m", "tests.core.third_party"]}}}
    policy = {"autonomy": "autonomous", "integrations": {"other": {"allow": "*", "effects": {"typed": "read"}}}}
    with make_gateway(tmp_path, stack=stack, policy=policy) as gateway:
        accept(gateway, "other")
        StopSwitch(tmp_path).pull("ann")
        assert gateway.call("other", {"action": "typed"}).ok
        assert gateway.call("other", {"action": "write"}).status is Status.DENIED


def test_what_goes_back_to_stable_is_made_all_the_same(tmp_path: Path) -> None:
    StopSwitch(tmp_path).pull("ann")
    policy = {"integrations": {"fake": {"allow": "*", "to_stable": ["drop"]}}}
    with make_gateway(tmp_path, policy=policy) as gateway:
        assert gateway.call("fake", {"action": "drop"}).ok


def test_a_task_says_with_which_arguments_a_call_goes_back(tmp_path: Path) -> None:
    StopSwitch(tmp_path).pull("ann")
    scope = Scope(grants=(grant("fake.add", trials=3), way_back("fake.put", trials=1)))
    agent = Caller(role="deployment", task="release", granted=frozenset({"fake"}), scope=scope)
    with make_gateway(tmp_path) as gateway:
        assert gateway.call("fake", {"action": "put"}, agent).ok
        assert gateway.call("fake", {"action": "add"}, agent).status is Status.DENIED
        assert gateway.call("fake", {"action": "put"}, PERSON).status is Status.DENIED
    assert not scope.goes_back("fake.put", {"trials": 2}) and scope.goes_back("fake.put", {"trials": "1"})


def test_after_winding_down_reads_and_the_way_back_are_made_again_and_nothing_else(tmp_path: Path) -> None:
    policy = {"integrations": {"fake": {"allow": "*", "to_stable": ["drop"]}}}
    with make_gateway(tmp_path, policy=policy) as gateway:
        gateway.stop()
        assert gateway.call("fake", {"action": "drop"}).status is Status.FAILED
        gateway.wind_down()
        assert gateway.call("fake", {"action": "double", "x": 1}).ok
        assert gateway.call("fake", {"action": "drop"}).ok
        held = gateway.call("fake", {"action": "add"})
    assert held.status is Status.DENIED and "being stopped" in held.message
    assert StopSwitch(tmp_path).current() is None, "other processes go on"


def test_the_file_is_private_whole_and_tells_who_and_why(tmp_path: Path) -> None:
    switch = StopSwitch(tmp_path / "home")
    assert switch.current() is None and switch.lift() is None
    made = switch.pull("ann", "bad\n labels " + "x" * 900)
    assert stat.S_IMODE(switch.path.stat().st_mode) == 0o600
    assert switch.current() == made and made.reason.startswith("bad labels x") and len(made.reason) == 500
    assert switch.pull("bob", "later") == made, "the first one stands"
    assert sorted(json.loads(switch.path.read_text())) == ["at", "by", "reason"]
    assert [path.name for path in switch.path.parent.iterdir()] == ["stop"], "no draft is left"
    assert switch.lift() == made and switch.current() is None


@pytest.mark.parametrize("kind", ["empty", "nonsense", "folder", "dangling link", "link", "pipe", "unreadable"])
def test_whatever_lies_there_is_a_stop(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "stop"
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "nonsense":
            path.write_bytes(b"\xff\xfe[1, 2")
        case "folder":
            path.mkdir()
        case "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        case "link":
            (tmp_path / "elsewhere").write_text('{"by": "x", "reason": "secret", "at": ""}')
            path.symlink_to(tmp_path / "elsewhere")
        case "pipe":
            os.mkfifo(path)
        case _:
            path.write_text('{"by": 1}')
            path.chmod(0)
    switch = StopSwitch(tmp_path)
    assert switch.current() == Stop()
    assert switch.refusal("fake.add", Effect.WRITE, to_stable=False).startswith("stopped by somebody; fake.add")
    assert switch.refusal("fake.add", Effect.READ, to_stable=False) == ""


def test_a_process_at_work_is_known_and_forgotten_when_it_is_killed(tmp_path: Path) -> None:
    mine = AtWork(tmp_path)
    mine.begin()
    assert mine.alone()
    with subprocess.Popen(python(HOLD, tmp_path), cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        assert not mine.alone()
        other.kill()
        other.wait()
    assert mine.alone()
    second = AtWork(tmp_path)
    assert not second.alone(), "this process still works here"
    mine.end()
    mine.end()
    assert second.alone()
    second.end()


def test_a_gateway_is_at_work_until_it_is_closed(tmp_path: Path) -> None:
    asked = AtWork(tmp_path)
    with make_gateway(tmp_path):
        assert not asked.alone()
    assert asked.alone()
    asked.end()


def test_concurrent_writes_and_a_stop_leave_no_write_after_it(tmp_path: Path) -> None:
    """Counts what was done when the stop was on disk; nothing is added later."""
    with make_gateway(tmp_path) as gateway:
        going = threading.Event()

        def work() -> None:
            for _ in range(60):
                gateway.call("fake", {"action": "add"})
                going.set()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert going.wait(30)
        StopSwitch(tmp_path).pull("ann")
        for thread in threads:
            thread.join()
        outcomes = [record["status"] for record in gateway.journal.records() if record["kind"] == "outcome"]
    done = effects(tmp_path, "add")
    assert outcomes.count("ok") == done < 240 and outcomes.count("denied") == 240 - done
    assert "ok" not in outcomes[-4:]


def test_the_person_is_the_systems_account_and_not_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    real = system_user()
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert system_user() == real != "somebody-else"
