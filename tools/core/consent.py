"""Gets a person's leave for a call, or a choice, and says what follows: allow with or without an answer, deny, or still
ask where nobody answered. The gateway does what it says.

A leave holds for the exact call and for the state that it was given on: what the call would change is read when the
question is put and again before the call, and a difference voids the leave.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tools.core.approval import Approval, ApprovalError, Facts, call_hash
from tools.core.calls import Call
from tools.core.channels import Approver
from tools.core.clean import clean_line, shown
from tools.core.contract import PREFERENCE, Answer, QuestionArgs
from tools.core.errors import DeniedError, NeedsPersonError, ToolError
from tools.core.journal import Journal
from tools.core.policy import Decision, Verdict
from tools.core.redact import Redactor

REMIND_EVERY_S = 10.0
MOST_FACTS = 8  # of the state, shown to a person
_NO_STATE = {"message", "changed", "is_new"}

ReadState = Callable[[Call], Awaitable[str | None]]
Anew = Callable[[Mapping[str, Any]], tuple[Call, Decision]]


async def _nothing_to_read(_call: Call) -> str | None:
    return None


@dataclass(frozen=True)
class Leave:
    """What came of asking.

    Args:
        decision: allow, deny, or still ask where nobody answered.
        call: as it may be made; a person may have approved it with other arguments.
        answer: what was chosen, of a question.
        approval_id: to be spent when the call begins; empty where nothing is to be spent.
    """

    decision: Decision
    call: Call
    answer: Answer | None = None
    approval_id: str = ""


class Consent:
    """Asks people about calls of one run.

    Args:
        approver: asks; None: nobody can be asked here.
        preferences: topic of a question -> the preference that the goal states; no caller can state one.
        timeout_s: seconds until a question expires.
        is_stopping: true once the run is being stopped; a question is then withdrawn.
        is_suspending: true once the run is to go on later without a process; a question then stays open.
        read_state: what a call would change, as text (JSON where it can be); None: nothing to be read for it.
    """

    def __init__(
        self,
        *,
        run_id: str,
        approver: Approver | None,
        journal: Journal,
        redactor: Redactor,
        preferences: Mapping[str, str],
        timeout_s: float,
        is_stopping: Callable[[], bool],
        is_suspending: Callable[[], bool] = lambda: False,
        read_state: ReadState = _nothing_to_read,
    ) -> None:
        self._run_id = run_id
        self._approver = approver
        self._journal = journal
        self._redactor = redactor
        self._preferences = dict(preferences)
        self._timeout_s = timeout_s
        self._is_stopping = is_stopping
        self._is_suspending = is_suspending
        self._read_state = read_state
        self._left: list[str] | None = None  # questions that a process before this one put

    def preference(self, call: Call) -> tuple[str, str]:
        """What the goal states on a question's topic, and the option that it names; empty where there is none."""
        if call.asked is None:
            return "", ""
        stated = self._preferences.get(call.asked.topic, "")
        return stated, next((option.name for option in call.asked.offered if stated in option.words), "")

    def stated(self, call: Call) -> Answer | None:
        """The answer to a question that the policy lets the goal's preference decide."""
        stated, preferred = self.preference(call)
        return Answer(preferred, PREFERENCE, f"the goal prefers {stated}", _now()) if preferred else None

    async def ask(self, call: Call, decision: Decision, anew: Anew) -> Leave:
        """Ask, and wait for an answer.

        Args:
            anew: the call with some arguments replaced (none: the call itself) and the decision on it now; while the
                person thought, other calls may have used up what a run may use.

        Raises:
            ToolError: never; what goes wrong with the asking denies or leaves the call undone.
            anyio's cancellation: the caller gave up; the question is withdrawn.
        """
        if self._approver is None:
            return Leave(_still(decision, "nobody can be asked here"), call)
        try:
            return await self._ask(self._approver, call, decision, anew)
        except (ApprovalError, NeedsPersonError) as error:
            return Leave(_still(decision, f"nobody can be asked: {error}"), call)
        except OSError as error:
            return Leave(_still(decision, f"nobody can be asked: {error.filename}: {error.strerror}"), call)

    def used(self) -> dict[str, set[str]]:
        """Approval -> the calls that it was used up on, by the run's journal: files can be taken away, records not."""
        found: dict[str, set[str]] = {}
        for record in self._journal.records():
            if record["kind"] in ("begun", "approval_spent") and record.get("approval_id"):
                found.setdefault(str(record["approval_id"]), set()).add(str(record["call_id"]))
        return found

    def check_unused(self, approval_id: str, *, but_for: str = "") -> None:
        """See that the journal has no use of a leave, but for that on the call `but_for`, which is made again.

        Raises:
            DeniedError: it was used.
        """
        calls = self.used().get(approval_id, set()) - {but_for} if approval_id else set()
        if calls:
            raise DeniedError(f"approval {approval_id} is already used, on {', '.join(sorted(calls))}")

    def spend_on_model(self, approval_id: str, call: Call) -> None:
        """Use a leave to load a model up, and record it: a call's own leave stands in its `begun`.

        Raises:
            DeniedError: it was used before.
        """
        self.check_unused(approval_id)
        self.spend(approval_id)
        self._journal.append("approval_spent", call_id=call.id, approval_id=approval_id, loads=call.loads)

    def spend(self, approval_id: str) -> None:
        """Use a leave up, when its call begins. Of all that try, in any process, one succeeds.

        Raises:
            DeniedError: it was used before.
        """
        if approval_id and self._approver is not None:
            try:
                self._approver.store.spend(approval_id)
            except ApprovalError as error:
                raise DeniedError(str(error)) from error

    def was_spent(self, approval_id: str) -> bool:
        """Whether a leave was used up: of a process that ended right then, the journal does not tell."""
        if self._approver is None:
            return False
        try:
            return self._approver.store.get(approval_id).spent
        except (ApprovalError, NeedsPersonError, OSError):
            return False

    def is_unanswered(self, approval_id: str) -> bool:
        """Whether nobody answered a question, in time or so far."""
        if self._approver is None:
            return True
        try:
            return self._approver.store.get(approval_id).state in ("pending", "expired")
        except (ApprovalError, NeedsPersonError, OSError):
            return True

    async def _ask(self, approver: Approver, call: Call, decision: Decision, anew: Anew) -> Leave:
        exact = call_hash(self._run_id, call.server, call.action, call.arguments)
        if self._left is None:
            self._left = approver.store.left_by(self._run_id)
        left = approver.store.unspent(self._left, self._run_id, exact, self.used())
        if left is not None:
            self._left.remove(left.id)
        asked = left or await self._question(call, decision, exact)
        about = {"loads": call.loads} if call.loads else {}
        self._journal.append(
            "approval_requested", call_id=call.id, approval=asked.model_dump(), again=bool(left), **about
        )
        try:
            decided = await approver.wait(
                asked, is_stopping=self._is_stopping, is_suspending=self._is_suspending, more=call.caller.channels,
                check=lambda answered: self._refused(answered, anew), on_flaw=self._told_of_flaw(call, asked),
                remind=self._reminder(call, asked, approver), is_put=left is not None,
            )  # fmt: skip
        except BaseException as error:
            why = str(error) if isinstance(error, ApprovalError | NeedsPersonError | OSError) else "the caller gave up"
            self._journal.append(
                "approval_decided", call_id=call.id, approval_id=asked.id, state="withdrawn", by="nobody", note=why,
                call_hash=exact, **about,
            )  # fmt: skip
            raise
        if decided.state == "pending":
            return Leave(_still(decision, f"approval {asked.id} stays open"), call)
        self._record(call, decided)
        if decided.state in ("approved", "chosen"):
            leave = await self._leave(call, decision, decided, anew)
        elif decided.state == "rejected":
            note = f": {decided.note}" if decided.note else ""
            leave = Leave(Decision(Verdict.DENY, f"rejected by {decided.decided_by}{note}", decision.level), call)
        else:
            return Leave(_still(decision, f"nobody answered approval {asked.id}"), call)
        if leave.decision.verdict is not Verdict.ALLOW:
            if decided.state != "rejected":  # a yes that came to nothing must not count later
                self._journal.append("approval_spent", call_id=call.id, approval_id=asked.id, **about)
            approver.store.retire(asked.id)
        return leave

    async def _question(self, call: Call, decision: Decision, exact: str) -> Approval:
        state = await self._state(call)
        now = time.time()
        return Approval(
            id=f"{self._run_id}-{call.id}-{secrets.token_hex(4)}", run_id=self._run_id, call_id=call.id,
            integration=call.server, action=call.action, arguments=self._redactor.data(call.arguments),
            role=call.caller.role, reason=decision.rule, call_hash=exact, state_hash=_hash(state),
            state_text=self._redactor.text(state or "")[:20_000], facts=self._facts(call, state),
            created_ts=now, expires_ts=now + self._timeout_s, asks=call.asked is not None,
        )  # fmt: skip

    def _facts(self, call: Call, state: str | None) -> Facts:
        spec = call.definition
        fields = spec.args.model_fields if spec is not None and call.asked is None else {}
        undo = getattr(spec, "undo", None)
        undo = getattr(undo, "action", undo)  # its name, or how it is made from the call
        return Facts(
            summary=spec.summary if spec is not None else "",
            effect=call.effect.value,
            about={name: info.description or "" for name, info in fields.items()},
            now=self._redactor.data(dict(list(_facts_in(state).items())[:MOST_FACTS])),
            undo=str(undo) if undo else "",
            task=call.caller.task or "",
        )

    def _refused(self, answered: Approval, anew: Anew) -> str:
        """Why an answer with edits cannot be taken; empty where it can, or where it changes nothing."""
        if answered.state != "approved" or not answered.edited:
            return ""
        try:
            _, decision = anew(answered.edited)
        except ToolError as error:
            return error.message
        return decision.rule if decision.verdict is Verdict.DENY else ""

    async def _leave(self, call: Call, decision: Decision, decided: Approval, anew: Anew) -> Leave:
        """What follows from a person's yes, or from what they chose."""
        answer = _answer_in(decided, call.asked)
        if call.asked is not None and answer is None:
            return Leave(_still(decision, f"nobody answered approval {decided.id}"), call)
        try:
            approved, now = anew(decided.edited)
        except ToolError as error:
            return Leave(Decision(Verdict.DENY, error.message, decision.level), call)
        if now.verdict is Verdict.DENY:
            return Leave(now, call)
        before, state = decided.state_text, await self._state(call)
        if decided.state_hash and _hash(state) != decided.state_hash:
            why = (
                f"{decided.decided_by} approved it on a state that is no longer so: "
                f"{_difference(before, self._redactor.text(state or ''))}; it must be asked again"
            )
            return Leave(Decision(Verdict.DENY, why, decision.level), call)
        if answer is not None:
            rule = f"chosen by {decided.decided_by}"
        else:
            rule = f"approved by {decided.decided_by}{_changes(call, approved)}"
        return Leave(Decision(Verdict.ALLOW, rule, decision.level), approved, answer, decided.id)

    def _record(self, call: Call, decided: Approval) -> None:
        more: dict[str, Any] = {"chosen": decided.chosen} if call.asked is not None else {}
        if call.loads:
            more["loads"] = call.loads
        if decided.edited:
            before = {name: call.arguments.get(name) for name in decided.edited}
            more["edited"] = {"before": before, "after": decided.edited}
        self._journal.append(
            "approval_decided", call_id=call.id, approval_id=decided.id, state=decided.state, by=decided.decided_by,
            note=decided.note, via=decided.via, call_hash=decided.call_hash, state_hash=decided.state_hash, **more,
        )  # fmt: skip

    def _told_of_flaw(self, call: Call, asked: Approval) -> Callable[[str], None]:
        def tell(flaw: str) -> None:
            self._journal.append("approval_refused", call_id=call.id, approval_id=asked.id, reason=flaw)

        return tell

    def _reminder(self, call: Call, asked: Approval, approver: Approver) -> Callable[[float], None]:
        """Says where to answer every ten seconds, unless the person looks at the question anyway.

        At once it is told by the record of the question.
        """
        if any(channel.in_view for channel in (*approver.channels, *call.caller.channels)):
            return lambda _waited_s: None
        how = "choose" if asked.asks else "approve"
        last = 0.0

        def remind(waited_s: float) -> None:
            nonlocal last
            if waited_s - last < REMIND_EVERY_S:
                return
            last = waited_s
            self._journal.publish(
                {"kind": "progress", "call_id": call.id, "server": call.server, "action": call.action,
                 "done": round(waited_s, 1), "total": None,
                 "message": f"waits for a person: mlops-crew {how} {asked.id}"}
            )  # fmt: skip

        return remind

    async def _state(self, call: Call) -> str | None:
        """What the call would change; None where there is nothing to be read, or it cannot be read now."""
        try:
            return await self._read_state(call)
        except ToolError:
            return None


def state_text(data: Mapping[str, Any] | None, names: tuple[str, ...] = ()) -> str:
    """The state in what a read returned, as JSON that is equal where the state is.

    Args:
        data: None: the read found nothing.
        names: of the values that are the state; none: all but sentences, measured times and what the last call did.
    """
    kept = {
        name: value
        for name, value in (data or {}).items()
        if (name in names if names else name not in _NO_STATE and not name.endswith(("_s", "_ms", "_at", "url")))
    }
    return json.dumps(kept, sort_keys=True, default=str)


def _still(decision: Decision, why: str) -> Decision:
    return Decision(Verdict.ASK, f"{decision.rule}; {why}", decision.level)


def _answer_in(decided: Approval, asked: QuestionArgs | None) -> Answer | None:
    """What a person chose, if it is one of the options that were asked about."""
    if asked is None or decided.state != "chosen" or decided.chosen not in {option.name for option in asked.offered}:
        return None
    return Answer(decided.chosen, decided.decided_by, decided.note, _now())


def _changes(call: Call, approved: Call) -> str:
    """What a person changed, as words."""
    names = sorted(call.arguments.keys() | approved.arguments.keys())
    told = [
        f"{name}={shown(approved.arguments.get(name), 60)} instead of {shown(call.arguments.get(name), 60)}"
        for name in names
        if call.arguments.get(name) != approved.arguments.get(name)
    ]
    return f" with {', '.join(told)}" if told else ""


def _hash(state: str | None) -> str:
    return "" if state is None else hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()


def _facts_in(state: str | None) -> dict[str, Any]:
    """The state's own names and values, where it is a JSON object."""
    try:
        found = json.loads(state or "")
    except ValueError:
        return {"state": state} if state else {}
    return found if isinstance(found, dict) else {"state": found}


def _difference(before: str, now: str) -> str:
    """Which values differ, in a few words."""
    old, new = _facts_in(before), _facts_in(now)
    told = [
        f"{clean_line(name)} was {shown(old.get(name), 60)} and is {shown(new.get(name), 60)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if not new:
        return "it cannot be read again"
    return ", ".join(told[:3]) or "it differs"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
