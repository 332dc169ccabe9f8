"""The gateway: the one path of every call, whatever goes wrong on it."""

import asyncio
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.core import fake
from tests.core.fake import SECRET, accept, effects, make_gateway
from tools.core.calls import Caller
from tools.core.errors import ErrorKind, FinalError
from tools.core.gateway import Gateway
from tools.core.journal import JournalError, read_journal
from tools.core.results import Status

STDIO = {"servers": {"fake": {"transport": "stdio"}}}
TRANSPORTS: dict[str, dict[str, Any]] = {"in-process": {}, "stdio": STDIO}


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.core.sending.BACKOFF_S", 0.001)


def pid_of_server(gateway: Gateway) -> int:
    """The process that serves the fake over stdio."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    for child in " ".join(path.read_text() for path in children).split():
        if b"tests.core.fake_server" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError(f"no server process of {gateway.run_id}")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_statuses_and_error_kinds_are_the_same_over_every_transport(tmp_path: Path, transport: str) -> None:
    expected: list[tuple[dict[str, Any], Status, ErrorKind | None]] = [
        ({"action": "double", "x": 2}, Status.OK, None),
        ({"action": "nothing"}, Status.NO_DATA, ErrorKind.FINAL),
        ({"action": "boom"}, Status.FAILED, ErrorKind.FINAL),
        ({"action": "person"}, Status.FAILED, ErrorKind.NEEDS_PERSON),
        ({"action": "fail_write", "times": 9}, Status.FAILED, ErrorKind.RETRY),
        ({"action": "lie"}, Status.FAILED, ErrorKind.FINAL),
        ({"action": "wait_read"}, Status.FAILED, ErrorKind.FINAL),
        ({"action": "wait_write"}, Status.UNKNOWN, ErrorKind.FINAL),
        ({"action": "double", "x": "two"}, Status.FAILED, ErrorKind.FIXABLE),
        ({"action": "double", "y": 2}, Status.FAILED, ErrorKind.FIXABLE),
        ({"action": "duble"}, Status.FAILED, ErrorKind.FIXABLE),
        ({}, Status.FAILED, ErrorKind.FIXABLE),
    ]
    with make_gateway(tmp_path, stack=TRANSPORTS[transport]) as gateway:
        for arguments, status, kind in expected:
            result = gateway.call("fake", arguments)
            assert (result.status, result.error and result.error.kind) == (status, kind), (arguments, result)
        unknown = gateway.call("mlfow", {"action": "x"})
    assert unknown.error is not None and unknown.error.kind is ErrorKind.FIXABLE and "fake" in unknown.message
    outcomes = [record for record in gateway.journal.records() if record["kind"] == "outcome"]
    assert len(outcomes) == len(expected) + 1


def test_a_result_carries_data_message_and_the_id_of_its_records(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway:
        result = gateway.call("fake", {"action": "double", "x": 4})
    assert result.data is not None and result.data["twice"] == 8 and result.message == "4 twice"
    assert [record["call_id"] for record in gateway.journal.records()] == [result.call_id] * 2


def test_no_data_says_where_it_looked(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway:
        result = gateway.call("fake", {"action": "nothing"})
    assert result.error is not None and result.error.tried == "the shelf"


def test_the_intent_is_on_disk_before_the_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    path = tmp_path / "runs" / "run" / "journal.jsonl"

    def look(self: Any, args: Any, ctx: Any) -> Any:
        seen.append([record["kind"] for record in read_journal(path)])
        return fake.CountResult(count=1)

    monkeypatch.setattr(fake.FakeBackend, "add", look)
    with make_gateway(tmp_path) as gateway:
        gateway.call("fake", {"action": "add"})
    assert seen == [["intent", "begun"]]
    assert [record["kind"] for record in read_journal(path)] == ["intent", "begun", "outcome"]


def test_a_call_that_cannot_be_recorded_does_not_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_gateway(tmp_path) as gateway:
        assert gateway.call("fake", {"action": "add"}).ok

        def full(_file: int, _data: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("tools.core.journal.os.write", full)
            with pytest.raises(JournalError, match="No space left"):
                gateway.call("fake", {"action": "add"})
        with pytest.raises(JournalError):
            gateway.call("fake", {"action": "add"})
    assert effects(tmp_path, "add") == 1
    assert len(gateway.journal.records()) == 3  # of the first call alone


@pytest.mark.parametrize(
    ("action", "calls", "ok"), [("fail_read", 3, True), ("fail_put", 3, True), ("fail_write", 1, False)]
)
def test_only_reads_and_idempotent_calls_are_repeated(tmp_path: Path, action: str, calls: int, ok: bool) -> None:
    with make_gateway(tmp_path) as gateway:
        result = gateway.call("fake", {"action": action, "times": 2})
    assert (result.ok, effects(tmp_path, action)) == (ok, calls)
    assert gateway.journal.records()[-1]["attempts"] == calls


def test_repeating_ends_after_three_attempts(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway:
        result = gateway.call("fake", {"action": "fail_read", "times": 99})
    assert result.status is Status.FAILED and effects(tmp_path, "fail_read") == 3


@pytest.mark.parametrize("action", ["boom", "person", "nothing"])
def test_other_failures_are_not_repeated(tmp_path: Path, action: str) -> None:
    with make_gateway(tmp_path) as gateway:
        gateway.call("fake", {"action": action})
    assert gateway.journal.records()[-1]["attempts"] == 1


def test_a_write_that_timed_out_is_unknown_and_not_repeated(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway:
        result = gateway.call("fake", {"action": "wait_write"})
    assert result.status is Status.UNKNOWN and "read the state back" in result.message
    assert effects(tmp_path, "wait_begun") == 1


def test_a_write_whose_server_died_is_unknown_and_not_repeated(tmp_path: Path) -> None:
    with make_gateway(tmp_path, stack=STDIO) as gateway:
        result = gateway.call("fake", {"action": "die_write"})
        assert result.status is Status.UNKNOWN and "went away" in result.message
        assert effects(tmp_path, "die_write") == 1
        assert gateway.call("fake", {"action": "double", "x": 1}).ok, "a new server takes over"


def test_a_read_whose_server_died_is_repeated_on_a_new_one(tmp_path: Path) -> None:
    with make_gateway(tmp_path, stack=STDIO) as gateway:
        assert gateway.call("fake", {"action": "die_read"}).ok
    assert effects(tmp_path, "die_read") == 2


def test_after_a_server_was_killed_between_calls_the_next_write_happens_once(tmp_path: Path) -> None:
    with make_gateway(tmp_path, stack=STDIO) as gateway:
        assert gateway.call("fake", {"action": "add"}).ok
        os.kill(pid_of_server(gateway), signal.SIGKILL)
        results = [gateway.call("fake", {"action": "add"}) for _ in range(2)]
    # The kill may be noticed only by the write itself; then its outcome is reported as unknown, never as ok.
    assert results[-1].ok
    assert effects(tmp_path, "add") == 1 + sum(result.ok for result in results)


def test_a_server_that_does_not_start_is_a_clear_error_with_the_command(tmp_path: Path) -> None:
    stack = {"mcpServers": {"other": {"command": str(tmp_path / "nowhere")}}}
    policy = {"autonomy": "autonomous", "integrations": {"other": {"allow": "*"}}}
    with make_gateway(tmp_path, stack=stack, policy=policy) as gateway:
        gateway.stack.pins.accept("other", [{"name": "x", "inputSchema": {}}], by="tester")
        result = gateway.call("other", {"action": "x"})
    assert result.error is not None and result.error.kind is ErrorKind.NEEDS_PERSON
    assert "cannot reach the MCP server other" in result.message and "config/stack.yaml" in result.message
    assert "nowhere" in str(result.error.tried)


def test_an_unset_variable_in_the_stack_is_a_clear_error_in_the_journal(tmp_path: Path) -> None:
    stack = {"mcpServers": {"other": {"command": "x", "env": {"T": "$NO_SUCH_TOKEN"}}}}
    policy = {"autonomy": "autonomous", "integrations": {"other": {"allow": "*"}}}
    with make_gateway(tmp_path, stack=stack, policy=policy) as gateway:
        gateway.stack.pins.accept("other", [{"name": "x", "inputSchema": {}}], by="tester")
        result = gateway.call("other", {"action": "x"})
    assert result.status is Status.FAILED and "$NO_SUCH_TOKEN" in result.message
    assert gateway.journal.records()[-1]["kind"] == "outcome"


def test_a_policy_that_denies_everything_lets_nothing_happen(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy={"autonomy": "auto"}) as gateway:
        results = [gateway.call("fake", {"action": action}) for action in ("add", "drop", "nothing")]
    assert {result.status for result in results} == {Status.DENIED}
    assert not (tmp_path / "fake").exists()
    assert [record["decision"] for record in gateway.journal.records() if record["kind"] == "intent"] == ["deny"] * 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(36, "File name too long", "x.csv"), "x.csv: File name too long"),
        (ValueError("embedded null byte"), "embedded null byte"),
        (KeyError("columns"), "a fault of the program"),
        (RecursionError("too deep"), "too deep"),
    ],
)
def test_whatever_stops_a_call_from_being_looked_at_is_a_refusal_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    with make_gateway(tmp_path) as gateway:
        with monkeypatch.context() as patch:
            patch.setattr("tools.core.admission.check_paths", fail)
            result = gateway.call("fake", {"action": "add", "trials": 2})
        intent, outcome = gateway.journal.records()
        assert gateway.call("fake", {"action": "add"}).ok, "it goes on"
    assert result.status is Status.FAILED and told in result.message and result.call_id == outcome["call_id"]
    assert (intent["decision"], intent["arguments"], intent["effect"]) == ("invalid", {"trials": 2}, None)
    assert outcome["error"]["kind"] == ErrorKind.FINAL.value and effects(tmp_path, "add") == 1


def test_limits_hold_for_one_call_and_over_the_run(tmp_path: Path) -> None:
    policy = {"limits": {"trials": {"max": 5, "per_run": 8}}, "integrations": {"fake": {"allow": "*"}}}
    with make_gateway(tmp_path, policy=policy) as gateway:
        statuses = [gateway.call("fake", {"action": "add", "trials": n}).status.value for n in (6, 5, 4, 3, 1)]
    assert statuses == ["denied", "ok", "denied", "ok", "denied"]
    assert effects(tmp_path, "add") == 2


def test_concurrent_calls_together_stay_inside_the_limit_of_the_run(tmp_path: Path) -> None:
    policy = {"limits": {"trials": {"per_run": 7}}, "integrations": {"fake": {"allow": "*"}}}
    with make_gateway(tmp_path, policy=policy) as gateway, ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: gateway.call("fake", {"action": "add", "trials": 1}), range(20)))
    assert sum(result.ok for result in results) == 7 == effects(tmp_path, "add")


def test_a_role_reaches_only_what_it_was_granted(tmp_path: Path) -> None:
    sentinel = Caller(role="sentinel", task="watch", granted=frozenset({"fake.double"}))
    with make_gateway(tmp_path) as gateway:
        assert gateway.call("fake", {"action": "double", "x": 1}, sentinel).ok
        denied = gateway.call("fake", {"action": "add"}, sentinel)
    assert denied.status is Status.DENIED and "sentinel may not use fake.add" in denied.message
    assert {record["role"] for record in gateway.journal.records() if record["kind"] == "intent"} == {"sentinel"}


def test_null_arguments_count_as_left_out(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway:
        assert gateway.call("fake", {"action": "double", "x": 1, "unit": None, "other": None}).ok
    assert gateway.journal.records()[0]["arguments"] == {"x": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_progress_reaches_listeners_and_is_not_written(tmp_path: Path, transport: str) -> None:
    heard: list[Any] = []
    with make_gateway(tmp_path, stack=TRANSPORTS[transport]) as gateway:
        gateway.journal.subscribe(heard.append)
        result = gateway.call("fake", {"action": "double", "x": 1})
    progress = [record for record in heard if record["kind"] == "progress"]
    assert (progress[-1]["done"], progress[-1]["total"], progress[-1]["message"]) == (3, 3, "step 3")
    assert {record["call_id"] for record in progress} == {result.call_id}
    assert all(record["kind"] != "progress" for record in gateway.journal.records())


def test_calls_from_many_threads_get_their_own_answers(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway, ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda x: gateway.call("fake", {"action": "double", "x": x}), range(40)))
    assert [result.data and result.data["twice"] for result in results] == [x * 2 for x in range(40)]
    assert len({result.call_id for result in results}) == 40
    assert [record["seq"] for record in gateway.journal.records()] == list(range(80))


def test_calls_can_be_awaited_together_in_any_event_loop(tmp_path: Path) -> None:
    async def many(gateway: Gateway) -> list[Any]:
        return await asyncio.gather(*(gateway.call_tool("fake", {"action": "double", "x": x}) for x in range(10)))

    with make_gateway(tmp_path) as gateway:
        for _ in range(2):
            results = asyncio.run(many(gateway))
            assert [result.data["twice"] for result in results] == [x * 2 for x in range(10)]


def test_an_awaited_call_that_is_cancelled_leaves_an_unknown_outcome(tmp_path: Path) -> None:
    async def give_up(gateway: Gateway) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gateway.call_tool("fake", {"action": "wait_long"}), 0.3)

    with make_gateway(tmp_path) as gateway:
        asyncio.run(give_up(gateway))
    assert [record["kind"] for record in gateway.journal.records()] == ["intent", "outcome"]
    assert gateway.journal.records()[-1]["status"] == "unknown"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_close_stops_what_the_backend_started(tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "closed"
    monkeypatch.setenv("FAKE_CLOSED", str(marker))
    monkeypatch.setattr("tools.core.stack.PASSED_ON", ("PATH", "PYTHONPATH", "FAKE_CLOSED"))
    with make_gateway(tmp_path, stack=TRANSPORTS[transport], env={"FAKE_CLOSED": str(marker)}) as gateway:
        assert gateway.call("fake", {"action": "add"}).ok
        assert not marker.exists()
    assert marker.read_text() == "closed"
    gateway.close()


def test_a_backend_that_cannot_be_closed_does_not_keep_the_gateway_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: Any) -> None:
        raise OSError("stuck")

    monkeypatch.setattr(fake.FakeBackend, "close", fail)
    gateway = make_gateway(tmp_path)
    gateway.call("fake", {"action": "add"})
    before = threading.active_count()
    with pytest.raises(ExceptionGroup, match="not everything could be stopped"):
        gateway.close()
    assert threading.active_count() < before


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_stop_and_close_end_a_long_call_within_seconds(tmp_path: Path, transport: str) -> None:
    gateway = make_gateway(tmp_path, stack=TRANSPORTS[transport])
    begun = threading.Event()
    gateway.journal.subscribe(lambda record: begun.set() if record["kind"] == "progress" else None)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(gateway.call, "fake", {"action": "wait_long", "seconds": 60})
        assert begun.wait(20)
        gateway.stop()
        gateway.close()
        result = call.result(10)
    assert result.status is Status.FAILED
    assert gateway.journal.records()[-1]["kind"] == "outcome"


def test_after_stop_new_calls_are_refused_and_recorded(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway:
        gateway.stop()
        result = gateway.call("fake", {"action": "add"})
        assert result.status is Status.FAILED and "being stopped" in result.message
    assert gateway.journal.records()[0]["decision"] == "invalid" and effects(tmp_path, "add") == 0


def test_a_closed_gateway_says_so(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    gateway.close()
    with pytest.raises(FinalError, match="closed"):
        gateway.call("fake", {"action": "add"})


@pytest.mark.parametrize("action", ["leak", "leak_error"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_secrets_reach_neither_result_nor_journal_nor_listeners(tmp_path: Path, transport: str, action: str) -> None:
    heard: list[Any] = []
    with make_gateway(tmp_path, stack=TRANSPORTS[transport]) as gateway:
        gateway.journal.subscribe(heard.append)
        result = gateway.call("fake", {"action": action})
    for text in (result.model_dump_json(), (tmp_path / "runs/run/journal.jsonl").read_text(), str(heard)):
        assert SECRET not in text and "[redacted:FAKE_SECRET]" in text


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_result_that_is_not_what_was_promised_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(self: Any, args: Any, ctx: Any) -> Any:
        return fake.DoubleResult.model_construct(twice="many", message="")

    monkeypatch.setattr(fake.FakeBackend, "double", other)
    with make_gateway(tmp_path) as gateway:
        result = gateway.call("fake", {"action": "double", "x": 1})
    assert result.status is Status.FAILED and "something else than it promises" in result.message


def test_a_backend_that_cannot_be_made_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Any, _settings: Any) -> None:
        raise RuntimeError("no licence")

    monkeypatch.setattr(fake.FakeBackend, "__init__", fail)
    with make_gateway(tmp_path) as gateway:
        result = gateway.call("fake", {"action": "add"})
    assert result.status is Status.FAILED and "no licence" in result.message


def test_a_continued_run_gets_new_call_ids(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway:
        first = gateway.call("fake", {"action": "add"}).call_id
    gateway.journal.close()
    with make_gateway(tmp_path) as gateway:
        assert gateway.call("fake", {"action": "add"}).call_id != first
    assert [record["seq"] for record in gateway.journal.records()] == list(range(6))


def test_a_third_party_server_is_called_under_the_same_policy_and_journal(tmp_path: Path) -> None:
    import sys

    stack = {"mcpServers": {"other": {"command": sys.executable, "args": ["-m", "tests.core.third_party"]}}}
    reads = dict.fromkeys(("blocks", "typed", "broken_promise", "fails"), "read")
    policy = {
        "approval_timeout_s": 0,
        "integrations": {"other": {"allow": [*reads, "write"], "effects": reads}},
    }
    with make_gateway(tmp_path, stack=stack, policy=policy) as gateway:
        accept(gateway, "other")
        blocks = gateway.call("other", {"action": "blocks", "a": 1, "b": None})
        typed = gateway.call("other", {"action": "typed"})
        plain = gateway.call("other", {"action": "broken_promise"})
        fails = gateway.call("other", {"action": "fails"})
        write = gateway.call("other", {"action": "write"})
        unlisted = gateway.call("other", {"action": "unlisted"})
        names = [tool["name"] for tool in gateway.tools("other")]
    assert blocks.data == {"text": "first\n[image/png image]\nlast ['a']"}, "every content block is kept"
    assert typed.data == {"n": 7}
    assert plain.data == {"text": "no number here"}
    assert fails.status is Status.FAILED and fails.message == "quota\nexceeded"
    assert [block["type"] for block in blocks.content] == ["text", "image", "text"], "for outside clients, as they came"
    assert "aGk=" not in json.dumps(gateway.journal.records())
    assert write.status is Status.NEEDS_APPROVAL, "an unclassified tool of a real server is risky"
    assert unlisted.status is Status.DENIED
    assert names == ["blocks", "typed", "broken_promise", "fails", "write"]
    intents = [record for record in gateway.journal.records() if record["kind"] == "intent"]
    assert len(intents) == 6 and all(record["real"] for record in intents)
