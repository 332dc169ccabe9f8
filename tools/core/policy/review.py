"""Looks a policy through: names that do not exist, rules that never fire or never decide, contradictions, odd limits.

An error is something that does not do what it says (a misspelt `forbid` forbids nothing); a warning is something that a
person should look at.
"""

import difflib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from tools.core.contract import Effect, Integration
from tools.core.policy.amounts import CALLS, COST, Window
from tools.core.policy.file import PERSON_ROLE, Bounds, IntegrationPolicy, PolicyFile, Rule, When, minutes_of

_STRICT = {"allow": 0, "ask": 1, "deny": 2}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or odd, and where in the file."""

    kind: Literal["error", "warning"]
    where: str
    message: str


class _Known:
    """What exists: integrations, their actions and arguments, limits, roles, tasks."""

    def __init__(
        self,
        specs: Iterable[Integration],
        third_party: Iterable[str],
        roles: Iterable[str] | None,
        tasks: Iterable[str] | None,
    ) -> None:
        self.ours = {spec.name: spec for spec in specs}
        self.others = set(third_party)
        self.integrations = {*self.ours, *self.others}
        named = {limit for spec in self.ours.values() for action in spec.actions for limit in action.limits().values()}
        self.limits = {*named, CALLS, COST}
        self.roles = {*roles, PERSON_ROLE} if roles is not None else None
        self.tasks = set(tasks) if tasks is not None else None

    def actions(self, integration: str) -> set[str] | None:
        """Names of its actions; None where only the server itself knows them."""
        spec = self.ours.get(integration)
        return {action.name for action in spec.actions} if spec is not None else None

    def wrong_action(self, name: str) -> str:
        """What is wrong with `integration.action`; empty: nothing."""
        integration, _, action = name.partition(".")
        if problem := unknown("integration", integration, self.integrations):
            return problem
        valid = self.actions(integration)
        return unknown("action", action, valid, f" of {integration}") if valid is not None else ""


def errors_in(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.kind == "error"]


def review(
    file: PolicyFile,
    specs: Iterable[Integration],
    third_party: Iterable[str],
    *,
    roles: Iterable[str] | None = None,
    tasks: Iterable[str] | None = None,
    today: date | None = None,
) -> list[Finding]:
    """Everything that is wrong or odd in a policy file.

    Args:
        specs: our integrations; third_party: names of other servers.
        roles, tasks: of the project; None: what rules say of them is not looked at.
        today: to find freezes that are over; None: those are not looked for.
    """
    known = _Known(specs, third_party, roles, tasks)
    return [
        *_limits(file, known),
        *(finding for name, block in file.integrations.items() for finding in _block(name, block, known)),
        *(finding for rule in file.rules for finding in _rule(rule, file, known)),
        *_shadowed(file),
        *_freezes(file, known, today),
    ]


def unknown(kind: str, name: str, valid: set[str], of: str = "") -> str:
    """What is wrong with a name; empty when it is one of the valid ones."""
    if name in valid:
        return ""
    close = difflib.get_close_matches(name, sorted(valid), n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}{of}{hint} (valid: {', '.join(sorted(valid))})"


def _errors(where: str, problems: Iterable[str]) -> Generator[Finding]:
    for problem in problems:
        if problem:
            yield Finding("error", where, problem)


def _limits(file: PolicyFile, known: _Known) -> Generator[Finding]:
    for name, limit in file.limits.items():
        where = f"limits.{name}"
        yield from _errors(where, [unknown("limit", name, known.limits)])
        bounds = [limit.max, *(limit.per(window) for window in Window)]
        if all(bound is None for bound in bounds):
            yield Finding("warning", where, "bounds nothing; give max, per_run, per_session, per_hour or per_day")
        if 0 in bounds:
            yield Finding("warning", where, "a bound of 0 denies every call that uses it")
        if name == CALLS and limit.max is not None:
            yield Finding("warning", where, "max does nothing: every call counts as one")
        highest = _highest_argument(name, known)
        if limit.max is not None and highest is not None and limit.max > highest:
            message = f"max {limit.max:g} does nothing: the arguments themselves allow at most {highest:g}"
            yield Finding("warning", where, message)


def _highest_argument(limit: str, known: _Known) -> float | None:
    """The largest value that the arguments of a limit allow by themselves; None: no bound, or not known."""
    found: list[float] = []
    for spec in known.ours.values():
        for action in spec.actions:
            for argument, name in action.limits().items():
                if name == limit:
                    bounds = (getattr(item, "le", None) for item in action.args.model_fields[argument].metadata)
                    most = [float(bound) for bound in bounds if bound is not None]
                    if not most:
                        return None
                    found.append(min(most))
    return max(found, default=None)


def _block(name: str, block: IntegrationPolicy, known: _Known) -> Generator[Finding]:
    where = f"integrations.{name}"
    if problem := unknown("integration", name, known.integrations):
        yield Finding("error", where, problem)
        return
    allowed = [] if block.allow == "*" else block.allow
    safe = block.to_stable or []
    actions = known.actions(name)
    if actions is not None:
        for key, names in (("allow", allowed), ("forbid", block.forbid), ("ask", block.ask), ("to_stable", safe)):
            yield from _errors(f"{where}.{key}", [unknown("action", action, actions) for action in names])
        if block.effects:
            yield Finding("error", f"{where}.effects", "is for third-party servers only; ours declare their effects")
    for action in block.forbid:
        if action in allowed or action in block.ask:
            other = "allow" if action in allowed else "ask"
            yield Finding("warning", where, f"{action} is under forbid and {other}; forbid wins")
    for action in block.ask:
        if block.allow != "*" and action not in allowed:
            yield Finding("warning", where, f"{action} is under ask but not allowed, so it is denied")
    for action in safe:
        if action in block.forbid or (block.allow != "*" and action not in allowed):
            yield Finding("warning", where, f"{action} goes back to stable but is denied: a stop cannot end a canary")
    if block.allow == []:
        yield Finding("warning", where, "allows nothing unless a rule does")


def _rule(rule: Rule, file: PolicyFile, known: _Known) -> Generator[Finding]:
    where, when = f"rules: {rule.name}", rule.when
    environments = set(file.environments)
    yield from _errors(
        where,
        [
            *(unknown("environment", name, environments) for name in when.environment or ()),
            *(unknown("integration", name, known.integrations) for name in when.integration or ()),
            *(known.wrong_action(name) for name in when.action or ()),
            *(unknown("role", name, known.roles) for name in when.role or () if known.roles is not None),
            *(unknown("task", name, known.tasks) for name in when.task or () if known.tasks is not None),
            *(unknown("limit", name, known.limits) for name in when.amounts or ()),
        ],
    )
    actions = _actions_of(when, known)
    if when.timezone and not when.timed:
        yield Finding("warning", where, "timezone does nothing without weekdays or hours")
    if actions is None:
        return
    if not actions:
        yield Finding("error", where, "never fires: no action fits its integration, action and effect together")
        return
    for argument in when.arguments or ():
        takes = [name for name in actions if argument in _arguments(name, known)]
        if not takes:
            yield Finding("error", where, f"never fires: no action it is about takes an argument {argument!r}")
    for limit in when.amounts or ():
        if limit not in (CALLS,) and not any(limit in _amounts(name, known) for name in actions):
            yield Finding("error", where, f"never fires: no action it is about uses {limit}")
    blocks = {name: file.integrations.get(name.partition(".")[0]) for name in actions}
    if rule.then == "allow" and all(block is None for block in blocks.values()):
        yield Finding("error", where, "never fires: the policy has no block for the integration it allows")
    elif rule.then == "allow" and all(_forbids(block, name) for name, block in blocks.items()):
        yield Finding("error", where, "contradiction: everything it allows is forbidden, and forbid wins")
    elif rule.then == "allow" and all(_lists(block, name) for name, block in blocks.items()):
        yield Finding("warning", where, "never decides: what it allows is allowed already")
    elif rule.then != "allow" and all(_denies(file, block, name) for name, block in blocks.items()):
        yield Finding("warning", where, "never decides: what it is about is denied already")
    safe = [name for name in actions if name.partition(".")[2] in file.to_stable(name.partition(".")[0])]
    named = [name for name in safe if name in (when.action or ())]
    if rule.then != "allow" and named and when.timed:
        yield Finding("warning", where, f"{', '.join(named)} goes back to stable, which no hour blocks")


def _actions_of(when: When, known: _Known) -> set[str] | None:
    """The actions that a rule can be about; None where a third-party server alone knows them."""
    integrations = set(when.integration or known.integrations) & known.integrations
    found: set[str] = set()
    for integration in integrations:
        spec = known.ours.get(integration)
        if spec is None:
            if when.action is None or any(name.startswith(f"{integration}.") for name in when.action):
                return None
            continue
        for action in spec.actions:
            name = f"{integration}.{action.name}"
            fits = when.action is None or name in when.action
            if fits and (when.effect is None or action.effect in when.effect):
                found.add(name)
    return found


def _arguments(name: str, known: _Known) -> set[str]:
    integration, _, action = name.partition(".")
    return set(known.ours[integration].action(action).args.model_fields)


def _amounts(name: str, known: _Known) -> set[str]:
    integration, _, action = name.partition(".")
    return set(known.ours[integration].action(action).limits().values())


def _forbids(block: IntegrationPolicy | None, name: str) -> bool:
    return block is not None and name.partition(".")[2] in block.forbid


def _lists(block: IntegrationPolicy | None, name: str) -> bool:
    return block is not None and (block.allow == "*" or name.partition(".")[2] in block.allow)


def _denies(file: PolicyFile, block: IntegrationPolicy | None, name: str) -> bool:
    lifted = any(rule.then == "allow" for rule in file.rules)
    return block is None or _forbids(block, name) or (not _lists(block, name) and not lifted)


def _shadowed(file: PolicyFile) -> Generator[Finding]:
    """Rules that never decide, because another one that is as strict covers all their calls."""
    for place, rule in enumerate(file.rules):
        for other_place, other in enumerate(file.rules):
            stricter = _STRICT[other.then] > _STRICT[rule.then]
            earlier = other.then == rule.then and other_place < place
            if (stricter or earlier) and _covers(other.when, rule.when):
                how = "contradicted" if rule.then == "allow" and other.then == "deny" else "shadowed"
                message = f"never decides: {how} by {other.name!r}, which covers all its calls ({other.then})"
                yield Finding("warning", f"rules: {rule.name}", message)
                break


def _covers(wide: When, narrow: When) -> bool:
    """Whether every call that `narrow` describes is one that `wide` describes, as far as can be told."""
    lists: Sequence[Callable[[When], Iterable[str] | None]] = (
        lambda when: when.environment,
        lambda when: when.action,
        lambda when: when.role,
        lambda when: when.task,
        lambda when: when.weekdays,
        lambda when: [effect.value for effect in when.effect] if when.effect else None,
        lambda when: when.integration or ({name.partition(".")[0] for name in when.action} if when.action else None),
    )
    for of in lists:
        some, all_of = of(narrow), of(wide)
        if all_of is not None and (some is None or not set(some) <= set(all_of)):
            return False
    if wide.real is not None and wide.real != narrow.real:
        return False
    if wide.timed and wide.timezone != narrow.timezone:
        return False
    if wide.hours is not None and (narrow.hours is None or not _minutes(narrow.hours) <= _minutes(wide.hours)):
        return False
    return _same_bounds(wide.arguments, narrow.arguments) and _same_bounds(wide.amounts, narrow.amounts)


def _same_bounds(wide: Mapping[str, Bounds] | None, narrow: Mapping[str, Bounds] | None) -> bool:
    return all((narrow or {}).get(name) == bounds for name, bounds in (wide or {}).items())


def _minutes(hours: list[str]) -> set[int]:
    found: set[int] = set()
    for item in hours:
        start, end = minutes_of(item)
        found |= set(range(start, end)) if start < end else {*range(start, 24 * 60), *range(end)}
    return found


def _freezes(file: PolicyFile, known: _Known, today: date | None) -> Generator[Finding]:
    environments = set(file.environments)
    for freeze in file.freeze:
        where = f"freeze from {freeze.start}"
        yield from _errors(where, [known.wrong_action(name) for name in freeze.allow])
        yield from _errors(where, [unknown("environment", name, environments) for name in freeze.environment or ()])
        if today is not None and freeze.to < today:
            yield Finding("warning", where, f"is over since {freeze.to}")
        for name in freeze.allow:
            integration, _, action = name.partition(".")
            spec = known.ours.get(integration)
            if action in file.to_stable(integration):
                yield Finding("warning", where, f"{name} need not be listed: what goes back to stable is never frozen")
            elif spec is not None and any(a.name == action and a.effect is Effect.READ for a in spec.actions):
                yield Finding("warning", where, f"{name} need not be listed: reads are never frozen")
