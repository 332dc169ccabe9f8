"""Makes an MCP server out of an integration's spec. The only module, with `client`, that knows the MCP SDK.

Every action becomes one MCP tool with annotations, a described input schema and a typed output schema. Backend
methods run one at a time in a worker thread; long ones report progress to the caller.
"""

import contextlib
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.from_thread
import anyio.to_thread
import mcp.types as types
from mcp.server.lowlevel import Server
from mcp.shared.context import RequestContext

from tools.core.contract import Action, Answer, Backend, CallContext, Effect, Integration
from tools.core.dispatch import failure, run_action, translate
from tools.core.errors import (
    CallCancelled,
    FinalError,
    FixableError,
    NeedsPersonError,
    RetryableError,
    ToolError,
    UnknownOutcomeError,
)
from tools.core.redact import Redactor
from tools.core.results import Status, ToolResult
from tools.core.roots import Roots, roots_from
from tools.core.schema import input_schema, output_schema

LOOPBACK = ("127.0.0.1", "localhost")
PROGRESS_EVERY_S = 0.1
META_RUN = "mlops/run_id"
META_CALL = "mlops/call_id"
META_TIMEOUT = "mlops/timeout_s"
META_ANSWER = "mlops/answer"
META_KEY = "mlops/idempotency_key"


class IntegrationServer:
    """One integration behind MCP.

    Args:
        spec: what to serve.
        env: settings are read from here, and only the integration's own.
        project, home: see `CallContext`.
        run_id: used when the caller names no run (an outside client).
        is_stopping: true once the process is being stopped; long calls then end at their next progress report.
        redactor: applied to results; None where the gateway, in the same process, does it.
        roots: what paths may lead to; by default what the project and `MLOPS_DATA_ROOTS` give.
    """

    def __init__(
        self,
        spec: Integration,
        *,
        env: Mapping[str, str],
        project: Path,
        home: Path,
        run_id: str,
        is_stopping: Callable[[], bool] = lambda: False,
        redactor: Redactor | None = None,
        roots: Roots | None = None,
    ) -> None:
        self.spec = spec
        self._roots = roots or roots_from(env, project, home, run_id)
        self._redactor = redactor
        self._env = env
        self._project = project
        self._home = home
        self._run_id = run_id
        self._is_stopping = is_stopping
        self._backend: Backend | None = None
        self._one_at_a_time = threading.Lock()
        self._actions = {action.name: action for action in spec.actions}
        self.mcp: Server[Any, Any] = Server(spec.name, instructions=spec.summary)
        self.mcp.list_tools()(self._list_tools)
        self.mcp.call_tool(validate_input=False)(self._call_tool)

    def close(self) -> None:
        """Stop what the backend started. Waits for a call under way to notice that it is being stopped."""
        with self._one_at_a_time:
            if self._backend is not None:
                self._backend.close()
                self._backend = None

    def warm(self) -> None:
        """Have the backend get ready; see `Backend.warm`. In the calling thread."""
        ctx = CallContext(
            project=self._project,
            home=self._home,
            run_id=self._run_id,
            roots=self._roots,
            is_cancelled=self._is_stopping,
        )
        with self._one_at_a_time:
            if not self._is_stopping():
                self._load().warm(ctx)

    def _load(self) -> Backend:
        if self._backend is None:
            self._backend = self.spec.load_backend(self.spec.resolve_settings(self._env))
        return self._backend

    async def _list_tools(self) -> list[types.Tool]:
        return [tool_definition(action) for action in self.spec.actions]

    async def _call_tool(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        request = self.mcp.request_context
        meta: dict[str, Any] = (request.meta.model_extra or {}) if request.meta else {}
        token = request.meta.progressToken if request.meta else None
        timeout_s = meta.get(META_TIMEOUT)
        deadline = time.monotonic() + float(timeout_s) if timeout_s is not None else None
        last_sent = 0.0

        def is_cancelled() -> bool:
            return self._is_stopping() or (deadline is not None and time.monotonic() > deadline)

        def report(done: float, total: float | None, message: str) -> None:
            nonlocal last_sent
            now = time.monotonic()
            if token is None or (now - last_sent < PROGRESS_EVERY_S and done != total):
                return
            last_sent = now
            anyio.from_thread.run(_send_progress, request, token, done, total, self._clean(message) or None)

        run_id = str(meta.get(META_RUN) or self._run_id)
        try:
            roots = self._roots.of_run(run_id)  # a client's word: it becomes the name of a folder
        except FixableError as error:
            return self._as_mcp(failure(error), meta)
        ctx = CallContext(
            project=self._project,
            home=self._home,
            run_id=run_id,
            roots=roots,
            report_progress=report,
            is_cancelled=is_cancelled,
            answer=_answer(meta.get(META_ANSWER)),
            idempotency_key=str(meta.get(META_KEY) or ""),
        )
        return self._as_mcp(await anyio.to_thread.run_sync(self._run, name, arguments, ctx), meta)

    def _as_mcp(self, result: ToolResult, meta: Mapping[str, Any]) -> types.CallToolResult:
        result.call_id = str(meta.get(META_CALL, ""))
        structured = result.model_dump(mode="json")
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=self._clean(result.message) or result.status.value)],
            structuredContent=self._redactor.data(structured) if self._redactor else structured,
            isError=result.error is not None and result.status is not Status.NO_DATA,
        )

    def _clean(self, text: str) -> str:
        return self._redactor.text(text) if self._redactor else text

    def _run(self, name: str, arguments: dict[str, Any], ctx: CallContext) -> ToolResult:
        with self._one_at_a_time:
            if self._is_stopping():
                return failure(FinalError(f"{self.spec.name}.{name} was stopped before it began"))
            if ctx.is_cancelled():
                return failure(RetryableError(f"{self.spec.name}.{name} waited for another call and did not begin"))
            try:
                return run_action(self.spec, self._load(), name, arguments, ctx)
            except ToolError as error:
                return failure(error)
            except CallCancelled:
                why = "was stopped before it finished" if self._is_stopping() else "did not finish in time"
                stopped = f"{self.spec.name}.{name} {why}"
                if self._actions[name].effect is Effect.READ:
                    return failure(FinalError(stopped))
                return failure(UnknownOutcomeError(f"{stopped}; read the state back before repeating it"))
            except Exception as error:  # noqa: BLE001 - the backend's module or constructor failed
                return failure(translate(self.spec, name, error))


def _answer(sent: Any) -> Answer | None:
    """What the gateway sent along; None where it is not an answer."""
    fields = ("chosen", "decided_by", "note", "at")
    if not isinstance(sent, dict) or sent.keys() != set(fields):
        return None
    return Answer(*(str(sent[name]) for name in fields))


async def _send_progress(
    request: RequestContext[Any, Any, Any], token: str | int, done: float, total: float | None, message: str | None
) -> None:
    """Report progress to the caller, on the stream that will carry the result; one that went away stops nothing."""
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        await request.session.send_progress_notification(token, done, total, message, str(request.request_id))


@cache
def tool_definition(action: Action, name: str | None = None) -> types.Tool:
    """An action as an MCP tool; `name` replaces its own."""
    return types.Tool(
        name=name or action.name,
        description=action.summary,
        inputSchema=input_schema(action),
        outputSchema=output_schema(action),
        annotations=types.ToolAnnotations(
            readOnlyHint=action.effect is Effect.READ,
            destructiveHint=action.effect is Effect.RISKY,
            idempotentHint=action.effect is Effect.READ or action.idempotent,
            openWorldHint=False,
        ),
    )


async def serve_stdio(server: "Server[Any, Any]", on_stop: Callable[[], None] = lambda: None) -> None:
    """Serve on standard input and output until the client goes away.

    The protocol keeps the two streams for itself: what a library or a child process prints goes to standard error, and
    nobody else can read the client's bytes.

    Args:
        on_stop: called when the client has gone, so that calls under way end at their next progress report.
    """
    from mcp.server.stdio import stdio_server

    protocol_in, protocol_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    stdin = anyio.wrap_file(os.fdopen(protocol_in, encoding="utf-8", errors="replace"))
    stdout = anyio.wrap_file(os.fdopen(protocol_out, "w", encoding="utf-8"))

    async def lines() -> AsyncIterator[str]:
        async for line in stdin:
            yield line
        on_stop()

    # The SDK only iterates over its input.
    async with stdio_server(cast("anyio.AsyncFile[str]", lines()), stdout) as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def serve_http(
    server: "Server[Any, Any]",
    *,
    host: str,
    port: int,
    token: str | None,
    announce: Callable[[str], None],
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Serve streamable HTTP at `/mcp` until stopped by SIGINT or SIGTERM.

    Args:
        host, port: where to listen; port 0 picks a free one.
        token: when set, requests must carry it as a bearer token. Other machines are not served without one.
        announce: called once with the URL, when connections are accepted.
        on_stop: called when it is being stopped, so that calls under way end at their next progress report.

    Raises:
        FinalError: the port is taken or not allowed; names it.
        NeedsPersonError: no token, and the address can be reached from other machines.
    """
    import hmac
    import socket
    from types import FrameType

    import uvicorn
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount
    from starlette.types import Receive, Scope, Send

    if host not in LOOPBACK and not token:
        raise NeedsPersonError(f"serving on {host} lets other machines call the tools: set MLOPS_SERVER_TOKEN first")
    # Without a token, a web page in the user's browser must not reach us under a name of its own (DNS rebinding).
    names = [f"{name}:*" for name in LOOPBACK]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=not token,
        allowed_hosts=names,
        allowed_origins=[f"http://{name}" for name in names],
    )
    manager = StreamableHTTPSessionManager(app=server, json_response=False, security_settings=security)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            await PlainTextResponse("missing or wrong bearer token", status_code=401)(scope, receive, send)
            return
        await manager.handle_request(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with manager.run():
            yield

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # from here on clients may connect; they are answered once the server runs
    except OSError as error:
        listener.close()
        raise FinalError(f"cannot listen on {host}:{port}: {error.strerror}; choose another port (0: any)") from error

    class StoppableServer(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            on_stop()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        Starlette(routes=[Mount("/", app=handle)], lifespan=lifespan),
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=2,  # a client's open event stream would otherwise keep the server alive
    )
    announce(f"http://{host}:{listener.getsockname()[1]}/mcp")
    await StoppableServer(config).serve(sockets=[listener])
