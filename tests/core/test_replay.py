"""Another policy tried on recorded calls: which decisions would change, and nothing is called."""

from pathlib import Path
from typing import Any

import pytest

from tests.core.fake import SPEC, effects, make_gateway
from tools.core.calls import Caller
from tools.core.contract import Action
from tools.core.policy import Policy, PolicyFile
from tools.core.replay import Project, Trial, replay
from tools.core.stop import StopSwitch

AGENT = frozenset({"fake"})


def action(server: str, name: str) -> Action | None:
    return next((a for a in SPEC.actions if a.name == name), None) if server == "fake" else None


PROJECT = Project(action, {"architect": AGENT}.get, frozenset({"tune"}))


def trial(records: list[dict[str, Any]], **content: Any) -> Trial:
    policy = Policy(PolicyFile.model_validate({"integrations": {"fake": {"allow": "*"}}, **content}))
    return replay({"run": records}, policy, PROJECT)


@pytest.fixture
def recorded(tmp_path: Path) -> list[dict[str, Any]]:
    """What a gateway wrote: three writes, a read, a risky call, and calls that no policy decided on."""
    agent = Caller(role="architect", task="look", granted=AGENT)
    with make_gateway(tmp_path, with_approver=False) as gateway:
        for trials in (3, 4, 5):
            gateway.call("fake", {"action": "add", "trials": trials})
        gateway.call("fake", {"action": "double", "x": 1}, agent)
        gateway.call("fake", {"action": "drop"}, agent)
        gateway.call("fake", {"action": "dorp"})
        StopSwitch(tmp_path).pull("ann")
        gateway.call("fake", {"action": "add", "trials": 1})
        records = gateway.journal.records()
    assert effects(tmp_path, "add") == 3
    return records


def changes(found: Trial) -> list[tuple[str, str, str]]:
    return [(change.call, change.before, change.after) for change in found.changes]


def test_the_same_policy_changes_nothing(recorded: list[dict[str, Any]]) -> None:
    found = trial(recorded)
    assert found.changes == [] and found.looked_at == 5
    assert found.left_out == {"refused before the policy saw it": 1, "held by a stop": 1}


def test_a_stricter_policy_says_what_it_would_have_denied_and_why(recorded: list[dict[str, Any]]) -> None:
    found = trial(recorded, limits={"trials": {"max": 4}}, autonomy="supervised")
    assert changes(found) == [("fake.add", "allow", "deny")]
    change = found.changes[0]
    assert change.arguments == {"trials": 5} and change.call_id == "c0003" and change.role is None
    assert change.rule_after == "trials 5 is above the policy's limit of 4 for one call"
    assert change.rule_before == "autonomy level autonomous allows write"
    assert found.kinds == {"allow -> deny": 1}


def test_limits_count_only_what_the_new_policy_lets_through(recorded: list[dict[str, Any]]) -> None:
    found = trial(recorded, limits={"trials": {"per_run": 8}})
    assert [change.arguments["trials"] for change in found.changes] == [5]
    found = trial(recorded, limits={"trials": {"max": 4, "per_hour": 8}})
    assert [change.arguments["trials"] for change in found.changes] == [5]


def test_a_looser_policy_says_what_it_would_have_let_happen(recorded: list[dict[str, Any]]) -> None:
    for record in recorded:
        if record["kind"] == "intent" and record["action"] == "drop":
            record.update(task="tune", decision="deny", rule="the policy forbids fake.drop")
    assert changes(trial(recorded)) == [("fake.drop", "deny", "allow")]


def test_each_call_is_judged_at_its_own_time(recorded: list[dict[str, Any]]) -> None:
    times = iter(f"2026-11-27T{hour}:00:00.000+00:00" for hour in (15, 16, 17, 18, 19))
    for record in recorded:
        if record["kind"] == "intent" and record["effect"] is not None and not record["rule"].startswith("stopped"):
            record["ts"] = next(times)
    evening = {"name": "evening", "when": {"effect": "write", "hours": "16:00-24:00"}, "then": "deny"}
    found = trial(recorded, rules=[evening])
    assert [(change.at[11:13], change.after) for change in found.changes] == [("16", "deny"), ("17", "deny")]


def test_a_journal_of_an_older_form_is_read(recorded: list[dict[str, Any]]) -> None:
    old: list[dict[str, Any]] = [
        {"kind": "run_started"},
        {"kind": "intent", "ts": "2026-11-27T10:00:00.000+00:00", "call_id": "c0001", "server": "fake", "action": "add",
         "arguments": {"trials": 2}, "role": "architect", "task": "tune", "effect": "write", "decision": "allow",
         "rule": "autonomy level autonomous allows write", "level": "autonomous", "real": False},
        {"kind": "intent", "ts": "2026-11-27T10:00:01.000+00:00", "call_id": "c0002", "server": "gone", "action": "x",
         "arguments": {}, "role": None, "task": None, "effect": "risky", "decision": "deny",
         "rule": "the policy has no block for gone (default: deny)", "level": "observe", "real": True},
    ]  # fmt: skip
    found = trial(old, autonomy="observe")
    assert changes(found) == [("fake.add", "allow", "deny")] and found.looked_at == 2
