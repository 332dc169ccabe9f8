"""Sends calls to their servers: connections, the repetition of what may be repeated, and the check of what comes back.

Nothing else in the project repeats a call. Policy, people and journal come before; here a call is made.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
from pydantic import ValidationError

from tools.core.calls import Call
from tools.core.client import Connection, ConnectionLostError, RawResult, TimedOutError, definitions
from tools.core.contract import Answer, Effect
from tools.core.dispatch import MAX_MESSAGE_CHARS, failure
from tools.core.errors import (
    ErrorKind,
    FinalError,
    NeedsPersonError,
    RetryableError,
    ToolError,
    UnknownOutcomeError,
    shorten,
)
from tools.core.journal import Journal
from tools.core.meta import GatewayKey
from tools.core.redact import Redactor
from tools.core.results import ErrorInfo, Status, ToolResult
from tools.core.roots import Roots
from tools.core.server import IntegrationServer
from tools.core.stack import Stack
from tools.core.standing import Standing
from tools.core.yamlfile import ConfigError

_log = logging.getLogger(__name__)

ATTEMPTS = 3  # of reads and idempotent calls that failed with a passing fault
BACKOFF_S = 0.3
MAX_WAIT_S = 30.0  # that a server may ask for before a repetition


class Sender:
    """The connections of one gateway. Its coroutines run on the gateway's event loop.

    Args:
        is_stopping: true once the gateway is being stopped; nothing is repeated then.
        is_held: why a call may not be made (again) now; empty where it may.
        held: the same, asked by a server in this process when a queued call's turn has come (server, action, call id).
        read_back: whether a write whose answer was lost has happened; None where nothing tells.
        roots, project, home, run_id: see `CallContext`.

    `tasks` is the task group of the loop, set by the gateway before the first call.
    """

    def __init__(
        self,
        *,
        stack: Stack,
        journal: Journal,
        redactor: Redactor,
        project: Path,
        home: Path,
        run_id: str,
        roots: Roots,
        is_stopping: Callable[[], bool],
        is_held: Callable[[Call], str],
        held: Callable[[str, str, str], str],
        read_back: Callable[[Call], Awaitable[ToolResult | None]],
    ) -> None:
        self.tasks: anyio.abc.TaskGroup | None = None
        self.connections: dict[str, Connection] = {}
        self.standing = Standing(self._tell_standing)
        self._stack = stack
        self._journal = journal
        self._redactor = redactor
        self._project = project
        self._home = home
        self._run_id = run_id
        self._roots = roots
        self._is_stopping = is_stopping
        self._is_held = is_held
        self._held = held
        self._read_back = read_back

    async def attempt(self, call: Call, answer: Answer | None) -> tuple[ToolResult, int]:
        """Call, and repeat what may be repeated.

        A write whose outcome is unknown is read back first.
        """
        begun = datetime.now(UTC).isoformat(timespec="seconds")
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
                    # It may still be under way, so only that it happened settles it.
                    settled = await self._read_back(call)
                    return (settled if settled is not None and settled.ok else result), attempt
            except ToolError as error:
                result = failure(error)
            except ConfigError as error:  # how the server is reached is read at its first call
                if call.definition is None:
                    self.standing.failed(call.server, str(error))
                result = failure(NeedsPersonError(str(error)))
            passing = result.error is not None and result.error.kind is ErrorKind.RETRY
            unknown = result.status is Status.UNKNOWN
            if unknown and not self._is_stopping() and (settled := await self._read_back(call)) is not None:
                if settled.ok:
                    return settled, attempt
                unknown = settled.status is Status.FAILED  # it did not happen; a read that does not tell ends it
                if not unknown:
                    return result, attempt
            if (
                not (call.may_repeat and (passing or unknown))
                or attempt == ATTEMPTS
                or self._is_stopping()
                or self._is_held(call)
            ):
                return result, attempt
            wait_s = (result.error.wait_s if result.error else None) or 0.0
            if wait_s > MAX_WAIT_S:
                return result, attempt  # the caller is told how long; it may come back then
            await anyio.sleep(max(BACKOFF_S * attempt, wait_s))
        raise AssertionError("unreachable")

    async def _send(self, call: Call, answer: Answer | None) -> ToolResult:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            self._journal.publish(
                {"kind": "progress", "call_id": call.id, "server": call.server, "action": call.action, "done": progress,
                 "total": total, "message": self._redactor.text(message or "")}
            )  # fmt: skip

        assert self.tasks is not None
        connection = self._connection(call.server)
        if call.definition is None:
            self._stack.pins.check(call.server, call.action, await self._listed(connection))
        raw = await connection.call(
            self.tasks, call.action, call.arguments, run_id=self._run_id, call_id=call.id,
            timeout_s=call.timeout_s, on_progress=on_progress, answer=answer, key=call.key,
            outside_models=call.outside_models,
        )  # fmt: skip
        return _typed(call, raw)

    async def _listed(self, connection: Connection) -> list[dict[str, Any]]:
        """The tools of somebody else's server, and a note of how it stands."""
        assert self.tasks is not None
        try:
            listed = definitions(await connection.list_tools(self.tasks))
        except ToolError as error:
            self.standing.failed(connection.name, error.message)
            raise
        differences = self._stack.pins.compare(connection.name, listed)
        self.standing.listed(
            connection.name,
            {d.tool: f"{d.state}: {d.detail}" for d in differences if d.state in ("changed", "gone", "refused")},
        )
        return listed

    async def look_again(self, server: str) -> None:
        """See whether a server of somebody else answers (again), and with which tools. Calls none of them."""
        try:
            await self._listed(self._connection(server))
        except ToolError as error:
            _log.info("%s is still left out: %s", server, error.message)
        except ConfigError as error:
            self.standing.failed(server, str(error))

    def _tell_standing(self, server: str, why: str | None) -> None:
        self._journal.publish({"kind": "server", "server": server, "left_out": self._redactor.text(why or "") or None})

    async def warm(self, server: str) -> None:
        """Have an integration in this process get ready; what fails is told by the call that needs it."""
        connection = self._connection(server)
        try:
            await anyio.to_thread.run_sync(connection.own_server().warm)
        except Exception as error:  # noqa: BLE001 - the call that needs it will fail the same way, and tell
            _log.info("getting %s ready failed: %s", server, error)

    def _connection(self, name: str) -> Connection:
        if name not in self.connections:
            self.connections[name] = Connection(
                name,
                self._stack.config(name),
                lambda key: self._make_server(name, key),
                lambda: self.standing.changed(name),
            )
        return self.connections[name]

    def _make_server(self, name: str, key: GatewayKey) -> IntegrationServer:
        return IntegrationServer(
            self._stack.load_spec(name),
            env=self._stack.env,
            project=self._project,
            home=self._home,
            run_id=self._run_id,
            is_stopping=self._is_stopping,
            gateway_key=key,
            held=lambda action, call_id: self._held(name, action, call_id),
            roots=self._roots,
        )

    async def close(self) -> list[Exception]:
        """Stop every server and what it started; returns what could not be stopped."""
        async with anyio.create_task_group() as closing:
            for connection in self.connections.values():
                closing.start_soon(connection.close)
        failed: list[Exception] = []
        for connection in self.connections.values():
            if connection.server is not None:
                try:
                    await anyio.to_thread.run_sync(connection.server.close)
                except Exception as error:  # noqa: BLE001 - the others must be stopped all the same
                    failed.append(error)
        return failed


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
        text = shorten(raw.text, MAX_MESSAGE_CHARS) or "the server reported an error without a text"
        error = ErrorInfo(kind=ErrorKind.FIXABLE, message=text)
        return ToolResult(status=Status.FAILED, message=text, error=error, content=raw.blocks)
    return ToolResult(status=Status.OK, data=data, content=raw.blocks)
