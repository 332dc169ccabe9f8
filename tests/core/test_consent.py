"""A person's leave: with edits, on a state, spent once, across a crash, withdrawn, and never in the way of others."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.core.fake import effects, make_gateway
from tests.core.test_approval import SUPERVISED, answer
from tools.core import channels, consent
from tools.core.approval import Approval, ApprovalError, ApprovalStore, Edited
from tools.core.calls import PERSON, Caller
from tools.core.channels import ElicitChannel, Elicited
from tools.core.consent import state_text
from tools.core.errors import DeniedError
from tools.core.gateway import Gateway
from tools.core.grants import Scope, grant
from tools.core.results import Status

ASK_ADD = {
    "approval_timeout_s": 20,
    "limits": {"trials": {"max": 10, "per_run": 12}},
    "integrations": {"fake": {"allow": "*", "ask": ["add", "drop"]}},
}


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "POLL_S", 0.01)


def store_of(home: Path) -> ApprovalStore:
    return ApprovalStore(home / "approvals")


def decided(gateway: Gateway) -> list[dict[str, Any]]:
    return [r for r in gateway.journal.records() if r["kind"] == "approval_decided"]


def reads(gateway: Gateway, states: list[str | None]) -> None:
    """Let the gateway read these states, one after the other; the last one stays."""

    async def read(_call: Any) -> str | None:
        return states.pop(0) if len(states) > 1 else states[0]

    gateway._consent._read_state = read


class TestEdits:
    def test_the_call_is_made_as_it_was_approved_and_both_are_journalled(self, tmp_path: Path) -> None:
        with make_gateway(tmp_path, policy=ASK_ADD) as gateway:
            thread = answer(tmp_path, lambda s, a: s.decide(a.id, "approved", by="ann", edited={"trials": 3}))
            result = gateway.call("fake", {"action": "add", "trials": 8})
            thread.join()
            assert result.ok and "approved by ann with trials=3 instead of 8" in result.message
            assert 3 in gateway._usage.used(PERSON)["trials"].values()
        assert decided(gateway)[0]["edited"] == {"before": {"trials": 8}, "after": {"trials": 3}}
        assert effects(tmp_path, "add") == 1

    @pytest.mark.parametrize(
        ("edited", "why"),
        [
            ({"trials": 11}, "above the policy's limit of 10"),
            ({"trials": "many"}, "trials"),
            ({"other": 1}, "other"),
        ],
    )
    def test_a_value_that_may_not_be_is_refused_and_the_question_stays_open(
        self, tmp_path: Path, edited: dict[str, Any], why: str
    ) -> None:
        refusals: list[str] = []

        def edit_then_approve(store: ApprovalStore, asked: Approval) -> None:
            first = store.decide(asked.id, "approved", by="ann", edited=edited)
            while not refusals:
                refusals.extend(filter(None, [store.refusal_of(first)]))
            assert store.get(asked.id).state == "pending"
            store.decide(asked.id, "approved", by="ann")

        with make_gateway(tmp_path, policy=ASK_ADD) as gateway:
            thread = answer(tmp_path, edit_then_approve)
            assert gateway.call("fake", {"action": "add", "trials": 8}).ok
            thread.join()
        assert why in refusals[0], refusals
        assert "edited" not in decided(gateway)[0] and effects(tmp_path, "add") == 1

    def test_a_value_outside_the_tasks_grant_is_refused(self, tmp_path: Path) -> None:
        asked_again: list[str] = []

        def prompt(approval: Approval, _answered: Callable[[], bool]) -> bool | Edited:
            asked_again.append(approval.reason)
            return Edited({"trials": 9}) if len(asked_again) == 1 else True

        scope = Scope(grants=(grant("fake.add", trials=2),))
        caller = Caller("tuner", "tune", frozenset({"fake"}), scope)
        with make_gateway(tmp_path, policy=ASK_ADD, prompt=prompt) as gateway:
            assert gateway.call("fake", {"action": "add", "trials": 2}, caller).ok
        assert "the last answer was refused" in asked_again[1] and "2" in asked_again[1]

    def test_what_is_rejected_or_chosen_cannot_be_edited(self, tmp_path: Path) -> None:
        store, now = store_of(tmp_path), time.time()
        store.create(
            Approval(
                id="a", run_id="r", integration="i", action="b", arguments={"x": 1}, role=None, reason="",
                call_hash="h", created_ts=now, expires_ts=now + 60,
            )
        )  # fmt: skip
        with pytest.raises(ApprovalError, match="only what is approved"):
            store.decide("a", "rejected", edited={"x": 2})


class TestState:
    OLD, NEW = '{"version": 2}', '{"version": 1}'

    def test_a_state_that_changed_voids_the_leave_and_the_next_call_asks_anew(self, tmp_path: Path) -> None:
        asked: list[Approval] = []

        def prompt(approval: Approval, _answered: Callable[[], bool]) -> bool:
            asked.append(approval)
            return True

        with make_gateway(tmp_path, policy=SUPERVISED, prompt=prompt) as gateway:
            reads(gateway, [self.OLD, self.NEW])
            result = gateway.call("fake", {"action": "drop"})
            assert result.status is Status.DENIED and "version was 2 and is 1" in result.message
            assert effects(tmp_path, "drop") == 0
            assert gateway.call("fake", {"action": "drop"}).ok
        assert asked[0].id != asked[1].id and asked[0].state_hash != asked[1].state_hash
        assert asked[0].facts.now == {"version": 2}

    @pytest.mark.parametrize("now", [None, "{}"])
    def test_a_state_that_is_gone_voids_it_too(self, tmp_path: Path, now: str | None) -> None:
        with make_gateway(tmp_path, policy=SUPERVISED, prompt=lambda *_: True) as gateway:
            reads(gateway, [self.OLD, now])
            assert gateway.call("fake", {"action": "drop"}).status is Status.DENIED
        assert effects(tmp_path, "drop") == 0

    def test_the_state_leaves_out_what_changes_by_itself(self) -> None:
        one = {"version": 1, "message": "since 1 s", "load_s": 0.1, "changed": True, "champion_uri": "m:/1"}
        other = {"version": 1, "message": "since 2 s", "load_s": 0.2, "changed": False, "champion_uri": "m:/1"}
        assert state_text(one) == state_text(other) == '{"champion_uri": "m:/1", "version": 1}'
        assert state_text(one, ("load_s",)) != state_text(other, ("load_s",))
        assert state_text(None) == "{}"


class TestSpending:
    def test_a_leave_is_spent_when_the_call_begins(self, tmp_path: Path) -> None:
        store = store_of(tmp_path)
        with make_gateway(tmp_path, policy=SUPERVISED, prompt=lambda *_: True) as gateway:
            assert gateway.call("fake", {"action": "drop"}).ok
        approval_id = decided(gateway)[0]["approval_id"]
        assert store.get(approval_id).state == "used"
        with pytest.raises(ApprovalError, match="used"):
            store.spend(approval_id)

    def test_what_was_spent_elsewhere_is_not_done_again(self, tmp_path: Path) -> None:
        with make_gateway(tmp_path, policy=SUPERVISED, prompt=lambda *_: True) as gateway:
            spend = gateway._consent.spend

            def spent_twice(approval_id: str) -> None:
                spend(approval_id)
                spend(approval_id)

            gateway._consent.spend = spent_twice  # type: ignore[method-assign]
            result = gateway.call("fake", {"action": "drop"})
        assert result.status is Status.DENIED and "already used" in result.message
        assert effects(tmp_path, "drop") == 0

    @pytest.mark.parametrize("answered", ["before it was cut off", "while nobody ran"])
    def test_an_answer_that_a_crash_left_unused_counts_once_on_resume(self, tmp_path: Path, answered: str) -> None:
        store = store_of(tmp_path)
        with make_gateway(tmp_path, policy=SUPERVISED) as gateway:
            suspend = threading.Event()
            gateway._consent._is_suspending = suspend.is_set
            thread = answer(tmp_path, lambda _s, _a: suspend.set())
            assert gateway.call("fake", {"action": "drop"}).status is Status.NEEDS_APPROVAL
            thread.join()
        gateway.journal.close()
        (asked,) = store.pending()
        store.decide(asked.id, "approved", by="ann")
        with make_gateway(tmp_path, policy={**SUPERVISED, "approval_timeout_s": 0.2}) as resumed:
            assert resumed.call("fake", {"action": "drop"}).ok
            assert store.get(asked.id).state == "used"
            assert resumed.call("fake", {"action": "drop"}).status is Status.NEEDS_APPROVAL
        assert effects(tmp_path, "drop") == 1

    def test_it_counts_for_no_other_run_and_no_other_call(self, tmp_path: Path) -> None:
        self.test_an_answer_that_a_crash_left_unused_counts_once_on_resume(tmp_path / "a", "")
        home = tmp_path / "b"
        short = {**SUPERVISED, "approval_timeout_s": 0.2}
        with make_gateway(home, policy=SUPERVISED) as gateway:
            suspend = threading.Event()
            gateway._consent._is_suspending = suspend.is_set
            thread = answer(home, lambda _s, _a: suspend.set())
            gateway.call("fake", {"action": "drop"})
            thread.join()
        gateway.journal.close()
        store_of(home).decide(store_of(home).pending()[0].id, "approved", by="ann")
        with make_gateway(home, policy=short, run_id="another") as other:
            assert other.call("fake", {"action": "drop"}).status is Status.NEEDS_APPROVAL
        assert effects(home, "drop") == 0

    def test_without_its_file_a_used_leave_is_used_all_the_same(self, tmp_path: Path) -> None:
        with make_gateway(tmp_path, policy=SUPERVISED, prompt=lambda *_: True) as gateway:
            assert gateway.call("fake", {"action": "drop"}).ok
            approval_id = decided(gateway)[0]["approval_id"]
            gateway.journal.close()
        (tmp_path / "approvals" / f"{approval_id}.used").unlink()
        with make_gateway(tmp_path, policy={**SUPERVISED, "approval_timeout_s": 0.2}) as again:
            result = again.call("fake", {"action": "drop"})
            assert result.status is Status.NEEDS_APPROVAL and decided(again)[-1]["approval_id"] != approval_id
            with pytest.raises(DeniedError, match="already used, on c0001"):
                again._consent.check_unused(approval_id)
            again._consent.check_unused(approval_id, but_for="c0001")
        assert effects(tmp_path, "drop") == 1

    def test_no_call_begins_by_a_leave_that_another_began_with(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with make_gateway(tmp_path, policy=SUPERVISED, prompt=lambda *_: True) as gateway:
            assert gateway.call("fake", {"action": "drop"}).ok
            first = decided(gateway)[0]["approval_id"]
            (tmp_path / "approvals" / f"{first}.used").unlink()
            ask = gateway._consent.ask

            async def old(*given: Any) -> consent.Leave:
                return replace(await ask(*given), approval_id=first)

            monkeypatch.setattr(gateway._consent, "ask", old)
            result = gateway.call("fake", {"action": "drop"})
            begun = [r for r in gateway.journal.records() if r["kind"] == "begun"]
        assert result.status is Status.DENIED and f"{first} is already used" in result.message
        assert len(begun) == effects(tmp_path, "drop") == 1

    def test_a_leave_that_was_void_once_stays_so_without_its_file(self, tmp_path: Path) -> None:
        with make_gateway(tmp_path, policy=SUPERVISED, prompt=lambda *_: True) as gateway:
            reads(gateway, [TestState.OLD, TestState.NEW])
            assert gateway.call("fake", {"action": "drop"}).status is Status.DENIED
            gateway.journal.close()
        for file in (tmp_path / "approvals").glob("*.used"):
            file.unlink()
        with make_gateway(tmp_path, policy={**SUPERVISED, "approval_timeout_s": 0.2}) as again:
            reads(again, [TestState.OLD])
            assert again.call("fake", {"action": "drop"}).status is Status.NEEDS_APPROVAL
        assert effects(tmp_path, "drop") == 0

    def test_a_rejection_is_not_taken_for_the_next_call(self, tmp_path: Path) -> None:
        answers = iter([False, True])
        with make_gateway(tmp_path, policy=SUPERVISED, prompt=lambda *_: next(answers)) as gateway:
            assert gateway.call("fake", {"action": "drop"}).status is Status.DENIED
        gateway.journal.close()
        with make_gateway(tmp_path, policy=SUPERVISED, prompt=lambda *_: next(answers)) as gateway:
            assert gateway.call("fake", {"action": "drop"}).ok


class TestWaiting:
    def test_a_caller_that_gives_up_takes_its_question_along(self, tmp_path: Path) -> None:
        store = store_of(tmp_path)

        async def give_up(gateway: Gateway) -> None:
            call = asyncio.create_task(gateway.call_tool("fake", {"action": "drop"}))
            while not store.pending():
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        with make_gateway(tmp_path, policy=SUPERVISED) as gateway:
            asyncio.run(give_up(gateway))
            end = time.monotonic() + 10
            while len(gateway.journal.records()) < 4 and time.monotonic() < end:
                time.sleep(0.01)
            approval_id = decided(gateway)[0]["approval_id"]
            with pytest.raises(ApprovalError, match="already withdrawn"):
                store.decide(approval_id, "approved", by="ann")
            kinds = [record["kind"] for record in gateway.journal.records()]
        assert kinds == ["intent", "approval_requested", "approval_decided", "outcome"]
        assert decided(gateway)[0]["state"] == "withdrawn" and effects(tmp_path, "drop") == 0

    def test_fifty_waiting_questions_hold_nobody_up(self, tmp_path: Path) -> None:
        store = store_of(tmp_path)

        async def many(gateway: Gateway) -> None:
            calls = [asyncio.create_task(gateway.call_tool("fake", {"action": "drop"})) for _ in range(50)]
            while len(store.pending()) < 50:
                await asyncio.sleep(0.05)
            result = await asyncio.wait_for(gateway.call_tool("fake", {"action": "double", "x": 2}), 30)
            assert result.ok and not any(call.done() for call in calls)
            gateway.stop()
            assert {(await call).status for call in calls} == {Status.NEEDS_APPROVAL}

        with make_gateway(tmp_path, policy={**SUPERVISED, "approval_timeout_s": 100}) as gateway:
            asyncio.run(many(gateway))
        assert effects(tmp_path, "drop") == 0

    def test_where_to_answer_is_told_again_and_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(consent, "REMIND_EVERY_S", 0.05)
        told: list[dict[str, Any]] = []
        with make_gateway(tmp_path, policy={**SUPERVISED, "approval_timeout_s": 0.6}) as gateway:
            gateway.journal.subscribe(told.append)
            gateway.call("fake", {"action": "drop"})
        reminders = [r for r in told if r["kind"] == "progress"]
        assert len(reminders) >= 3
        assert reminders == sorted(reminders, key=lambda r: r["done"])
        assert all("mlops-crew approve run-c0001-" in r["message"] for r in reminders)

    def test_at_the_terminal_nobody_is_reminded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(consent, "REMIND_EVERY_S", 0.0)
        told: list[str] = []
        with make_gateway(tmp_path, policy=SUPERVISED, prompt=lambda *_: True) as gateway:
            gateway.journal.subscribe(lambda record: told.append(record["kind"]))
            assert gateway.call("fake", {"action": "drop"}).ok
        assert "progress" not in told


class TestElicitation:
    """The channel of an MCP client, on a loop of its own as in a server."""

    def ask(self, home: Path, told: Any, action: str = "drop", by: str = "ann, in the client c") -> tuple[Any, Gateway]:
        shown: list[tuple[str, dict[str, Any]]] = []

        async def elicit(message: str, schema: dict[str, Any]) -> Elicited:
            shown.append((message, schema))
            if told is None:
                await asyncio.sleep(3600)
            return told

        async def go(gateway: Gateway) -> Any:
            channel = ElicitChannel(elicit, asyncio.get_running_loop(), by)
            caller = Caller("mcp_client", "request 1", frozenset({"fake"}), channels=(channel,))
            return await gateway.call_tool("fake", {"action": action}, caller)

        timeout = 20 if told is not None and told.action != "cancel" else 0.5
        with make_gateway(home, policy={**SUPERVISED, "approval_timeout_s": timeout}) as gateway:
            result = asyncio.run(go(gateway))
        assert "fake.drop" in shown[0][0] and shown[0][1]["required"] == ["decision"]
        return result, gateway

    def test_the_clients_person_approves(self, tmp_path: Path) -> None:
        result, gateway = self.ask(tmp_path, Elicited("accept", {"decision": "approve"}))
        assert result.ok and effects(tmp_path, "drop") == 1
        assert (decided(gateway)[0]["by"], decided(gateway)[0]["via"]) == ("ann, in the client c", "MCP elicitation")

    @pytest.mark.parametrize(
        "told",
        [Elicited("decline", {}), Elicited("accept", {"decision": "reject", "note": "no"}), Elicited("accept", {})],
    )
    def test_anything_but_the_word_is_no_leave(self, tmp_path: Path, told: Elicited) -> None:
        result, _ = self.ask(tmp_path, told)
        assert result.status is Status.DENIED and effects(tmp_path, "drop") == 0

    @pytest.mark.parametrize("told", [Elicited("cancel", {}), None])
    def test_a_form_that_is_closed_or_never_answered_leaves_the_question_to_others(
        self, tmp_path: Path, told: Elicited | None
    ) -> None:
        result, _ = self.ask(tmp_path, told)
        assert result.status is Status.NEEDS_APPROVAL and effects(tmp_path, "drop") == 0

    def test_the_first_answer_wins_and_the_form_is_withdrawn(self, tmp_path: Path) -> None:
        withdrawn = threading.Event()

        async def elicit(_message: str, _schema: dict[str, Any]) -> Elicited:
            try:
                await asyncio.sleep(3600)
            finally:
                withdrawn.set()
            raise AssertionError

        async def go(gateway: Gateway) -> Any:
            channel = ElicitChannel(elicit, asyncio.get_running_loop(), "eve")
            caller = Caller("mcp_client", "request 1", frozenset({"fake"}), channels=(channel,))
            result = await gateway.call_tool("fake", {"action": "drop"}, caller)
            await asyncio.to_thread(withdrawn.wait, 10)
            return result

        with make_gateway(tmp_path, policy=SUPERVISED) as gateway:
            thread = answer(tmp_path, lambda s, a: s.decide(a.id, "approved", by="ann"))
            assert asyncio.run(go(gateway)).ok
            thread.join()
        assert withdrawn.is_set() and decided(gateway)[0]["by"] == "ann"


def test_the_journal_holds_what_was_asked_as_it_was_signed(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=SUPERVISED, prompt=lambda *_: True) as gateway:
        assert gateway.call("fake", {"action": "drop"}).ok
    asked = next(r["approval"] for r in gateway.journal.records() if r["kind"] == "approval_requested")
    on_disk = json.loads((tmp_path / "approvals" / f"{asked['id']}.json").read_text())
    assert {k: v for k, v in asked.items() if k != "signature"} == {
        k: v for k, v in on_disk.items() if k != "signature"
    }
