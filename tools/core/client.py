"""One persistent MCP session per server: in-process, stdio or streamable HTTP.

Knows the MCP SDK (with `server`) and nothing of policy or journal. A session lives in one task of the gateway's
event loop, because anyio's scopes must be left by the task that entered them.
"""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import anyio
import anyio.abc
import httpx
import mcp.types as types
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp.client.session import ClientSession
from mcp.shared.exceptions import McpError
from mcp.shared.message import SessionMessage
from mcp.shared.session import ProgressFnT

from tools.core.contract import Answer
from tools.core.errors import FinalError, NeedsPersonError, RetryableError, ToolError
from tools.core.server import META_ANSWER, META_CALL, META_KEY, META_RUN, META_TIMEOUT, IntegrationServer
from tools.core.stack import ServerConfig

CONNECT_TIMEOUT_S = 30.0
HEARTBEAT_S = 2.0  # a streamable HTTP client is not told that the server died while it answered: it must ask
SESSION_TERMINATED = 32600  # what the SDK makes of HTTP 404: a restarted server does not know the session
TIMED_OUT = 408  # the SDK's code for its own time limit


class TimedOutError(Exception):
    """No answer within the call's time; what the server did is not known."""


class ConnectionLostError(Exception):
    """The server went away during a call; what it did is not known."""


@dataclass(frozen=True)
class RawResult:
    """An MCP tool result, whole: every content block and the structured content."""

    structured: dict[str, Any] | None
    text: str
    is_error: bool


class Connection:
    """A session with one server, opened at the first call and reopened after it was lost."""

    def __init__(self, name: str, config: ServerConfig, make_server: Callable[[], IntegrationServer] | None) -> None:
        self.name = name
        self.config = config
        self._make_server = make_server
        self._opening = anyio.Lock()
        self._session: ClientSession | None = None
        self._stop: anyio.Event | None = None
        self._gone: anyio.Event | None = None
        self._connecting: anyio.CancelScope | None = None
        self._error: BaseException | None = None
        self.server: IntegrationServer | None = None

    async def list_tools(self, tasks: anyio.abc.TaskGroup) -> list[types.Tool]:
        """The server's tools."""
        session = await self._open(tasks)
        found: list[types.Tool] = []
        cursor: str | None = None
        while True:
            page = await session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            found += page.tools
            cursor = page.nextCursor
            if not cursor:
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
    ) -> RawResult:
        """Call a tool, once. `answer`: what was chosen, for an action that `asks`. `key`: of a write, see `writes`.

        Raises:
            RetryableError: the server could not be reached; the call did not start.
            TimedOutError, ConnectionLostError: it started, and its outcome is not known.
            FinalError: the server answered with a protocol error.
        """
        session = await self._open(tasks)
        gone = self._gone
        assert gone is not None
        answers: list[types.CallToolResult | McpError] = []
        meta: dict[str, Any] = {META_RUN: run_id, META_CALL: call_id, META_TIMEOUT: timeout_s}
        if answer is not None:
            meta[META_ANSWER] = asdict(answer)
        if key:
            meta[META_KEY] = key
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
                        progress_callback=on_progress,
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
                text = "\n".join(_block_text(block) for block in result.content)
                return RawResult(result.structuredContent, text, bool(result.isError))
            case [McpError() as error] if error.error.code == TIMED_OUT:
                raise TimedOutError(f"{self.name}.{tool} gave no answer within {timeout_s:g} s")
            case [McpError() as error] if error.error.code == SESSION_TERMINATED:
                await self.close()
                raise RetryableError(f"the server {self.name} was restarted; the call did not begin")
            case [McpError() as error] if error.error.code != types.CONNECTION_CLOSED:
                raise FinalError(f"{self.name}.{tool}: the server answered: {error.error.message}")
            case _:
                await self.close()  # a dead session must not serve the next call
                if _was_not_sent(_innermost(self._error), call_id):
                    raise RetryableError(f"cannot reach the MCP server {self.name}", tried=self._where())
                raise ConnectionLostError(f"the server {self.name} went away during {tool}")

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
                ready, self._stop, self._gone = anyio.Event(), anyio.Event(), anyio.Event()
                self._error = None
                tasks.start_soon(self._live, ready, self._stop, self._gone)
                await ready.wait()
                if self._session is None:
                    raise self._unreachable()
            return self._session

    async def _live(self, ready: anyio.Event, stop: anyio.Event, gone: anyio.Event) -> None:
        try:
            async with self._transport() as session:
                # The time limit is inside the transport, so that what it started is always ended properly.
                with anyio.fail_after(CONNECT_TIMEOUT_S) as self._connecting:
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

    def _forget(self, gone: anyio.Event) -> None:
        """Let the next call open a new session, unless one has been opened since."""
        if self._gone is gone:
            self._session = self._connecting = None

    def _unreachable(self) -> ToolError:
        cause = _innermost(self._error)
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
                why = f"no answer within {CONNECT_TIMEOUT_S:g} s"
            case _:
                why = f"{type(cause).__name__}: {cause}"
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
        assert self._make_server is not None
        if self.server is None:
            self.server = self._make_server()
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
        from mcp.client.stdio import StdioServerParameters, stdio_client

        command, *arguments = self.config.command
        parameters = StdioServerParameters(command=command, args=arguments, env=dict(self.config.env))
        with ExitStack() as afterwards:
            async with stdio_client(parameters) as (read, write):
                # The SDK does not get to closing it where the server died while it was written to. Not earlier: what
                # a server sends while it ends must not fail.
                afterwards.enter_context(read)
                async with _until_end(read, self._stop) as watched, ClientSession(watched, write) as session:
                    yield session

    @asynccontextmanager
    async def _http(self) -> AsyncGenerator[ClientSession]:
        from mcp.client.streamable_http import streamable_http_client

        # No time limit on reading: a call's own limit ends it, however long it is.
        limits = httpx.Timeout(CONNECT_TIMEOUT_S, read=None)
        async with (
            httpx.AsyncClient(headers=dict(self.config.headers), timeout=limits) as client,
            streamable_http_client(self.config.url, http_client=client) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            yield session

    def _where(self) -> str:
        match self.config.transport:
            case "in-process":
                return "in this process"
            case "stdio":
                return f"command {' '.join(self.config.command)}"
            case "http":
                return self.config.url


@asynccontextmanager
async def _until_end(
    source: MemoryObjectReceiveStream[SessionMessage | Exception], ended: anyio.Event | None
) -> AsyncGenerator[MemoryObjectReceiveStream[SessionMessage | Exception]]:
    """`source`, passed on, and `ended` set at its end: a server that died between two calls is noticed at once."""
    send, receive = anyio.create_memory_object_stream[SessionMessage | Exception](0)

    async def forward() -> None:
        async with send:
            try:
                async for message in source:
                    await send.send(message)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # our session was closed first
        if ended is not None:
            ended.set()

    async with receive, anyio.create_task_group() as group:
        group.start_soon(forward)
        yield receive
        group.cancel_scope.cancel()


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


def _block_text(block: types.ContentBlock) -> str:
    """A content block in words; a model cannot read the bytes of an image, but must know that there was one."""
    match block:
        case types.TextContent():
            return block.text
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return resource.text
        case types.ResourceLink():
            return f"[{block.name}: {block.uri}]"
        case types.EmbeddedResource():
            return f"[{block.resource.mimeType or 'binary'} resource {block.resource.uri}]"
        case _:
            return f"[{block.mimeType} {block.type}]"


def _innermost(error: BaseException | None) -> BaseException | None:
    """The first leaf of a group of exceptions."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error
