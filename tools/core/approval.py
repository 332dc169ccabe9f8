"""Asks a person before a risky call, or to choose, and remembers the answer for that exact call only.

An approval is a file `<home>/approvals/<id>.json`, bound to the hash of the exact call (run, integration, action,
arguments). It is answered in the terminal that runs the crew, or from another one with `mlops-crew approve ID`. One
that asks to choose is answered by the name of one of its options: `mlops-crew choose ID OPTION`.
An answer is used once: the gateway that asked consumes it, and a later identical call asks again.
"""

import contextlib
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from tools.core.contract import Option

POLL_S = 0.2

State = Literal["pending", "approved", "chosen", "rejected", "expired", "used"]


class ApprovalError(Exception):
    """No such approval, or it is no longer pending."""


class Approval(BaseModel):
    """One question to a person.

    `call_hash` binds it to the exact call; `reason` says why it is asked; `decided_by` and `note` hold the answer.
    `asks`: it is not about letting the call happen but about which of the options in its arguments to take; `chosen`
    is then the name of that option.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    run_id: str
    integration: str
    action: str
    arguments: dict[str, Any]
    role: str | None
    reason: str
    call_hash: str
    created_ts: float
    expires_ts: float
    state: State = "pending"
    decided_by: str = ""
    note: str = ""
    asks: bool = False
    chosen: str = ""

    @property
    def options(self) -> list[Option]:
        """What may be chosen; empty where the question is whether the call may happen."""
        # Not validated again: the call's arguments were, and redaction may have made a text longer since.
        return [Option.model_construct(**item) for item in self.arguments.get("options", ())] if self.asks else []

    def option(self, typed: str) -> Option | None:
        """The option that a person means by its name or its number, from 1; None when there is none such."""
        options, word = self.options, typed.strip().lower()
        if word.isascii() and word.isdigit():
            return options[int(word) - 1] if 1 <= int(word) <= len(options) else None
        return next((option for option in options if option.name == word), None)


@dataclass(frozen=True)
class Pick:
    """A person's choice at a prompt: the name of an option, and why."""

    option: str
    note: str = ""


def call_hash(run_id: str, integration: str, action: str, arguments: Mapping[str, Any]) -> str:
    """SHA-256 over the exact call."""
    text = json.dumps([run_id, integration, action, arguments], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class ApprovalStore:
    """The approvals on disk: the question in `ID.json`, the answer in `ID.answer`, `ID.used` once it was acted on.

    The answer appears whole or not at all, and once: the first one wins, whoever else writes at the same time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, approval: Approval) -> None:
        """Put a question. Raises `ApprovalError` when there is one of that id."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._publish(approval, self._path(approval.id, "json")):
            raise ApprovalError(f"there is an approval {approval.id} already")

    def get(self, approval_id: str) -> Approval:
        """The approval.

        Raises:
            ApprovalError: no such approval; names the pending ones.
        """
        for kind in ("answer", "json"):
            path = self._path(approval_id, kind)
            if path.is_file():
                found = Approval.model_validate_json(path.read_text(encoding="utf-8"))
                used = self._path(approval_id, "used").exists()
                return found.model_copy(update={"state": "used"}) if used else found
        pending = ", ".join(a.id for a in self.pending()) or "none"
        raise ApprovalError(f"no approval {approval_id!r} in {self.folder}; pending: {pending}")

    def pending(self) -> list[Approval]:
        """Those that still wait for an answer, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [self.get(path.stem) for path in self.folder.glob("*.json")]
        now = time.time()
        return sorted(
            (a for a in found if a.state == "pending" and a.expires_ts > now), key=lambda approval: approval.created_ts
        )

    def decide(self, approval_id: str, state: Literal["approved", "rejected"], by: str, note: str = "") -> Approval:
        """Record a person's answer. Rejecting a question to choose means: none of the options.

        Raises:
            ApprovalError: unknown, already decided, expired, or a question to choose that is approved.
        """
        approval = self.get(approval_id)
        if approval.asks and state == "approved":
            raise ApprovalError(f"{approval_id} asks to choose; answer with: {_how_to_choose(approval)}")
        return self._record(approval, state, by, note)

    def choose(self, approval_id: str, option: str, by: str, note: str = "") -> Approval:
        """Record a person's choice.

        Args:
            option: the name or the number, from 1, of an option.

        Raises:
            ApprovalError: unknown, already decided, expired, no question to choose, or an option it does not offer.
        """
        approval = self.get(approval_id)
        if not approval.asks:
            raise ApprovalError(
                f"{approval_id} asks for leave; answer with: mlops-crew approve or reject {approval_id}"
            )
        found = approval.option(option)
        if found is None:
            raise ApprovalError(f"{approval_id} offers no option {option!r}; answer with: {_how_to_choose(approval)}")
        return self._record(approval, "chosen", by, note, found.name)

    def _record(self, approval: Approval, state: State, by: str, note: str, chosen: str = "") -> Approval:
        late = approval.state == "pending" and approval.expires_ts <= time.time()
        if late:
            settled, is_ours = self._settle(approval, "expired", "nobody", "")
        else:
            settled, is_ours = self._settle(approval, state, by, note, chosen)
        if not is_ours or late:
            raise ApprovalError(f"approval {approval.id} is already {settled.state}")
        return settled

    def consume(self, approval_id: str) -> None:
        """Mark an answered one as used. Raises `ApprovalError` unless it is approved or chosen, and was not used."""
        approval = self.get(approval_id)
        if approval.state not in ("approved", "chosen"):
            raise ApprovalError(f"approval {approval_id} is {approval.state}, not approved")
        try:
            os.close(os.open(self._path(approval_id, "used"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise ApprovalError(f"approval {approval_id} is already used") from None

    def expire(self, approval_id: str) -> Approval:
        """Close one that nobody answered in time; an answer that came first stands."""
        return self._settle(self.get(approval_id), "expired", "nobody", "")[0]

    def _settle(self, approval: Approval, state: State, by: str, note: str, chosen: str = "") -> tuple[Approval, bool]:
        """The approval as it is decided from now on, and whether this answer decided it."""
        if approval.state != "pending":
            return approval, False
        decided = approval.model_copy(update={"state": state, "decided_by": by, "note": note, "chosen": chosen})
        if self._publish(decided, self._path(approval.id, "answer")):
            return decided, True
        return self.get(approval.id), False

    def _path(self, approval_id: str, kind: Literal["json", "answer", "used"]) -> Path:
        return self.folder / f"{Path(approval_id).name}.{kind}"

    def _publish(self, approval: Approval, path: Path) -> bool:
        """Make the file appear with its whole content, unless it is there already."""
        temporary = self.folder / f".{secrets.token_hex(8)}.tmp"
        try:
            with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
                file.write(approval.model_dump_json(indent=2))
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True


def _how_to_choose(approval: Approval) -> str:
    return f"mlops-crew choose {approval.id} OPTION, one of {', '.join(o.name for o in approval.options)}"


class Prompt(Protocol):
    """Asks in the terminal. Returns True or False, a `Pick` where the question is to choose, or None when nobody
    answered there."""

    def __call__(self, approval: Approval, answered: Callable[[], bool]) -> bool | Pick | None: ...


class Approver:
    """Gets an answer for a call: from the terminal when there is one, else from another process through the store."""

    def __init__(self, store: ApprovalStore, *, prompt: Prompt | None, who: str) -> None:
        self.store = store
        self._prompt = prompt
        self._who = who

    def ask(
        self,
        approval: Approval,
        is_cancelled: Callable[[], bool],
        is_suspending: Callable[[], bool] = lambda: False,
    ) -> Approval:
        """Block until the approval is decided, expires or the run is stopped; returns it as decided.

        A run that is to be suspended leaves its question open: it comes back pending. A terminal is waited for.
        """
        try:
            self.store.create(approval)
        except ApprovalError:  # put by a process that was cut off; it stays the same question
            if self.store.get(approval.id).call_hash != approval.call_hash:
                raise
        if self._prompt is not None:
            threading.Thread(target=self._ask_terminal, args=(approval,), daemon=True).start()
        while time.time() < approval.expires_ts and not is_cancelled():
            current = self.store.get(approval.id)
            if current.state != "pending":
                break
            if self._prompt is None and is_suspending():
                return current
            time.sleep(POLL_S)
        return self.store.expire(approval.id)

    def _ask_terminal(self, approval: Approval) -> None:
        assert self._prompt is not None
        answer = self._prompt(approval, lambda: self.store.get(approval.id).state != "pending")
        if answer is None:
            return
        # Another terminal may have answered meanwhile; the first answer stands.
        with contextlib.suppress(ApprovalError):
            if isinstance(answer, Pick):
                self.store.choose(approval.id, answer.option, by=self._who, note=answer.note)
            else:
                self.store.decide(approval.id, "approved" if answer else "rejected", by=self._who)
