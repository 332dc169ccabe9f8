"""Gets a person's leave for a call, or a choice, and says what follows: allow with or without an answer, deny, or still
ask where nobody answered. The gateway does what it says."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import anyio.to_thread

from tools.core.approval import Approval, ApprovalError, Approver, call_hash
from tools.core.calls import Call
from tools.core.contract import PREFERENCE, Answer, QuestionArgs
from tools.core.errors import DeniedError
from tools.core.journal import Journal
from tools.core.policy import Decision, Verdict
from tools.core.redact import Redactor


class Consent:
    """Asks people about calls of one run.

    Args:
        approver: asks; None: nobody can be asked here.
        preferences: topic of a question -> the preference that the goal states; no caller can state one.
        timeout_s: seconds until a question expires.
        is_stopping: true once the run is being stopped; a question is then withdrawn.
        is_suspending: true once the run is to go on later without a process; a question then stays open.
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
    ) -> None:
        self._run_id = run_id
        self._approver = approver
        self._journal = journal
        self._redactor = redactor
        self._preferences = dict(preferences)
        self._timeout_s = timeout_s
        self._is_stopping = is_stopping
        self._is_suspending = is_suspending

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

    def spend(self, approval_id: str) -> None:
        """Use a leave up, when its call begins.

        Raises:
            DeniedError: it was used before.
        """
        if approval_id and self._approver is not None:
            try:
                self._approver.store.consume(approval_id)
            except ApprovalError as error:
                raise DeniedError(str(error)) from error

    def was_spent(self, approval_id: str) -> bool:
        """Whether a leave was used up: of a process that ended right then, the journal does not tell."""
        if self._approver is None:
            return False
        try:
            return self._approver.store.get(approval_id).state == "used"
        except ApprovalError:
            return False

    async def ask(
        self, call: Call, decision: Decision, again: Callable[[], Decision]
    ) -> tuple[Decision, Answer | None]:
        """The decision after the answer: allow, deny, or still ask where there was none. And what was chosen.

        Args:
            again: decides anew; while the person thought, other calls may have used up what a run may use.
        """
        if self._approver is None:
            return Decision(Verdict.ASK, f"{decision.rule}; nobody can be asked here", decision.level), None
        now = time.time()
        approval = Approval(
            id=f"{self._run_id}-{call.id}", run_id=self._run_id, integration=call.server, action=call.action,
            arguments=self._redactor.data(call.arguments), role=call.caller.role, reason=decision.rule,
            call_hash=call_hash(self._run_id, call.server, call.action, call.arguments),
            created_ts=now, expires_ts=now + self._timeout_s, asks=call.asked is not None,
        )  # fmt: skip
        self._journal.append("approval_requested", call_id=call.id, approval=approval.model_dump())
        decided = await anyio.to_thread.run_sync(self._approver.ask, approval, self._is_stopping, self._is_suspending)
        if decided.state == "pending":
            return Decision(Verdict.ASK, f"{decision.rule}; approval {approval.id} stays open", decision.level), None
        bound = decided.call_hash == call_hash(self._run_id, call.server, call.action, call.arguments)
        chosen = {"chosen": decided.chosen} if call.asked is not None else {}
        self._journal.append(
            "approval_decided", call_id=call.id, approval_id=approval.id, state=decided.state, by=decided.decided_by,
            note=decided.note, call_hash=decided.call_hash, **chosen,
        )  # fmt: skip
        answer = _answer_in(decided, call.asked)
        if bound and (decided.state == "approved" if call.asked is None else answer is not None):
            anew = again()
            if anew.verdict is Verdict.DENY:
                return anew, None
            rule = f"approved by {decided.decided_by}" if answer is None else f"chosen by {decided.decided_by}"
            return Decision(Verdict.ALLOW, rule, decision.level), answer
        if decided.state == "rejected":
            note = f": {decided.note}" if decided.note else ""
            return Decision(Verdict.DENY, f"rejected by {decided.decided_by}{note}", decision.level), None
        return Decision(Verdict.ASK, f"{decision.rule}; nobody answered approval {approval.id}", decision.level), None


def _answer_in(decided: Approval, asked: QuestionArgs | None) -> Answer | None:
    """What a person chose, if it is one of the options that were asked about."""
    if asked is None or decided.state != "chosen" or decided.chosen not in {option.name for option in asked.offered}:
        return None
    return Answer(decided.chosen, decided.decided_by, decided.note, _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
