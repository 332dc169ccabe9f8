"""What comes beside a call's arguments counts only with the proof of the gateway, over exactly this call."""

import json
from typing import Any

import pytest

from tools.core.contract import Answer
from tools.core.errors import FinalError
from tools.core.meta import META_ANSWER, META_CALL, META_PROOF, META_RUN, META_TIMEOUT, CallMeta, GatewayKey

KEY = GatewayKey("a-key-that-both-sides-share")
ARGUMENTS = {"x": 5.0, "names": ["é", None], "deep": {"b": 1, "a": True}}
META = CallMeta("20260101-000000-abcd", "c0001", 30, Answer("a", "maria", "fine", "now"))


def over_the_wire(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_what_our_gateway_signs_is_read_as_it_was() -> None:
    assert KEY.read("pick", over_the_wire(ARGUMENTS), over_the_wire(KEY.sign("pick", ARGUMENTS, META))) == META
    plain = CallMeta("run", "c0002", 1.5)
    assert KEY.read("pick", {}, KEY.sign("pick", {}, plain)) == plain


@pytest.mark.parametrize(
    "forged",
    [
        {META_PROOF: None}, {META_PROOF: ""}, {META_PROOF: "0" * 64}, {META_PROOF: "é"}, {META_PROOF: 7},
        {META_RUN: "another"}, {META_CALL: "c0002"}, {META_TIMEOUT: 31.0}, {META_ANSWER: None},
        {META_ANSWER: {"chosen": "b", "decided_by": "maria", "note": "fine", "at": "now"}},
    ],
)  # fmt: skip
def test_a_changed_value_is_not_believed(forged: dict[str, Any]) -> None:
    assert KEY.read("pick", ARGUMENTS, {**KEY.sign("pick", ARGUMENTS, META), **forged}) is None


def test_a_proof_belongs_to_one_call_and_one_key() -> None:
    signed = KEY.sign("pick", ARGUMENTS, META)
    assert KEY.read("drop", ARGUMENTS, signed) is None
    assert KEY.read("pick", {**ARGUMENTS, "x": 6.0}, signed) is None
    assert GatewayKey.new().read("pick", ARGUMENTS, signed) is None
    assert KEY.read("pick", ARGUMENTS, {}) is None


@pytest.mark.parametrize("run_id", ["../x", "a/b", "", ".hidden", "a..b", "x" * 101, "a\nb"])
def test_a_run_that_is_no_name_of_a_folder_is_not_believed_even_with_a_proof(run_id: str) -> None:
    assert KEY.read("pick", {}, KEY.sign("pick", {}, CallMeta(run_id, "c", 1.0))) is None


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), 1e9])
def test_a_time_limit_is_within_reason(timeout_s: float) -> None:
    assert KEY.read("pick", {}, KEY.sign("pick", {}, CallMeta("run", "c", timeout_s))) is None


def test_a_key_is_long_enough_to_be_one() -> None:
    with pytest.raises(FinalError, match="at least 16"):
        GatewayKey.from_env({"MLOPS_GATEWAY_KEY": "short"})
    assert GatewayKey.from_env({}) is None and GatewayKey.new().secret != GatewayKey.new().secret
