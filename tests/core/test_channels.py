"""Channels: who is asked when, in which order, by how many threads; what a form says."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.test_approval import make
from tools.core import channels
from tools.core.approval import Approval, ApprovalStore, Edited, Rejected
from tools.core.channels import Approver, TerminalChannel, form_of, message_of


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "POLL_S", 0.01)


@pytest.fixture
def store(tmp_path: Path) -> ApprovalStore:
    return ApprovalStore(tmp_path / "approvals")


class Recorder:
    """A channel that answers nothing and notes what it is told."""

    name, in_view = "recorder", False

    def __init__(self) -> None:
        self.told: list[str] = []

    def put(self, asked: Approval, store: ApprovalStore) -> None:
        self.told.append(f"put {asked.id}")

    def withdraw(self, asked: Approval) -> None:
        self.told.append(f"withdraw {asked.id}")


def test_the_terminal_asks_one_after_the_other_in_one_thread_and_skips_what_is_answered(store: ApprovalStore) -> None:
    seen: list[str] = []
    busy, free = threading.Event(), threading.Event()

    def prompt(approval: Approval, _answered: Callable[[], bool]) -> bool:
        seen.append(f"{approval.id} {threading.current_thread().name}")
        busy.set()
        free.wait(10)
        return True

    channel = TerminalChannel(prompt, "ann")
    before = threading.active_count()
    asked = [store.create(make(f"a{n}")) for n in range(4)]
    for approval in asked:
        channel.put(approval, store)
    busy.wait(10)
    assert threading.active_count() == before + 1
    store.decide("a1", "rejected", by="bob")
    channel.withdraw(asked[2])
    free.set()
    end = time.monotonic() + 10
    while len(seen) < 2 and time.monotonic() < end:
        threading.Event().wait(0.01)
    assert seen == ["a0 approvals", "a3 approvals"]


def test_every_channel_is_told_and_told_when_it_is_over(store: ApprovalStore) -> None:
    first, second = Recorder(), Recorder()
    approver = Approver(store, prompt=lambda *_: Rejected("no"), who="ann", channels=[first, second])
    decided = approver.ask(make(), lambda: False)
    assert (decided.state, decided.note, decided.via) == ("rejected", "no", "terminal")
    assert first.told == second.told == ["put run-c1", "withdraw run-c1"]


def test_a_refused_answer_is_asked_again_on_every_channel(store: ApprovalStore) -> None:
    recorder, replies = Recorder(), iter([Edited({"version": 9}), Edited({"version": 2})])
    approver = Approver(store, prompt=lambda *_: next(replies), who="ann", channels=[recorder])

    async def wait() -> Approval:
        return await approver.wait(
            make(arguments={"version": 1}),
            is_stopping=lambda: False,
            check=lambda answered: "9 is too high" if answered.edited == {"version": 9} else "",
        )

    import anyio

    assert anyio.run(wait).edited == {"version": 2}
    assert recorder.told == ["put run-c1", "put run-c1", "withdraw run-c1"]


def test_a_form_tells_the_call_and_is_clean() -> None:
    asked = make(arguments={"note\x1b[2J": "a\r\u202e" + "b" * 9000}, reason="risky\x1b]0;x\x07")
    text = message_of(asked)
    assert "fake.drop" in text and asked.call_hash[:12] in text and "sha256" in text and asked.id in text
    assert not [c for c in text if c != "\n" and not c.isprintable()] and len(text) < 1000
    assert form_of(asked)["properties"]["decision"]["enum"] == ["approve", "reject"]
