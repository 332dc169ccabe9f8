"""The one path by which a tool is called, whoever calls: agents, notebooks, the command line, outside MCP clients.

validate arguments -> policy -> (a person) -> journal the intent -> call -> check the result -> journal the outcome

The gateway owns an event loop in a thread of its own, so that it may be called from any thread and from any loop.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
from pydantic import ValidationError

from tools.core.calls import PERSON, Call, Caller
from tools.core.channels import Approver
from tools.core.client import Connection, ConnectionLostError, RawResult, TimedOutError
from tools.core.consent import Consent, state_text
from tools.core.contract import Action, Answer, Effect
from tools.core.dispatch import failure, validate_arguments
from tools.core.errors import (
    DeniedError,
    ErrorKind,
    FinalError,
    FixableError,
    NeedsPersonError,
    RetryableError,
    ToolError,
    UnknownOutcomeError,
)
from tools.core.grants import bind
from tools.core.journal import Journal
from tools.core.limits import Usage
from tools.core.policy import Decision, Level, Policy, Question, Verdict
from tools.core.redact import Redactor
from tools.core.results import ErrorInfo, Status, ToolResult
from tools.core.server import IntegrationServer
from tools.core.stack import Stack
from tools.core.yamlfile import ConfigError

_log = logging.getLogger(__name__)

ATTEMPTS = 3  # of reads and idempotent calls that failed with a passing fault
BACKOFF_S = 0.3
THIRD_PARTY_TIMEOUT_S = 120.0


class Gateway:
    """Calls tools under a policy, with a journal.

    Thread-safe. Use as a context manager, or call `close`; closing stops every server and what it started.

    Args:
        stack: the servers.
        policy: what may be called.
        journal: where calls are recorded; not closed by the gateway.
        approver: asks a person; None denies what needs one.
        redactor: applied to results before anybody sees them.
        preferences: topic of a question -> the preference that the goal states; no caller can state one.
        project, home, run_id: see `CallContext`.
    """

    def __init__(
        self,
        *,
        stack: Stack,
        policy: Policy,
        journal: Journal,
        approver: Approver | None,
        redactor: Redactor,
        project: Path,
        home: Path,
        run_id: str,
        preferences: Mapping[str, str] | None = None,
    ) -> None:
        self.stack = stack
        self.policy = policy
        self.journal = journal
        self.run_id = run_id
        self.project = project
        self.home = home
        self._redactor = redactor
        self._connections: dict[str, Connection] = {}
        self._usage = Usage()
        # A journal may be continued; its call ids must stay unique.
        self._count = sum(record["kind"] == "intent" for record in journal.records())
        self._closed = False
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._consent = Consent(
            run_id=run_id,
            approver=approver,
            journal=journal,
            redactor=redactor,
            preferences=preferences or {},
            timeout_s=policy.approval_timeout_s,
            is_stopping=self._stopping.is_set,
            read_state=self._read_state,
        )
        self._tasks: anyio.abc.TaskGroup | None = None
        self._exit = ExitStack()
        self._portal: anyio.from_thread.BlockingPortal | None = None

    def __enter__(self) -> "Gateway":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def call(self, tool: str, arguments: Mapping[str, Any], caller: Caller = PERSON) -> ToolResult:
        """Call `tool` (a server's name) with `{"action": ..., **arguments}` and wait. Never from the event loop.

        Raises:
            JournalError: the call cannot be recorded; if it had begun, its effect is in the journal as an intent.
        """
        return self._submit(tool, arguments, caller).result()

    async def call_tool(self, tool: str, arguments: Mapping[str, Any], caller: Caller = PERSON) -> ToolResult:
        """`call`, to be awaited in any event loop."""
        return await asyncio.wrap_future(self._submit(tool, arguments, caller))

    def warm(self, server: str) -> None:
        """Have an integration get ready in the background for calls that will come soon. Returns at once.

        Only where its calls need nobody's leave: in this process, and on the autonomous level.
        """
        level = self.policy.level(server, self.stack.is_real(server))
        if level is Level.AUTONOMOUS and self.stack.config(server).transport == "in-process" and not self.is_stopping:
            self._start().start_task_soon(self._warm, server)

    def stop(self) -> None:
        """Ask every long call to end soon; new calls are refused. Returns at once."""
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def close(self) -> None:
        """Stop every server and what it started. Safe to call twice.

        Raises:
            ExceptionGroup: what backends raised while they were stopped; everything else has been stopped all the same.
        """
        self._stopping.set()
        with self._lock:
            self._closed = True
            portal, self._portal = self._portal, None
        if portal is not None:
            with self._exit:
                failed = portal.call(self._close_all)
            if failed:
                raise ExceptionGroup("not everything could be stopped", failed)

    def tools(self, server: str) -> list[dict[str, Any]]:
        """The tools of a third-party server as `{"name", "description", "inputSchema"}`, asked of the server itself."""
        found = self._start().call(self._list, server)
        return [{"name": t.name, "description": t.description or "", "inputSchema": t.inputSchema} for t in found]

    def _submit(self, tool: str, arguments: Mapping[str, Any], caller: Caller) -> "Future[ToolResult]":
        return self._start().start_task_soon(self._call, tool, dict(arguments), caller)

    def _start(self) -> anyio.from_thread.BlockingPortal:
        with self._lock:
            if self._portal is None:
                if self._closed:
                    raise FinalError("the gateway is closed")
                self._portal = self._exit.enter_context(anyio.from_thread.start_blocking_portal("asyncio"))
                self._tasks = self._exit.enter_context(self._portal.wrap_async_context_manager(_task_group()))
            return self._portal

    async def _call(self, tool: str, arguments: dict[str, Any], caller: Caller) -> ToolResult:
        started = time.monotonic()
        call_id = self._next_id()
        try:
            call = self._prepare(call_id, tool, arguments, caller)
        except ToolError as error:
            # Nothing was begun, but an attempt is evidence too.
            given = {name: value for name, value in arguments.items() if name != "action"}
            decision = "deny" if isinstance(error, DeniedError) else "invalid"
            self.journal.append(
                "intent", call_id=call_id, server=tool, action=arguments.get("action"), arguments=given,
                role=caller.role, task=caller.task, effect=None, decision=decision, rule=error.message, level=None,
                real=None,
            )  # fmt: skip
            return self._finish(call_id, failure(error), started, attempts=0)
        decision = self.policy.decide(self._question(call))
        intent = self.journal.append(
            "intent", call_id=call.id, server=call.server, action=call.action, arguments=call.arguments,
            role=caller.role, task=caller.task, effect=call.effect.value, decision=decision.verdict.value,
            rule=decision.rule, level=decision.level.value, real=self.stack.is_real(call.server),
        )  # fmt: skip
        answer = self._consent.stated(call) if decision.verdict is Verdict.ALLOW else None
        approval_id, was_changed = "", False
        if decision.verdict is Verdict.ASK:
            try:
                leave = await self._consent.ask(
                    call, decision, lambda edits: self._anew(call_id, tool, arguments, caller, edits)
                )
            except BaseException:  # the waiting caller gave up; nothing was begun
                gone = FinalError("the caller gave up while a person was asked; nothing was done")
                self._finish(call.id, failure(gone), started, attempts=0)
                raise
            decision, answer, approval_id = leave.decision, leave.answer, leave.approval_id
            was_changed, call = leave.call.arguments != call.arguments, leave.call
            if decision.verdict is Verdict.ASK:
                result = ToolResult(
                    status=Status.NEEDS_APPROVAL,
                    message=decision.rule,
                    error=ErrorInfo(kind=ErrorKind.NEEDS_PERSON, message=decision.rule),
                )
                return self._finish(call.id, result, started, attempts=0)
        if decision.verdict is Verdict.DENY:
            return self._finish(call.id, failure(DeniedError(decision.rule)), started, attempts=0)
        try:
            self._consent.spend(approval_id)
        except DeniedError as error:
            return self._finish(call.id, failure(error), started, attempts=0)
        self._usage.add(call)
        try:
            result, attempts = await self._attempt(call, str(intent["ts"]), answer)
        except BaseException as error:  # the waiting caller was cancelled, or we have a bug: the record says so
            lost = UnknownOutcomeError(f"the call was abandoned ({type(error).__name__}); read the state back")
            self._finish(call.id, failure(lost), started, attempts=1)
            raise
        if was_changed:  # whoever called must not believe that what it asked for was done
            result = result.model_copy(update={"message": f"{result.message} ({decision.rule})".strip()})
        return self._finish(call.id, result, started, attempts)

    def _anew(
        self, call_id: str, tool: str, arguments: Mapping[str, Any], caller: Caller, edits: Mapping[str, Any]
    ) -> tuple[Call, Decision]:
        """The call with what a person changed, held against grants, limits and the policy as they are now.

        Raises:
            ToolError: the changed call is not valid, or does not belong to the task.
        """
        call = self._prepare(call_id, tool, {**arguments, **edits}, caller)
        return call, self.policy.decide(self._question(call))

    async def _read_state(self, call: Call) -> str | None:
        """What the call would change, read by the action that its contract names; None where it names none."""
        back = getattr(call.definition, "read_back", None)
        spec = self.stack.spec(call.server)
        if back is None or spec is None:
            return None
        action = spec.action(back.action)
        arguments = _normal(action, back.arguments(call.arguments))
        read = Call(
            id=call.id, server=call.server, action=action.name, caller=call.caller, arguments=arguments,
            effect=action.effect, limited={}, may_repeat=True, timeout_s=action.timeout_s, definition=action,
        )  # fmt: skip
        result, _ = await self._attempt(read, "", None)
        if result.error is not None and result.status is not Status.NO_DATA:
            raise FinalError(result.message)
        return state_text(result.data, getattr(back, "state", ()))

    def _prepare(self, call_id: str, tool: str, arguments: dict[str, Any], caller: Caller) -> Call:
        """Validate and bind.

        Raises:
            FixableError: an unknown tool or action, or wrong arguments.
            DeniedError: the call does not belong to the task, or asks for another value than a bound one.
        """
        if self.is_stopping:
            raise FinalError("the run is being stopped; no further call is made")
        if tool not in self.stack.names:
            raise FixableError(f"unknown tool {tool!r}; valid tools: {', '.join(self.stack.names)}")
        # A model that must fill every parameter sends null for those it leaves out.
        given = {key: value for key, value in arguments.items() if value is not None}
        action_name = given.pop("action", None)
        spec = self.stack.spec(tool)
        if spec is None:
            if not isinstance(action_name, str):
                raise FixableError(f"{tool}: 'action' must name one of the server's tools, got {action_name!r}")
            return Call(
                id=call_id, server=tool, action=action_name, caller=caller, arguments=given,
                effect=self.policy.effect_of(tool, action_name), limited={}, may_repeat=False,
                timeout_s=THIRD_PARTY_TIMEOUT_S, definition=None,
            )  # fmt: skip
        action = spec.action(str(action_name))
        if caller.role is not None:
            given = bind(f"{tool}.{action.name}", action, given, caller.scope, lambda some: _normal(action, some))
        typed = validate_arguments(action, given)
        return Call(
            id=call_id, server=tool, action=action.name, caller=caller,
            arguments=typed.model_dump(mode="json", exclude_none=True), effect=action.effect, limited=action.limits(),
            may_repeat=action.effect is Effect.READ or action.idempotent, timeout_s=action.timeout_s, definition=action,
            asked=typed if action.asks else None,
        )  # fmt: skip

    def _question(self, call: Call) -> Question:
        preference, preferred = self._consent.preference(call)
        return Question(
            integration=call.server,
            action=call.action,
            effect=call.effect,
            arguments=call.arguments,
            limited=call.limited,
            role=call.caller.role,
            granted=call.caller.granted,
            task=call.caller.task,
            in_task=call.caller.scope.grants is not None,
            real=self.stack.is_real(call.server),
            used=self._usage.used,
            asks=call.asked is not None,
            preference=preference,
            preferred=preferred,
        )

    async def _attempt(self, call: Call, begun: str, answer: Answer | None) -> tuple[ToolResult, int]:
        """Call, and repeat what may be repeated. Nothing else in the project repeats a call."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                result = await self._send(call, answer)
            except RetryableError as error:  # it did not begin
                result = failure(error)
            except (TimedOutError, ConnectionLostError) as error:
                if call.effect is Effect.READ:
                    result = failure(RetryableError(str(error)))
                else:
                    result = failure(
                        UnknownOutcomeError(f"{error}; read the state back before repeating (begun {begun})")
                    )
                if isinstance(error, TimedOutError):
                    return result, attempt
            except ToolError as error:
                result = failure(error)
            except ConfigError as error:  # how the server is reached is read at its first call
                result = failure(NeedsPersonError(str(error)))
            passing = result.error is not None and result.error.kind is ErrorKind.RETRY
            unknown = result.status is Status.UNKNOWN
            if not (call.may_repeat and (passing or unknown)) or attempt == ATTEMPTS or self.is_stopping:
                return result, attempt
            await anyio.sleep(BACKOFF_S * attempt)
        raise AssertionError("unreachable")

    async def _send(self, call: Call, answer: Answer | None) -> ToolResult:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            self.journal.publish(
                {"kind": "progress", "call_id": call.id, "server": call.server, "action": call.action, "done": progress,
                 "total": total, "message": self._redactor.text(message or "")}
            )  # fmt: skip

        assert self._tasks is not None
        raw = await self._connection(call.server).call(
            self._tasks, call.action, call.arguments, run_id=self.run_id, call_id=call.id,
            timeout_s=call.timeout_s, on_progress=on_progress, answer=answer,
        )  # fmt: skip
        return _typed(call, raw)

    async def _warm(self, server: str) -> None:
        connection = self._connection(server)
        try:
            await anyio.to_thread.run_sync(connection.own_server().warm)
        except Exception as error:  # noqa: BLE001 - the call that needs it will fail the same way, and tell
            _log.info("getting %s ready failed: %s", server, error)

    async def _list(self, server: str) -> list[Any]:
        assert self._tasks is not None
        return await self._connection(server).list_tools(self._tasks)

    def _connection(self, name: str) -> Connection:
        if name not in self._connections:
            self._connections[name] = Connection(name, self.stack.config(name), lambda: self._make_server(name))
        return self._connections[name]

    def _make_server(self, name: str) -> IntegrationServer:
        return IntegrationServer(
            self.stack.load_spec(name),
            env=self.stack.env,
            project=self.project,
            home=self.home,
            run_id=self.run_id,
            is_stopping=self._stopping.is_set,
        )

    def _next_id(self) -> str:
        with self._lock:
            self._count += 1
            return f"c{self._count:04d}"

    def _finish(self, call_id: str, result: ToolResult, started: float, attempts: int) -> ToolResult:
        clean = ToolResult.model_validate(self._redactor.data(result.model_dump(mode="json")))
        clean.call_id = call_id
        self.journal.append(
            "outcome", call_id=call_id, status=clean.status.value, message=clean.message, data=clean.data,
            error=clean.error.model_dump(mode="json") if clean.error else None,
            duration_s=round(time.monotonic() - started, 4), attempts=attempts,
        )  # fmt: skip
        return clean

    async def _close_all(self) -> list[Exception]:
        async with anyio.create_task_group() as closing:
            for connection in self._connections.values():
                closing.start_soon(connection.close)
        failed: list[Exception] = []
        for connection in self._connections.values():
            if connection.server is not None:
                try:
                    await anyio.to_thread.run_sync(connection.server.close)
                except Exception as error:  # noqa: BLE001 - the others must be stopped all the same
                    failed.append(error)
        return failed


@asynccontextmanager
async def _task_group() -> AsyncGenerator[anyio.abc.TaskGroup]:
    """A task group made inside the event loop that will run it."""
    async with anyio.create_task_group() as group:
        yield group


def _normal(action: Action, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return validate_arguments(action, arguments).model_dump(mode="json", exclude_none=True)


def _typed(call: Call, raw: RawResult) -> ToolResult:
    """The server's answer as a checked `ToolResult`."""
    if call.definition is None:
        return _from_third_party(raw)
    if raw.structured is None:
        raise FinalError(f"{call.server}.{call.action} returned no result: {raw.text or 'no text'}")
    try:
        result = ToolResult.model_validate(raw.structured)
        if result.ok:
            call.definition.result.model_validate(result.data)
    except ValidationError as error:
        raise FinalError(
            f"{call.server}.{call.action} returned something else than it promises: {error.errors()[0]['msg']}"
        ) from error
    return result


def _from_third_party(raw: RawResult) -> ToolResult:
    data = raw.structured if raw.structured is not None else {"text": raw.text}
    if raw.is_error:
        error = ErrorInfo(kind=ErrorKind.FIXABLE, message=raw.text or "the server reported an error without a text")
        return ToolResult(status=Status.FAILED, message=error.message, error=error)
    return ToolResult(status=Status.OK, data=data)
