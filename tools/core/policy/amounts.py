"""What a call would use up of the policy's limits, and whether that is too much: amounts are compared here alone."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Window(StrEnum):
    """Over what a limit sums up."""

    RUN = "run"  # everything in one journal
    SESSION = "session"  # one outside client, or one notebook
    HOUR = "hour"  # the last hour, of everybody who uses the state folder
    DAY = "day"


TIME_WINDOWS = (Window.HOUR, Window.DAY)
CALLS = "calls"  # every call is one
COST = "cost_usd"  # declared by actions, and the cost of the models that think
HIGHEST = 1e15  # an amount above it is a mistake, and a float would no longer count it exactly
_IN_WORDS: dict[Window, tuple[str, str]] = {
    Window.RUN: ("this run has used", "a run"),
    Window.SESSION: ("this session has used", "a session"),
    Window.HOUR: ("were used in the last hour", "an hour"),
    Window.DAY: ("were used in the last day", "a day"),
}


class AmountError(Exception):
    """An amount that cannot be compared with a limit. The message says what was got."""


class Limit(BaseModel):
    """Bounds of one kind of amount; None: no bound.

    Args:
        max: for one call.
        per_run: the sum over a run of the crew. For outside clients and people too, unless one of the following is set.
        per_session: the sum over the session of an outside client, or of a notebook.
        per_hour, per_day: the sum over the last hour or day, of everybody who uses the state folder.
    """

    model_config = ConfigDict(extra="forbid")

    max: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    per_run: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    per_session: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    per_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    per_day: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> "Limit":
        for window in Window:
            bound = self.per(window)
            if self.max is not None and bound is not None and self.max > bound:
                raise ValueError(f"max {self.max:g} is above per_{window} {bound:g}")
        if self.per_hour is not None and self.per_day is not None and self.per_hour > self.per_day:
            raise ValueError(f"per_hour {self.per_hour:g} is above per_day {self.per_day:g}")
        return self

    def per(self, window: Window) -> float | None:
        """The bound of a window."""
        bounds = {
            Window.RUN: self.per_run,
            Window.SESSION: self.per_session,
            Window.HOUR: self.per_hour,
            Window.DAY: self.per_day,
        }
        return bounds[window]

    def windows(self, *, outside: bool) -> tuple[Window, ...]:
        """The windows that bind a caller. A session that goes on for days must not die of the bound of a run.

        Args:
            outside: an outside client or a person, not an agent of a run.
        """
        bound = tuple(window for window in Window if self.per(window) is not None)
        if not outside:
            return tuple(window for window in bound if window is not Window.SESSION)
        own = tuple(window for window in bound if window is not Window.RUN)
        return own or bound


def amount(limit: str, value: Any) -> float:
    """A value as an amount.

    Raises:
        AmountError: text, a truth value, not a number, negative, or too large to be meant.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= HIGHEST:
        shown = repr(value) if not isinstance(value, int) or abs(value) <= HIGHEST else "a number of that size"
        raise AmountError(f"{limit} {shown[:60]} cannot be compared with the policy's limit")
    return float(value)


def amounts_of(arguments: Mapping[str, Any], limited: Mapping[str, str]) -> dict[str, float]:
    """Limit name -> what a call uses up, `calls` included. An argument that is left out uses nothing.

    Raises:
        AmountError: see `amount`.
    """
    found = {CALLS: 1.0}
    for argument, limit in limited.items():
        value = arguments.get(argument)
        if value is not None:
            found[limit] = found.get(limit, 0.0) + amount(limit, value)
    return found


def excess(name: str, limit: Limit, wanted: float, used: Mapping[Window, float]) -> str:
    """Why an amount is too much, in words; empty: it is within the limit.

    Args:
        used: window -> what is used up, of the windows that count for the caller.
    """
    if limit.max is not None and wanted > limit.max:
        return f"{name} {wanted:g} is above the policy's limit of {limit.max:g} for one call"
    for window in Window:
        bound = limit.per(window)
        if bound is None or window not in used or used[window] + wanted <= bound:
            continue
        so_far, span = _IN_WORDS[window]
        return (
            f"{name} {wanted:g} on top of the {used[window]:g} that {so_far} is above the policy's limit of {bound:g} "
            f"for {span}"
        )
    return ""


def overdrawn(name: str, limit: Limit, used: Mapping[Window, float]) -> str:
    """Why nothing further may be spent, in words: what is known only afterwards (a model's cost) exceeded the bound."""
    for window in Window:
        bound = limit.per(window)
        if bound is not None and used.get(window, 0.0) > bound:
            so_far, span = _IN_WORDS[window]
            return f"the budget of {bound:g} {name} for {span} is spent: {used[window]:g} {so_far}"
    return ""
