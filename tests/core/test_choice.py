"""Questions to people: who may answer, with what, how often, and that no caller can answer its own."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.fake import SECRET, make_gateway
from tests.core.test_approval import answer
from tools.core import channels
from tools.core.approval import Approval, ApprovalError, ApprovalStore, Pick
from tools.core.calls import Caller
from tools.core.errors import ErrorKind
from tools.core.results import Status

STDIO = {"servers": {"fake": {"transport": "stdio"}}}
OPTIONS = [
    {"name": "quality", "title": "Best", "consequences": "Slow.", "numbers": {"roc_auc": 0.9}},
    {"name": "latency", "title": "Fastest", "consequences": "Two points less.", "preferences": ["size"]},
]
QUESTION = {"action": "pick", "topic": "tradeoff", "question": "Which?", "options": OPTIONS}


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "POLL_S", 0.01)


def policy(level: str, timeout_s: float = 20, **block: Any) -> dict[str, Any]:
    return {
        "autonomy": level, "approval_timeout_s": timeout_s, "integrations": {"fake": {"allow": "*", **block}},
    }  # fmt: skip


def decided(gateway: Any) -> dict[str, Any]:
    return next(r for r in gateway.journal.records() if r["kind"] == "approval_decided")


def choosing(option: str) -> Callable[[ApprovalStore, Approval], Any]:
    return lambda store, asked: store.choose(asked.id, option, by="ann", note="users wait")


@pytest.mark.parametrize("level", ["supervised", "observe"])
@pytest.mark.parametrize("stack", [{}, STDIO], ids=["in-process", "stdio"])
def test_below_autonomous_a_person_chooses_whatever_the_goal_states(
    tmp_path: Path, level: str, stack: dict[str, Any]
) -> None:
    stated = {"tradeoff": "quality"}
    with make_gateway(tmp_path, policy=policy(level), stack=stack, preferences=stated) as gateway:
        thread = answer(tmp_path, choosing("latency"))
        result = gateway.call("fake", QUESTION)
        thread.join()
    assert result.data == {"text": "latency by ann: users wait"}, result
    kinds = [record["kind"] for record in gateway.journal.records()]
    assert kinds == ["intent", "approval_requested", "approval_decided", "begun", "outcome"]
    assert (decided(gateway)["state"], decided(gateway)["chosen"]) == ("chosen", "latency")


@pytest.mark.parametrize(
    ("preference", "chosen"), [("quality", "quality"), ("latency", "latency"), ("size", "latency")]
)
def test_an_autonomous_run_takes_the_option_that_the_goal_names_and_says_so(
    tmp_path: Path, preference: str, chosen: str
) -> None:
    with make_gateway(tmp_path, policy=policy("autonomous"), preferences={"tradeoff": preference}) as gateway:
        result = gateway.call("fake", QUESTION)
    assert result.data == {"text": f"{chosen} by the goal's stated preference: the goal prefers {preference}"}
    intent, _ = gateway.journal.records()
    assert (intent["decision"], intent["rule"]) == (
        "allow", f"autonomy level autonomous takes {chosen}, by the goal's preference: {preference}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        ({}, "the goal states no preference"),
        ({"canary_deadline": "quality"}, "the goal states no preference"),
        ({"tradeoff": "fairness"}, "the goal's preference fairness names none of the options"),
    ],
)
def test_without_a_preference_that_fits_a_person_is_asked_even_when_autonomous(
    tmp_path: Path, stated: dict[str, str], why: str
) -> None:
    with make_gateway(tmp_path, policy=policy("autonomous"), preferences=stated) as gateway:
        thread = answer(tmp_path, choosing("2"))
        assert gateway.call("fake", QUESTION).data == {"text": "latency by ann: users wait"}
        thread.join()
    assert next(iter(gateway.journal.records()))["rule"] == f"{why}, so a person must choose"


def test_a_policy_that_asks_for_the_action_asks_although_the_goal_states_a_preference(tmp_path: Path) -> None:
    stated = {"tradeoff": "quality"}
    with make_gateway(tmp_path, policy=policy("autonomous", ask=["pick"]), preferences=stated) as gateway:
        thread = answer(tmp_path, choosing("latency"))
        assert gateway.call("fake", QUESTION).data == {"text": "latency by ann: users wait"}
        thread.join()


@pytest.mark.parametrize("level", ["supervised", "autonomous"])
def test_nobody_answers_so_nothing_is_chosen(tmp_path: Path, level: str) -> None:
    with make_gateway(tmp_path, policy=policy(level, timeout_s=0.1)) as gateway:
        result = gateway.call("fake", QUESTION)
    assert result.status is Status.NEEDS_APPROVAL and result.data is None
    assert "nobody answered" in result.message
    assert decided(gateway)["chosen"] == ""


def test_with_nobody_to_ask_nothing_is_chosen(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=policy("autonomous"), with_approver=False) as gateway:
        result = gateway.call("fake", QUESTION)
    assert result.status is Status.NEEDS_APPROVAL and "nobody can be asked" in result.message


@pytest.mark.parametrize("extra", [{"chosen": "quality"}, {"preference": "quality"}, {"answer": "quality"}])
def test_a_caller_cannot_answer_or_state_a_preference_itself(tmp_path: Path, extra: dict[str, str]) -> None:
    with make_gateway(tmp_path, policy=policy("autonomous", timeout_s=0.1)) as gateway:
        result = gateway.call("fake", {**QUESTION, **extra}, Caller("evolution", "t", frozenset({"fake"})))
    assert result.error is not None and result.error.kind is ErrorKind.FIXABLE


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([OPTIONS[0]], "2 to 4"),
        ([{**OPTIONS[0], "name": f"o{i}"} for i in range(5)], "2 to 4"),
        ([OPTIONS[0], OPTIONS[0]], "quality names more than one option"),
        ([OPTIONS[0], {**OPTIONS[1], "preferences": ["quality"]}], "quality names more than one option"),
        ([OPTIONS[0], {**OPTIONS[1], "name": "2"}], "pattern"),
        ([OPTIONS[0], {"name": "latency", "title": "Fastest"}], "consequences"),
        ("[{", "not JSON"),
    ],
)
def test_options_that_cannot_be_chosen_between_are_refused(tmp_path: Path, options: Any, told: str) -> None:
    with make_gateway(tmp_path, policy=policy("autonomous")) as gateway:
        result = gateway.call("fake", {**QUESTION, "options": options})
    assert result.error is not None and result.error.kind is ErrorKind.FIXABLE
    assert told in result.message, result.message


@pytest.mark.parametrize("forged", [{"chosen": "cheapest"}, {"chosen": ""}, {"call_hash": "0" * 64}])
def test_an_answer_that_does_not_fit_the_question_chooses_nothing(tmp_path: Path, forged: dict[str, str]) -> None:
    def forge(store: ApprovalStore, asked: Approval) -> None:
        update = {"state": "chosen", "decided_by": "eve", "chosen": "quality", **forged}
        (store.folder / f"{asked.id}.answer").write_text(asked.model_copy(update=update).model_dump_json())

    with make_gateway(tmp_path, policy=policy("supervised")) as gateway:
        thread = answer(tmp_path, forge)
        result = gateway.call("fake", QUESTION)
        thread.join()
    assert result.status is Status.NEEDS_APPROVAL and result.data is None


def test_approving_is_no_choice(tmp_path: Path) -> None:
    def forge(store: ApprovalStore, asked: Approval) -> None:
        update = {"state": "approved", "decided_by": "eve"}
        (store.folder / f"{asked.id}.answer").write_text(asked.model_copy(update=update).model_dump_json())

    with make_gateway(tmp_path, policy=policy("supervised")) as gateway:
        thread = answer(tmp_path, forge)
        assert gateway.call("fake", QUESTION).status is Status.NEEDS_APPROVAL
        thread.join()


def test_a_person_may_take_none_of_the_options(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=policy("supervised")) as gateway:
        thread = answer(tmp_path, lambda store, asked: store.decide(asked.id, "rejected", by="ann", note="neither"))
        result = gateway.call("fake", QUESTION)
        thread.join()
    assert result.status is Status.DENIED and result.message == "rejected by ann: neither"


def test_the_same_question_is_asked_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def prompt(approval: Approval, _answered: Callable[[], bool]) -> Pick:
        asked.append(approval.id)
        return Pick("latency" if len(asked) == 1 else "quality", "mine")

    with make_gateway(tmp_path, policy=policy("supervised"), prompt=prompt) as gateway:
        first, second = gateway.call("fake", QUESTION), gateway.call("fake", QUESTION)
    assert (first.data, second.data) == ({"text": "latency by tester: mine"}, {"text": "quality by tester: mine"})
    assert len(set(asked)) == 2


def test_stopping_the_run_ends_the_wait_without_a_choice(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=policy("supervised")) as gateway:
        thread = answer(tmp_path, lambda _store, _asked: gateway.stop())
        assert gateway.call("fake", QUESTION).status is Status.NEEDS_APPROVAL
        thread.join()


def test_a_role_without_the_grant_asks_nobody(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=policy("supervised")) as gateway:
        result = gateway.call("fake", QUESTION, Caller("tuner", "t", frozenset({"fake.double"})))
    assert result.status is Status.DENIED
    assert not (tmp_path / "approvals").exists()


def test_secrets_in_the_options_are_not_shown_to_whoever_is_asked(tmp_path: Path) -> None:
    leaking = [OPTIONS[0], {**OPTIONS[1], "consequences": f"The key is {SECRET}.", "title": f"{'x' * 90} {SECRET}"}]
    with make_gateway(tmp_path, policy=policy("supervised")) as gateway:
        thread = answer(tmp_path, choosing("latency"))
        assert gateway.call("fake", {**QUESTION, "options": leaking}).ok
        thread.join()
    files = [path.read_text() for path in (tmp_path / "approvals").iterdir()]
    assert len(files) == 3 and all(SECRET not in text for text in files)
    assert SECRET not in (tmp_path / "runs" / "run" / "journal.jsonl").read_text()


class TestTheStore:
    @pytest.fixture
    def store(self, tmp_path: Path) -> ApprovalStore:
        store, now = ApprovalStore(tmp_path / "approvals"), time.time()
        for name, asks in (("q", True), ("call", False)):
            store.create(
                Approval(
                    id=name, run_id="run", integration="fake", action="pick", role=None, reason="r", call_hash="h",
                    arguments={"options": OPTIONS} if asks else {}, asks=asks, created_ts=now - asks,
                    expires_ts=now + 60,
                )
            )  # fmt: skip
        return store

    def test_the_first_choice_wins_and_is_used_once(self, store: ApprovalStore) -> None:
        assert store.choose("q", "2", by="ann", note="why not").chosen == "latency"
        with pytest.raises(ApprovalError, match="already chosen"):
            store.choose("q", "quality", by="bob")
        found = store.get("q")
        assert (found.state, found.chosen, found.decided_by, found.note) == ("chosen", "latency", "ann", "why not")
        store.spend("q")
        with pytest.raises(ApprovalError, match="used"):
            store.spend("q")

    @pytest.mark.parametrize("option", ["cheapest", "0", "3", "-1", "", "²"])
    def test_an_option_that_is_not_offered_is_refused_with_those_that_are(
        self, store: ApprovalStore, option: str
    ) -> None:
        with pytest.raises(ApprovalError, match="one of quality, latency"):
            store.choose("q", option, by="ann")
        assert store.get("q").state == "pending"

    def test_a_question_is_not_approved_and_a_call_is_not_chosen(self, store: ApprovalStore) -> None:
        with pytest.raises(ApprovalError, match="mlops-crew choose q OPTION"):
            store.decide("q", "approved", by="ann")
        with pytest.raises(ApprovalError, match="mlops-crew approve"):
            store.choose("call", "quality", by="ann")
        assert [approval.id for approval in store.pending()] == ["q", "call"]

    def test_a_choice_after_the_expiry_is_refused(self, store: ApprovalStore) -> None:
        late = store.get("q").model_copy(update={"id": "late", "expires_ts": time.time() - 1})
        store.create(late)
        with pytest.raises(ApprovalError, match="already expired"):
            store.choose("late", "quality", by="ann")

    def test_an_approval_written_before_there_were_choices_is_read(self, store: ApprovalStore) -> None:
        old = store.get("call").model_dump(exclude={"asks", "chosen"})
        assert Approval.model_validate(old).options == []
