"""What is used up of the policy's limits: reserved before a call, kept or given back by its outcome.

A run's use is rebuilt from its journal when it is continued. Windows longer than a process are kept in `windows.py`.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.core.calls import Call, Caller
from tools.core.errors import DeniedError, ErrorKind
from tools.core.policy.amounts import COST, AmountError, Limit, Window, amount, amounts_of, excess
from tools.core.results import Status, ToolResult
from tools.core.windows import WindowsError, WindowStore

Record = Mapping[str, Any]
NOT_BEGUN = (Status.DENIED.value, Status.NEEDS_APPROVAL.value)


@dataclass
class Reservation:
    """What one call holds: amounts by limit name. `open` until it is kept or given back."""

    amounts: Mapping[str, float]
    session: str | None
    at: float
    open: bool = field(default=True)


class Usage:
    """What is used up, by limit and window. Thread-safe.

    Args:
        limits: of the policy.
        store: of the hour and the day; None: those windows are not counted.
    """

    def __init__(self, limits: Mapping[str, Limit], store: WindowStore | None = None) -> None:
        self._limits = limits
        self._store = store
        self._lock = threading.Lock()
        self._run: dict[str, float] = {}
        self._sessions: dict[str, dict[str, float]] = {}

    @classmethod
    def from_records(
        cls,
        records: Iterable[Record],
        limits: Mapping[str, Limit],
        limited: Callable[[str, str], Mapping[str, str]],
        store: WindowStore | None = None,
    ) -> "Usage":
        """The use of a run that is continued: what its journal says was begun, and what models cost.

        A call without an outcome counts, unless the journal says when calls begin (`begun`) and that one did not.

        Args:
            records: of its journal, of any format.
            limited: (integration, action) -> argument name -> limit name.
        """
        usage = cls(limits, store)
        records = list(records)
        outcomes = {record.get("call_id"): record for record in records if record.get("kind") == "outcome"}
        begun = {record.get("call_id") for record in records if record.get("kind") == "begun"}
        for record in records:
            usage.note(record)
            if record.get("kind") != "intent" or not isinstance(record.get("arguments"), Mapping):
                continue
            call_id = record.get("call_id")
            if not _was_begun(record, outcomes.get(call_id), begun):
                continue
            try:
                names = limited(str(record.get("server")), str(record.get("action")))
                spent = amounts_of(record["arguments"], names)
            except AmountError:  # such a call was refused
                continue
            usage._add(usage._run, spent)
        return usage

    def used(self, caller: Caller) -> dict[str, dict[Window, float]]:
        """Limit name -> window -> what is used up, of the windows that bind this caller, as things stand; `reserve` has
        the last word, also where the use of hour and day cannot be read."""
        outside = is_outside(caller)
        shared: dict[str, dict[Window, float]] = {}
        if self._store is not None:
            with contextlib.suppress(WindowsError):
                shared = self._store.used(self._limits)
        with self._lock:
            session = self._sessions.get(caller.session or "", {})
            found: dict[str, dict[Window, float]] = {}
            for name, limit in self._limits.items():
                own: dict[Window, float] = {
                    Window.RUN: self._run.get(name, 0.0), Window.SESSION: session.get(name, 0.0), **shared.get(name, {})
                }  # fmt: skip
                binding = limit.windows(outside=outside)
                found[name] = {window: value for window, value in own.items() if window in binding}
            return found

    def reserve(self, call: Call, *, free: bool = False) -> Reservation:
        """Take what a call uses up, in one step with the check that it is there: two calls cannot both have the last.

        Args:
            free: whatever is used up (the way back to stable); it is counted all the same.

        Raises:
            DeniedError: a limit would be exceeded, or what was used before cannot be read. Nothing was taken.
        """
        try:
            amounts = amounts_of(call.arguments, call.limited)
        except AmountError as error:
            raise DeniedError(str(error)) from error
        session = call.caller.session or "" if is_outside(call.caller) else None
        with self._lock:
            if not free:
                self._check(amounts, session)
            at = self._reserve_windows(amounts, free)
            self._add(self._run, amounts)
            if session is not None:
                self._add(self._sessions.setdefault(session, {}), amounts)
        return Reservation(amounts, session, at)

    def settle(self, held: Reservation, result: ToolResult | None) -> None:
        """Keep what was taken, or give it back where the call did not begin.

        Args:
            result: of the call; None: it was not made.
        """
        not_begun = result is None or result.status.value in NOT_BEGUN
        if result is not None and result.error is not None and result.status is Status.FAILED:
            not_begun = not_begun or result.error.kind is ErrorKind.RETRY
        if not_begun:
            self.release(held)
        held.open = False

    def release(self, held: Reservation) -> None:
        """Give back what a call holds. A second time does nothing."""
        with self._lock:
            if not held.open:
                return
            held.open = False
            back = {name: -value for name, value in held.amounts.items()}
            self._add(self._run, back)
            if held.session is not None:
                self._add(self._sessions[held.session], back)
            if self._store is not None:
                try:
                    self._store.release(held.amounts, self._limits, held.at)
                except WindowsError:
                    return  # it stays counted, which is the safe side

    def note(self, record: Record) -> None:
        """Count what a model cost in a task; a listener of the journal."""
        if record.get("kind") != "task_finished" or record.get("cost_usd") is None:
            return
        try:
            spent = {COST: amount(COST, record["cost_usd"])}
        except AmountError:
            return
        with self._lock:
            self._add(self._run, spent)

    def _check(self, amounts: Mapping[str, float], session: str | None) -> None:
        own = self._sessions.get(session, {}) if session is not None else {}
        for name, wanted in amounts.items():
            limit = self._limits.get(name)
            if limit is None:
                continue
            used: dict[Window, float] = {Window.RUN: self._run.get(name, 0.0), Window.SESSION: own.get(name, 0.0)}
            binding = limit.windows(outside=session is not None)
            why = excess(name, limit, wanted, {window: value for window, value in used.items() if window in binding})
            if why:
                raise DeniedError(why)

    def _reserve_windows(self, amounts: Mapping[str, float], free: bool) -> float:
        if self._store is None:
            return 0.0
        try:
            why, at = self._store.reserve(amounts, self._limits, free=free)
        except WindowsError as error:
            if free:
                return 0.0  # a broken file must not keep anybody from going back to stable
            raise DeniedError(str(error)) from error
        if why:
            raise DeniedError(why)
        return at

    @staticmethod
    def _add(used: dict[str, float], amounts: Mapping[str, float]) -> None:
        for name, value in amounts.items():
            used[name] = max(used.get(name, 0.0) + value, 0.0)


def is_outside(caller: Caller) -> bool:
    """An outside client or a person, whose session may go on for days; not an agent of a run."""
    return caller.role is None or caller.session is not None


def _was_begun(intent: Record, outcome: Record | None, begun: set[Any]) -> bool:
    if intent.get("decision") not in ("allow", "ask"):
        return False
    if outcome is None:
        return intent.get("call_id") in begun if begun else True
    error = outcome.get("error")
    passing = isinstance(error, Mapping) and error.get("kind") == ErrorKind.RETRY.value
    return outcome.get("status") not in NOT_BEGUN and not passing
