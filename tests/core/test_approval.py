"""Approvals: bound to the exact call, answered once, used once."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.fake import effects, make_gateway
from tools.core import channels
from tools.core.approval import Approval, ApprovalError, ApprovalStore, call_hash
from tools.core.channels import Approver
from tools.core.errors import NeedsPersonError
from tools.core.results import Status

SUPERVISED = {"autonomy": "supervised", "approval_timeout_s": 20, "integrations": {"fake": {"allow": "*"}}}


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "POLL_S", 0.01)


@pytest.fixture
def store(tmp_path: Path) -> ApprovalStore:
    return ApprovalStore(tmp_path / "approvals")


def make(approval_id: str = "run-c1", expires_in_s: float = 60, **more: Any) -> Approval:
    now = time.time()
    return Approval(
        **{
            "id": approval_id, "run_id": "run", "integration": "fake", "action": "drop", "arguments": {}, "role": None,
            "reason": "risky", "call_hash": call_hash("run", "fake", "drop", {}), "created_ts": now,
            "expires_ts": now + expires_in_s, **more,
        }
    )  # fmt: skip


def answer(home: Path, decide: Callable[[ApprovalStore, Approval], Any]) -> threading.Thread:
    """Answer the first approval that appears, as another terminal would."""

    def wait() -> None:
        store = ApprovalStore(home / "approvals")
        while not store.pending():
            threading.Event().wait(0.01)
        decide(store, store.pending()[0])

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_the_hash_changes_with_every_part_of_the_call() -> None:
    base = call_hash("run", "fake", "drop", {"a": 1, "b": 2})
    assert base == call_hash("run", "fake", "drop", {"b": 2, "a": 1})
    others = [
        call_hash("run2", "fake", "drop", {"a": 1, "b": 2}),
        call_hash("run", "fake2", "drop", {"a": 1, "b": 2}),
        call_hash("run", "fake", "add", {"a": 1, "b": 2}),
        call_hash("run", "fake", "drop", {"a": 1, "b": 3}),
        call_hash("run", "fake", "drop", {"a": 1}),
    ]
    assert len({base, *others}) == 6


def test_an_answer_is_kept_with_who_gave_it_and_why(store: ApprovalStore) -> None:
    store.create(make())
    store.decide("run-c1", "rejected", by="ann", note="not on a Friday")
    found = store.get("run-c1")
    assert (found.state, found.decided_by, found.note) == ("rejected", "ann", "not on a Friday")
    assert store.pending() == []


def test_the_first_answer_wins_and_the_second_is_told(store: ApprovalStore) -> None:
    store.create(make())
    store.decide("run-c1", "rejected", by="ann")
    with pytest.raises(ApprovalError, match="already rejected"):
        store.decide("run-c1", "approved", by="bob")
    assert store.get("run-c1").decided_by == "ann"


def test_of_many_answers_at_the_same_time_one_wins(store: ApprovalStore) -> None:
    store.create(make())
    start = threading.Barrier(8)
    won: list[str] = []

    def decide(name: str) -> None:
        start.wait()
        with contextlib.suppress(ApprovalError):
            won.append(store.decide("run-c1", "approved" if name < "e" else "rejected", by=name).decided_by)

    threads = [threading.Thread(target=decide, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and store.get("run-c1").decided_by == won[0]


def test_an_approval_is_used_once(store: ApprovalStore) -> None:
    store.create(make())
    store.decide("run-c1", "approved", by="ann")
    store.spend("run-c1")
    assert store.get("run-c1").state == "used"
    with pytest.raises(ApprovalError, match="used"):
        store.spend("run-c1")


@pytest.mark.parametrize("state", ["pending", "rejected"])
def test_what_was_not_approved_cannot_be_used(store: ApprovalStore, state: str) -> None:
    store.create(make())
    if state == "rejected":
        store.decide("run-c1", "rejected", by="ann")
    with pytest.raises(ApprovalError, match="not approved"):
        store.spend("run-c1")


def test_an_answer_after_the_expiry_is_refused(store: ApprovalStore) -> None:
    store.create(make(expires_in_s=-1))
    assert store.pending() == []
    with pytest.raises(ApprovalError, match="already expired"):
        store.decide("run-c1", "approved", by="ann")
    assert store.get("run-c1").state == "expired"


def test_closing_an_answered_approval_leaves_the_answer(store: ApprovalStore) -> None:
    store.create(make())
    store.decide("run-c1", "approved", by="ann")
    assert store.close(store.get("run-c1"), "expired").state == "approved"


def test_an_unknown_id_is_an_error_that_names_the_pending_ones(store: ApprovalStore) -> None:
    store.create(make("run-c7"))
    with pytest.raises(ApprovalError, match="pending: run-c7"):
        store.decide("run-c8", "approved", by="ann")


def test_an_id_cannot_point_out_of_the_folder(store: ApprovalStore, tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_text(make("outside").model_dump_json())
    with pytest.raises(ApprovalError, match="no approval"):
        store.decide("../outside", "approved", by="ann")


def test_an_approval_cannot_be_asked_twice_under_one_id(store: ApprovalStore) -> None:
    store.create(make())
    with pytest.raises(ApprovalError, match="already"):
        store.create(make())


def test_approvals_are_private_and_no_half_written_file_is_left(store: ApprovalStore) -> None:
    store.create(make())
    store.decide("run-c1", "approved", by="ann")
    assert {path.name for path in store.folder.iterdir()} == {"run-c1.json", "run-c1.answer"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in store.folder.iterdir())


def test_an_answer_while_the_wait_ends_does_not_break_the_wait(store: ApprovalStore) -> None:
    def cancelled_just_after_the_answer() -> bool:
        if store.get("run-c1").state == "pending":
            store.decide("run-c1", "approved", by="ann")
        return True

    assert Approver(store, prompt=None, who="me").ask(make(), cancelled_just_after_the_answer).state == "approved"
    store.spend("run-c1")


def test_the_terminal_answers(store: ApprovalStore) -> None:
    decided = Approver(store, prompt=lambda approval, _: approval.action == "drop", who="me").ask(make(), lambda: False)
    assert (decided.state, decided.decided_by) == ("approved", "me")


def test_a_risky_call_waits_for_another_terminal_and_happens_once(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=SUPERVISED) as gateway:
        thread = answer(tmp_path, lambda store, asked: store.decide(asked.id, "approved", by="ann"))
        assert gateway.call("fake", {"action": "drop"}).ok
        thread.join()
    kinds = [record["kind"] for record in gateway.journal.records()]
    assert kinds == ["intent", "approval_requested", "approval_decided", "begun", "outcome"]
    assert effects(tmp_path, "drop") == 1


def test_the_same_call_is_asked_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def prompt(approval: Approval, _answered: Callable[[], bool]) -> bool:
        asked.append(approval.id)
        return True

    with make_gateway(tmp_path, policy=SUPERVISED, prompt=prompt) as gateway:
        assert gateway.call("fake", {"action": "drop"}).ok
        assert gateway.call("fake", {"action": "drop"}).ok
    assert len(set(asked)) == 2


def test_a_rejected_call_does_not_happen_and_says_who_and_why(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=SUPERVISED) as gateway:
        thread = answer(tmp_path, lambda store, asked: store.decide(asked.id, "rejected", by="ann", note="too early"))
        result = gateway.call("fake", {"action": "drop"})
        thread.join()
    assert result.status is Status.DENIED and result.message == "rejected by ann: too early"
    assert effects(tmp_path, "drop") == 0


def test_an_answer_to_another_call_does_not_let_this_one_through(tmp_path: Path) -> None:
    def forge(store: ApprovalStore, asked: Approval) -> None:
        plant(store, f"{asked.id}.answer", forged(asked, call_hash=call_hash("run", "fake", "add", {})))

    with make_gateway(tmp_path, policy={**SUPERVISED, "approval_timeout_s": 2}) as gateway:
        thread = answer(tmp_path, forge)
        result = gateway.call("fake", {"action": "drop"})
        thread.join()
    assert result.status is Status.NEEDS_APPROVAL and effects(tmp_path, "drop") == 0
    refused = [r["reason"] for r in gateway.journal.records() if r["kind"] == "approval_refused"]
    assert refused == ["the answer's signature does not fit"]


def test_without_an_answer_the_call_does_not_happen(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy={**SUPERVISED, "approval_timeout_s": 0.1}) as gateway:
        result = gateway.call("fake", {"action": "drop"})
    assert result.status is Status.NEEDS_APPROVAL and "nobody answered" in result.message
    assert effects(tmp_path, "drop") == 0


def forged(asked: Approval, **changes: Any) -> str:
    """An answer's file as somebody without the key would write it."""
    fields = {
        "id": asked.id, "nonce": asked.nonce, "call_hash": asked.call_hash, "state_hash": asked.state_hash,
        "state": "approved", "chosen": "", "edited": {}, "by": "alice (head of risk)", "note": "", "via": "terminal",
        "at": time.time(), "signature": "0" * 64,
    }  # fmt: skip
    return json.dumps(fields | changes)


def plant(store: ApprovalStore, name: str, content: str, mode: int = 0o600) -> None:
    path = store.folder / name
    path.write_text(content)
    path.chmod(mode)


class TestForgery:
    def test_an_answer_without_the_key_counts_for_nothing_and_blocks_nothing(self, store: ApprovalStore) -> None:
        asked = store.create(make())
        plant(store, "run-c1.answer", forged(asked))
        assert store.get("run-c1").state == "pending"
        assert store.standing(asked)[1] == "the answer's signature does not fit"
        assert store.decide("run-c1", "rejected", by="ann").state == "rejected"
        assert store.get("run-c1").decided_by == "ann"

    @pytest.mark.parametrize(
        "field", ["state", "chosen", "edited", "by", "note", "via", "at", "nonce", "call_hash", "id"]
    )
    def test_every_part_of_an_answer_is_signed(self, store: ApprovalStore, field: str) -> None:
        store.create(make())
        store.decide("run-c1", "rejected", by="ann")
        path = store.folder / "run-c1.answer"
        content = json.loads(path.read_text())
        content[field] = {"state": "approved", "edited": {"x": 1}, "at": time.time() + 1}.get(field, "other")
        path.write_text(json.dumps(content))
        assert store.get("run-c1").state == "pending"

    def test_an_answer_to_the_same_call_before_does_not_answer_the_next_question(self, store: ApprovalStore) -> None:
        store.create(make("first"))
        store.decide("first", "approved", by="ann")
        asked = store.create(make("second"))
        plant(store, "second.answer", (store.folder / "first.answer").read_text())
        current, flaw = store.standing(asked)
        assert current.state == "pending" and "another question" in flaw

    def test_a_question_put_again_under_its_old_id_needs_an_answer_of_its_own(self, store: ApprovalStore) -> None:
        store.create(make())
        store.decide("run-c1", "approved", by="ann")
        for name in ("run-c1.json", "run-c1.used"):
            (store.folder / name).unlink(missing_ok=True)
        asked = store.create(make())  # the answer of before still lies there
        assert store.standing(asked) == (asked, "the answer belongs to another question (its nonce differs)")

    def test_an_answer_that_is_older_than_its_question_is_refused(self, store: ApprovalStore) -> None:
        asked = store.create(make(created_ts=time.time() + 100, expires_in_s=200))
        store.decide("run-c1", "approved", by="ann")
        assert store.standing(asked) == (asked, "the answer is older than the question")

    def test_a_question_that_was_altered_is_answered_by_nobody(self, store: ApprovalStore) -> None:
        asked = store.create(make(arguments={"version": 2}))
        shown = json.loads((store.folder / "run-c1.json").read_text()) | {"arguments": {"version": 1}}
        plant(store, "run-c1.json", json.dumps(shown))
        assert store.pending() == [] and store.untrusted() == ["run-c1"]
        for answer_it in (store.get, lambda name: store.decide(name, "approved", by="ann")):
            with pytest.raises(ApprovalError, match="signature does not fit"):
                answer_it("run-c1")
        assert store.standing(asked)[0].state == "pending"

    def test_a_key_of_another_machine_signs_nothing_here(self, store: ApprovalStore, tmp_path: Path) -> None:
        asked = store.create(make())
        elsewhere = ApprovalStore(store.folder, env={"MLOPS_KEYS": str(tmp_path / "other_keys")})
        with pytest.raises(ApprovalError, match="signature"):
            elsewhere.decide("run-c1", "approved", by="eve")
        assert store.standing(asked)[0].state == "pending"

    def test_the_key_must_not_lie_where_tools_write(self, tmp_path: Path) -> None:
        env = {"MLOPS_KEYS": str(tmp_path / "project" / "keys")}
        inside = ApprovalStore(tmp_path / "approvals", env=env, apart_from=[tmp_path / "project"])
        with pytest.raises(NeedsPersonError, match="lies inside"):
            inside.create(make())

    def test_nothing_can_be_prepared_because_neither_id_nor_nonce_can_be_guessed(self, tmp_path: Path) -> None:
        asked: list[Approval] = []

        def prompt(approval: Approval, _answered: Callable[[], bool]) -> bool:
            asked.append(approval)
            return False

        with make_gateway(tmp_path, policy=SUPERVISED, prompt=prompt) as gateway:
            for _ in range(3):
                gateway.call("fake", {"action": "drop"})
        assert len({a.nonce for a in asked}) == len({a.id[-8:] for a in asked}) == 3
        assert all(len(a.nonce) == 32 and a.id.startswith(f"run-{a.call_id}-") for a in asked)


def test_any_text_in_a_call_can_be_asked_about(store: ApprovalStore) -> None:
    arguments = {"name": "x\ud800y", "n": float("inf"), "deep": [{"a": {"b": None}}]}
    store.create(make(arguments=arguments, reason="because \x1b[2J"))
    assert store.get("run-c1").arguments == arguments
    assert store.decide("run-c1", "approved").state == "approved"


class TestTheFolder:
    def test_it_is_private_and_so_is_what_is_in_it(self, store: ApprovalStore) -> None:
        os.umask(mask := os.umask(0))
        try:
            os.umask(0)
            store.create(make())
        finally:
            os.umask(mask)
        assert store.folder.stat().st_mode & 0o777 == 0o700
        assert {p.stat().st_mode & 0o777 for p in store.folder.iterdir()} == {0o600}

    @pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
    def test_one_that_others_may_open_is_refused_with_the_remedy(self, store: ApprovalStore, mode: int) -> None:
        store.folder.mkdir()
        store.folder.chmod(mode)
        with pytest.raises(NeedsPersonError, match="chmod 700"):
            store.create(make())

    def test_a_link_in_its_place_is_refused(self, store: ApprovalStore, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        store.folder.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(NeedsPersonError, match="is a link"):
            store.create(make())
        assert list((tmp_path / "elsewhere").iterdir()) == []

    @pytest.mark.parametrize("kind", ["link", "hard link", "open to others", "pipe", "folder"])
    def test_an_answer_that_is_no_plain_private_file_does_not_count(
        self, store: ApprovalStore, tmp_path: Path, kind: str
    ) -> None:
        asked = store.create(make())
        store.decide("run-c1", "approved", by="ann")
        path, other = store.folder / "run-c1.answer", tmp_path / "other"
        path.rename(other)
        match kind:
            case "link":
                path.symlink_to(other)
            case "hard link":
                path.hardlink_to(other)
            case "open to others":
                other.rename(path)
                path.chmod(0o644)
            case "pipe":
                os.mkfifo(path, 0o600)
            case _:
                path.mkdir(mode=0o700)
        current, flaw = store.standing(asked)
        assert current.state == "pending" and flaw

    @pytest.mark.parametrize("owner", [0o700, 0o777])
    def test_a_call_is_not_made_where_it_cannot_be_asked_safely(self, tmp_path: Path, owner: int) -> None:
        (tmp_path / "elsewhere").mkdir(mode=owner)
        (tmp_path / "approvals").symlink_to(tmp_path / "elsewhere")
        with make_gateway(tmp_path, policy=SUPERVISED) as gateway:
            result = gateway.call("fake", {"action": "drop"})
        assert result.status is Status.NEEDS_APPROVAL and "is a link" in result.message
        assert effects(tmp_path, "drop") == 0


def test_with_nobody_to_ask_the_call_does_not_happen(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=SUPERVISED, with_approver=False) as gateway:
        result = gateway.call("fake", {"action": "drop"})
    assert result.status is Status.NEEDS_APPROVAL and "nobody can be asked" in result.message
    assert effects(tmp_path, "drop") == 0


def test_stopping_the_run_ends_the_wait_without_the_call(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=SUPERVISED) as gateway:
        thread = answer(tmp_path, lambda _store, _asked: gateway.stop())
        result = gateway.call("fake", {"action": "drop"})
        thread.join()
    assert result.status is Status.NEEDS_APPROVAL and effects(tmp_path, "drop") == 0


def test_what_others_used_up_during_the_wait_counts(tmp_path: Path) -> None:
    policy = {
        "approval_timeout_s": 20,
        "limits": {"trials": {"per_run": 10}},
        "integrations": {"fake": {"allow": "*", "ask": ["add"]}},
    }
    with make_gateway(tmp_path, policy=policy) as gateway:

        def use_then_approve(store: ApprovalStore, asked: Approval) -> None:
            assert gateway.call("fake", {"action": "put", "trials": 8}).ok
            store.decide(asked.id, "approved", by="ann")

        thread = answer(tmp_path, use_then_approve)
        result = gateway.call("fake", {"action": "add", "trials": 8})
        thread.join()
    assert result.status is Status.DENIED and "on top of the 8" in result.message
    assert effects(tmp_path, "add") == 0


def test_secrets_in_the_arguments_are_not_shown_to_whoever_is_asked(tmp_path: Path) -> None:
    policy = {"approval_timeout_s": 0.1, "integrations": {"fake": {"allow": "*", "ask": ["double"]}}}
    with make_gateway(tmp_path, policy=policy) as gateway:
        gateway.call("fake", {"action": "double", "x": 1, "unit": "s3cret-value-of-the-fake"})
    files = [path.read_text() for path in (tmp_path / "approvals").iterdir()]
    assert files and all("s3cret" not in text for text in files)
