"""The ways by which a question reaches a person: a list behind one interface, and the wait for the first valid answer.

A channel shows a question and hands what a person answers to the store, which signs it; it never lets a call happen.
The command line needs no channel of its own: `mlops-crew approve` writes to the same store from another process.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from tools.core.approval import Approval, ApprovalError, ApprovalStore, Edited, Pick, Rejected
from tools.core.clean import clean_line, shown
from tools.core.errors import NeedsPersonError
from tools.core.person import person

_log = logging.getLogger(__name__)

POLL_S = 0.2
TERMINAL = "terminal"
ELICITATION = "MCP elicitation"


class Channel(Protocol):
    """One way to reach a person.

    `in_view`: the person looks at the place where the question appears, so they need not be told where to answer.
    """

    name: str
    in_view: bool

    def put(self, asked: Approval, store: ApprovalStore) -> None:
        """Show the question; returns at once. An answer goes to `store`. Again, where an answer was refused."""
        ...

    def withdraw(self, asked: Approval) -> None:
        """It was answered, here or elsewhere, or nobody waits for it any more."""
        ...


class Prompt(Protocol):
    """Asks in the terminal. Returns True or False, `Edited` or `Rejected` where more was said, a `Pick` where the
    question is to choose, or None when nobody answered there."""

    def __call__(self, approval: Approval, answered: Callable[[], bool]) -> bool | Edited | Rejected | Pick | None: ...


class TerminalChannel:
    """The terminal of the run: one question at a time, in the order in which they were put, in one thread.

    Args:
        prompt: blocks until it is answered, or `answered` says that it was elsewhere.
        who: the person at the terminal; found from the operating system when None.
    """

    name = TERMINAL
    in_view = True

    def __init__(self, prompt: Prompt, who: str | None = None) -> None:
        self._prompt = prompt
        self._who = who
        self._waiting: queue.SimpleQueue[tuple[Approval, ApprovalStore]] = queue.SimpleQueue()
        self._over: set[str] = set()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, asked: Approval, store: ApprovalStore) -> None:
        self._waiting.put((asked, store))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="approvals", daemon=True)
                self._thread.start()

    def withdraw(self, asked: Approval) -> None:
        self._over.add(asked.id)

    def _work(self) -> None:
        while True:
            asked, store = self._waiting.get()
            if self._is_over(asked, store):
                continue
            answer = self._prompt(asked, partial(self._is_over, asked, store))
            # Another channel may have answered meanwhile; the first answer stands.
            with contextlib.suppress(ApprovalError):
                take(store, asked, answer, by=self._who or person(), via=self.name)

    def _is_over(self, asked: Approval, store: ApprovalStore) -> bool:
        return asked.id in self._over or store.standing(asked)[0].state != "pending"


@dataclass(frozen=True)
class Elicited:
    """What an MCP client answered: accepted with the form's content, declined, or closed without an answer."""

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any]


Elicit = Callable[[str, dict[str, Any]], Awaitable[Elicited]]


class ElicitChannel:
    """The client of an MCP call, which shows its person a form. Made per call, on the loop that serves the client.

    Args:
        elicit: sends a message and the schema of a form to the client; cancelled when the question is withdrawn.
        loop: where `elicit` runs.
        by: who answers, as it is recorded; what a client says of itself is no proof, so name what was checked.
    """

    name = ELICITATION
    in_view = False  # the client may show the form in a window that nobody looks at

    def __init__(self, elicit: Elicit, loop: asyncio.AbstractEventLoop, by: str) -> None:
        self._elicit = elicit
        self._loop = loop
        self._by = by
        self._asking: dict[str, Future[None]] = {}

    def put(self, asked: Approval, store: ApprovalStore) -> None:
        self._asking[asked.id] = asyncio.run_coroutine_threadsafe(self._ask(asked, store), self._loop)

    def withdraw(self, asked: Approval) -> None:
        asking = self._asking.pop(asked.id, None)
        if asking is not None:
            asking.cancel()

    async def _ask(self, asked: Approval, store: ApprovalStore) -> None:
        told = await self._elicit(message_of(asked), form_of(asked))
        answer: bool | Rejected | Pick | None = None
        note = clean_line(told.content.get("note") or "")[:1000]
        if told.action == "decline":
            answer = Rejected(note)
        elif told.action == "accept" and asked.asks:
            answer = Pick(str(told.content.get("option") or ""), note)
        elif told.action == "accept":
            # A form that comes back without the word is no leave.
            answer = True if told.content.get("decision") == "approve" else Rejected(note)
        with contextlib.suppress(ApprovalError):
            await anyio.to_thread.run_sync(
                partial(take, store, asked, answer, by=self._by, via=self.name), limiter=_own_limiter()
            )


def message_of(asked: Approval) -> str:
    """The question as plain lines, for a form."""
    lines = [f"{asked.integration}.{asked.action} needs a person: {asked.reason}"]
    if asked.asks:
        lines = [str(asked.arguments.get("question", ""))]
        lines += [f"{o.name}: {o.title}. {o.consequences}" for o in asked.options]
    else:
        lines += [asked.facts.summary] if asked.facts.summary else []
        lines += [f"{name}: {shown(value, 300)}" for name, value in asked.arguments.items()]
        lines += [f"now: {shown(asked.facts.now, 300)}"] if asked.facts.now else []
    lines.append(f"call {asked.call_hash[:12]}, asked by {asked.role or 'a person'}; approval {asked.id}")
    return "\n".join(clean_line(line) for line in lines)


def form_of(asked: Approval) -> dict[str, Any]:
    """The schema of the answer, flat as MCP wants it."""
    note = {"type": "string", "title": "Why", "maxLength": 1000}
    if asked.asks:
        names = [option.name for option in asked.options]
        properties: dict[str, Any] = {"option": {"type": "string", "title": "Which one", "enum": names}, "note": note}
        return {"type": "object", "properties": properties, "required": ["option"]}
    decision = {"type": "string", "title": "Do it?", "enum": ["approve", "reject"]}
    return {"type": "object", "properties": {"decision": decision, "note": note}, "required": ["decision"]}


def take(
    store: ApprovalStore, asked: Approval, answer: bool | Edited | Rejected | Pick | None, *, by: str, via: str
) -> None:
    """Record what a person answered; None records nothing. Raises `ApprovalError` as the store does."""
    match answer:
        case None:
            return
        case Pick():
            store.choose(asked.id, answer.option, by=by, note=answer.note, via=via)
        case Edited():
            store.decide(asked.id, "approved", by=by, edited=answer.arguments, via=via)
        case Rejected():
            store.decide(asked.id, "rejected", by=by, note=answer.note, via=via)
        case _:
            store.decide(asked.id, "approved" if answer else "rejected", by=by, via=via)


class Approver:
    """Puts a question on every channel and waits for the first valid answer. The wait takes no thread.

    Args:
        prompt: of the terminal; None where there is none.
        who: the person at the terminal, when it is not the one whom the operating system knows.
    """

    def __init__(
        self,
        store: ApprovalStore,
        *,
        prompt: Prompt | None = None,
        who: str | None = None,
        channels: Sequence[Channel] = (),
    ) -> None:
        self.store = store
        own: list[Channel] = [TerminalChannel(prompt, who)] if prompt is not None else []
        self.channels: tuple[Channel, ...] = (*own, *channels)

    def ask(self, approval: Approval, is_cancelled: Callable[[], bool]) -> Approval:
        """`wait`, where there is no event loop."""
        return asyncio.run(self.wait(approval, is_stopping=is_cancelled))

    async def wait(
        self,
        approval: Approval,
        *,
        is_stopping: Callable[[], bool],
        is_suspending: Callable[[], bool] = lambda: False,
        more: Sequence[Channel] = (),
        check: Callable[[Approval], str] = lambda _answered: "",
        on_flaw: Callable[[str], None] = lambda _flaw: None,
        remind: Callable[[float], None] = lambda _waited_s: None,
        is_put: bool = False,
    ) -> Approval:
        """The approval as it was decided, expired, withdrawn (stopped), or still pending (suspended).

        Args:
            more: channels of this call alone.
            check: why an answer cannot be taken; the question is then put again. Empty: it is taken.
            on_flaw: told once of every answer that does not count.
            remind: called often while nobody answers, with the seconds waited.
            is_put: the question is in the store already.

        Raises:
            ApprovalError: it cannot be put.
            anyio's cancellation: the caller gave up; the question is withdrawn and can never be acted on.
        """
        asked = approval if is_put else await _written(partial(self.store.create, approval))
        channels = (*self.channels, *more)
        try:
            for channel in channels:
                channel.put(asked, self.store)
            return await self._decided(asked, channels, is_stopping, is_suspending, check, on_flaw, remind)
        except BaseException:  # whatever ends the wait, a cancellation too: the question is withdrawn
            self._give_up(asked)
            raise
        finally:
            for channel in channels:
                channel.withdraw(asked)

    def _give_up(self, asked: Approval) -> None:
        """Nobody waits any more: an answer that came in the same moment must not be acted on later either."""
        try:
            self.store.retire(asked.id)
            self.store.close(asked, "withdrawn")
        except (ApprovalError, NeedsPersonError, OSError) as error:
            _log.warning("the question %s could not be withdrawn: %s", asked.id, error)

    async def _decided(
        self,
        asked: Approval,
        channels: Sequence[Channel],
        is_stopping: Callable[[], bool],
        is_suspending: Callable[[], bool],
        check: Callable[[Approval], str],
        on_flaw: Callable[[str], None],
        remind: Callable[[float], None],
    ) -> Approval:
        begun, told = time.monotonic(), set[str]()
        while True:
            current, flaw = self.store.standing(asked)
            if flaw and flaw not in told:
                told.add(flaw)
                on_flaw(flaw)
            if current.state == "pending":
                if is_suspending():
                    return current
                if time.time() < asked.expires_ts and not is_stopping():
                    remind(time.monotonic() - begun)
                    await anyio.sleep(POLL_S)
                    continue
                current = await _written(partial(self.store.close, asked, "withdrawn" if is_stopping() else "expired"))
            why = check(current)
            if not why:
                return current
            await _written(partial(self.store.refuse, current, why))
            again = asked.model_copy(update={"reason": f"{asked.reason}; the last answer was refused: {why}"})
            for channel in channels:
                channel.put(again, self.store)


_limiter: RunVar[anyio.CapacityLimiter] = RunVar("approvals")


def _own_limiter() -> anyio.CapacityLimiter:
    """Of this event loop: writing an approval never waits for the threads in which calls run."""
    try:
        return _limiter.get()
    except LookupError:
        made = anyio.CapacityLimiter(8)
        _limiter.set(made)
        return made


async def _written(write: Callable[[], Any]) -> Any:
    return await anyio.to_thread.run_sync(write, limiter=_own_limiter())
