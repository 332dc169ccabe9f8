"""Questions to people and their signed answers, as files that no tool can forge.

`<home>/approvals/ID.json` is a question, bound to the hash of the exact call (run, integration, action, arguments) and
to a fingerprint of the state that the call would change; its nonce cannot be guessed before it is put. `ID.answer` is
the answer to that nonce, `ID.refused` why an answer with edits was not taken, and `ID.used` appears when it is acted
on, once: of several processes one makes it. That it was is in the run's signed journal too, and holds without the file.
Question and answer are signed with a key that lies outside the project (`tools/core/keys.py`).

The first valid answer wins, whatever channel it comes through; what is not validly signed does not count and blocks
nothing. The store knows nothing of channels, of the policy or of how long anybody waits.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Container, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tools.core.contract import Option
from tools.core.keys import sign, signing_key, verify
from tools.core.person import person
from tools.core.private import MAX_BYTES, OpenFolder, UnsafeFolderError, opened

KEY = "approvals"
COMMAND_LINE = "command line"

State = Literal["pending", "approved", "chosen", "rejected", "expired", "withdrawn", "used"]
Closing = Literal["expired", "withdrawn"]
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")


class ApprovalError(Exception):
    """No such approval, it is no longer pending, or an answer that it does not take."""


class Facts(BaseModel):
    """What a person is told of a call beyond its arguments; from the contract and from what was read.

    Args:
        summary: what the action does, in one sentence.
        effect: on the world, as the gateway knows it (`read`, `write`, `risky`).
        about: argument -> what it is, with its unit.
        now: what the action would change, as it is now; empty where nothing could be read.
        undo: how it is taken back; empty where that is not known.
        task: in which it is asked.
    """

    model_config = ConfigDict(extra="forbid")

    summary: str = ""
    effect: str = ""
    about: dict[str, str] = Field(default_factory=dict)
    now: dict[str, Any] = Field(default_factory=dict)
    undo: str = ""
    task: str = ""


class Approval(BaseModel):
    """One question to a person, and how it stands.

    `call_hash` binds it to the exact call and `state_hash` to the state that it would change; `reason` says why it is
    asked. `asks`: it is not about letting the call happen but about which of the options in its arguments to take;
    `chosen` is then the name of that option. `edited`: argument -> value, where it was approved with other values.
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
    call_id: str = ""
    nonce: str = Field(default_factory=lambda: secrets.token_hex(16))
    state_hash: str = ""
    state_text: str = ""
    facts: Facts = Field(default_factory=Facts)
    asks: bool = False
    signature: str = ""

    state: State = "pending"
    decided_by: str = ""
    note: str = ""
    chosen: str = ""
    edited: dict[str, Any] = Field(default_factory=dict)
    via: str = ""
    answer_signature: str = ""
    spent: bool = False

    @property
    def options(self) -> list[Option]:
        """What may be chosen; empty where the question is whether the call may happen."""
        # Not validated again: the call's arguments were, and redaction may have made a text longer since.
        return [Option.model_construct(**item) for item in self.arguments.get("options", ())] if self.asks else []

    def option(self, typed: str) -> Option | None:
        """The option that a person means by its name or its number, from 1; None when there is none such."""
        options, word = self.options, typed.strip().lower()
        if word.isascii() and word.isdigit():
            return options[int(word) - 1] if len(word) < 4 and 1 <= int(word) <= len(options) else None
        return next((option for option in options if option.name == word), None)

    def edits(self, pairs: Iterable[str]) -> dict[str, Any]:
        """`NAME=VALUE` as argument -> value: JSON, but text stays text where the question's value is one.

        Raises:
            ApprovalError: no `=`, an argument that the call does not have, or one named twice.
        """
        found: dict[str, Any] = {}
        for pair in pairs:
            name, is_there, text = pair.partition("=")
            known = {*self.arguments, *self.facts.about}
            if not is_there or name not in known or name in found:
                valid = ", ".join(sorted(known)) or "none"
                raise ApprovalError(f"{pair!r} changes no argument; write NAME=VALUE, each once, NAME one of: {valid}")
            found[name] = text if isinstance(self.arguments.get(name), str) else _value(text)
        return found


class SignedAnswer(BaseModel):
    """The answer's file: everything that was answered, and the signature over all of it."""

    model_config = ConfigDict(extra="forbid")

    id: str
    nonce: str
    call_hash: str
    state_hash: str
    state: Literal["approved", "chosen", "rejected", "expired", "withdrawn"]
    chosen: str
    edited: dict[str, Any]
    by: str
    note: str
    via: str
    at: float
    signature: str = ""


class Refusal(BaseModel):
    """Why an answer with edits was not taken; `answer` is that answer's signature."""

    model_config = ConfigDict(extra="forbid")

    answer: str
    why: str
    signature: str = ""


@dataclass(frozen=True)
class Pick:
    """A person's choice at a prompt: the name of an option, and why."""

    option: str
    note: str = ""


@dataclass(frozen=True)
class Edited:
    """A person's leave at a prompt, with other values: argument -> value."""

    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Rejected:
    """A person's refusal at a prompt, and why."""

    note: str = ""


def call_hash(run_id: str, integration: str, action: str, arguments: Mapping[str, Any]) -> str:
    """SHA-256 over the exact call."""
    text = json.dumps([run_id, integration, action, arguments], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class ApprovalStore:
    """The approvals on disk. Thread-safe, and safe between processes.

    Args:
        folder: made at the first question, mode 0700. It is refused where it is a link, not ours, or open to others.
        env: says where the keys lie; the process's environment when None.
        apart_from: folders that must not hold the keys.

    Every method may raise `UnsafeFolderError` or `KeyFileError` (both `NeedsPersonError`), or an OSError of the disk.
    """

    def __init__(self, folder: Path, *, env: Mapping[str, str] | None = None, apart_from: Iterable[Path] = ()) -> None:
        self.folder = folder
        self._env = env
        self._apart_from = (folder, *apart_from)
        self._signing_key: bytes | None = None

    def create(self, approval: Approval) -> Approval:
        """Put a question; returns it signed. Raises `ApprovalError` when there is one of that id."""
        if not _ID.fullmatch(approval.id):
            raise ApprovalError(f"not an approval's id: {approval.id!r}")
        signed = approval.model_copy(update={"signature": sign(self._key(), _question_payload(approval))})
        content = _file(signed)
        if len(content) > MAX_BYTES:
            raise ApprovalError(f"the call's arguments are too long to be shown to anybody ({len(content):,} bytes)")
        with self._alone() as folder:
            if folder.exists(f"{approval.id}.json"):
                raise ApprovalError(f"there is an approval {approval.id} already")
            folder.write(f"{approval.id}.json", content)
        return signed

    def get(self, approval_id: str) -> Approval:
        """The approval, as it stands.

        Raises:
            ApprovalError: no such approval, and which are pending; or the question was altered since it was put.
        """
        with opened(self.folder) as folder:
            if folder is not None and (found := self._question(folder, approval_id)) is not None:
                return self._standing(folder, found)[0]
        pending = ", ".join(a.id for a in self.pending()) or "none"
        raise ApprovalError(f"no approval {approval_id!r} in {self.folder}; pending: {pending}")

    def pending(self) -> list[Approval]:
        """Those that still wait for an answer, oldest first; what cannot be trusted is not among them."""
        now = time.time()
        waiting = (a for a in self._all() if a.state == "pending" and a.expires_ts > now)
        return sorted(waiting, key=lambda approval: approval.created_ts)

    def untrusted(self) -> list[str]:
        """The ids of questions whose signature does not fit: altered, or not put by us."""
        found: list[str] = []
        with opened(self.folder) as folder:
            if folder is None:
                return found
            for name in folder.names(".json"):
                try:
                    self._question(folder, name)
                except (ApprovalError, UnsafeFolderError):
                    found.append(name)
        return found

    def left_by(self, run_id: str) -> list[str]:
        """The ids of all questions of a run, for one that goes on after it was cut off."""
        with opened(self.folder) as folder:
            return [name for name in folder.names(".json") if name.startswith(f"{run_id}-")] if folder else []

    def unspent(self, ids: Iterable[str], run_id: str, exact_call: str, used: Container[str] = ()) -> Approval | None:
        """Of these questions the newest of that very call which can still be, or was, answered and not acted on.

        Args:
            used: those that the run's journal says were acted on, whatever files are there.
        """
        found: list[Approval] = []
        for approval_id in (name for name in ids if name not in used):
            with contextlib.suppress(ApprovalError, UnsafeFolderError):
                found.append(self.get(approval_id))
        fitting = [
            a for a in found
            if (a.run_id, a.call_hash, a.spent) == (run_id, exact_call, False)
            and (a.state in ("approved", "chosen", "rejected") or (a.state == "pending" and a.expires_ts > time.time()))
        ]  # fmt: skip
        return max(fitting, key=lambda approval: approval.created_ts, default=None)

    def standing(self, asked: Approval) -> tuple[Approval, str]:
        """How a question stands that the caller put itself, and why the answer that lies there does not count.

        The question's file is not read: whoever alters it changes nothing for the one who asks.
        """
        with opened(self.folder) as folder:
            return self._standing(folder, asked) if folder is not None else (asked, "")

    def decide(
        self,
        approval_id: str,
        state: Literal["approved", "rejected"],
        by: str | None = None,
        note: str = "",
        *,
        edited: Mapping[str, Any] | None = None,
        via: str = COMMAND_LINE,
    ) -> Approval:
        """Record a person's answer. Rejecting a question to choose means: none of the options.

        Args:
            by: who; None: the person that the operating system knows.
            edited: argument -> other value, of an approval. Whoever asked decides anew on them.

        Raises:
            ApprovalError: unknown, altered, already decided, expired, or a question to choose that is approved.
        """
        approval = self.get(approval_id)
        if approval.asks and state == "approved":
            raise ApprovalError(f"{approval_id} asks to choose; answer with: {_how_to_choose(approval)}")
        if edited and state != "approved":
            raise ApprovalError(f"{approval_id}: only what is approved can be changed")
        return self._answer(approval, state, by, note, via, edited=dict(edited or {}))

    def choose(
        self, approval_id: str, option: str, by: str | None = None, note: str = "", *, via: str = COMMAND_LINE
    ) -> Approval:
        """Record a person's choice.

        Args:
            option: the name or the number, from 1, of an option.

        Raises:
            ApprovalError: unknown, altered, already decided, expired, no question to choose, or no option of it.
        """
        approval = self.get(approval_id)
        if not approval.asks:
            raise ApprovalError(
                f"{approval_id} asks for leave; answer with: mlops-crew approve or reject {approval_id}"
            )
        found = approval.option(option)
        if found is None:
            raise ApprovalError(f"{approval_id} offers no option {option!r}; answer with: {_how_to_choose(approval)}")
        return self._answer(approval, "chosen", by, note, via, chosen=found.name)

    def close(self, asked: Approval, state: Closing) -> Approval:
        """End the wait for an answer; one that came first stands, and is what is returned."""
        with self._alone() as folder:
            found, _ = self._standing(folder, asked)
            return found if found.state != "pending" else self._put_answer(folder, asked, state, by="nobody")

    def refuse(self, answered: Approval, why: str) -> None:
        """Take back an answer with edits that cannot be taken, and say why; the question is open again."""
        refusal = Refusal(answer=answered.answer_signature, why=why)
        refusal.signature = sign(self._key(), _payload("refusal", refusal))
        with self._alone() as folder:
            if self._standing(folder, answered)[0].answer_signature == answered.answer_signature:
                folder.remove(f"{answered.id}.answer")  # first: whoever reads the refusal may answer again at once
                folder.write(f"{answered.id}.refused", _file(refusal))

    def refusal_of(self, answered: Approval) -> str:
        """Why that answer was not taken; empty where it was, or where nobody has read it yet."""
        with opened(self.folder) as folder:
            content = folder.read(f"{answered.id}.refused") if folder is not None else None
        try:
            found = Refusal.model_validate_json(content or b"")
        except ValidationError:
            return ""
        fits = verify(self._key(), _payload("refusal", found), found.signature)
        return found.why if fits and found.answer == answered.answer_signature else ""

    def spend(self, approval_id: str) -> None:
        """Use an answer up: of all that try, for whatever reason, one succeeds.

        Raises:
            ApprovalError: it is not approved or chosen, or was used before.
        """
        approval = self.get(approval_id)
        if approval.state not in ("approved", "chosen", "used"):
            raise ApprovalError(f"approval {approval_id} is {approval.state}, not approved")
        if approval.spent or not self.retire(approval_id):
            raise ApprovalError(f"approval {approval_id} is already used")

    def retire(self, approval_id: str) -> bool:
        """Make sure that an approval is never acted on from now on; False where it was so already."""
        with opened(self.folder, make=True) as folder:
            assert folder is not None
            return folder.claim(f"{approval_id}.used")

    def _answer(self, approval: Approval, state: State, by: str | None, note: str, via: str, **more: Any) -> Approval:
        with self._alone() as folder:
            found, _ = self._standing(folder, approval)
            if found.state == "pending":
                if found.expires_ts > time.time():
                    return self._put_answer(folder, approval, state, by=by or person(), note=note, via=via, **more)
                found = self._put_answer(folder, approval, "expired", by="nobody")
        raise ApprovalError(f"approval {approval.id} is already {found.state}")

    def _put_answer(self, folder: OpenFolder, asked: Approval, state: Any, *, by: str, **more: Any) -> Approval:
        fields: dict[str, Any] = {"note": "", "via": "", "chosen": "", "edited": {}, **more}
        answer = SignedAnswer(
            id=asked.id, nonce=asked.nonce, call_hash=asked.call_hash, state_hash=asked.state_hash, state=state, by=by,
            at=time.time(), **fields,
        )  # fmt: skip
        answer.signature = sign(self._key(), _payload("answer", answer))
        folder.write(f"{asked.id}.answer", _file(answer))
        return _answered(asked, answer)

    def _all(self) -> list[Approval]:
        found: list[Approval] = []
        with opened(self.folder) as folder:
            if folder is None:
                return found
            for name in folder.names(".json"):
                try:
                    question = self._question(folder, name)
                    if question is not None:
                        found.append(self._standing(folder, question)[0])
                except (ApprovalError, UnsafeFolderError):  # `untrusted` names it
                    continue
        return found

    def _question(self, folder: OpenFolder, approval_id: str) -> Approval | None:
        """The question, if it is as it was put; None where there is none."""
        content = folder.read(f"{approval_id}.json") if _ID.fullmatch(approval_id) else None
        if content is None:
            return None
        try:
            found = Approval.model_validate(json.loads(content))
        except (ValueError, RecursionError):
            raise ApprovalError(f"the question {approval_id} is damaged; it cannot be answered") from None
        if found.id != approval_id or not verify(self._key(), _question_payload(found), found.signature):
            raise ApprovalError(f"the question {approval_id} is not as it was put (its signature does not fit)")
        return found

    def _standing(self, folder: OpenFolder, asked: Approval) -> tuple[Approval, str]:
        try:
            content = folder.read(f"{asked.id}.answer")
        except UnsafeFolderError as error:
            return asked, error.message
        if content is None:
            return asked, ""
        try:
            answer = SignedAnswer.model_validate(json.loads(content))
        except (ValueError, RecursionError):
            return asked, "the answer's file is no signed answer"
        flaw = self._flaw(asked, answer)
        if flaw:
            return asked, flaw
        found = _answered(asked, answer)
        if folder.exists(f"{asked.id}.used"):
            state = "used" if found.state in ("approved", "chosen") else found.state
            found = found.model_copy(update={"state": state, "spent": True})
        return found, ""

    def _flaw(self, asked: Approval, answer: SignedAnswer) -> str:
        """Why an answer does not count; empty where it does."""
        if not verify(self._key(), _payload("answer", answer), answer.signature):
            return "the answer's signature does not fit"
        for name in ("id", "nonce", "call_hash", "state_hash"):
            if getattr(answer, name) != getattr(asked, name):
                return f"the answer belongs to another question (its {name} differs)"
        if answer.at < asked.created_ts:
            return "the answer is older than the question"
        return ""

    def _key(self) -> bytes:
        if self._signing_key is None:
            env = self._env if self._env is not None else os.environ
            self._signing_key = signing_key(KEY, env, apart_from=self._apart_from)
        return self._signing_key

    @contextlib.contextmanager
    def _alone(self) -> Generator[OpenFolder]:
        with opened(self.folder, make=True, alone=True) as folder:
            assert folder is not None
            yield folder


def _answered(asked: Approval, answer: SignedAnswer) -> Approval:
    return asked.model_copy(
        update={
            "state": answer.state, "decided_by": answer.by, "note": answer.note, "chosen": answer.chosen,
            "edited": answer.edited, "via": answer.via, "answer_signature": answer.signature,
        }
    )  # fmt: skip


_STANDING = {"signature", "state", "decided_by", "note", "chosen", "edited", "via", "answer_signature", "spent"}


def _question_payload(approval: Approval) -> bytes:
    return _canonical("question", approval.model_dump(exclude=_STANDING))


def _payload(kind: str, signed: BaseModel) -> bytes:
    return _canonical(kind, signed.model_dump(exclude={"signature"}))


def _canonical(kind: str, content: Any) -> bytes:
    return json.dumps([kind, content], sort_keys=True, separators=(",", ":"), default=str).encode()


def _file(content: BaseModel) -> bytes:
    # Not pydantic's own JSON: a text that is no valid Unicode must be storable, escaped.
    return json.dumps(content.model_dump(), indent=2, default=str).encode()


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _how_to_choose(approval: Approval) -> str:
    return f"mlops-crew choose {approval.id} OPTION, one of {', '.join(o.name for o in approval.options)}"
