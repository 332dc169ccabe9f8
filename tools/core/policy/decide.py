"""Decides on a proposed call: every rule is looked at, and the strictest verdict wins."""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tools.core.contract import Effect, Integration
from tools.core.policy.amounts import AmountError, amounts_of, excess, overdrawn
from tools.core.policy.conditions import ConditionError, Moment, frozen, unmet
from tools.core.policy.file import Freeze, IntegrationPolicy, PolicyFile, Rule
from tools.core.policy.proposal import STRICTNESS, Decision, Level, ProposedCall, Step, Verdict
from tools.core.policy.review import errors_in, review
from tools.core.yamlfile import ConfigError, load_yaml_model

ENVIRONMENT = "MLOPS_ENVIRONMENT"
Clock = Callable[[], datetime]
# Denials that depend neither on arguments nor on the time.
_ALWAYS = {"grants", "default", "forbid", "allow", "observe", "fault"}


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Explanation:
    """A decision, and every rule that was looked at for it, in that order."""

    decision: Decision
    steps: tuple[Step, ...]


class Policy:
    """Answers on `ProposedCall`s from a policy file. Immutable, so it may be shared by threads.

    Args:
        environment: instead of the file's, what MLOPS_ENVIRONMENT says; None or empty: the file's.
        clock: the time of a call, aware of its time zone.

    Raises:
        ConfigError: an environment that the file does not list.
    """

    def __init__(self, file: PolicyFile, *, environment: str | None = None, clock: Clock = utc_now) -> None:
        self.file = file
        self.environment = environment or file.environment
        self._clock = clock
        if environment and environment not in file.environments:
            known = ", ".join(file.environments)
            raise ConfigError(f"{ENVIRONMENT} is {environment!r}; the policy's environments are: {known}")

    @classmethod
    def load(cls, path: Path, env: Mapping[str, str] | None = None, *, clock: Clock = utc_now) -> "Policy":
        """Read a policy file.

        Args:
            env: where MLOPS_ENVIRONMENT is looked up; None: the file's environment counts.

        Raises:
            ConfigError: missing, not YAML, or an unknown or wrong key; names the valid ones.
        """
        return cls(load_yaml_model(path, PolicyFile), environment=(env or {}).get(ENVIRONMENT), clock=clock)

    def with_level(self, level: Level) -> "Policy":
        """The same policy on another autonomy level."""
        file = self.file.model_copy(update={"autonomy": level.value})
        return Policy(file, environment=self.environment, clock=self._clock)

    @property
    def approval_timeout_s(self) -> float:
        return self.file.approval_timeout_s

    def check(
        self,
        specs: Iterable[Integration],
        third_party: Iterable[str],
        where: str,
        *,
        roles: Iterable[str] | None = None,
        tasks: Iterable[str] | None = None,
    ) -> None:
        """Compare every name in the policy with what exists: a misspelt `forbid` would forbid nothing.

        Args:
            roles, tasks: of the project; None: what rules say of them is not checked.

        Raises:
            ConfigError: names each unknown name with the valid ones, and each rule that can never fire.
        """
        found = errors_in(review(self.file, specs, third_party, roles=roles, tasks=tasks))
        if found:
            raise ConfigError("; ".join(f"{where}: {finding.where}: {finding.message}" for finding in found))

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

    def is_to_stable(self, integration: str, action: str) -> bool:
        """Whether an action only brings production back to what it safely served."""
        return action in self.file.to_stable(integration)

    def decide(self, call: ProposedCall) -> Decision:
        """Allow, ask or deny: the strictest verdict wins, and of equal ones the first."""
        return self.explain(call).decision

    def could_allow(self, call: ProposedCall) -> bool:
        """Whether a call of this kind can happen at all, with some arguments, at some time."""
        never = {step.rule for step in self.explain(call).steps if step.verdict is Verdict.DENY}
        lifted = any(
            rule.then == "allow"
            and (rule.when.integration is None or call.integration in rule.when.integration)
            and (rule.when.action is None or call.name in rule.when.action)
            for rule in self.file.rules
        )
        return not never & (_ALWAYS - {"allow"} if lifted else _ALWAYS)

    def explain(self, call: ProposedCall, at: datetime | None = None) -> Explanation:
        """The decision and how it came about.

        Whatever goes wrong in here is a denial: the one place where that is made sure.

        Args:
            at: instead of now.
        """
        steps: list[Step] = []
        level = Level.OBSERVE
        try:
            level = self.level(call.integration, call.real)
            moment = Moment(at or self._clock(), self.environment, self.file.timezone)
            call = replace(call, to_stable=call.to_stable or self.is_to_stable(call.integration, call.action))
            steps.extend(self._steps(call, level, moment))
            said = [step for step in steps if step.verdict is not None]
            winner = max(said, key=lambda step: STRICTNESS[step.verdict or Verdict.DENY])  # the first of equal ones
            decision = Decision(winner.verdict or Verdict.DENY, winner.why, level)
        except (AmountError, ConditionError) as error:
            decision = Decision(Verdict.DENY, str(error), level)
            steps.append(Step("comparison", Verdict.DENY, decision.rule))
        except Exception:  # noqa: BLE001 - a fault in the policy must never let a call through, whatever it is
            why = f"the policy could not be applied to {call.integration}.{call.action}, so it is denied"
            decision = Decision(Verdict.DENY, f"{why}; mlops-crew policy check looks for the fault", level)
            steps.append(Step("fault", Verdict.DENY, decision.rule))
        return Explanation(decision, tuple(steps))

    def _steps(self, call: ProposedCall, level: Level, moment: Moment) -> Generator[Step]:
        """Every rule that concerns the call, the strictest kinds first."""
        name = call.name
        # A role whose grants are not known may use nothing; only a person needs none.
        granted = frozenset[str]() if call.role is not None and call.granted is None else call.granted
        usable = ", ".join(sorted(granted or ())) or "nothing"
        if granted is None:
            yield Step("grants", None, "a person asks, who needs no grant")
        elif granted & {call.integration, name}:
            yield Step("grants", None, f"role {call.role} may use {name}")
        else:
            yield Step("grants", Verdict.DENY, f"role {call.role} may not use {name}; it may use: {usable}")
        block = self.file.integrations.get(call.integration)
        if block is None:
            why = f"the policy has no block for {call.integration} (default: deny)"
            yield Step("default", Verdict.DENY, why)
            return
        yield _step("forbid", call.action in block.forbid, Verdict.DENY, f"the policy forbids {name}", "not forbidden")
        ruled = [(rule, self._unmet(rule, call, moment)) for rule in self.file.rules]
        yield _allowed(block, call, [rule for rule, missed in ruled if not missed and rule.then == "allow"])
        for rule, missed in ruled:
            verdict = Verdict(rule.then)
            done = {"deny": "denies", "ask": "asks a person for", "allow": "allows"}[rule.then]
            why = f'the rule "{rule.name}" {done} {name}'
            # What a rule allows is counted in the step above: the level has its say all the same.
            yield Step(f"rule {rule.name}", None if missed or verdict is Verdict.ALLOW else verdict, missed or why)
        for freeze in self.file.freeze:
            yield _frozen(freeze, call, moment)
        yield from self._limits(call)
        observes = level is Level.OBSERVE and call.effect is not Effect.READ
        why = f"autonomy level observe allows reads only, and {name} writes"
        yield _step("observe", observes, Verdict.DENY, why, f"autonomy level {level.value}, effect {call.effect.value}")
        yield _step(
            "ask", call.action in block.ask, Verdict.ASK, f"the policy asks a person for every {name}", "not listed"
        )
        if call.asks:
            yield _choice(call, level)
            return
        yield from _by_level(call, level)

    def _unmet(self, rule: Rule, call: ProposedCall, moment: Moment) -> str:
        """Why a rule does not apply. What only goes back to stable is held by rules that name it, and never by time."""
        if call.to_stable and rule.then != "allow":
            if rule.when.timed:
                return f"{call.name} goes back to stable, which no hour blocks"
            if call.name not in (rule.when.action or ()):
                return f"{call.name} goes back to stable, and the rule does not name it"
        return unmet(rule, call, moment)

    def _limits(self, call: ProposedCall) -> Generator[Step]:
        amounts = amounts_of(call.arguments, call.limited)
        for name, limit in self.file.limits.items():
            used = {} if call.to_stable else call.used.get(name, {})
            if name in amounts:
                why = excess(name, limit, amounts[name], used)
                yield _step(f"limit {name}", bool(why), Verdict.DENY, why, f"{amounts[name]:g} is within it")
            elif call.effect is not Effect.READ and (why := overdrawn(name, limit, used)):
                yield Step(f"limit {name}", Verdict.DENY, why)


def _step(rule: str, applies: bool, verdict: Verdict, why: str, why_not: str) -> Step:
    return Step(rule, verdict, why) if applies else Step(rule, None, why_not)


def _allowed(block: IntegrationPolicy, call: ProposedCall, rules: list[Rule]) -> Step:
    if block.allow == "*" or call.action in block.allow:
        return Step("allow", None, "the policy lists it")
    if rules:
        return Step("allow", None, f'the rule "{rules[0].name}" allows it')
    return Step("allow", Verdict.DENY, f"the policy does not allow {call.name} (default: deny)")


def _frozen(freeze: Freeze, call: ProposedCall, moment: Moment) -> Step:
    rule = f"freeze {freeze.start} to {freeze.to}"
    if not frozen(freeze, call, moment):
        return Step(rule, None, "does not hold it")
    if call.to_stable:
        return Step(rule, None, f"{call.name} goes back to stable, which is never frozen")
    return Step(rule, Verdict.DENY, f"{call.name} is frozen from {freeze.start} to {freeze.to}: {freeze.reason}")


def _by_level(call: ProposedCall, level: Level) -> Generator[Step]:
    """What the autonomy level says of a call that is no question."""
    risky = call.effect is Effect.RISKY
    foreign = risky and call.role is not None and not call.in_task
    why = f"risky {call.name} belongs to no task here, so a person decides"
    yield _step("task", foreign, Verdict.ASK, why, "it belongs to the task, or is not risky, or a person asks")
    # Nobody has to be awake to end a canary: the way back waits for no person, unless the policy names it in `ask`.
    waits = level is Level.SUPERVISED and risky and not call.to_stable
    why = f"autonomy level supervised: risky {call.name} waits for a person"
    yield _step("supervised", waits, Verdict.ASK, why, f"autonomy level {level.value}")
    yield Step("level", Verdict.ALLOW, f"autonomy level {level.value} allows {call.effect.value}")


def _choice(call: ProposedCall, level: Level) -> Step:
    """Who answers a question: the goal where it states a preference and the level is autonomous, else a person.

    Also on the level observe a person may be asked: an answer changes nothing, and what follows from it is a call of
    its own.
    """
    if level is not Level.AUTONOMOUS:
        return Step("choice", Verdict.ASK, f"autonomy level {level.value}: a choice of this kind is a person's")
    if call.preferred:
        rule = f"autonomy level autonomous takes {call.preferred}, by the goal's preference: {call.preference}"
        return Step("choice", Verdict.ALLOW, rule)
    if call.preference:
        why = f"the goal's preference {call.preference} names none of the options"
    else:
        why = "the goal states no preference"
    return Step("choice", Verdict.ASK, f"{why}, so a person must choose")
