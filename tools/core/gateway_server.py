"""The gateway as one MCP server for outside clients: every call takes the same path as an agent's.

Each action that the policy could allow is a tool `<integration>_<action>`. Policy, approvals, journal and redaction
are the gateway's; this module only translates. With `server` and `client`, it knows the MCP SDK.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
import mcp.types as types
from mcp.server.lowlevel import Server

from tools.core.calls import Caller
from tools.core.contract import Effect
from tools.core.dispatch import failure
from tools.core.errors import FinalError, FixableError
from tools.core.gateway import Gateway
from tools.core.journal import JournalError, Record
from tools.core.policy import ProposedCall
from tools.core.results import Status, ToolResult
from tools.core.server import tool_definition
from tools.core.tool import agent_tool_name

ROLE = "mcp_client"  # how the journal names who asked
INSTRUCTIONS = (
    "Tools of a machine-learning operations crew, named <integration>_<action>. Every call is checked by a policy and "
    "journalled. A result has a status (ok, no_data, failed, denied, needs_approval, unknown), data and a message. A "
    "risky call may wait for a person."
)


@dataclass(frozen=True)
class _Offer:
    """One tool: where its call goes, and how clients see it."""

    server: str
    action: str
    definition: types.Tool


class GatewayServer:
    """Offers a gateway's tools over MCP. Calls run side by side where the gateway lets them.

    Args:
        gateway: the path of every call; not closed here.
        integrations: which servers of the stack to offer; an outside client can reach no other.
        version: of this program, for the client.

    Raises:
        FixableError: an integration that is not in the stack; names the valid ones.
    """

    def __init__(self, gateway: Gateway, integrations: Iterable[str] | None = None, *, version: str = "") -> None:
        self._gateway = gateway
        self.names = tuple(integrations) if integrations is not None else gateway.stack.names
        for name in self.names:
            if name not in gateway.stack.names:
                raise FixableError(f"unknown integration {name!r}; valid: {', '.join(gateway.stack.names)}")
        self._granted = frozenset(self.names)
        self._own = self._own_offers()
        self._others: dict[str, _Offer] | None = None
        self._listing = anyio.Lock()
        self._numbers = itertools.count(1)
        self._sessions: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self.mcp: Server[Any, Any] = Server("mlops-crew", version=version, instructions=INSTRUCTIONS)
        self.mcp.list_tools()(self._list_tools)
        self.mcp.call_tool(validate_input=False)(self._call_tool)

    @property
    def count(self) -> int:
        """How many tools of our own integrations are offered."""
        return len(self._own)

    def _own_offers(self) -> dict[str, _Offer]:
        found: dict[str, _Offer] = {}
        for name in self.names:
            spec = self._gateway.stack.spec(name)
            if spec is None or self._gateway.stack.usable(name) is not None:
                continue
            for action in spec.actions:
                if self._possible(name, action.name, action.effect):
                    public = agent_tool_name(name, action.name)
                    found[public] = _Offer(name, action.name, tool_definition(action, public))
        return found

    async def _third_party(self) -> dict[str, _Offer]:
        """The tools of third-party servers, which are asked once. Raises `ToolError` when one cannot be reached."""
        async with self._listing:
            if self._others is None:
                found: dict[str, _Offer] = {}
                for name in self.names:
                    if self._gateway.stack.spec(name) is None:
                        found |= await anyio.to_thread.run_sync(self._third_party_offers, name)
                self._others = found
            return self._others

    def _third_party_offers(self, server: str) -> dict[str, _Offer]:
        found: dict[str, _Offer] = {}
        for tool in self._gateway.tools(server):
            effect = self._gateway.policy.effect_of(server, tool["name"])
            if self._possible(server, tool["name"], effect):
                public = agent_tool_name(server, tool["name"])
                found[public] = _Offer(server, tool["name"], _foreign_definition(public, tool, effect))
        return found

    def _possible(self, server: str, action: str, effect: Effect) -> bool:
        """Whether the policy could let the call happen; what it never does is not offered."""
        real = self._gateway.stack.is_real(server)
        call = ProposedCall(server, action, effect, {}, role=ROLE, granted=self._granted, real=real)
        return self._gateway.policy.could_allow(call)

    def _session(self) -> str:
        """The client's session, by which limits count."""
        session = self.mcp.request_context.session
        return self._sessions.setdefault(session, f"session {next(self._numbers)}")

    async def _list_tools(self) -> list[types.Tool]:
        return [offer.definition for offer in (*self._own.values(), *(await self._third_party()).values())]

    async def _call_tool(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        offer = self._own.get(name) or (await self._third_party()).get(name)
        if offer is None:
            valid = ", ".join([*self._own, *(await self._third_party())])
            return _as_mcp(failure(FixableError(f"unknown tool {name!r}; valid tools: {valid}")))
        # The journal tells our call's records apart by its task.
        caller = Caller(
            role=ROLE, task=f"request {next(self._numbers)}", granted=self._granted, session=self._session()
        )
        with self._reported(str(caller.task)):
            try:
                result = await self._gateway.call_tool(offer.server, {**arguments, "action": offer.action}, caller)
            except JournalError as error:
                result = failure(FinalError(f"{error}; nothing may be done without a record"))
        return _as_mcp(result)

    @contextlib.contextmanager
    def _reported(self, task: str) -> Generator[None]:
        """While it lasts, the progress of the call that belongs to `task` goes to its client."""
        request = self.mcp.request_context
        token = request.meta.progressToken if request.meta else None
        if token is None:
            yield
            return
        listener = _ProgressRelay(task, self._sender(request.session, token, str(request.request_id)))
        unsubscribe = self._gateway.journal.subscribe(listener)
        try:
            yield
        finally:
            unsubscribe()

    def _sender(self, session: Any, token: str | int, request_id: str) -> Callable[[float, float | None, str], None]:
        loop = asyncio.get_running_loop()

        async def send(done: float, total: float | None, message: str) -> None:
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # the client went away
                await session.send_progress_notification(token, done, total, message or None, request_id)

        def from_any_thread(done: float, total: float | None, message: str) -> None:
            asyncio.run_coroutine_threadsafe(send(done, total, message), loop)

        return from_any_thread


class _ProgressRelay:
    """A journal listener that passes on how far one call is, and that it waits for a person."""

    def __init__(self, task: str, send: Callable[[float, float | None, str], None]) -> None:
        self._task = task
        self._send = send
        self._call_id: str | None = None
        self._done = 0.0

    def __call__(self, record: Record) -> None:
        kind = record["kind"]
        if kind == "intent" and record.get("task") == self._task:
            self._call_id = record["call_id"]
        elif self._call_id is None or record.get("call_id") != self._call_id:
            return
        elif kind == "approval_requested":
            how = "choose" if record["approval"].get("asks") else "approve"
            self._send(self._done, None, f"waits for a person: mlops-crew {how} {record['approval']['id']}")
        elif kind == "progress":
            self._done = float(record["done"])
            self._send(self._done, record["total"], str(record["message"]))


def _foreign_definition(public: str, tool: dict[str, Any], effect: Effect) -> types.Tool:
    """A third-party tool. Its effect is what our policy says, not what it says of itself."""
    return types.Tool(
        name=public,
        description=tool["description"],
        inputSchema=tool["inputSchema"],
        annotations=types.ToolAnnotations(
            readOnlyHint=effect is Effect.READ, destructiveHint=effect is Effect.RISKY, openWorldHint=True
        ),
    )


def _as_mcp(result: ToolResult) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=result.message or result.status.value)],
        structuredContent=result.model_dump(mode="json"),
        isError=result.error is not None and result.status is not Status.NO_DATA,
    )
