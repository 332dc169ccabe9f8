"""One persistent MCP session per server: in-process, stdio or streamable HTTP.

Knows the MCP SDK (with `server`) and nothing of policy or journal. A session lives in one task of the gateway's
event loop, because anyio's scopes must be left by the task that entered them.
"""

import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
import anyio.abc
import httpx
import mcp.types as types
from mcp.client.session import ClientSession
from mcp.shared.exceptions import McpError
from mcp.shared.message import SessionMessage
from mcp.shared.session import ProgressFnT

from tools.core.contract import Answer
from tools.core.errors import FinalError, NeedsPersonError, RetryableError, ToolError
from tools.core.foreign import (
    MAX_BLOCKS_BYTES,
    MAX_MESSAGE_CHARS,
    MAX_RESULT_BYTES,
    capped,
    clean_text,
    cut,
    kept_blocks,
)
from tools.core.meta import GATEWAY_KEY, META_CALL, CallMeta, GatewayKey
from tools.core.server import IntegrationServer
from tools.core.stack import ServerConfig
from tools.core.stdio import Tail, stdio_transport
from tools.core.transports import block_text, calm, http_transport, watched

CONNECT_TIMEOUT_S = 30.0
FOREIGN_CONNECT_TIMEOUT_S = 15.0
LIST_TIMEOUT_S = 15.0
TRY_AGAIN_S = 30.0  # a server of somebody else that could not be reached is left alone for so long
MAX_TOOLS = 500  # of one server
MAX_PAGES = 50
MAX_NOTIFICATIONS = 100_000  # of somebody else's server, from one call to the next
HEARTBEAT_S = 2.0  # a streamable HTTP client is not told that the server died while it answered: it must ask
SESSION_TERMINATED = 32600  # what the SDK makes of HTTP 404: a restarted server does not know the session
TOOLS_CHANGED = "notifications/tools/list_changed"
TIMED_OUT = 408  # the SDK's code for its own time limit


class TimedOutError(Exception):
    """No answer within the call's time; what the server did is not known."""


class ConnectionLostError(Exception):
    """The server went away during a call; what it did is not known."""


@dataclass(frozen=True)
class RawResult:
    """An MCP tool result, whole: every content block and the structured content. Of somebody else's server: bounded.

    `blocks` are the content blocks as they came, of somebody else's server.
    """

    structured: dict[str, Any] | None
    text: str
    is_error: bool
    blocks: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class Connection:
    """A session with one server, opened at the first call and reopened after it was lost.

    Args:
        make_server: of one in this process.
        on_tools_changed: called when somebody else's server says that its tools have changed.
    """

    def __init__(
        self,
        name: str,
        config: ServerConfig,
        make_server: Callable[[GatewayKey], IntegrationServer] | None,
        on_tools_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.config = config
        self._make_server = make_server
        self._on_tools_changed = on_tools_changed
        # Made here for a server that is made or started here; another one of ours has it from its environment.
        self._key = None if config.third_party else GatewayKey.new()
        if config.transport == "http":
            self._key = GatewayKey(config.gateway_key) if config.gateway_key else None
        self._said = Tail()
        self._failed_at: float | None = None
        self._notifications = 0
        self._opening = anyio.Lock()
        self._session: ClientSession | None = None
        self._stop: anyio.Event | None = None
        self._gone: anyio.Event | None = None
        self._connecting: anyio.CancelScope | None = None
        self._error: BaseException | None = None
        self.server: IntegrationServer | None = None

    async def list_tools(self, tasks: anyio.abc.TaskGroup) -> list[types.Tool]:
        """The server's tools.

        Raises:
            RetryableError: it cannot be reached, or does not answer in time.
            FinalError: it answered with an error, or has more tools than anybody can look at.
        """
        session = await self._open(tasks)
        limit_s = self.config.start_timeout_s or LIST_TIMEOUT_S
        self._notifications = 0
        found: list[types.Tool] = []
        cursor: str | None = None
        try:
            with anyio.fail_after(limit_s):
                for _ in range(MAX_PAGES):
                    page = await session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
                    found += page.tools
                    cursor = page.nextCursor
                    if not cursor or len(found) > MAX_TOOLS:
                        break
        except TimeoutError:
            raise RetryableError(f"the server {self.name} did not list its tools within {limit_s:g} s") from None
        except McpError as error:
            if error.error.code in (types.CONNECTION_CLOSED, SESSION_TERMINATED):
                await self.close()
                raise RetryableError(f"the server {self.name} went away while it listed its tools") from error
            raise FinalError(f"{self.name}: the server answered: {self._words(error.error.message)}") from error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            await self.close()
            raise RetryableError(f"the server {self.name} went away while it listed its tools") from None
        if cursor or len(found) > MAX_TOOLS:
            raise FinalError(f"the server {self.name} has more than {MAX_TOOLS} tools, or lists them without end")
        return found

    async def call(
        self,
        tasks: anyio.abc.TaskGroup,
        tool: str,
        arguments: dict[str, Any],
        *,
        run_id: str,
        call_id: str,
        timeout_s: float,
        on_progress: ProgressFnT,
        answer: Answer | None = None,
        key: str = "",
        outside_models: frozenset[str] = frozenset(),
    ) -> RawResult:
        """Call a tool, once. `answer`: what was chosen, for an action that `asks`. `key`: of a write, see `writes`.
        `outside_models`: see `CallContext`.

        Raises:
            RetryableError: the server could not be reached; the call did not start.
            TimedOutError, ConnectionLostError: it started, and its outcome is not known.
            FinalError: the server answered with a protocol error.
        """
        session = await self._open(tasks)
        gone = self._gone
        assert gone is not None
        answers: list[types.CallToolResult | McpError] = []
        self._notifications = 0
        meta: dict[str, Any] = {META_CALL: call_id}  # tells our own request apart, where its connection fails
        if self._key is not None:
            meta = self._key.sign(tool, arguments, CallMeta(run_id, call_id, timeout_s, answer, key, outside_models))
        request = types.CallToolRequest(
            params=types.CallToolRequestParams(
                name=tool,
                arguments=arguments,
                _meta=types.RequestParams.Meta.model_validate(meta),
            )
        )

        async def ask(scope: anyio.CancelScope) -> None:
            try:
                # Not session.call_tool: it lists the tools first and validates against their JSON schema at every
                # call, which the gateway does with the typed result model.
                answers.append(
                    await session.send_request(
                        types.ClientRequest(request),
                        types.CallToolResult,
                        # The server gives up at timeout_s; the client waits a little longer to hear it say so.
                        request_read_timeout_seconds=timedelta(seconds=timeout_s + 5),
                        progress_callback=calm(on_progress) if self.config.third_party else on_progress,
                    )
                )
            except McpError as error:
                answers.append(error)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                pass  # no answer: the connection was lost
            scope.cancel()

        async def watch(scope: anyio.CancelScope) -> None:
            await gone.wait()
            scope.cancel()

        async with anyio.create_task_group() as race:
            race.start_soon(watch, race.cancel_scope)
            if self.config.transport == "http":
                race.start_soon(_heartbeat, session, race.cancel_scope)
            await ask(race.cancel_scope)
        match answers:
            case [types.CallToolResult() as result]:
                return self._raw(result)
            case [McpError() as error] if error.error.code == TIMED_OUT:
                raise TimedOutError(f"{self.name}.{tool} gave no answer within {timeout_s:g} s")
            case [McpError() as error] if error.error.code == SESSION_TERMINATED:
                await self.close()
                raise RetryableError(f"the server {self.name} was restarted; the call did not begin")
            case [McpError() as error] if error.error.code != types.CONNECTION_CLOSED:
                raise FinalError(f"{self.name}.{tool}: the server answered: {self._words(error.error.message)}")
            case _:
                await self.close()  # a dead session must not serve the next call
                if _was_not_sent(_innermost(self._error), call_id):
                    raise RetryableError(f"cannot reach the MCP server {self.name}", tried=self._where())
                cause = _innermost(self._error)
                if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code in (401, 403):
                    raise RetryableError(f"the server {self.name} refused the token; the call did not begin")
                why = f": {cause.message}" if isinstance(cause, ToolError) else ""
                raise ConnectionLostError(f"the server {self.name} went away during {tool}{why}")

    def _raw(self, result: types.CallToolResult) -> RawResult:
        text = "\n".join(block_text(block) for block in result.content)
        if not self.config.third_party:
            return RawResult(result.structuredContent, text, bool(result.isError))
        blocks = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]
        return RawResult(
            capped(result.structuredContent, MAX_RESULT_BYTES),
            cut(text, MAX_RESULT_BYTES),
            bool(result.isError),
            kept_blocks(blocks, MAX_BLOCKS_BYTES),
        )

    def _words(self, text: str) -> str:
        return clean_text(text, MAX_MESSAGE_CHARS) if self.config.third_party else text

    async def close(self) -> None:
        """End the session and what it started. Safe to call twice."""
        if self._stop is not None and self._gone is not None:
            self._stop.set()
            if self._connecting is not None:
                self._connecting.cancel()
            await self._gone.wait()

    async def _open(self, tasks: anyio.abc.TaskGroup) -> ClientSession:
        async with self._opening:
            if self._session is None:
                if self._failed_at is not None and time.monotonic() - self._failed_at < TRY_AGAIN_S:
                    raise self._unreachable()
                ready, self._stop, self._gone = anyio.Event(), anyio.Event(), anyio.Event()
                self._error = None
                tasks.start_soon(self._live, ready, self._stop, self._gone)
                await ready.wait()
                self._failed_at = time.monotonic() if self._session is None and self.config.third_party else None
                if self._session is None:
                    raise self._unreachable()
            return self._session

    async def _live(self, ready: anyio.Event, stop: anyio.Event, gone: anyio.Event) -> None:
        try:
            async with self._transport() as session:
                # The time limit is inside the transport, so that what it started is always ended properly.
                with anyio.fail_after(self._connect_timeout_s) as self._connecting:
                    await session.initialize()
                self._connecting = None
                self._session = session
                ready.set()
                await stop.wait()
                self._forget(gone)  # before the transport closes, which may take seconds
        except Exception as error:  # noqa: BLE001 - a transport may fail with anything; it is kept and reported by the caller
            if self._gone is gone:
                self._error = error
        finally:
            self._forget(gone)
            ready.set()
            gone.set()

    @property
    def _connect_timeout_s(self) -> float:
        if self.config.start_timeout_s is not None:
            return self.config.start_timeout_s
        return FOREIGN_CONNECT_TIMEOUT_S if self.config.third_party else CONNECT_TIMEOUT_S

    def _forget(self, gone: anyio.Event) -> None:
        """Let the next call open a new session, unless one has been opened since."""
        if self._gone is gone:
            self._session = self._connecting = None

    def _unreachable(self) -> ToolError:
        cause = _innermost(self._error)
        if isinstance(cause, NeedsPersonError):
            return NeedsPersonError(f"cannot reach the MCP server {self.name}: {cause.message}", tried=self._where())
        if isinstance(cause, ToolError):
            return cause
        if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code in (401, 403):
            return NeedsPersonError(
                f"the MCP server {self.name} refuses the token (HTTP {cause.response.status_code}); "
                "our servers take it from MLOPS_SERVER_TOKEN, others from `headers` in stack.yaml",
                tried=self._where(),
            )
        match cause:
            case None:
                why = "the connection was closed while it was opened"
            case TimeoutError():
                why = f"no answer within {self._connect_timeout_s:g} s"
            case _:
                why = self._words(" ".join(str(cause).split()) or "the connection failed")
        if said := clean_text(self._said.text, MAX_MESSAGE_CHARS):
            why += f"; it said: {said}"
        return RetryableError(f"cannot reach the MCP server {self.name}: {why}", tried=self._where())

    def _transport(self) -> AbstractAsyncContextManager[ClientSession]:
        match self.config.transport:
            case "in-process":
                return self._in_process()
            case "stdio":
                return self._stdio()
            case "http":
                return self._http()

    def own_server(self) -> IntegrationServer:
        """The server in this process, kept over reconnections: the backend holds what it started."""
        assert self._make_server is not None and self._key is not None
        if self.server is None:
            self.server = self._make_server(self._key)
        return self.server

    @asynccontextmanager
    async def _in_process(self) -> AsyncGenerator[ClientSession]:
        from mcp.shared.memory import create_client_server_memory_streams

        server = self.own_server().mcp
        async with create_client_server_memory_streams() as (ours, theirs), anyio.create_task_group() as group:
            group.start_soon(server.run, *theirs, server.create_initialization_options())
            async with ClientSession(*ours) as session:
                yield session
            group.cancel_scope.cancel()

    @asynccontextmanager
    async def _stdio(self) -> AsyncGenerator[ClientSession]:
        env = dict(self.config.env)
        if self._key is not None:
            env[GATEWAY_KEY] = self._key.secret
        self._said = Tail()
        async with (
            stdio_transport(self.config.command, env, self.config.cwd, self._said) as (read, write),
            watched(read, self._look_at, self._stop) as seen,
            ClientSession(seen, write) as session,
        ):
            yield session

    @asynccontextmanager
    async def _http(self) -> AsyncGenerator[ClientSession]:
        async with (
            http_transport(self.config, self._connect_timeout_s) as (read, write),
            watched(read, self._look_at, None) as seen,
            ClientSession(seen, write) as session,
        ):
            yield session

    def _look_at(self, message: SessionMessage | Exception) -> None:
        """Look at each message of somebody else's server; one that sends what nobody asked for without end fails."""
        if not self.config.third_party:
            return
        content = message.message.root if isinstance(message, SessionMessage) else None
        if isinstance(content, types.JSONRPCResponse | types.JSONRPCError):
            return
        if isinstance(content, types.JSONRPCNotification) and content.method == TOOLS_CHANGED:
            self._on_tools_changed()
        self._notifications += 1
        if self._notifications > MAX_NOTIFICATIONS:
            raise FinalError(f"it sent more than {MAX_NOTIFICATIONS:,} messages that nobody asked for")

    def _where(self) -> str:
        match self.config.transport:
            case "in-process":
                return "in this process"
            case "stdio":
                return f"command {' '.join(self.config.command)}"
            case "http":
                return self.config.url


async def listed_tools(name: str, config: ServerConfig) -> list[dict[str, Any]]:
    """The tools of a server, asked once over a connection of its own. Raises `ToolError`."""
    found: list[types.Tool] | ToolError = []
    async with anyio.create_task_group() as tasks:
        connection = Connection(name, config, None)
        try:
            found = await connection.list_tools(tasks)
        except ToolError as error:  # raised below: a task group would wrap it
            found = error
        finally:
            with anyio.CancelScope(shield=True):
                await connection.close()
    if isinstance(found, ToolError):
        raise found
    return definitions(found)


def definitions(found: list[types.Tool]) -> list[dict[str, Any]]:
    """Tools as JSON, as their server describes them."""
    return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in found]


async def _heartbeat(session: ClientSession, scope: anyio.CancelScope) -> None:
    """Ask an HTTP server whether it still lives; when it does not, the transport fails and so does the call."""
    while True:
        await anyio.sleep(HEARTBEAT_S)
        try:
            await session.send_ping()
        except McpError as error:
            if error.error.code == SESSION_TERMINATED:  # restarted: our answer will never come
                scope.cancel()


def _was_not_sent(error: BaseException | None, call_id: str) -> bool:
    """Whether the connection failed because this very call could not connect, rather than another one or a ping."""
    if not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return False
    try:
        meta = json.loads(error.request.content)["params"]["_meta"]
    except (RuntimeError, ValueError, KeyError, TypeError):  # no request, or none of ours
        return False
    return meta.get(META_CALL) == call_id


def _innermost(error: BaseException | None) -> BaseException | None:
    """The first leaf of a group of exceptions."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error
