"""Makes an MCP server out of an integration's spec. The only module, with `client`, that knows the MCP SDK.

Every action becomes one MCP tool with annotations, a described input schema and a typed output schema. Backend
methods run one at a time in a worker thread; long ones report progress to the caller.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.from_thread
import anyio.to_thread
import mcp.types as types
from mcp.server.lowlevel import Server
from mcp.shared.context import RequestContext
from pydantic import TypeAdapter

from tools.core.arguments import Bound, declared, roles
from tools.core.contract import Action, Backend, CallContext, Effect, Integration
from tools.core.dispatch import failure, run_action, translate
from tools.core.errors import (
    CallCancelled,
    DeniedError,
    FinalError,
    FixableError,
    NeedsPersonError,
    RetryableError,
    ToolError,
    UnknownOutcomeError,
)
from tools.core.meta import GATEWAY_KEY, CallMeta, GatewayKey
from tools.core.redact import Redactor
from tools.core.results import Status, ToolResult
from tools.core.roots import Roots, roots_from
from tools.core.schema import input_schema, output_schema

PROGRESS_EVERY_S = 0.1
MAX_TEXT_CHARS = 320 * 1024  # more than the gateway lets any result be; only without it is a text ever shortened
KEPT_VALUE_CHARS = 4 * 1024  # of a shortened text: values that are longer are named only

_BLOCK: TypeAdapter[types.ContentBlock] = TypeAdapter(types.ContentBlock)


class IntegrationServer:
    """One integration behind MCP.

    Args:
        spec: what to serve.
        env: settings are read from here, and only the integration's own.
        project, home: see `CallContext`.
        run_id: used when the caller names no run (an outside client).
        is_stopping: true once the process is being stopped; long calls then end at their next progress report.
        held: (action, call id) -> why that call may not begin now, empty where it may; asked when its turn has come.
        redactor: applied to results; None where the gateway, in the same process, does it.
        gateway_key: shared with the gateway that calls; what else comes with a call counts only with its proof.
        allow_risky: callers without that proof may do what is risky; nobody is asked and nothing is journalled then.
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
        held: Callable[[str, str], str] = lambda _action, _call_id: "",
        redactor: Redactor | None = None,
        gateway_key: GatewayKey | None = None,
        allow_risky: bool = False,
        roots: Roots | None = None,
    ) -> None:
        self.spec = spec
        self._key = gateway_key
        self._allow_risky = allow_risky
        self._roots = roots or roots_from(env, project, home, run_id)
        self._redactor = redactor
        self._env = env
        self._project = project
        self._home = home
        self._run_id = run_id
        self._is_stopping = is_stopping
        self._held = held
        self._backend: Backend | None = None
        self._one_at_a_time = threading.Lock()
        self._turns: anyio.CapacityLimiter | None = None
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
        """What can be called here: all of it where only the gateway, in the same process, can ask."""
        in_process = self._redactor is None
        return [tool_definition(a) for a in self.spec.actions if in_process or self._refusal(a, None) is None]

    async def _call_tool(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        request = self.mcp.request_context
        given: dict[str, Any] = (request.meta.model_extra or {}) if request.meta else {}
        meta = self._key.read(name, arguments, given) if self._key is not None else None
        action = self._actions.get(name)
        if action is not None and (refused := self._refusal(action, meta)) is not None:
            return self._as_mcp(failure(refused))
        token = request.meta.progressToken if request.meta else None
        bounded = meta or action  # an action's own time limit, where nobody we believe gives one
        deadline = time.monotonic() + bounded.timeout_s if bounded is not None else None
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

        run_id = meta.run_id if meta else self._run_id
        try:
            roots = self._roots.of_run(run_id)  # it becomes the name of a folder
        except FixableError as error:
            return self._as_mcp(failure(error))
        ctx = CallContext(
            project=self._project,
            home=self._home,
            run_id=run_id,
            roots=roots,
            report_progress=report,
            is_cancelled=is_cancelled,
            answer=meta.answer if meta else None,
            idempotency_key=meta.key if meta else "",
            outside_models=meta.outside_models if meta else frozenset(),
        )
        if self._turns is None:
            self._turns = anyio.CapacityLimiter(1)
        call_id = meta.call_id if meta else ""
        # Calls wait for their turn here, not in the threads that the calls of all other servers need too.
        result = await anyio.to_thread.run_sync(self._run, name, arguments, ctx, call_id, limiter=self._turns)
        result.call_id = call_id
        return self._as_mcp(result)

    def _refusal(self, action: Action, meta: CallMeta | None) -> ToolError | None:
        """Why a call that no gateway of ours vouches for is not made; None where it is."""
        if meta is not None:
            return None
        name = f"{self.spec.name}.{action.name}"
        if action.asks:
            return NeedsPersonError(f"{name} asks a person, and only the gateway of mlops-crew can do that")
        if self._allow_risky or _is_safe(action):
            return None
        return DeniedError(
            f"{name} is not safe without a policy, and none stands in front of this server: call it through mlops-crew "
            f"(over HTTP with the same {GATEWAY_KEY} on both sides), or start the server with --allow-risky"
        )

    def _as_mcp(self, result: ToolResult) -> types.CallToolResult:
        if self._redactor is not None:
            result = ToolResult.model_validate(self._redactor.data(result.model_dump(mode="json")))
        return as_mcp(result)

    def _clean(self, text: str) -> str:
        return self._redactor.text(text) if self._redactor else text

    def _run(self, name: str, arguments: dict[str, Any], ctx: CallContext, call_id: str) -> ToolResult:
        with self._one_at_a_time:
            if self._is_stopping():
                return failure(FinalError(f"{self.spec.name}.{name} was stopped before it began"))
            if held := self._held(name, call_id):
                return failure(DeniedError(held))
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


def _is_safe(action: Action) -> bool:
    """Whether anybody may call it: it changes no production, and has no argument that only the gateway can fill in or
    resolve (what code runs, which model or file is opened)."""
    fields = action.args.model_fields.values()
    plain = not any(isinstance(declared(info), Bound) or any(roles(info)) for info in fields)
    return plain and action.effect is not Effect.RISKY


def as_mcp(result: ToolResult) -> types.CallToolResult:
    """A result for an MCP client: structured, and the very same as JSON text, because many clients read only that.

    Where the server of somebody else gave content blocks, they follow the text as they are.
    """
    structured = result.model_dump(mode="json")
    text = _json(structured)
    if len(text) > MAX_TEXT_CHARS:
        text = _json({**structured, "data": _shortened(structured["data"] or {})})[:MAX_TEXT_CHARS]
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text), *_blocks(result)],
        structuredContent=structured,
        isError=result.error is not None and result.status is not Status.NO_DATA,
    )


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _shortened(data: Mapping[str, Any]) -> dict[str, Any]:
    """The short values of data that are too long for a text, and where the others are."""
    short = {name: value for name, value in data.items() if len(_json(value)) <= KEPT_VALUE_CHARS}
    kept = short if len(_json(short)) <= MAX_TEXT_CHARS // 2 else {}
    left_out = ", ".join([name for name in data if name not in kept][:100])
    return {**kept, "note": f"too long for this text, and only in structuredContent: {left_out}"}


def _blocks(result: ToolResult) -> list[types.ContentBlock]:
    return [_BLOCK.validate_python(block) for block in result.content]


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
