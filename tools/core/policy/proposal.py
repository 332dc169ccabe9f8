"""What the policy is asked about, and what it says: a proposed call, a verdict, an autonomy level."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tools.core.contract import Effect
from tools.core.policy.amounts import Window


class Level(StrEnum):
    """How much the agents may do on their own."""

    OBSERVE = "observe"  # reads only
    SUPERVISED = "supervised"  # risky writes wait for a person
    AUTONOMOUS = "autonomous"  # writes inside the limits


class Verdict(StrEnum):
    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


STRICTNESS = {Verdict.ALLOW: 0, Verdict.ASK: 1, Verdict.DENY: 2}


@dataclass(frozen=True)
class ProposedCall:
    """One call to be judged.

    Args:
        integration, action, effect: what is to be called.
        arguments: validated, with the defaults filled in.
        limited: argument name -> limit name.
        role: who asks; None for a person (command line, notebook).
        granted: what that role may use, as `integration` or `integration.action`; None when a person asks.
        task: in which task the role asks.
        in_task: the call belongs to a task of ours, with exactly these arguments; what is risky otherwise waits for a
            person, whatever the level.
        real: the call goes to a real system rather than an embedded one.
        used: limit name -> window (`run`, `session`, `hour`, `day`) -> what is used up. A window that is missing does
            not count for this caller.
        asks: the call is a question to a person.
        preference, preferred: of such a call: what the goal states on its topic (empty: nothing), and the name of the
            option that this names (empty: none of them).
        to_stable: with these arguments the call only brings production back to what it safely served before.
    """

    integration: str
    action: str
    effect: Effect
    arguments: Mapping[str, Any]
    limited: Mapping[str, str] = field(default_factory=dict[str, str])
    role: str | None = None
    granted: frozenset[str] | None = None
    task: str | None = None
    in_task: bool = False
    real: bool = False
    used: Mapping[str, Mapping[Window, float]] = field(default_factory=dict[str, Mapping[Window, float]])
    asks: bool = False
    preference: str = ""
    preferred: str = ""
    to_stable: bool = False

    @property
    def name(self) -> str:
        return f"{self.integration}.{self.action}"


@dataclass(frozen=True)
class Decision:
    """What the policy says: the verdict, the rule that gave it, and the autonomy level in force."""

    verdict: Verdict
    rule: str
    level: Level


@dataclass(frozen=True)
class Step:
    """One rule that was looked at.

    Args:
        rule: what was looked at (`forbid`, `limit trials`, `rule no releases on Friday`).
        verdict: what it says of the call; None: it does not apply.
        why: in plain words.
    """

    rule: str
    verdict: Verdict | None
    why: str
