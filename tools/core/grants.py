"""Which calls belong to a task, with which arguments, as data; and how a call is held against them.

A task states its calls from the goal and from what was recorded so far: not "may promote" but "may promote version 2
of churn". The gateway fills in what a grant or the goal binds, and refuses a call that asks for anything else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.core.arguments import bound_arguments
from tools.core.contract import Action
from tools.core.errors import DeniedError, FixableError, short

_MISSING = object()


@dataclass(frozen=True)
class OneOf:
    """A bound value with alternatives: the caller says which."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return " or ".join(repr(value) for value in self.values)


def one_of(*values: Any) -> OneOf:
    """`OneOf`, without doubles, in the order given."""
    return OneOf(tuple(dict.fromkeys(values)))


@dataclass(frozen=True)
class Grant:
    """One call that belongs to a task.

    Args:
        call: `integration.action`.
        arguments: what is bound beyond the goal: an exact value, or `OneOf`. An argument that the action declares as
            bound and that neither a grant nor the goal binds keeps its default.
        to_stable: with these arguments the call only brings production back to what it safely served: no stop, freeze
            or used-up budget blocks it.
    """

    call: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    to_stable: bool = field(default=False, compare=False)


def grant(call: str, **arguments: Any) -> Grant:
    """A `Grant`, written like a function call."""
    return Grant(call, arguments)


def way_back(call: str, **arguments: Any) -> Grant:
    """A `Grant` of a call that only brings production back to what it safely served."""
    return Grant(call, arguments, to_stable=True)


@dataclass(frozen=True)
class Scope:
    """What binds the calls of one caller.

    Args:
        values: what the goal binds, by the names that specs use (`goal.metric`). A name that is missing binds nothing.
        grants: the calls that belong to the task; None: no task of ours is under way (an outside client, or a task
            that exists in YAML alone), so the goal binds what it can and a person decides on what is risky.
    """

    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    grants: tuple[Grant, ...] | None = None

    def names(self) -> frozenset[str]:
        """The calls that belong to the task, as `integration.action`."""
        return frozenset(item.call for item in self.grants or ())

    def goes_back(self, name: str, arguments: Mapping[str, Any]) -> bool:
        """Whether a bound call is one that a grant calls a way back to stable, with that grant's arguments."""
        return any(
            item.to_stable
            and item.call == name
            and all(_same(arguments.get(key), value) for key, value in item.arguments.items())
            for item in self.grants or ()
        )


def bind(
    name: str,
    action: Action,
    given: Mapping[str, Any],
    scope: Scope,
    normal: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """The arguments of a call with everything filled in that the goal or the task binds.

    Args:
        name: `integration.action`.
        given: as the caller sent them.
        normal: validates arguments and returns them as JSON (a caller may write "2" for 2).

    Raises:
        DeniedError: the call does not belong to the task, or asks for another value than the bound one.
        FixableError: several calls belong to the task and the arguments do not say which; or `normal` refused them.
    """
    bound = bound_arguments(action.args)
    candidates: Sequence[Grant] = (Grant(name),)
    if scope.grants is not None:
        candidates = [item for item in scope.grants if item.call == name]
        if not candidates:
            own = ", ".join(sorted(scope.names())) or "none"
            raise DeniedError(f"{name} does not belong to this task as things stand; its calls: {own}")
    refusals: list[str] = []
    fitting: dict[str, dict[str, Any]] = {}
    for candidate in candidates:
        values = _values(action, bound, candidate, scope, given)
        conflict, filled = _held(name, action, given, values, normal)
        if conflict:
            refusals.append(conflict)
        else:
            fitting[repr(sorted(filled.items(), key=lambda item: item[0]))] = filled
    if not fitting:
        raise DeniedError("; or ".join(dict.fromkeys(refusals)))
    if len(fitting) > 1:
        raise FixableError(f"{name}: say which: {_alternatives(candidates, given)}")
    return next(iter(fitting.values()))


def _values(
    action: Action, bound: Iterable[str], candidate: Grant, scope: Scope, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Argument -> bound value (exact, or `OneOf`) of one grant."""
    declared = bound_arguments(action.args)
    values = dict(candidate.arguments)
    for argument in bound:
        if argument in values:
            continue
        known = scope.values.get(declared[argument].name, _MISSING) if declared[argument].name else _MISSING
        if known is not _MISSING:
            values[argument] = known
        elif declared[argument].name or scope.grants is not None:
            # Nothing binds it here: it keeps its default, and where there is none the call cannot be made.
            info = action.args.model_fields[argument]
            if not info.is_required():
                values[argument] = info.get_default(call_default_factory=True)
            elif declared[argument].name or argument in given:
                values[argument] = _MISSING
    return values


def _held(
    name: str,
    action: Action,
    given: Mapping[str, Any],
    values: Mapping[str, Any],
    normal: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Why a call does not fit the bound values (empty: it does), and the arguments filled in."""
    for argument, value in values.items():
        if value is _MISSING:
            return f"{name}: {argument} is bound by the goal, and no goal is known here", {}
    exact = {key: value for key, value in values.items() if not isinstance(value, OneOf) and value is not None}
    filled = {**{key: value for key, value in given.items() if values.get(key, _MISSING) is not None}, **exact}
    for argument, value in values.items():
        if isinstance(value, OneOf) and argument not in filled:
            if len(value.values) != 1:
                return f"{name}: {argument} must be given: {value}", {}
            filled[argument] = value.values[0]
    wanted = normal(filled)
    asked = normal({**filled, **given}) if any(key in given for key in values) else wanted
    for argument, value in values.items():
        if isinstance(value, OneOf):
            allowed = [normal({**filled, argument: item}).get(argument) for item in value.values]
            if asked.get(argument) not in allowed:
                return f"{name}: {argument} must be {value}, got {short(given.get(argument))}", {}
        elif argument in given and asked.get(argument) != wanted.get(argument):
            return f"{name}: {argument} is bound to {short(value)}, got {short(given[argument])}", {}
    return "", {**filled, **{key: value for key, value in given.items() if isinstance(values.get(key), OneOf)}}


def _alternatives(candidates: Sequence[Grant], given: Mapping[str, Any]) -> str:
    shown = [
        ", ".join(f"{key}={short(value)}" for key, value in item.arguments.items() if key not in given)
        for item in candidates
    ]
    return "; or ".join(dict.fromkeys(shown))


def _same(got: Any, granted: Any) -> bool:
    """Equal, also where one was written as text ("2" for 2)."""
    values = granted.values if isinstance(granted, OneOf) else (granted,)
    return any(got == value or (got is not None and str(got) == str(value)) for value in values)
