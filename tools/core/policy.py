"""Decides whether a call may happen: default deny, forbid beats allow, limits on arguments, autonomy levels.

The policy is pure: it reads `config/policy.yaml` once and answers questions. It never asks a person and never calls
anything; the gateway does what it says. No prompt or model output reaches it but the arguments it judges.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tools.core.contract import Effect, Integration
from tools.core.yamlfile import ConfigError, load_yaml_model


class Level(StrEnum):
    """How much the agents may do on their own."""

    OBSERVE = "observe"  # reads only
    SUPERVISED = "supervised"  # risky writes wait for a person
    AUTONOMOUS = "autonomous"  # writes inside the limits


class Verdict(StrEnum):
    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class Limit(BaseModel):
    """Bounds of one kind of argument: `max` for one call, `per_run` for the sum over a run. None: no bound."""

    model_config = ConfigDict(extra="forbid")

    max: float | None = Field(default=None, ge=0)
    per_run: float | None = Field(default=None, ge=0)


class IntegrationPolicy(BaseModel):
    """What may be called on one integration.

    `allow`: "*" or action names. `forbid` and `ask` name actions and beat `allow`, `forbid` first. `autonomy`
    overrides the policy's level for this integration. `effects` classifies the tools of a third-party MCP server,
    whose own annotations are not trusted; one that is not named counts as risky.
    """

    model_config = ConfigDict(extra="forbid")

    allow: Literal["*"] | list[str] = Field(default_factory=list[str])
    forbid: list[str] = Field(default_factory=list[str])
    ask: list[str] = Field(default_factory=list[str])
    autonomy: Level | None = None
    effects: dict[str, Effect] = Field(default_factory=dict[str, Effect])


class PolicyFile(BaseModel):
    """`config/policy.yaml`."""

    model_config = ConfigDict(extra="forbid")

    autonomy: Literal["auto", "observe", "supervised", "autonomous"] = "auto"
    default: Literal["deny"] = "deny"
    approval_timeout_s: float = Field(default=900, ge=0)
    limits: dict[str, Limit] = Field(default_factory=dict[str, Limit])
    integrations: dict[str, IntegrationPolicy] = Field(default_factory=dict[str, IntegrationPolicy])

    @model_validator(mode="after")
    def _limits_make_sense(self) -> "PolicyFile":
        for name, limit in self.limits.items():
            if limit.max is not None and limit.per_run is not None and limit.max > limit.per_run:
                raise ValueError(f"limit {name}: max {limit.max} is above per_run {limit.per_run}")
        return self


@dataclass(frozen=True)
class Question:
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
        used: limit name -> what the run has used up so far.
        asks: the call is a question to a person.
        preference, preferred: of such a call: what the goal states on its topic (empty: nothing), and the name of the
            option that this names (empty: none of them).
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
    used: Mapping[str, float] = field(default_factory=dict[str, float])
    asks: bool = False
    preference: str = ""
    preferred: str = ""


@dataclass(frozen=True)
class Decision:
    """What the policy says: the verdict, the rule that gave it, and the autonomy level in force."""

    verdict: Verdict
    rule: str
    level: Level


class Policy:
    """Answers `Question`s from a policy file. Immutable, so it may be shared by threads."""

    def __init__(self, file: PolicyFile) -> None:
        self.file = file

    @classmethod
    def load(cls, path: Path) -> "Policy":
        """Read a policy file.

        Raises:
            ConfigError: missing, not YAML, or an unknown or wrong key; names the valid ones.
        """
        return cls(load_yaml_model(path, PolicyFile))

    @property
    def approval_timeout_s(self) -> float:
        return self.file.approval_timeout_s

    def check(self, specs: Iterable[Integration], third_party: Iterable[str], where: str) -> None:
        """Compare every name in the policy with what exists: a misspelt `forbid` would forbid nothing.

        Raises:
            ConfigError: names each unknown integration, action or limit, and the valid ones.
        """
        ours = {spec.name: spec for spec in specs}
        others = set(third_party)
        limits = {name for spec in ours.values() for action in spec.actions for name in action.limits().values()}
        problems = [_unknown("limit", name, {*limits, "calls"}, f"{where}: limits") for name in self.file.limits] + [
            _unknown("integration", name, {*ours, *others}, f"{where}: integrations") for name in self.file.integrations
        ]
        for name, block in self.file.integrations.items():
            if name in ours:
                actions = {action.name for action in ours[name].actions}
                allowed = [] if block.allow == "*" else block.allow
                named = [*allowed, *block.forbid, *block.ask]
                problems += [_unknown("action", action, actions, f"{where}: integrations.{name}") for action in named]
                if block.effects:
                    problems.append(f"{where}: integrations.{name}.effects is for third-party servers only")
        found = [problem for problem in problems if problem]
        if found:
            raise ConfigError("; ".join(found))

    def level(self, integration: str, real: bool) -> Level:
        """The autonomy level in force for calls to an integration."""
        block = self.file.integrations.get(integration)
        if block is not None and block.autonomy is not None:
            return block.autonomy
        if self.file.autonomy != "auto":
            return Level(self.file.autonomy)
        return Level.SUPERVISED if real else Level.AUTONOMOUS

    def effect_of(self, integration: str, tool: str) -> Effect:
        """The effect of a third-party tool: as the policy classifies it, risky otherwise."""
        block = self.file.integrations.get(integration)
        return block.effects.get(tool, Effect.RISKY) if block else Effect.RISKY

    def decide(self, question: Question) -> Decision:
        """Allow, ask or deny. The first rule that applies decides, the strictest first."""
        level = self.level(question.integration, question.real)
        name = f"{question.integration}.{question.action}"
        block = self.file.integrations.get(question.integration)
        # A role whose grants are not known may use nothing; only a person needs none.
        granted = frozenset[str]() if question.role is not None and question.granted is None else question.granted
        if granted is not None and not granted & {question.integration, name}:
            usable = ", ".join(sorted(granted)) or "nothing"
            return Decision(Verdict.DENY, f"role {question.role} may not use {name}; it may use: {usable}", level)
        if block is None:
            return Decision(Verdict.DENY, f"the policy has no block for {question.integration} (default: deny)", level)
        if question.action in block.forbid:
            return Decision(Verdict.DENY, f"the policy forbids {name}", level)
        if block.allow != "*" and question.action not in block.allow:
            return Decision(Verdict.DENY, f"the policy does not allow {name} (default: deny)", level)
        breach = self._breach(question)
        if breach is not None:
            return Decision(Verdict.DENY, breach, level)
        if level is Level.OBSERVE and question.effect is not Effect.READ:
            return Decision(Verdict.DENY, f"autonomy level observe allows reads only, and {name} writes", level)
        if question.action in block.ask:
            return Decision(Verdict.ASK, f"the policy asks a person for every {name}", level)
        if question.asks:
            return _choice(question, level)
        if question.effect is Effect.RISKY and question.role is not None and not question.in_task:
            return Decision(Verdict.ASK, f"risky {name} belongs to no task here, so a person decides", level)
        if level is Level.SUPERVISED and question.effect is Effect.RISKY:
            return Decision(Verdict.ASK, f"autonomy level supervised: risky {name} waits for a person", level)
        return Decision(Verdict.ALLOW, f"autonomy level {level.value} allows {question.effect.value}", level)

    def _breach(self, question: Question) -> str | None:
        amounts = {limit: question.arguments.get(argument) for argument, limit in question.limited.items()}
        amounts["calls"] = 1
        for limit_name, amount in amounts.items():
            limit = self.file.limits.get(limit_name)
            if limit is None or amount is None:
                continue
            if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < math.inf:
                return f"{limit_name} {amount!r} cannot be compared with the policy's limit"
            if limit.max is not None and amount > limit.max:
                return f"{limit_name} {amount:g} is above the policy's limit of {limit.max:g} for one call"
            used = question.used.get(limit_name, 0.0)
            if limit.per_run is not None and used + amount > limit.per_run:
                return (
                    f"{limit_name} {amount:g} on top of the {used:g} this run has used is above the policy's limit "
                    f"of {limit.per_run:g} for a run"
                )
        return None


def _choice(question: Question, level: Level) -> Decision:
    """Who answers a question: the goal where it states a preference and the level is autonomous, else a person.

    Also on the level observe a person may be asked: an answer changes nothing, and what follows from it is a call of
    its own.
    """
    if level is not Level.AUTONOMOUS:
        return Decision(Verdict.ASK, f"autonomy level {level.value}: a choice of this kind is a person's", level)
    if question.preferred:
        rule = f"autonomy level autonomous takes {question.preferred}, by the goal's preference: {question.preference}"
        return Decision(Verdict.ALLOW, rule, level)
    if question.preference:
        why = f"the goal's preference {question.preference} names none of the options"
    else:
        why = "the goal states no preference"
    return Decision(Verdict.ASK, f"{why}, so a person must choose", level)


def _unknown(kind: str, name: str, valid: set[str], where: str) -> str:
    """What is wrong with a name; empty when it is one of the valid ones."""
    return "" if name in valid else f"{where}: unknown {kind} {name!r} (valid: {', '.join(sorted(valid))})"
