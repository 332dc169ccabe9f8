"""One persistent MCP session per server: in-process, stdio or streamable HTTP.

Knows the MCP SDK (with `server`) and nothing of policy or journal. A session lives in one task of the gateway's
event loop, because anyio's scopes must be left by the task that entered them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import anyio
import mcp.types as types
from mcp.client.session import ClientSession
from mcp.shared.exceptions import McpError

from tools.core.errors import FinalError, RetryableError, ToolError
from tools.core.server import META_CALL, META_RUN, META_TIMEOUT, IntegrationServer

CONNECT_TIMEOUT_S = 30.0
ProgressCallback = Callable[[float, float | None, str | None], Awaitable[None]]


@dataclass(frozen=True)
class ServerConfig:
    """How a server is reached. `command` and `env` belong to stdio, `url` and `headers` to http."""

    transport: Literal["in-process", "stdio", "http"]
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


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
        self._error: BaseException | None = None
        self.server: IntegrationServer | None = None

    async def list_tools(self, tasks: anyio.abc.TaskGroup) -> list[types.Tool]:
        """The server's tools."""
        session = await self._open(tasks)
        found: list[types.Tool] = []
        cursor: str | None = None
        while True:
            page = await session.list_tools(cursor)
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
        on_progress: ProgressCallback,
    ) -> RawResult:
        """Call a tool, once.

        Raises:
            RetryableError: the server could not be reached; the call did not start.
            TimedOutError, ConnectionLostError: it started, and its outcome is not known.
            FinalError: the server answered with a protocol error.
        """
        session = await self._open(tasks)
        gone = self._gone
        assert gone is not None
        answer: list[types.CallToolResult | BaseException] = []

        async def ask(scope: anyio.CancelScope) -> None:
            try:
                answer.append(
                    await session.call_tool(
                        tool,
                        arguments,
                        # The server gives up at timeout_s; the client waits a little longer to hear it say so.
                        read_timeout_seconds=timedelta(seconds=timeout_s + 5),
                        progress_callback=on_progress,
                        meta={META_RUN: run_id, META_CALL: call_id, META_TIMEOUT: timeout_s},
                    )
                )
            except (McpError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
                answer.append(error)
            scope.cancel()

        async with anyio.create_task_group() as race:
            race.start_soon(ask, race.cancel_scope)
            await gone.wait()
            race.cancel_scope.cancel()
        match answer:
            case [types.CallToolResult() as result]:
                text = "\n".join(block.text for block in result.content if isinstance(block, types.TextContent))
                return RawResult(result.structuredContent, text, bool(result.isError))
            case [McpError() as error] if error.error.code == 408:
                raise TimedOutError(f"{self.name}.{tool} gave no answer within {timeout_s:g} s")
            case [McpError() as error] if error.error.code != types.CONNECTION_CLOSED:
                raise FinalError(f"{self.name}.{tool}: the server answered: {error.error.message}")
            case _:
                await self.close()  # a dead session must not serve the next call
                raise ConnectionLostError(f"the server {self.name} went away during {tool}")

    async def close(self) -> None:
        """End the session and what it started. Safe to call twice."""
        if self._stop is not None and self._gone is not None:
            self._stop.set()
            await self._gone.wait()

    async def _open(self, tasks: anyio.abc.TaskGroup) -> ClientSession:
        async with self._opening:
            if self._session is None:
                ready, self._stop, self._gone = anyio.Event(), anyio.Event(), anyio.Event()
                self._error = None
                tasks.start_soon(self._live, ready, self._stop, self._gone)
                with anyio.move_on_after(CONNECT_TIMEOUT_S):
                    await ready.wait()
                if self._session is None:
                    self._stop.set()
                    if isinstance(self._error, ToolError):
                        raise self._error
                    why = f": {_root(self._error)}" if self._error else f" within {CONNECT_TIMEOUT_S:g} s"
                    raise RetryableError(f"cannot reach the MCP server {self.name}{why}", tried=self._where())
            return self._session

    async def _live(self, ready: anyio.Event, stop: anyio.Event, gone: anyio.Event) -> None:
        try:
            async with self._transport() as session:
                await session.initialize()
                self._session = session
                ready.set()
                await stop.wait()
        except Exception as error:  # a transport may fail with anything; it is kept and reported by the caller
            self._error = error
        finally:
            self._session = None
            ready.set()
            gone.set()

    def _transport(self) -> AbstractAsyncContextManager[ClientSession]:
        match self.config.transport:
            case "in-process":
                return self._in_process()
            case "stdio":
                return self._stdio()
            case "http":
                return self._http()

    @asynccontextmanager
    async def _in_process(self) -> AsyncIterator[ClientSession]:
        from mcp.shared.memory import create_connected_server_and_client_session

        assert self._make_server is not None
        if self.server is None:  # kept over reconnections: the backend holds what it started
            self.server = self._make_server()
        async with create_connected_server_and_client_session(self.server.mcp) as session:
            yield session

    @asynccontextmanager
    async def _stdio(self) -> AsyncIterator[ClientSession]:
        from mcp.client.stdio import StdioServerParameters, stdio_client

        command, *arguments = self.config.command
        parameters = StdioServerParameters(command=command, args=arguments, env=dict(self.config.env))
        async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
            yield session

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[ClientSession]:
        from mcp.client.streamable_http import streamablehttp_client

        async with (
            streamablehttp_client(self.config.url, headers=dict(self.config.headers)) as (read, write, _),
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


def _root(error: BaseException | None) -> str:
    """The innermost cause of a group of exceptions, in words."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
