"""What is used up: reserved before a call, given back where it did not begin, rebuilt, by session and by time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.core.fake import effects, make_gateway
from tools.core.calls import PERSON, Call, Caller
from tools.core.contract import Effect
from tools.core.errors import DeniedError, ErrorKind
from tools.core.limits import Usage
from tools.core.policy import Limit
from tools.core.policy.amounts import Window
from tools.core.results import ErrorInfo, Status, ToolResult
from tools.core.windows import WindowStore

AGENT = Caller(role="architect", task="tune", granted=frozenset({"fake"}))
OK = ToolResult(status=Status.OK)
BUSY = ToolResult(status=Status.FAILED, error=ErrorInfo(kind=ErrorKind.RETRY, message="busy"))
BROKEN = ToolResult(status=Status.FAILED, error=ErrorInfo(kind=ErrorKind.FINAL, message="broken"))


def call(trials: Any = 1, caller: Caller = AGENT) -> Call:
    return Call(
        id="c1", server="fake", action="add", caller=caller, effect=Effect.WRITE, arguments={"trials": trials},
        limited={"trials": "trials"}, may_repeat=False, timeout_s=1, definition=None,
    )  # fmt: skip


def limited(server: str, action: str) -> dict[str, str]:
    return {"trials": "trials"} if (server, action) == ("fake", "add") else {}


def trials(usage: Usage, caller: Caller = AGENT) -> float:
    return usage.used(caller)["trials"].get(Window.RUN, 0.0)


def test_two_reservations_cannot_both_have_the_last() -> None:
    usage = Usage({"trials": Limit(per_run=10)})
    usage.reserve(call(6))
    with pytest.raises(DeniedError, match="trials 6 on top of the 6 that this run has used"):
        usage.reserve(call(6))
    usage.reserve(call(4))
    assert trials(usage) == 10


def test_many_threads_stay_inside_the_limit() -> None:
    usage = Usage({"trials": Limit(per_run=100)})

    def attempt(_: int) -> bool:
        try:
            usage.settle(usage.reserve(call(3)), OK)
        except DeniedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(200))) == 33


@pytest.mark.parametrize(("result", "kept"), [(OK, 5), (BROKEN, 5), (BUSY, 0), (None, 0)])
def test_what_did_not_begin_is_given_back(result: ToolResult | None, kept: float) -> None:
    usage = Usage({"trials": Limit(per_run=10)})
    held = usage.reserve(call(5))
    usage.settle(held, result)
    assert trials(usage) == kept
    usage.release(held)
    assert trials(usage) == kept, "a second time gives nothing back"


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), True, "5", 10**400, 1e300, [1], {}])
def test_an_odd_amount_is_refused(amount: Any) -> None:
    usage = Usage({})
    with pytest.raises(DeniedError, match=r"trials .*cannot be compared"):
        usage.reserve(call(amount))
    assert usage.used(AGENT) == {}


def intent(call_id: str, amount: Any = 1, decision: str = "allow", **more: Any) -> dict[str, Any]:
    return {
        "kind": "intent", "call_id": call_id, "server": "fake", "action": "add", "arguments": {"trials": amount},
        "decision": decision, **more,
    }  # fmt: skip


def outcome(call_id: str, status: str, kind: str | None = None) -> dict[str, Any]:
    return {"kind": "outcome", "call_id": call_id, "status": status, "error": {"kind": kind} if kind else None}


RECORDS = [
    intent("c1", 2), outcome("c1", "ok"),
    intent("c2", 4), outcome("c2", "failed", "final"),
    intent("c3", 8), outcome("c3", "failed", "retry"),
    intent("c4", 16, "ask"), outcome("c4", "ok"),
    intent("c5", 32, "ask"), outcome("c5", "needs_approval"),
    intent("c6", 64, "deny"), outcome("c6", "denied"),
    intent("c7", 128), outcome("c7", "denied", "denied"),
    intent("c8", 256), outcome("c8", "unknown"),
    intent("c9", "odd", "allow"), outcome("c9", "denied"),
    intent("c10", 512),
]  # fmt: skip


def test_the_use_of_a_run_is_rebuilt_from_its_journal() -> None:
    usage = Usage.from_records(RECORDS, {"trials": Limit(per_run=1e6), "calls": Limit(per_run=9)}, limited)
    assert trials(usage) == 2 + 4 + 16 + 256 + 512
    assert usage.used(AGENT)["calls"][Window.RUN] == 5


def test_where_a_journal_says_when_calls_begin_an_open_call_that_did_not_begin_counts_for_nothing() -> None:
    begun = [*RECORDS, {"kind": "begun", "call_id": "c1"}]
    limits = {"trials": Limit(per_run=1e6)}
    assert trials(Usage.from_records(begun, limits, limited)) == 2 + 4 + 16 + 256
    begun.append({"kind": "begun", "call_id": "c10"})
    assert trials(Usage.from_records(begun, limits, limited)) == 2 + 4 + 16 + 256 + 512


def test_what_models_cost_counts_and_an_overdrawn_budget_is_seen() -> None:
    records = [{"kind": "task_finished", "task": "a", "cost_usd": cost} for cost in (0.5, None, 0.75, "x", -3)]
    usage = Usage.from_records(records, {"cost_usd": Limit(per_run=1)}, limited)
    usage.note({"kind": "task_finished", "cost_usd": 0.25})
    assert usage.used(AGENT)["cost_usd"][Window.RUN] == 1.5


def test_a_session_is_counted_apart_and_not_by_the_limit_of_a_run() -> None:
    usage = Usage({"trials": Limit(per_run=5, per_session=7)})
    first, second = (Caller(role="mcp_client", session=name) for name in ("one", "two"))
    for client in (first, second):
        for _ in range(7):
            usage.reserve(call(1, client))
        with pytest.raises(DeniedError, match="this session has used"):
            usage.reserve(call(1, client))
    with pytest.raises(DeniedError, match="this run has used"):
        usage.reserve(call(1, AGENT))


def test_an_outside_caller_without_a_bound_of_its_own_keeps_to_that_of_a_run() -> None:
    usage = Usage({"trials": Limit(per_run=5)})
    usage.reserve(call(5, PERSON))
    with pytest.raises(DeniedError):
        usage.reserve(call(1, PERSON))


def test_a_session_that_goes_on_lives_by_the_hour(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    limits = {"calls": Limit(per_run=3, per_hour=20)}
    usage = Usage(limits, WindowStore(tmp_path, lambda: now[0]))
    client = Caller(role="mcp_client", session="one")
    for _ in range(20):
        usage.reserve(call(1, client))
    with pytest.raises(DeniedError, match="in the last hour"):
        usage.reserve(call(1, client))
    now[0] += 3700
    usage.reserve(call(1, client))
    other = Usage(limits, WindowStore(tmp_path, lambda: now[0]))
    assert other.used(client)["calls"] == {Window.HOUR: 1.0}, "another process knows it"


def test_the_way_back_is_counted_and_never_refused(tmp_path: Path) -> None:
    usage = Usage({"calls": Limit(per_run=1, per_hour=1)}, WindowStore(tmp_path))
    usage.reserve(call())
    usage.reserve(call(), free=True)
    (tmp_path / "limits.json").write_text("broken")
    usage.reserve(call(), free=True)
    with pytest.raises(DeniedError, match="a person may remove it"):
        Usage({"calls": Limit(per_hour=9)}, WindowStore(tmp_path)).reserve(call())


def test_a_run_that_is_continued_has_what_is_left(tmp_path: Path) -> None:
    policy = {"limits": {"trials": {"per_run": 8}}, "integrations": {"fake": {"allow": "*"}}}
    with make_gateway(tmp_path, policy=policy) as gateway:
        assert gateway.call("fake", {"action": "add", "trials": 5}).ok
    gateway.journal.close()
    with make_gateway(tmp_path, policy=policy) as gateway:
        assert gateway.call("fake", {"action": "add", "trials": 5}).status is Status.DENIED
        assert gateway.call("fake", {"action": "add", "trials": 3}).ok
    assert effects(tmp_path, "add") == 2


def test_a_call_that_did_not_begin_uses_nothing_up_at_the_gateway(tmp_path: Path) -> None:
    policy = {"limits": {"calls": {"per_run": 2}}, "integrations": {"fake": {"allow": "*"}}}
    with make_gateway(tmp_path, policy=policy) as gateway:
        assert gateway.call("fake", {"action": "fail_write", "times": 1}).status is Status.FAILED
        results = [gateway.call("fake", {"action": "add"}).status for _ in range(3)]
    assert results == [Status.OK, Status.OK, Status.DENIED]


def test_a_budget_that_models_overdrew_holds_writes_and_not_reads(tmp_path: Path) -> None:
    policy = {"limits": {"cost_usd": {"per_run": 1}}, "integrations": {"fake": {"allow": "*"}}}
    with make_gateway(tmp_path, policy=policy) as gateway:
        gateway.journal.append("task_finished", task="think", cost_usd=1.2)
        held = gateway.call("fake", {"action": "add"})
        assert gateway.call("fake", {"action": "double", "x": 1}).ok
    assert held.status is Status.DENIED
    assert held.message == "the budget of 1 cost_usd for a run is spent: 1.2 this run has used"
