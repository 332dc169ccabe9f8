"""The gateway as one MCP server for outside clients: every call takes the same path as an agent's.

Each action that the policy could allow is a tool `<integration>_<action>`. Policy, approvals, journal and redaction
are the gateway's; this module only translates. With `server` and `client`, it knows the MCP SDK.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import mcp.types as types
from mcp.server.lowlevel import Server

from tools.core.arguments import bound_arguments
from tools.core.calls import Caller
from tools.core.channels import Channel, ElicitChannel, Elicited
from tools.core.clean import clean_line
from tools.core.contract import Action, Effect
from tools.core.dispatch import failure
from tools.core.errors import FinalError, FixableError, RetryableError
from tools.core.gateway import Gateway
from tools.core.grants import Scope
from tools.core.journal import JournalError, Record
from tools.core.person import person
from tools.core.policy import ProposedCall
from tools.core.schema import agent_schema, agent_tool_name
from tools.core.server import as_mcp, tool_definition
from tools.core.yamlfile import ConfigError

ROLE = "mcp_client"  # how the journal names who asked
CALLS_AT_ONCE = 16  # of one client

_log = logging.getLogger(__name__)

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
        scope: what the goal binds in every call; without a goal what it would bind cannot be said.

    Raises:
        FixableError: an integration that is not in the stack; names the valid ones.
    """

    def __init__(
        self,
        gateway: Gateway,
        integrations: Iterable[str] | None = None,
        *,
        version: str = "",
        scope: Scope | None = None,
    ) -> None:
        self._gateway = gateway
        self._scope = scope or Scope()
        self.names = tuple(integrations) if integrations is not None else gateway.stack.names
        for name in self.names:
            if name not in gateway.stack.names:
                raise FixableError(f"unknown integration {name!r}; valid: {', '.join(gateway.stack.names)}")
        self._granted = frozenset(self.names)
        self._own = self._own_offers()
        self._under_way: Counter[str] = Counter()
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
        """Tools of our integrations. None that puts questions to people: only a task of the crew may do that."""
        found: dict[str, _Offer] = {}
        for name in self.names:
            spec = self._gateway.stack.spec(name)
            if spec is None or self._gateway.stack.usable(name) is not None:
                continue
            for action in spec.actions:
                if action.asks:  # only a task of the crew puts questions to people
                    continue
                if self._possible(name, action.name, action.effect):
                    public = agent_tool_name(name, action.name)
                    definition = self._shown(action, tool_definition(action, public))
                    if action.effect is Effect.RISKY:
                        asks = f"{action.summary} A person is asked first."
                        definition = definition.model_copy(update={"description": asks})
                    found[public] = _Offer(name, action.name, definition)
        return found

    def _third_party_offers(self) -> dict[str, _Offer]:
        """The accepted tools of third-party servers, as they were accepted: no server is asked."""
        found: dict[str, _Offer] = {}
        for server in self.names:
            if self._gateway.stack.spec(server) is not None:
                continue
            try:
                tools = self._gateway.tools(server)
            except ConfigError as error:
                _log.warning("the tools of %s are left out: %s", server, error)
                continue
            for tool in tools:
                effect = self._gateway.policy.effect_of(server, tool["name"])
                public = agent_tool_name(server, tool["name"])
                if public not in self._own and self._possible(server, tool["name"], effect):
                    found[public] = _Offer(server, tool["name"], _foreign_definition(public, tool, effect))
        return found

    def _shown(self, action: Action, definition: types.Tool) -> types.Tool:
        """Without the arguments that the goal binds: a client need not, and cannot, say them."""
        stated = [name for name, kind in bound_arguments(action.args).items() if kind.name not in self._scope.values]
        return definition.model_copy(update={"inputSchema": agent_schema(action, stated)})

    def _possible(self, server: str, action: str, effect: Effect) -> bool:
        """Whether the policy could let the call happen; what it never does is not offered."""
        real = self._gateway.stack.is_real(server)
        call = ProposedCall(server, action, effect, {}, role=ROLE, granted=self._granted, real=real)
        return self._gateway.policy.could_allow(call)

    async def _list_tools(self) -> list[types.Tool]:
        return [offer.definition for offer in (*self._own.values(), *self._third_party_offers().values())]

    async def _call_tool(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        offer = self._own.get(name) or self._third_party_offers().get(name)
        if offer is None:
            valid = ", ".join([*self._own, *self._third_party_offers()])
            return as_mcp(failure(FixableError(f"unknown tool {name[:80]!r}; valid tools: {valid}")))
        session = self._session()
        if self._under_way[session] >= CALLS_AT_ONCE:
            return as_mcp(failure(RetryableError(f"{CALLS_AT_ONCE} calls of this client are under way; wait for one")))
        # The journal tells our call's records apart by its task.
        task = f"request {next(self._numbers)}"
        caller = Caller(
            role=ROLE,
            task=task,
            granted=self._granted,
            session=session,
            channels=self._elicitation(),
            scope=self._scope,
        )
        self._under_way[session] += 1
        try:
            with self._reported(task):
                result = await self._gateway.call_tool(offer.server, {**arguments, "action": offer.action}, caller)
        except JournalError as error:
            result = failure(FinalError(f"{error}; nothing may be done without a record"))
        finally:
            self._under_way[session] -= 1
            if not self._under_way[session]:
                del self._under_way[session]
        return as_mcp(result)

    def _session(self) -> str:
        """Which client asks: a name of ours for its MCP session, not one that it gives itself."""
        return self._sessions.setdefault(self.mcp.request_context.session, f"mcp-{secrets.token_hex(4)}")

    def _elicitation(self) -> tuple[Channel, ...]:
        """How the client's person is asked, where the client says that it can show a form."""
        request = self.mcp.request_context
        session = request.session
        if not session.check_client_capability(types.ClientCapabilities(elicitation=types.ElicitationCapability())):
            return ()
        named = clean_line(session.client_params.clientInfo.name if session.client_params else "")[:60]
        # What a client says of itself proves nothing: over stdio it runs as our user, over HTTP it has the token.
        who = person() if request.request is None else "a holder of the server's token"

        async def elicit(message: str, schema: dict[str, Any]) -> Elicited:
            told = await session.elicit_form(message, schema, related_request_id=request.request_id)
            return Elicited(told.action, told.content or {})

        return (ElicitChannel(elicit, asyncio.get_running_loop(), f"{who}, in the client {named or 'without a name'}"),)

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
