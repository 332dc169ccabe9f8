"""A policy looked through: names, rules that never fire or never decide, contradictions, limits."""

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.core.fake import SPEC
from tools.core.policy import Finding, PolicyFile, review
from tools.registry import INTEGRATIONS, load_spec

CONFIG = Path(__file__).parents[2] / "config" / "policy.yaml"


def found(content: dict[str, Any], **more: Any) -> list[Finding]:
    base: dict[str, Any] = {"integrations": {"fake": {"allow": "*"}}}
    return review(PolicyFile.model_validate({**base, **content}), [SPEC], ["other"], **more)


def rule(name: str, then: str, **when: Any) -> dict[str, Any]:
    return {"name": name, "then": then, "when": when}


def test_the_shipped_policy_has_no_finding() -> None:
    file = PolicyFile.model_validate(yaml.safe_load(CONFIG.read_text(encoding="utf-8")))
    assert review(file, [load_spec(name) for name in INTEGRATIONS], [], today=date(2026, 11, 29)) == []


def test_the_examples_in_the_shipped_policy_have_no_finding() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    start = text.index("# rules:\n")
    examples = "\n".join(line.removeprefix("# ") for line in text[start:].splitlines())
    content = {**yaml.safe_load(text), **yaml.safe_load(examples)}
    assert content["rules"] and content["freeze"]
    specs = [load_spec(name) for name in INTEGRATIONS]
    assert review(PolicyFile.model_validate(content), specs, [], today=date(2026, 11, 29)) == []


def test_what_the_documentation_shows_is_a_policy_without_a_finding() -> None:
    text = (CONFIG.parents[1] / "docs" / "policy.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    assert len(blocks) == 4
    specs = [load_spec(name) for name in INTEGRATIONS]
    allowed = {name: {"allow": "*"} for name in INTEGRATIONS}
    for block in blocks:
        content = {"integrations": allowed, **block}
        assert review(PolicyFile.model_validate(content), specs, [], today=date(2026, 11, 29)) == []


@pytest.mark.parametrize(
    ("content", "where", "message"),
    [
        (
            {"rules": [rule("r", "deny", action="fake.dorp")]},
            "rules: r",
            "unknown action 'dorp' of fake, did you mean 'drop'?",
        ),
        ({"rules": [rule("r", "deny", action="fke.drop")]}, "rules: r", "unknown integration 'fke'"),
        ({"rules": [rule("r", "deny", integration="fke")]}, "rules: r", "unknown integration 'fke'"),
        ({"rules": [rule("r", "deny", environment="prod")]}, "rules: r", "unknown environment 'prod'"),
        ({"rules": [rule("r", "deny", role="bos")]}, "rules: r", "unknown role 'bos', did you mean 'boss'?"),
        ({"rules": [rule("r", "deny", task="relase")]}, "rules: r", "unknown task 'relase'"),
        ({"rules": [rule("r", "deny", amounts={"trails": {"above": 1}})]}, "rules: r", "unknown limit 'trails'"),
        (
            {"rules": [rule("r", "deny", action="fake.add", effect="risky")]},
            "rules: r",
            "never fires: no action fits its integration, action and effect together",
        ),
        ({"rules": [rule("r", "deny", action="fake.add", integration="other")]}, "rules: r", "never fires"),
        (
            {"rules": [rule("r", "deny", action="fake.add", arguments={"trails": {"above": 1}})]},
            "rules: r",
            "never fires: no action it is about takes an argument 'trails'",
        ),
        (
            {"rules": [rule("r", "ask", action="fake.drop", amounts={"trials": {"above": 1}})]},
            "rules: r",
            "never fires: no action it is about uses trials",
        ),
        (
            {"integrations": {}, "rules": [rule("r", "allow", action="fake.add")]},
            "rules: r",
            "never fires: the policy has no block",
        ),
        (
            {"integrations": {"fake": {"forbid": ["add"]}}, "rules": [rule("r", "allow", action="fake.add")]},
            "rules: r",
            "contradiction: everything it allows is forbidden",
        ),
        (
            {"freeze": [{"from": "2026-12-20", "to": "2026-12-31", "reason": "x", "allow": ["fake.dorp"]}]},
            "freeze from 2026-12-20",
            "unknown action 'dorp'",
        ),
        (
            {"integrations": {"fake": {"allow": "*", "to_stable": ["dorp"]}}},
            "integrations.fake.to_stable",
            "unknown action",
        ),
    ],
)
def test_what_does_not_do_what_it_says_is_an_error(content: dict[str, Any], where: str, message: str) -> None:
    errors = [f for f in found(content, roles=["boss"], tasks=["release"]) if f.kind == "error"]
    assert any(f.where == where and message in f.message for f in errors), errors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {
                "rules": [
                    rule("wide", "deny", effect="risky"),
                    rule("narrow", "ask", action="fake.drop", effect="risky"),
                ]
            },
            "never decides: shadowed by 'wide'",
        ),
        (
            {"rules": [rule("a", "ask", hours="08:00-18:00"), rule("b", "ask", hours="09:00-10:00", effect="risky")]},
            "never decides: shadowed by 'a'",
        ),
        (
            {
                "integrations": {"fake": {"allow": ["double"]}},
                "rules": [rule("yes", "allow", action="fake.add"), rule("no", "deny", integration="fake")],
            },
            "never decides: contradicted by 'no'",
        ),
        ({"rules": [rule("r", "allow", action="fake.add")]}, "never decides: what it allows is allowed already"),
        (
            {
                "integrations": {"fake": {"allow": "*", "forbid": ["add"]}},
                "rules": [rule("r", "ask", action="fake.add")],
            },
            "never decides: what it is about is denied already",
        ),
        ({"integrations": {"fake": {"allow": ["add"], "forbid": ["add"]}}}, "add is under forbid and allow"),
        ({"integrations": {"fake": {"allow": ["add"], "ask": ["drop"]}}}, "drop is under ask but not allowed"),
        (
            {"integrations": {"fake": {"allow": "*", "forbid": ["drop"], "to_stable": ["drop"]}}},
            "a stop cannot end a canary",
        ),
        ({"limits": {"trials": {}}}, "bounds nothing"),
        ({"limits": {"trials": {"max": 0}}}, "denies every call that uses it"),
        ({"limits": {"calls": {"max": 5}}}, "max does nothing"),
        ({"rules": [rule("r", "deny", effect="risky", timezone="UTC")]}, "timezone does nothing"),
        ({"freeze": [{"from": "2026-01-01", "to": "2026-01-02", "reason": "x"}]}, "is over since 2026-01-02"),
    ],
)
def test_what_a_person_should_look_at_is_a_warning(content: dict[str, Any], message: str) -> None:
    findings = found(content, today=date(2026, 11, 29))
    assert [f for f in findings if f.kind == "error"] == []
    assert any(message in f.message for f in findings), findings


@pytest.mark.parametrize(
    "rules",
    [
        [rule("a", "ask", environment="staging"), rule("b", "ask", environment="production")],
        [rule("a", "ask", action="fake.drop"), rule("b", "ask", effect="risky")],
        [rule("a", "ask", effect="risky"), rule("b", "deny", action="fake.drop")],
        [rule("a", "deny", hours="08:00-18:00"), rule("b", "deny", hours="17:00-20:00")],
        [
            rule("a", "deny", hours="08:00-18:00", timezone="Asia/Tokyo"),
            rule("b", "deny", hours="09:00-10:00", timezone="UTC"),
        ],
        [
            rule("a", "deny", action="fake.add", arguments={"trials": {"above": 5}}),
            rule("b", "deny", action="fake.add", arguments={"trials": {"above": 2}}),
        ],
    ],
)
def test_rules_that_each_decide_something_are_no_finding(rules: list[dict[str, Any]]) -> None:
    assert found({"rules": rules}) == []


def test_a_third_party_server_may_have_any_action() -> None:
    content = {
        "integrations": {"other": {"allow": ["x"], "effects": {"x": "read"}, "to_stable": ["y"]}},
        "rules": [rule("r", "deny", action="other.z")],
    }
    assert [f for f in found(content) if f.kind == "error"] == []
