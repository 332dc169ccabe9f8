"""Models whose files lie outside the configured store: the policy's word and a person, or they are not loaded."""

from pathlib import Path
from typing import Any

import pytest

from tests.core.fake import AmountArgs, CountResult, FakeBackend, effects, make_gateway
from tests.core.test_approval import answer
from tools.core import channels
from tools.core.approval import Approval, ApprovalStore
from tools.core.contract import CallContext
from tools.core.errors import OutsideStoreError
from tools.core.gateway import Gateway
from tools.core.results import Status
from tools.core.settle import past_calls

STRANGE = ["models:/churn/2", "models:/churn/3"]
ASK: dict[str, Any] = {
    "approval_timeout_s": 20,
    "integrations": {"fake": {"allow": "*"}},
    "models": {"outside_store": "ask"},
}


@pytest.fixture(autouse=True)
def loads_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fake add` loads `trials` of the strange models before it does anything."""
    counts = FakeBackend.add

    def add(self: FakeBackend, args: AmountArgs, ctx: CallContext) -> CountResult:
        for model in STRANGE[: args.trials or 1]:
            if model not in ctx.outside_models:
                raise OutsideStoreError(f"the files of {model} lie outside the configured store", model=model)
        return counts(self, args, ctx)

    monkeypatch.setattr(FakeBackend, "add", add)
    monkeypatch.setattr(channels, "POLL_S", 0.01)


def add(gateway: Gateway, trials: int = 1) -> Any:
    return gateway.call("fake", {"action": "add", "trials": trials})


def test_without_the_policys_word_nobody_is_asked_and_nothing_is_loaded(tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway:
        result = add(gateway)
        assert result.error is not None and result.error.kind == "needs_person"
        assert result.error.outside_model == STRANGE[0]
        assert not [r for r in gateway.journal.records() if r["kind"] == "approval_requested"]
    assert effects(tmp_path, "add") == 0


def test_a_person_is_told_which_model_and_is_asked_once_for_it_in_a_run(tmp_path: Path) -> None:
    shown: list[Approval] = []

    def approve(store: ApprovalStore, asked: Approval) -> None:
        shown.append(asked)
        store.decide(asked.id, "approved", by="ann")

    with make_gateway(tmp_path, policy=ASK) as gateway:
        for _ in range(2):
            thread = answer(tmp_path, approve) if not shown else None
            assert add(gateway).ok
            if thread is not None:
                thread.join()
        thread = answer(tmp_path, approve)  # one more model is one more question
        assert add(gateway, trials=2).ok
        thread.join()
        records = gateway.journal.records()
    assert [asked.arguments["load_from_outside"] for asked in shown] == STRANGE
    assert STRANGE[0] in shown[0].reason and "outside the configured store" in shown[0].reason
    assert effects(tmp_path, "add") == 3
    # A yes to the code is none to the call: a run that is gone on with must not take it for one.
    assert all(past.asked is None and past.approval_id == "" for past in past_calls(records))


def test_a_yes_to_a_model_counts_for_one_process_also_without_its_file(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=ASK) as gateway:
        thread = answer(tmp_path, lambda store, asked: store.decide(asked.id, "approved", by="ann"))
        assert add(gateway).ok
        thread.join()
        gateway.journal.close()
    for file in (tmp_path / "approvals").glob("*.used"):
        file.unlink()
    with make_gateway(tmp_path, policy={**ASK, "approval_timeout_s": 0.2}) as again:
        assert add(again).status is Status.DENIED
    assert effects(tmp_path, "add") == 1


@pytest.mark.parametrize("state", ["rejected", "expired"])
def test_a_no_and_no_answer_load_nothing(tmp_path: Path, state: str) -> None:
    policy = ASK if state == "rejected" else {**ASK, "approval_timeout_s": 0.2}
    with make_gateway(tmp_path, policy=policy) as gateway:
        if state == "rejected":
            thread = answer(tmp_path, lambda store, asked: store.decide(asked.id, "rejected", by="ann", note="whose?"))
            result = add(gateway)
            thread.join()
            assert "rejected by ann: whose?" in result.message
        else:
            result = add(gateway)
        assert result.status is Status.DENIED
    assert effects(tmp_path, "add") == 0


def test_where_nobody_can_be_asked_it_is_denied(tmp_path: Path) -> None:
    with make_gateway(tmp_path, policy=ASK, with_approver=False) as gateway:
        result = add(gateway)
    assert result.status is Status.DENIED and "nobody can be asked here" in result.message


def test_a_clients_own_word_lets_nothing_be_loaded(tmp_path: Path) -> None:
    from tools.core.meta import META_OUTSIDE, CallMeta, GatewayKey

    key, arguments = GatewayKey.new(), {"trials": 1}
    told = key.sign("add", arguments, CallMeta("run", "c0001", 5.0, outside_models=frozenset(STRANGE[:1])))
    read = key.read("add", arguments, told)
    assert read is not None and read.outside_models == {STRANGE[0]}
    assert key.read("add", arguments, {**told, META_OUTSIDE: STRANGE}) is None
    assert key.read("add", arguments, {name: value for name, value in told.items() if name != META_OUTSIDE}) is None
