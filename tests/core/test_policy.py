"""The policy: default deny, forbid beats allow, limits on arguments, autonomy levels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.core.fake import SPEC
from tools.core.contract import Effect
from tools.core.policy import Level, Policy, PolicyFile, ProposedCall, Verdict
from tools.core.yamlfile import ConfigError

ALLOW_ALL: dict[str, Any] = {"integrations": {"fake": {"allow": "*"}}}


def policy(content: dict[str, Any]) -> Policy:
    return Policy(PolicyFile.model_validate(content))


def proposed(action: str = "add", effect: Effect = Effect.WRITE, **more: Any) -> ProposedCall:
    return ProposedCall(**{"integration": "fake", "action": action, "effect": effect, "arguments": {}, **more})


def verdict(content: dict[str, Any], call: ProposedCall) -> Verdict:
    return policy(content).decide(call).verdict


def test_an_empty_policy_denies_every_effect() -> None:
    for effect in Effect:
        assert verdict({}, proposed(effect=effect)) is Verdict.DENY


def test_an_action_that_is_not_listed_is_denied() -> None:
    content = {"integrations": {"fake": {"allow": ["get"]}}}
    assert verdict(content, proposed("get", Effect.READ)) is Verdict.ALLOW
    assert verdict(content, proposed("add")) is Verdict.DENY


def test_forbid_beats_allow_and_ask() -> None:
    content = {"integrations": {"fake": {"allow": "*", "forbid": ["add"], "ask": ["add"]}}}
    decision = policy(content).decide(proposed("add"))
    assert decision.verdict is Verdict.DENY and "forbids fake.add" in decision.rule


def test_ask_beats_allow_even_for_reads() -> None:
    content = {"integrations": {"fake": {"allow": "*", "ask": ["add"]}}}
    assert verdict(content, proposed("add", Effect.READ)) is Verdict.ASK


@pytest.mark.parametrize(
    ("level", "effect", "expected"),
    [
        ("observe", Effect.READ, Verdict.ALLOW),
        ("observe", Effect.WRITE, Verdict.DENY),
        ("observe", Effect.RISKY, Verdict.DENY),
        ("supervised", Effect.READ, Verdict.ALLOW),
        ("supervised", Effect.WRITE, Verdict.ALLOW),
        ("supervised", Effect.RISKY, Verdict.ASK),
        ("autonomous", Effect.READ, Verdict.ALLOW),
        ("autonomous", Effect.WRITE, Verdict.ALLOW),
        ("autonomous", Effect.RISKY, Verdict.ALLOW),
    ],
)
def test_the_level_decides_by_effect(level: str, effect: Effect, expected: Verdict) -> None:
    assert verdict({**ALLOW_ALL, "autonomy": level}, proposed(effect=effect)) is expected


def test_a_risky_call_that_belongs_to_no_task_waits_for_a_person_whatever_the_level() -> None:
    for level in ("supervised", "autonomous"):
        content = {"autonomy": level, **ALLOW_ALL}
        call = proposed("add", Effect.RISKY, role="r", granted=frozenset({"fake"}), task="look")
        decision = policy(content).decide(call)
        assert decision.verdict is Verdict.ASK
        assert decision.rule == "risky fake.add belongs to no task here, so a person decides"
        assert verdict(content, replace(call, effect=Effect.WRITE)) is Verdict.ALLOW
    assert verdict({"autonomy": "autonomous", **ALLOW_ALL}, replace(call, in_task=True)) is Verdict.ALLOW


def test_auto_is_autonomous_in_the_sandbox_and_supervised_on_real_systems() -> None:
    assert policy(ALLOW_ALL).level("fake", real=False) is Level.AUTONOMOUS
    assert policy(ALLOW_ALL).level("fake", real=True) is Level.SUPERVISED
    assert verdict(ALLOW_ALL, proposed(effect=Effect.RISKY, real=True)) is Verdict.ASK


def test_an_integration_may_have_a_level_of_its_own() -> None:
    content = {"autonomy": "autonomous", "integrations": {"fake": {"allow": "*", "autonomy": "observe"}}}
    assert verdict(content, proposed()) is Verdict.DENY


@pytest.mark.parametrize("granted", [frozenset({"fake"}), frozenset({"fake.add"})])
def test_a_role_may_use_what_it_was_granted(granted: frozenset[str]) -> None:
    assert verdict(ALLOW_ALL, proposed(role="sentinel", granted=granted)) is Verdict.ALLOW


@pytest.mark.parametrize("granted", [frozenset[str](), frozenset({"other"}), frozenset({"fake.get"}), None])
def test_a_role_may_use_nothing_else(granted: frozenset[str] | None) -> None:
    decision = policy(ALLOW_ALL).decide(proposed(role="sentinel", granted=granted))
    assert decision.verdict is Verdict.DENY and "sentinel may not use fake.add" in decision.rule


LIMITS = {**ALLOW_ALL, "limits": {"traffic": {"max": 50, "per_run": 100}}}


@pytest.mark.parametrize(
    ("amount", "used", "expected"),
    [
        (50, 0, Verdict.ALLOW),
        (50.1, 0, Verdict.DENY),
        (50, 50, Verdict.ALLOW),
        (50, 50.5, Verdict.DENY),
        (None, 0, Verdict.ALLOW),
        (float("nan"), 0, Verdict.DENY),
        (float("inf"), 0, Verdict.DENY),
        (-1, 0, Verdict.DENY),
        ("10", 0, Verdict.DENY),
        (True, 0, Verdict.DENY),
    ],
)
def test_limits_hold_for_one_call_and_for_a_run(amount: Any, used: float, expected: Verdict) -> None:
    call = proposed(arguments={"share": amount}, limited={"share": "traffic"}, used={"traffic": {"run": used}})
    assert verdict(LIMITS, call) is expected


def test_the_rule_names_the_limit_and_what_was_asked() -> None:
    call = proposed(arguments={"share": 80}, limited={"share": "traffic"})
    assert policy(LIMITS).decide(call).rule == "traffic 80 is above the policy's limit of 50 for one call"


def test_the_number_of_calls_of_a_run_is_limited() -> None:
    content = {**ALLOW_ALL, "limits": {"calls": {"per_run": 3}}}
    assert verdict(content, proposed(used={"calls": {"run": 2}})) is Verdict.ALLOW
    assert verdict(content, proposed(used={"calls": {"run": 3}})) is Verdict.DENY


def test_a_limit_denies_before_a_person_is_asked() -> None:
    call = proposed(effect=Effect.RISKY, arguments={"share": 80}, limited={"share": "traffic"})
    assert verdict({**LIMITS, "autonomy": "supervised"}, call) is Verdict.DENY


def test_third_party_tools_are_risky_unless_the_policy_says_otherwise() -> None:
    content = {"integrations": {"other": {"allow": "*", "effects": {"read": "read"}}}}
    assert policy(content).effect_of("other", "read") is Effect.READ
    assert policy(content).effect_of("other", "unheard_of") is Effect.RISKY
    assert policy(content).effect_of("unheard_of", "read") is Effect.RISKY


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"integrations": {"fake": {"allow": "*", "forbid": ["dorp"]}}}, "unknown action 'dorp'"),
        ({"integrations": {"fake": {"allow": ["ad"]}}}, "unknown action 'ad'"),
        ({"integrations": {"fake": {"allow": "*", "ask": ["ad"]}}}, "unknown action 'ad'"),
        ({"integrations": {"fakes": {"allow": "*"}}}, "unknown integration 'fakes'"),
        (
            {"limits": {"trails": {"max": 1}}},
            "unknown limit 'trails', did you mean 'trials'?",
        ),
        ({"integrations": {"fake": {"allow": "*", "effects": {"drop": "read"}}}}, "third-party servers only"),
    ],
)
def test_a_misspelt_name_is_an_error_and_not_a_rule_that_never_applies(content: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy(content).check([SPEC], ["other"], "policy.yaml")
    assert named in str(caught.value)


def test_names_of_third_party_servers_are_valid() -> None:
    policy({"integrations": {"other": {"allow": ["x"], "effects": {"x": "read"}}}}).check([SPEC], ["other"], "p")


@pytest.mark.parametrize(
    "text",
    [
        "default: allow",
        "autonomy: full",
        "limits: {a: {max: 5, per_run: 3}}",
        "limits: {a: {max: -1}}",
        "integrations: {fake: {allow: all}}",
        "integrations: {fake: {deny: [x]}}",
        "approval_timeout_s: -1",
    ],
)
def test_a_wrong_policy_file_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"policy\.yaml"):
        Policy.load(path)
