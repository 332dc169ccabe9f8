"""The gateway as one MCP server for outside clients: every call takes the same path as an agent's.

Each action that the policy could allow is a tool `<integration>_<action>` (`offers`). Policy, approvals, journal and
redaction are the gateway's; this module only translates. With `server` and `client`, it knows the MCP SDK.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio
import mcp.types as types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.session import ServerSession

from tools.core.calls import Caller
from tools.core.channels import Channel, ElicitChannel, Elicited
from tools.core.clean import clean_line
from tools.core.contract import Effect
from tools.core.dispatch import failure
from tools.core.errors import FinalError, FixableError, RetryableError
from tools.core.gateway import Gateway
from tools.core.grants import Scope
from tools.core.journal import JournalError
from tools.core.offers import Offers
from tools.core.person import person
from tools.core.relay import Relay
from tools.core.server import as_mcp

ROLE = "mcp_client"  # how the journal names who asked
CALLS_AT_ONCE = 64  # of one client: so many reads, and so many that change something or wait for a person
LOOK_EVERY_S = 1.0  # whether what is offered has changed
BEAT_EVERY_S = 1.0

_Tell = Callable[[float, float | None, str], Awaitable[None]]  # how far, of what, in words

INSTRUCTIONS = (
    "Tools of a machine-learning operations crew, named <integration>_<action>. Every call is checked by a policy and "
    "journalled. A result has a status (ok, no_data, failed, denied, needs_approval, unknown), data and a message. A "
    "risky call may wait for a person."
)


@dataclass
class _Client:
    """One client's session: its name in the journal, which of its calls are under way, and which tools it knows.

    `under_way`: reads (True) and others (False). `listed`: the fingerprint of what it has listed.
    """

    name: str  # ours; what a client says of itself proves nothing
    under_way: Counter[bool] = field(default_factory=Counter[bool])
    session: ServerSession | None = None
    listed: str = ""
    hears_notices: bool = True


class _TellingServer(Server[_Client, Any]):
    """Promises its clients to tell them when its tools change."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        told = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(told, experimental_capabilities)


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
        self.offers = Offers(gateway, self.names, ROLE, self._scope)
        self._numbers = itertools.count(1)
        self.mcp: Server[_Client, Any] = _TellingServer(
            "mlops-crew", version=version, instructions=INSTRUCTIONS, lifespan=self._connected
        )
        self.mcp.list_tools()(self._list_tools)
        self.mcp.call_tool(validate_input=False)(self._call_tool)
        self.mcp.set_logging_level()(self._set_level)

    @property
    def count(self) -> int:
        """How many tools of our own integrations are offered."""
        return sum(offer.server in self._gateway.stack.own for offer in self.offers.all().values())

    async def _list_tools(self, request: types.ListToolsRequest) -> types.ListToolsResult:
        if request:  # the SDK asks too, for itself and with None
            client = self._client()
            client.session, client.listed = self.mcp.request_context.session, self.offers.fingerprint()
        return types.ListToolsResult(tools=[offer.definition for offer in self.offers.all().values()])

    async def _call_tool(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        offers = self.offers.all()
        offer = offers.get(name) or self.offers.reaches(name)
        if offer is None:
            return as_mcp(failure(FixableError(f"unknown tool {name[:80]!r}; valid tools: {', '.join(offers)}")))
        client = self._client()
        # Reads have places of their own, so that calls which wait for a person keep nobody from looking.
        is_read = offer.effect is Effect.READ
        if client.under_way[is_read] >= CALLS_AT_ONCE:
            kind = "reads" if is_read else "calls that change something"
            return as_mcp(failure(RetryableError(f"{CALLS_AT_ONCE} {kind} of this client are under way; wait for one")))
        # The journal tells our call's records apart by its task.
        task = f"request {next(self._numbers)}"
        caller = Caller(
            role=ROLE,
            task=task,
            granted=self.offers.granted,
            session=client.name,
            channels=self._elicitation(),
            scope=self._scope,
        )
        client.under_way[is_read] += 1
        try:
            with self._reported(task, name):
                result = await self._gateway.call_tool(offer.server, {**arguments, "action": offer.action}, caller)
        except JournalError as error:
            result = failure(FinalError(f"{error}; nothing may be done without a record"))
        finally:
            client.under_way[is_read] -= 1
        return as_mcp(result)

    def _client(self) -> "_Client":
        return self.mcp.request_context.lifespan_context

    @contextlib.asynccontextmanager
    async def _connected(self, _server: Server[Any, Any]) -> AsyncGenerator["_Client"]:
        """While one client is connected: it is told when the tools it has listed are no longer those there are."""
        client = _Client(f"mcp-{secrets.token_hex(4)}")
        telling = asyncio.create_task(self._tell_changes(client))
        try:
            yield client
        finally:
            telling.cancel()

    async def _tell_changes(self, client: "_Client") -> None:
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            if self._gateway.is_stopping:
                return
            self._gateway.look_again()
            if client.session is None or client.listed == (now := self.offers.fingerprint()):
                continue
            client.listed = now
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # it is going away
                await client.session.send_tool_list_changed()

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
    def _reported(self, task: str, name: str) -> Generator[None]:
        """While it lasts, the progress of the call that belongs to `task` goes to its client.

        One that asks for no progress is told by a log message where a person is waited for, as it would not know.
        """
        request = self.mcp.request_context
        token = request.meta.progressToken if request.meta else None
        tell = self._progress(token) if token is not None else self._log()
        relay = Relay(task, name, _on_this_loop(tell), only_questions=token is None)
        unsubscribe = self._gateway.journal.subscribe(relay)
        beating = asyncio.create_task(_beat(relay))
        try:
            yield
        finally:
            beating.cancel()
            unsubscribe()

    def _progress(self, token: str | int) -> _Tell:
        request = self.mcp.request_context

        async def send(done: float, total: float | None, message: str) -> None:
            await request.session.send_progress_notification(
                token, done, total, message or None, str(request.request_id)
            )

        return send

    def _log(self) -> _Tell:
        request, client = self.mcp.request_context, self._client()

        async def send(_done: float, _total: float | None, message: str) -> None:
            if client.hears_notices:
                await request.session.send_log_message("notice", message, "mlops-crew", request.request_id)

        return send

    async def _set_level(self, level: types.LoggingLevel) -> None:
        self._client().hears_notices = level in ("debug", "info", "notice")


def _on_this_loop(tell: _Tell) -> Callable[[float, float | None, str], None]:
    """`tell`, to be called from any thread; a client that went away stops nothing."""
    loop = asyncio.get_running_loop()

    async def send(done: float, total: float | None, message: str) -> None:
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            await tell(done, total, message)

    def from_any_thread(done: float, total: float | None, message: str) -> None:
        asyncio.run_coroutine_threadsafe(send(done, total, message), loop)

    return from_any_thread


async def _beat(relay: Relay) -> None:
    while True:
        await anyio.sleep(BEAT_EVERY_S)
        relay.beat()
