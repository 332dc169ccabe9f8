"""Whether the conditions of a rule or a freeze hold for a call at a time. Pure: the time is an argument."""

import fnmatch
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tools.core.errors import shorten
from tools.core.policy.amounts import amounts_of
from tools.core.policy.file import PERSON_ROLE, WEEKDAYS, Bounds, Freeze, Rule, When, minutes_of
from tools.core.policy.proposal import ProposedCall


class ConditionError(Exception):
    """A condition that cannot be compared with what a call holds. The message says why."""


@dataclass(frozen=True)
class Moment:
    """When and where a call is judged.

    Args:
        now: aware of its time zone.
        environment: empty where nobody named one; rules that forbid or ask then hold for every environment, and rules
            that allow for none.
        timezone: of rules and freezes that name none.
    """

    now: datetime
    environment: str
    timezone: str

    def local(self, timezone: str | None) -> datetime:
        return self.now.astimezone(ZoneInfo(timezone or self.timezone))


def unmet(rule: Rule, call: ProposedCall, moment: Moment) -> str:
    """The first condition of a rule that does not hold, in words; empty when all hold.

    Raises:
        ConditionError: a value cannot be compared; the caller must treat it as a denial.
    """
    when = rule.when
    lenient = rule.then == "allow"
    if when.environment is not None and not _in_environment(when.environment, moment, unknown=not lenient):
        return f"the environment is {moment.environment or 'not named'}, not {_or(when.environment)}"
    facts: list[tuple[str, str, list[str] | None]] = [
        ("integration", call.integration, when.integration),
        ("action", call.name, when.action),
        ("effect", call.effect.value, [effect.value for effect in when.effect] if when.effect else None),
        ("role", call.role or PERSON_ROLE, when.role),
        ("task", call.task or "none", when.task),
    ]
    for what, value, wanted in facts:
        if wanted is not None and value not in wanted:
            return f"the {what} is {value}, not {_or(wanted)}"
    if when.real is not None and call.real != when.real:
        return f"the call goes to {'a real' if call.real else 'an embedded'} system"
    return _off_time(when, moment) or _out_of_bounds(when, call)


def frozen(freeze: Freeze, call: ProposedCall, moment: Moment) -> bool:
    """Whether a freeze holds a call back; exceptions that it lists are not held."""
    if call.effect not in freeze.effects or call.name in freeze.allow:
        return False
    if freeze.environment is not None and not _in_environment(freeze.environment, moment, unknown=True):
        return False
    return freeze.start <= moment.local(freeze.timezone).date() <= freeze.to


def _in_environment(wanted: list[str], moment: Moment, *, unknown: bool) -> bool:
    return moment.environment in wanted if moment.environment else unknown


def _off_time(when: When, moment: Moment) -> str:
    if not when.timed:
        return ""
    local = moment.local(when.timezone)
    day, minute = WEEKDAYS[local.weekday()], local.hour * 60 + local.minute
    told = f"it is {local:%A %H:%M} in {when.timezone or moment.timezone}"
    if when.weekdays is not None and day not in when.weekdays:
        return f"{told}, not {_or(list(when.weekdays))}"
    if when.hours is not None and not any(_within(minute, *minutes_of(hours)) for hours in when.hours):
        return f"{told}, not {_or(when.hours)}"
    return ""


def _within(minute: int, start: int, end: int) -> bool:
    return start <= minute < end if start < end else minute >= start or minute < end


def _out_of_bounds(when: When, call: ProposedCall) -> str:
    for argument, bounds in (when.arguments or {}).items():
        value = call.arguments.get(argument)
        if value is None or not _holds(bounds, value, argument):
            return f"{argument} is {_short(value) if value is not None else 'not given'}"
    if when.amounts:
        amounts: Mapping[str, float] = amounts_of(call.arguments, call.limited)
        for limit, bounds in when.amounts.items():
            if limit not in amounts or not _holds(bounds, amounts[limit], limit):
                return f"{limit} is {amounts.get(limit, 0):g}"
    return ""


def _holds(bounds: Bounds, value: Any, what: str) -> bool:
    tests: list[Callable[[], bool]] = []
    if bounds.above is not None or bounds.below is not None:
        if not _is_number(value):
            raise ConditionError(f"{what} {_short(value)} cannot be compared with a number")
        above, below = bounds.above, bounds.below
        tests.append(lambda: (above is None or value > above) and (below is None or value < below))
    if bounds.equals is not None:
        tests.append(lambda: _same(value, bounds.equals))
    if bounds.one_of is not None:
        tests.append(lambda: any(_same(value, item) for item in bounds.one_of or ()))
    if bounds.like is not None:
        if not isinstance(value, str):
            raise ConditionError(f"{what} {_short(value)} is no text")
        tests.append(lambda: fnmatch.fnmatchcase(str(value), str(bounds.like)))
    return all(test() for test in tests)


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _same(value: Any, wanted: Any) -> bool:
    """Equal, and not 1 for true."""
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def _or(names: list[str]) -> str:
    return " or ".join(names)


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number of that size"
    return shorten(text, 60)
