"""The calls that a journal holds, when its run is continued: what is handed out again, what is settled by a read, and
what is made again.

A call with `begun` and no outcome is settled by its action's `ReadBack`, never repeated blindly. A call that a task
asks for again in the same order is answered from the record; where the record ends, or the task goes another way, calls
are made. What did not survive its process is made again, under its old key.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.core.calls import Call
from tools.core.contract import Action, Answer, Effect
from tools.core.errors import ErrorKind, NeedsPersonError
from tools.core.journal import Journal, Record
from tools.core.results import ErrorInfo, Status, ToolResult
from tools.core.writes import Facts

Read = Callable[[str, str, Facts], Awaitable[ToolResult]]
Find = Callable[[str, str], Action | None]


@dataclass
class Past:
    """One call as the journal has it.

    Args:
        begun: its last `begun` record; None: it never began, or before there were such records.
        asked: the question that was put to a person about it.
        decided: what a person decided on it.
        outcome: its last `outcome` record since it began.
        settled: the last `settled` record since it began.
    """

    id: str
    server: str
    action: str
    arguments: dict[str, Any]
    task: str | None
    role: str | None
    effect: str | None
    begun: Record | None = None
    asked: Record | None = None
    decided: Record | None = None
    outcome: Record | None = None
    settled: Record | None = None

    @property
    def name(self) -> str:
        return f"{self.server}.{self.action}"

    @property
    def result(self) -> ToolResult | None:
        """How it ended; None where that is not known, or it never began."""
        if self.settled is not None and self.settled["status"] == Status.OK.value:
            message = str((self.settled["data"] or {}).get("message") or "")
            return ToolResult(status=Status.OK, message=message, data=self.settled["data"], call_id=self.id)
        if self.outcome is None or self.outcome["status"] == Status.UNKNOWN.value or self._is_asked_still:
            return None
        told = {key: self.outcome.get(key) for key in ("status", "message", "data", "error")}
        return ToolResult.model_validate({**told, "call_id": self.id})

    @property
    def is_unsettled(self) -> bool:
        """Whether it began, and nobody knows whether it happened."""
        lost = self.outcome is None or self.outcome["status"] == Status.UNKNOWN.value
        return self.begun is not None and lost and (self.settled is None or self.settled["status"] == "unknown")

    @property
    def edited(self) -> dict[str, Any] | None:
        """The arguments that a person changed it to before it began; None where nobody did."""
        return (self.begun or {}).get("arguments")

    @property
    def made(self) -> dict[str, Any]:
        """The arguments that it began with."""
        return self.edited or self.arguments

    @property
    def approval_id(self) -> str:
        """The approval that was spent on it; or would have been, had the process not ended right then."""
        given = self.decided if self.decided and self.decided["state"] in ("approved", "chosen") else {}
        return str((self.begun or {}).get("approval_id") or given.get("approval_id") or "")

    @property
    def answer(self) -> Answer | None:
        """What a person chose, where it was a question."""
        said = self.decided
        if said is None or not said.get("chosen"):
            return None
        return Answer(str(said["chosen"]), str(said["by"]), str(said.get("note") or ""), str(said["ts"]))

    def lapsed(self, now: float) -> str:
        """The approval that nobody decided on before it expired, as far as the journal tells; empty: there is none."""
        if self.asked is None or self.decided is not None or self.begun is not None:
            return ""
        approval = self.asked["approval"]
        return str(approval["id"]) if now > float(approval["expires_ts"]) else ""

    @property
    def _is_asked_still(self) -> bool:
        """A question that nobody answered and that did not expire: the run was suspended over it."""
        return self.outcome is not None and self.outcome["status"] == "needs_approval" and self.decided is None


def past_calls(records: Iterable[Record]) -> list[Past]:
    """The calls of a journal, in the order they were asked for."""
    found: dict[str, Past] = {}
    for record in records:
        call_id = str(record.get("call_id") or "")
        match record["kind"]:
            case "intent":
                if record.get("effect") is None:
                    continue  # refused as it was put; asked again, it is refused again
                found[call_id] = Past(
                    id=call_id, server=str(record["server"]), action=str(record["action"]),
                    arguments=dict(record.get("arguments") or {}), task=record.get("task"), role=record.get("role"),
                    effect=record.get("effect"),
                )  # fmt: skip
            case "begun" if call_id in found:
                found[call_id].begun, found[call_id].outcome, found[call_id].settled = record, None, None
            case "approval_requested" | "approval_decided" if record.get("loads"):
                pass  # about a model's code, not about the call
            case "approval_requested" if call_id in found:
                found[call_id].asked = record
            case "approval_decided" if call_id in found:
                found[call_id].decided = record
            case "outcome" if call_id in found:
                found[call_id].outcome = record
            case "settled" if call_id in found:
                found[call_id].settled = record
            case _:
                pass
    return list(found.values())


def last_number(records: Iterable[Record]) -> int:
    """The highest number of a call id; 0 where there is none."""
    ids = (str(record.get("call_id") or "") for record in records)
    return max((int(name[1:]) for name in ids if name[:1] == "c" and name[1:].isdigit()), default=0)


@dataclass(frozen=True)
class Settlement:
    """What a read said of a call. `status`: ok (it happened, with `data`), failed (it did not), unknown."""

    call: Past
    status: Status
    data: dict[str, Any] | None
    reason: str

    @property
    def result(self) -> ToolResult:
        if self.status is Status.OK:
            message = str((self.data or {}).get("message") or self.reason)
            return ToolResult(status=Status.OK, message=message, data=self.data, call_id=self.call.id)
        kind = ErrorKind.NEEDS_PERSON if self.status is Status.UNKNOWN else ErrorKind.RETRY
        error = ErrorInfo(kind=kind, message=self.reason)
        return ToolResult(status=self.status, message=self.reason, error=error, call_id=self.call.id)


async def settle(past: Past, action: Action | None, before: Facts | None, read: Read) -> Settlement:
    """Find out whether a call happened.

    Args:
        action: None where it is no longer known, or a third party's.
        before: what its read back said before it began, as far as the journal has it.
        read: makes the read.
    """
    if action is None:
        return Settlement(past, Status.UNKNOWN, None, f"{past.name} cannot be read back; look whether it happened")
    back = action.read_back
    if back is None:
        if action.effect is Effect.READ or action.repeatable:
            return Settlement(past, Status.FAILED, None, "repeating it is harmless")
        return Settlement(past, Status.UNKNOWN, None, f"{past.name} cannot be read back; look whether it happened")
    found = await read(past.server, back.action, back.arguments(past.made))
    if not found.ok and found.status is not Status.NO_DATA:
        why = f"whether {past.name} happened could not be read: {found.message}"
        return Settlement(past, Status.UNKNOWN, None, why)
    happened = back.happened(past.made, found.data if found.ok else None, before)
    if happened is None:
        why = f"{past.server} {back.action} does not tell whether {past.name} happened; look, then decide"
        return Settlement(past, Status.UNKNOWN, None, why)
    if not happened or found.data is None:
        return Settlement(past, Status.FAILED, None, f"{past.server} {back.action}: it did not happen")
    data = action.result.model_validate(back.result(past.made, found.data)).model_dump(mode="json")
    return Settlement(past, Status.OK, data, f"{past.server} {back.action}: it happened")


def said_before(past: Past, calls: Sequence[Past], action: Action | None) -> Facts | None:
    """What the read back of a call said last before it, in the same journal; None where it was not asked, or found
    nothing."""
    if action is None or action.read_back is None:
        return None
    back, wanted = action.read_back.action, action.read_back.arguments(past.made)
    last: Facts | None = None
    for call in calls:
        if call is past:
            break
        if (call.server, call.action, call.arguments) == (past.server, back, wanted) and call.result is not None:
            last = call.result.data
    return last


def standing(calls: Iterable[Past], find: Find) -> list[Past]:
    """The calls whose effect lasted no longer than the process that made them, and was in force when it ended."""
    in_force: list[Past] = []
    for call in calls:
        action = find(call.server, call.action)
        if action is not None and call.result is not None and call.result.ok:
            in_force = still_standing(in_force, call, action)
    return in_force


def still_standing(in_force: list[Past], done: Past, action: Action) -> list[Past]:
    """What is in force after a call succeeded, of what was in force before it."""
    if action.effect is Effect.READ:
        return in_force
    left = [item for item in in_force if item.server != done.server or item.action not in action.ends]
    if action.survives_process:
        return left
    return [*(item for item in left if item.name != done.name), done]


class Recall:
    """Answers a task's calls from the record, in their order.

    Args:
        calls: of the journal.
    """

    def __init__(self, calls: Sequence[Past]) -> None:
        self.calls = list(calls)
        self._task: str | None = None
        self._left: list[Past] = []

    def enter(self, task: str) -> None:
        """The task is begun again: from its first call on."""
        self._task = task
        self._left = [call for call in self.calls if call.task == task]

    def leave(self) -> None:
        """The task is over, or goes on by itself."""
        self._task, self._left = None, []

    def standing(self, find: Find) -> list[Past]:
        """See the function of that name."""
        return standing(self.calls, find)

    def is_made_again(self, past: Past, find: Find) -> bool:
        """Whether a call that succeeded must be made again, because what it did or told ended with its process.

        A write that another one ended or replaced since is not; nor is a read after which the same task changed what it
        reads: its new answer would be that of later.
        """
        action = find(past.server, past.action)
        if action is None or action.survives_process or past.result is None or not past.result.ok:
            return False
        if action.effect is not Effect.READ:
            return any(item is past for item in standing(self.calls, find))
        later = self.calls[next(place for place, item in enumerate(self.calls) if item is past) + 1 :]
        return not any(_changes(item, past, find(item.server, item.action)) for item in later)

    def take(self, call: Call, arguments: Mapping[str, Any]) -> Past | None:
        """The recorded call that this one repeats; None where the record is used up, or the task goes another way.

        Args:
            arguments: the call's, as a journal would hold them.
        """
        if self._task is None or call.caller.task != self._task:
            return None
        for index, past in enumerate(self._left):
            if (past.server, past.action, past.arguments) == (call.server, call.action, arguments):
                del self._left[: index + 1]
                return past
        self._left = []
        return None


def _changes(call: Past, read: Past, action: Action | None) -> bool:
    """Whether a call changed what a read of the same task told."""
    same = call.server == read.server and call.task == read.task and call.result is not None and call.result.ok
    return same and action is not None and action.read_back is not None and action.read_back.action == read.action


class Settler:
    """Finds out whether writes happened, and records what was found. On the gateway's event loop.

    Args:
        find: the action of (integration, name).
        read: makes a read; what the policy does not let anybody read is a failed result.
    """

    def __init__(self, journal: Journal, recall: Recall, find: Find, read: Read) -> None:
        self._journal = journal
        self._recall = recall
        self._find = find
        self._read = read

    async def read_back(self, call: Call) -> ToolResult | None:
        """What a read says of a write under way whose outcome is unknown. None where it has no read back."""
        action = call.definition
        if action is None or action.read_back is None:
            return None
        past = Past(call.id, call.server, call.action, call.arguments, call.caller.task, None, call.effect.value)
        calls = past_calls(self._journal.records())
        known = next((item for item in calls if item.id == call.id), past)
        found = await settle(past, action, said_before(known, calls, action), self._read)
        self._record(found)
        return found.result

    async def settle_past(self) -> list[Settlement]:
        """Every call of the journal that began and has no outcome."""
        settled: list[Settlement] = []
        calls = self._recall.calls
        for past in calls:
            if past.is_unsettled:
                action = self._find(past.server, past.action)
                found = await settle(past, action, said_before(past, calls, action), self._read)
                past.settled = self._record(found)
                settled.append(found)
        return settled

    async def settle_by_person(self, past: Past, happened: bool) -> None:
        """A person looked. What a call returned that happened is read once more.

        Raises:
            NeedsPersonError: it is said to have happened, and what it returned cannot be read.
        """
        action = self._find(past.server, past.action)
        data: dict[str, Any] | None = None
        if happened:
            if action is None or action.read_back is None:
                raise NeedsPersonError(f"what {past.name} returned cannot be read; say --not-happened, or start anew")
            back = action.read_back
            found = await self._read(past.server, back.action, back.arguments(past.made))
            try:
                made = back.result(past.made, found.data or {})
                data = action.result.model_validate(made).model_dump(mode="json")
            except (KeyError, ValueError, TypeError) as error:
                told = f"{past.server}.{back.action} does not tell what {past.name} returned"
                raise NeedsPersonError(f"{told}; say --not-happened, or start anew") from error
        status = Status.OK if happened else Status.FAILED
        past.settled = self._record(Settlement(past, status, data, "a person looked"), by="person")

    def _record(self, found: Settlement, by: str = "read_back") -> Record:
        return self._journal.append(
            "settled", call_id=found.call.id, status=found.status.value, data=found.data, reason=found.reason, by=by
        )  # fmt: skip
