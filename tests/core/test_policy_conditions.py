"""Rules with conditions: environment, time, freezes, effects, arguments; the strictest wins and a fault is a denial."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from tools.core.contract import Effect
from tools.core.policy import Policy, PolicyFile, ProposedCall, Verdict
from tools.core.yamlfile import ConfigError, as_model

FRIDAY_EVENING = datetime(2026, 11, 27, 17, 0, tzinfo=UTC)  # 18:00 in Berlin
FRIDAY_NOON = datetime(2026, 11, 27, 11, 0, tzinfo=UTC)
EVENING = {
    "name": "no Friday evenings",
    "when": {"effect": "risky", "weekdays": ["fri"], "hours": "16:00-24:00"},
    "then": "deny",
}
HOLIDAYS = {"from": "2026-12-20", "to": "2027-01-03", "reason": "holidays"}


def policy(now: datetime = FRIDAY_NOON, environment: str | None = None, **content: Any) -> Policy:
    base: dict[str, Any] = {
        "autonomy": "autonomous",
        "integrations": {"serving": {"allow": "*"}, "mlflow": {"allow": "*"}},
    }
    return Policy(as_model({**base, **content}, PolicyFile, "p"), environment=environment, clock=lambda: now)


def promote(**more: Any) -> ProposedCall:
    return ProposedCall(
        **{"integration": "serving", "action": "promote_canary", "effect": Effect.RISKY, "arguments": {}, **more}
    )


def rollback(**more: Any) -> ProposedCall:
    return promote(action="rollback_canary", **more)


def rule(then: str, **when: Any) -> dict[str, Any]:
    return {"name": f"{then} {sorted(when)}", "when": when, "then": then}


@pytest.mark.parametrize(
    ("now", "zone", "expected"),
    [
        (FRIDAY_EVENING, "Europe/Berlin", Verdict.DENY),
        (FRIDAY_NOON, "Europe/Berlin", Verdict.ALLOW),
        (datetime(2026, 11, 27, 15, 30, tzinfo=UTC), "Europe/Berlin", Verdict.DENY),  # 16:30 there, in winter
        (datetime(2026, 6, 26, 14, 30, tzinfo=UTC), "Europe/Berlin", Verdict.DENY),  # 16:30 there, in summer
        (datetime(2026, 11, 27, 14, 30, tzinfo=UTC), "Europe/Berlin", Verdict.ALLOW),  # 15:30 there, in winter
        (datetime(2026, 11, 27, 15, 30, tzinfo=UTC), "UTC", Verdict.ALLOW),
        (datetime(2026, 11, 27, 23, 30, tzinfo=UTC), "Europe/Berlin", Verdict.ALLOW),  # Saturday there
        (datetime(2026, 11, 28, 17, 0, tzinfo=UTC), "Europe/Berlin", Verdict.ALLOW),
    ],
)
def test_a_rule_holds_on_its_weekdays_and_hours_in_its_time_zone(now: datetime, zone: str, expected: Verdict) -> None:
    evening = {**EVENING, "when": {**EVENING["when"], "timezone": zone}}
    assert policy(now, rules=[evening]).decide(promote()).verdict is expected
    assert policy(now, rules=[EVENING], timezone=zone).decide(promote()).verdict is expected


@pytest.mark.parametrize(("hour", "held"), [(21, False), (22, True), (23, True), (0, True), (5, True), (6, False)])
def test_hours_may_go_on_over_midnight(hour: int, held: bool) -> None:
    now = datetime(2026, 11, 27, hour, tzinfo=UTC)
    found = policy(now, rules=[rule("deny", hours="22:00-06:00")]).decide(promote())
    assert (found.verdict is Verdict.DENY) is held


@pytest.mark.parametrize("day", [20, 21, 31])
def test_a_freeze_holds_what_is_risky_on_its_days_and_says_why(day: int) -> None:
    frozen = policy(datetime(2026, 12, day, 12, tzinfo=UTC), freeze=[HOLIDAYS])
    decision = frozen.decide(promote())
    assert decision.verdict is Verdict.DENY and decision.rule.endswith("to 2027-01-03: holidays")
    assert frozen.decide(promote(effect=Effect.WRITE, action="send_traffic")).verdict is Verdict.ALLOW


@pytest.mark.parametrize("now", [datetime(2026, 12, 19, 23, 59, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC)])
def test_a_freeze_ends(now: datetime) -> None:
    assert policy(now, freeze=[HOLIDAYS]).decide(promote()).verdict is Verdict.ALLOW


def test_a_freeze_may_have_exceptions_and_an_environment() -> None:
    now = datetime(2026, 12, 24, tzinfo=UTC)
    excepted = {**HOLIDAYS, "allow": ["serving.promote_canary"]}
    assert policy(now, freeze=[excepted]).decide(promote()).verdict is Verdict.ALLOW
    production = {**HOLIDAYS, "environment": "production"}
    assert policy(now, "staging", freeze=[production]).decide(promote()).verdict is Verdict.ALLOW
    assert policy(now, "production", freeze=[production]).decide(promote()).verdict is Verdict.DENY


def test_going_back_to_stable_is_blocked_by_no_freeze_hour_level_or_budget() -> None:
    content: dict[str, Any] = {
        "autonomy": "supervised",
        "freeze": [{**HOLIDAYS, "from": "2026-11-01"}],
        "rules": [
            EVENING,
            rule("deny", hours="00:00-24:00", action=["serving.rollback_canary"]),
            rule("ask", effect="risky"),
        ],
        "limits": {"calls": {"per_run": 10, "per_hour": 10}, "cost_usd": {"per_run": 1}},
    }
    spent = {"calls": {"run": 99.0, "hour": 99.0}, "cost_usd": {"run": 5.0}}
    held = policy(FRIDAY_EVENING, **content)
    assert held.decide(promote(used=spent)).verdict is Verdict.DENY
    assert held.decide(rollback(used=spent)).verdict is Verdict.ALLOW


def test_what_goes_back_to_stable_can_still_be_forbidden_or_asked_for_by_name() -> None:
    named = [rule("ask", action=["serving.rollback_canary"])]
    assert policy(rules=named).decide(rollback()).verdict is Verdict.ASK
    block = {"serving": {"allow": "*", "forbid": ["rollback_canary"]}}
    assert policy(integrations=block).decide(rollback()).verdict is Verdict.DENY


def test_a_policy_says_which_actions_go_back_to_stable() -> None:
    content: dict[str, Any] = {"freeze": [{**HOLIDAYS, "from": "2026-11-01"}]}
    own = {
        "integrations": {"kube": {"allow": "*", "to_stable": ["rollback"]}, "serving": {"allow": "*", "to_stable": []}}
    }
    assert policy(**content, **own).decide(promote(integration="kube", action="rollback")).verdict is Verdict.ALLOW
    assert policy(**content, **own).decide(rollback()).verdict is Verdict.DENY


def test_an_outside_client_still_needs_a_person_to_roll_back() -> None:
    asked = rollback(role="mcp_client", granted=frozenset({"serving"}))
    assert policy().decide(asked).verdict is Verdict.ASK


@pytest.mark.parametrize(
    ("when", "call", "holds"),
    [
        ({"environment": "production"}, promote(), False),
        ({"environment": ["staging", "production"]}, promote(), True),
        ({"integration": "mlflow"}, promote(), False),
        ({"integration": "mlflow"}, promote(integration="mlflow"), True),
        ({"action": "serving.promote_canary"}, promote(), True),
        ({"action": ["serving.stop"]}, promote(), False),
        ({"effect": ["write", "risky"]}, promote(effect=Effect.READ), False),
        ({"role": "deployment"}, promote(role="deployment", granted=frozenset({"serving"}), in_task=True), True),
        ({"role": "person"}, promote(), True),
        ({"role": "deployment"}, promote(), False),
        ({"task": "release"}, promote(task="release"), True),
        ({"real": True}, promote(), False),
        ({"real": False}, promote(), True),
        ({"arguments": {"percent": {"above": 20}}}, promote(arguments={"percent": 20}), False),
        ({"arguments": {"percent": {"above": 20}}}, promote(arguments={"percent": 20.5}), True),
        ({"arguments": {"percent": {"above": 20}}}, promote(), False),
        ({"arguments": {"percent": {"above": 5, "below": 10}}}, promote(arguments={"percent": 10}), False),
        ({"arguments": {"name": {"like": "churn-*"}}}, promote(arguments={"name": "churn-eu"}), True),
        ({"arguments": {"name": {"one_of": ["a", 1]}}}, promote(arguments={"name": True}), False),
        ({"arguments": {"keep": {"equals": True}}}, promote(arguments={"keep": True}), True),
        ({"arguments": {"keep": {"equals": False}}}, promote(arguments={"keep": 0}), False),
        ({"amounts": {"minutes": {"above": 30}}}, promote(arguments={"long": 31}, limited={"long": "minutes"}), True),
        ({"amounts": {"minutes": {"above": 30}}}, promote(arguments={"long": 31}), False),
        ({"effect": "risky", "action": "serving.promote_canary", "environment": "sandbox"}, promote(), False),
    ],
)
def test_all_conditions_of_a_rule_must_hold(when: dict[str, Any], call: ProposedCall, holds: bool) -> None:
    found = policy(environment="staging", rules=[rule("deny", **when)]).decide(call)
    assert (found.verdict is Verdict.DENY) is holds, found


def test_where_nobody_names_the_environment_a_rule_that_restricts_holds_and_one_that_allows_does_not() -> None:
    for then in ("ask", "deny"):
        assert policy(rules=[rule(then, environment="production")]).decide(promote()).verdict.value == then
    closed = {"serving": {"allow": ["status"]}}
    lifted = [rule("allow", environment="staging", action="serving.promote_canary")]
    assert policy(integrations=closed, rules=lifted).decide(promote()).verdict is Verdict.DENY
    assert policy(environment="staging", integrations=closed, rules=lifted).decide(promote()).verdict is Verdict.ALLOW


def test_a_rule_that_allows_does_not_lift_what_is_forbidden_asked_for_or_supervised() -> None:
    lifted = [rule("allow", action="serving.promote_canary")]
    forbidden = {"serving": {"allow": [], "forbid": ["promote_canary"]}}
    assert policy(integrations=forbidden, rules=lifted).decide(promote()).verdict is Verdict.DENY
    asked = {"serving": {"allow": [], "ask": ["promote_canary"]}}
    assert policy(integrations=asked, rules=lifted).decide(promote()).verdict is Verdict.ASK
    assert policy(autonomy="supervised", rules=lifted).decide(promote()).verdict is Verdict.ASK
    assert policy(autonomy="observe", rules=lifted).decide(promote()).verdict is Verdict.DENY


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_strictest_rule_wins_in_whatever_order_they_stand(order: tuple[int, ...]) -> None:
    rules = [rule("allow", effect="risky"), rule("ask", effect="risky"), rule("deny", effect="risky")]
    decision = policy(rules=[rules[place] for place in order]).decide(promote())
    assert decision.verdict is Verdict.DENY and "denies serving.promote_canary" in decision.rule


@pytest.mark.parametrize("value", ["50", None, [1], {"a": 1}, float("nan"), True])
def test_a_value_that_cannot_be_compared_is_a_denial(value: Any) -> None:
    asks = [rule("ask", arguments={"percent": {"above": 20}})]
    decision = policy(rules=asks).decide(promote(arguments={"percent": value}))
    assert decision.verdict is (Verdict.ALLOW if value is None else Verdict.DENY)


@pytest.mark.parametrize("amount", [10**400, -1, "7", True, float("nan"), float("inf"), 1e300])
def test_an_odd_amount_is_a_denial_also_where_no_limit_bounds_it(amount: Any) -> None:
    decision = policy().decide(promote(arguments={"n": amount}, limited={"n": "trials"}))
    assert decision.verdict is Verdict.DENY and "trials" in decision.rule


@pytest.mark.parametrize("error", [RuntimeError("boom"), RecursionError(), ZeroDivisionError("x"), MemoryError()])
def test_whatever_goes_wrong_in_a_policy_is_a_denial_with_a_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> str:
        raise error

    monkeypatch.setattr("tools.core.policy.decide.unmet", fail)
    for effect in Effect:
        decision = policy(rules=[rule("allow", effect="risky")]).decide(promote(effect=effect))
        assert decision.verdict is Verdict.DENY
        assert "could not be applied to serving.promote_canary, so it is denied" in decision.rule
        assert type(error).__name__ not in decision.rule


def test_a_clock_that_fails_is_a_denial() -> None:
    def fail() -> datetime:
        raise OSError("no clock")

    broken = Policy(PolicyFile.model_validate({"integrations": {"serving": {"allow": "*"}}}), clock=fail)
    assert broken.decide(promote(effect=Effect.READ)).verdict is Verdict.DENY


def test_an_explanation_holds_every_rule_and_the_one_that_decides() -> None:
    found = policy(FRIDAY_EVENING, rules=[EVENING, rule("ask", environment="sandbox")], freeze=[HOLIDAYS]).explain(
        promote()
    )
    by_rule = {step.rule: step for step in found.steps}
    assert by_rule["rule no Friday evenings"].verdict is Verdict.DENY
    assert by_rule["freeze 2026-12-20 to 2027-01-03"].verdict is None
    assert by_rule["grants"].why == "a person asks, who needs no grant"
    assert by_rule["level"].verdict is Verdict.ALLOW
    assert found.decision.rule == 'the rule "no Friday evenings" denies serving.promote_canary'
    noon = policy(FRIDAY_NOON, rules=[EVENING]).explain(promote())
    missed = next(step for step in noon.steps if step.rule == "rule no Friday evenings")
    assert missed.verdict is None and missed.why == "it is Friday 11:00 in UTC, not 16:00-24:00"


def test_an_explanation_at_another_time_does_not_look_at_the_clock() -> None:
    rules = [EVENING]
    assert policy(FRIDAY_NOON, rules=rules).explain(promote(), FRIDAY_EVENING).decision.verdict is Verdict.DENY


def test_a_freeze_or_an_hour_does_not_hide_what_can_be_allowed_later() -> None:
    frozen = policy(datetime(2026, 12, 24, tzinfo=UTC), freeze=[HOLIDAYS], rules=[EVENING])
    assert frozen.decide(promote()).verdict is Verdict.DENY and frozen.could_allow(promote())
    assert not policy(integrations={"serving": {"allow": "*", "forbid": ["promote_canary"]}}).could_allow(promote())
    assert not policy(integrations={"serving": {"allow": ["status"]}}).could_allow(promote())
    later = [rule("allow", action="serving.promote_canary", hours="02:00-03:00")]
    assert policy(integrations={"serving": {"allow": ["status"]}}, rules=later).could_allow(promote())


def test_an_environment_that_the_policy_does_not_list_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"MLOPS_ENVIRONMENT is 'prod'.*sandbox, staging, production"):
        policy(environment="prod")
    assert policy(environment="prod", environments=["prod"]).environment == "prod"


def test_an_environment_of_the_file_that_it_does_not_list_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'prod' is not one of environments: sandbox"):
        as_model({"environment": "prod"}, PolicyFile, "p")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"rules": [rule("deny", hours="25:00-26:00")]}, "hours must be"),
        ({"rules": [rule("deny", hours="16-24")]}, "hours must be like 16:00-24:00"),
        ({"rules": [rule("deny", hours="10:00-10:00")]}, "two different times"),
        ({"rules": [rule("deny", weekdays=["freitag"])]}, "weekdays"),
        ({"rules": [rule("deny", hours="10:00-11:00", timezone="Berlin")]}, "unknown time zone 'Berlin'"),
        ({"rules": [rule("deny", hours="10:00-11:00", timezone="../etc")]}, "unknown time zone"),
        ({"rules": [rule("deny")]}, "at least one condition"),
        ({"rules": [rule("deny", timezone="UTC")]}, "at least one condition"),
        ({"rules": [rule("permit", effect="risky")]}, "then"),
        ({"rules": [rule("deny", effects="risky")]}, "did you mean 'effect'"),
        ({"rules": [rule("deny", action="promote_canary")]}, "integration.action"),
        ({"rules": [rule("deny", effect="risky"), rule("deny", effect="read")]}, "two rules are named"),
        ({"rules": [rule("deny", arguments={"a": {}})]}, "must give above"),
        ({"rules": [rule("deny", arguments={"a": {"above": 5, "below": 4}})]}, "nothing is above 5 and below 4"),
        ({"freeze": [{"from": "2027-01-01", "to": "2026-01-01", "reason": "x"}]}, "is after to"),
        ({"freeze": [{"from": "2026-01-01", "to": "2026-01-02"}]}, "reason"),
        ({"freeze": [{"from": "2026-01-01", "to": "2026-01-02", "reason": "x", "effects": ["read"]}]}, "never frozen"),
        ({"freeze": [{"form": "2026-01-01", "to": "2026-01-02", "reason": "x"}]}, "did you mean 'from'"),
        ({"environments": []}, "environments"),
        ({"limits": {"calls": {"per_hour": 10, "per_day": 5}}}, "per_hour 10 is above per_day 5"),
        ({"limits": {"calls": {"per_session": float("nan")}}}, "limits.calls.per_session"),
    ],
)
def test_a_condition_that_makes_no_sense_is_an_error_of_the_file(content: dict[str, Any], named: str) -> None:
    with pytest.raises((ConfigError, ValidationError)) as caught:
        policy(**content)
    assert named in str(caught.value)
