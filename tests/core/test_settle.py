"""A process that ends between any two records: what began is read back, what is recorded handed out, nothing twice."""

import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import shop
from tests.helpers.answers import answering
from tools.core.approval import ApprovalStore
from tools.core.calls import Caller
from tools.core.channels import Approver
from tools.core.gateway import Gateway
from tools.core.grants import Scope, grant
from tools.core.journal import Journal, Record, read_journal
from tools.core.policy import Policy, PolicyFile
from tools.core.redact import Redactor
from tools.core.results import Status, ToolResult
from tools.core.settle import past_calls, standing
from tools.core.stack import Stack, StackFile
from tools.core.waiting import Suspended, Wait

OPTIONS = [
    {"name": "red", "title": "Red", "consequences": "it is red"},
    {"name": "blue", "title": "Blue", "consequences": "it is blue"},
]
GRANTS = tuple(
    grant(f"shop.{action.name}", **({"topic": "t", "question": "Which?", "options": OPTIONS} if action.asks else {}))
    for action in shop.SPEC.actions
)
ROLE = Caller(role="clerk", task="sell", granted=frozenset({"shop"}), scope=Scope(grants=GRANTS))
ALLOW: dict[str, Any] = {"integrations": {"shop": {"allow": "*", "autonomy": "autonomous"}}}
ASK: dict[str, Any] = {"integrations": {"shop": {"allow": "*", "autonomy": "supervised"}}}


@contextmanager
def open_shop(
    home: Path, policy: dict[str, Any] = ALLOW, patience_s: float | None = None, run_id: str = "run"
) -> Generator[Gateway]:
    redactor = Redactor({}, [])
    journal = Journal(home / "runs" / run_id / "journal.jsonl", redactor)
    with Gateway(
        stack=Stack(
            StackFile.model_validate({}), own=["shop"], load_spec=lambda _: shop.SPEC, env={}, project=home, home=home
        ),
        policy=Policy(PolicyFile.model_validate(policy)),
        journal=journal,
        approver=Approver(ApprovalStore(home / "approvals"), prompt=None, who="tester"),
        redactor=redactor,
        project=home,
        home=home,
        run_id=run_id,
        patience_s=patience_s,
    ) as gateway:
        yield gateway
    journal.close()


@dataclass
class Cuts:
    """Copies of the state folder as it was before each record was written."""

    home: Path
    folder: Path
    count: int = 0
    before: list[Record] = field(default_factory=list[Record])

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        append = Journal.append

        def copying(journal: Journal, kind: str, **fields: Any) -> Record:
            for name, folder in self._folders():
                shutil.copytree(folder, self.folder / str(self.count) / name)
            self.count += 1
            record = append(journal, kind, **fields)
            self.before.append(record)
            return record

        monkeypatch.setattr(Journal, "append", copying)

    def each(self) -> Iterator[tuple[Record, Path]]:
        """The record that was not written any more, and the state folder, put back to how it was right before it."""
        for number in range(self.count):
            for name, folder in self._folders():
                shutil.rmtree(folder)
                shutil.copytree(self.folder / str(number) / name, folder)
            yield self.before[number], self.home

    def _folders(self) -> list[tuple[str, Path]]:
        """The state, and what is kept apart from it: the heads of the journals."""
        return [("home", self.home), ("keys", Path(os.environ["MLOPS_KEYS"]))]


SCRIPT: list[dict[str, Any]] = [
    {"action": "stock"},
    {"action": "ship", "item": "a"},
    {"action": "note", "item": "n"},
    {"action": "light", "brightness": 3},
    {"action": "ship", "item": "b"},
    {"action": "note", "item": "n"},
    {"action": "lamp"},
    {"action": "stock"},
]


def sell(gateway: Gateway) -> list[ToolResult]:
    return [gateway.call("shop", arguments, ROLE) for arguments in SCRIPT]


def told(results: list[ToolResult]) -> list[Any]:
    return [(result.status, result.data) for result in results]


def test_a_run_cut_off_before_any_record_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = Cuts(tmp_path / "home", tmp_path / "cuts")
    cuts.watch(monkeypatch)
    with open_shop(tmp_path / "home") as gateway:
        wanted = told(sell(gateway))
    monkeypatch.undo()
    effects = shop.done(tmp_path / "home")
    assert [(item["what"], item["item"]) for item in effects] == [
        ("ship", "a"),
        ("note", "n"),
        ("ship", "b"),
        ("note", "n"),
    ]
    assert cuts.count == 2 * len(SCRIPT) + 5, "an intent and an outcome each, and begun where something is done"
    for missing, home in cuts.each():
        with open_shop(home) as gateway:
            settled = gateway.settle_past()
            gateway.recall.enter("sell")
            found = told(sell(gateway))
        assert found == wanted, missing
        assert shop.done(home) == effects, missing
        assert all(item.status is not Status.UNKNOWN for item in settled)
        records = list(read_journal(home / "runs" / "run" / "journal.jsonl"))
        ids = [record["call_id"] for record in records if record["kind"] == "intent"]
        assert len(set(ids)) == len(ids) == len(SCRIPT), missing


def test_without_the_read_back_a_cut_off_write_would_happen_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: the same cut, with calls made again blindly."""
    cuts = Cuts(tmp_path / "home", tmp_path / "cuts")
    cuts.watch(monkeypatch)
    with open_shop(tmp_path / "home") as gateway:
        sell(gateway)
    monkeypatch.undo()
    twice = 0
    for _, home in cuts.each():
        with open_shop(home) as gateway:
            gateway.recall.enter("sell")
            sell(gateway)
        twice += sum(item["what"] == "ship" for item in shop.done(home)) > 2
    assert twice >= 2


def test_begun_is_on_disk_before_the_effect_with_the_key_that_the_backend_gets(tmp_path: Path) -> None:
    with open_shop(tmp_path) as gateway:
        gateway.call("shop", {"action": "ship", "item": "a"}, ROLE)
        gateway.call("shop", {"action": "stock"}, ROLE)
        records = gateway.journal.records()
    assert [record["kind"] for record in records] == ["intent", "begun", "outcome", "intent", "outcome"]
    assert records[1]["key"] and records[1]["key"] == shop.done(tmp_path)[0]["key"]
    assert records[1]["approval_id"] is None


def test_a_read_back_that_does_not_tell_is_never_repeated_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = Cuts(tmp_path / "home", tmp_path / "cuts")
    cuts.watch(monkeypatch)
    with open_shop(tmp_path / "home") as gateway:
        gateway.call("shop", {"action": "post", "item": "l"}, ROLE)
    monkeypatch.undo()
    *_, (missing, home) = list(cuts.each())
    assert missing["kind"] == "outcome"
    with open_shop(home) as gateway:
        (settled,) = gateway.settle_past()
        assert settled.status is Status.UNKNOWN and "does not tell" in settled.reason
        again = gateway.settle_past()
        assert [item.status for item in again] == [Status.UNKNOWN], "it is asked again at the next resume"
    assert len(shop.done(home)) == 1


def test_what_ended_with_its_process_is_what_was_in_force(tmp_path: Path) -> None:
    with open_shop(tmp_path) as gateway:
        for arguments in ({"action": "light", "brightness": 1}, {"action": "light", "brightness": 7}):
            gateway.call("shop", arguments, ROLE)
        records = gateway.journal.records()
        (left,) = standing(past_calls(records), gateway.action_of)
        assert left.arguments == {"brightness": 7}
        gateway.call("shop", {"action": "dark"}, ROLE)
        assert standing(past_calls(gateway.journal.records()), gateway.action_of) == []


def test_what_is_made_again_keeps_its_id_its_key_and_its_leave(tmp_path: Path) -> None:
    with open_shop(tmp_path) as gateway:
        gateway.call("shop", {"action": "light", "brightness": 4}, ROLE)
    with open_shop(tmp_path) as gateway:
        (left,) = standing(gateway.recall.calls, gateway.action_of)
        result = gateway.make_again(left)
        assert result.ok and result.call_id == left.id
        assert gateway.call("shop", {"action": "lamp"}).data == {"brightness": 4, "message": "burns at 4"}
        begun = [record for record in gateway.journal.records() if record["kind"] == "begun"]
    assert begun[0]["key"] == begun[1]["key"] and [record["again"] for record in begun] == [False, True]


def test_an_approval_is_spent_once_and_holds_for_the_call_it_was_spent_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    cuts = Cuts(home, tmp_path / "cuts")
    cuts.watch(monkeypatch)
    calls: list[dict[str, Any]] = [
        {"action": "ship", "item": "a"},
        {"action": "pick", "topic": "t", "question": "Which?", "options": OPTIONS},
    ]

    with open_shop(home, ASK) as gateway:
        gateway.journal.subscribe(answering(home))
        wanted = told([gateway.call("shop", arguments, ROLE) for arguments in calls])
    monkeypatch.undo()
    assert [status for status, _ in wanted] == [Status.OK, Status.OK]
    for missing, cut in cuts.each():
        asked: list[Record] = []
        with open_shop(cut, ASK) as gateway:
            gateway.settle_past()
            gateway.recall.enter("sell")

            gateway.journal.subscribe(answering(cut, asked=asked))
            found = [gateway.call("shop", arguments, ROLE) for arguments in calls]
        assert told(found) == wanted, missing
        assert len(shop.done(cut)) == 1, missing
        begun = [record for record in _records(cut) if record["kind"] == "begun" and record["call_id"] == "c0001"]
        if missing["seq"] > begun[0]["seq"]:
            assert "c0001" not in {record["call_id"] for record in asked}, missing


def test_a_question_that_nobody_answers_suspends_the_run_and_stays_open(tmp_path: Path) -> None:
    with open_shop(tmp_path, ASK, patience_s=0.0) as gateway:
        with pytest.raises(Suspended) as caught:
            gateway.call("shop", {"action": "ship", "item": "a"}, ROLE)
        assert gateway.journal.records()[-1]["kind"] == "approval_requested", "no outcome: the call is still to be made"
    wait = Wait.from_data(caught.value.wait.data())
    store = ApprovalStore(tmp_path / "approvals")
    assert wait.kind == "person" and "mlops-crew approve" in wait.what
    assert not wait.over(0.0, lambda name: store.get(name).state != "pending")
    store.decide(wait.approval, "approved", by="ann")
    assert wait.over(0.0, lambda name: store.get(name).state != "pending")
    with open_shop(tmp_path, ASK, patience_s=0.0) as gateway:
        gateway.recall.enter("sell")
        assert gateway.call("shop", {"action": "ship", "item": "a"}, ROLE).ok
    assert len(shop.done(tmp_path)) == 1


def test_a_question_that_expired_while_the_run_was_suspended_is_not_put_again(tmp_path: Path) -> None:
    brief = {**ASK, "approval_timeout_s": 1}
    with open_shop(tmp_path, brief, patience_s=0.0) as gateway, pytest.raises(Suspended):
        gateway.call("shop", {"action": "ship", "item": "a"}, ROLE)
    time.sleep(1.1)
    with open_shop(tmp_path, brief, patience_s=0.0) as gateway:
        gateway.recall.enter("sell")
        result = gateway.call("shop", {"action": "ship", "item": "a"}, ROLE)
        kinds = [record["kind"] for record in gateway.journal.records()]
    assert result.status is Status.NEEDS_APPROVAL and "nobody answered" in result.message
    assert kinds.count("approval_requested") == 1 and shop.done(tmp_path) == []


def _records(home: Path) -> list[Record]:
    return list(read_journal(home / "runs" / "run" / "journal.jsonl"))
