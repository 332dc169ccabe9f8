"""What outside clients are offered: each action that the policy could allow, and the accepted tools of other servers.

Knows MCP's form of a tool. Asks no server: a server of somebody else that could not be reached, or a tool that is not
what was accepted, is left out when it was noticed by whoever called it.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mcp.types as types

from tools.core.arguments import bound_arguments
from tools.core.contract import Action, Effect
from tools.core.gateway import Gateway
from tools.core.grants import Scope
from tools.core.policy import ProposedCall
from tools.core.schema import agent_schema, agent_tool_name
from tools.core.server import tool_definition
from tools.core.yamlfile import ConfigError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """One tool: where its call goes, what it does to the world, and how clients see it."""

    server: str
    action: str
    effect: Effect
    definition: types.Tool


class Offers:
    """The tools that a gateway's clients see.

    Args:
        names: servers of the stack that are offered.
        role: how the policy knows the clients.
        scope: what the goal binds in every call.
    """

    def __init__(self, gateway: Gateway, names: tuple[str, ...], role: str, scope: Scope) -> None:
        self._gateway = gateway
        self.names = names
        self._role = role
        self._scope = scope
        self.granted = frozenset(names)
        self._state: Any = None
        self._all: dict[str, Offer] = {}
        self._fingerprint = ""

    def all(self) -> dict[str, Offer]:
        """Public name -> tool, as things are now."""
        gateway = self._gateway
        usable = [gateway.stack.usable(name) for name in self.names]  # what one lacks may be installed meanwhile
        state = (usable, gateway.stack.pins.version(), gateway.standing.version)
        if state != self._state:
            own = self.own()
            self._all, self._state = {**own, **self.third_party(taken=own)}, state
            listed = [offer.definition.model_dump(mode="json") for offer in self._all.values()]
            self._fingerprint = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
        return self._all

    def fingerprint(self) -> str:
        """Different whenever what is offered is."""
        self.all()
        return self._fingerprint

    def own(self) -> dict[str, Offer]:
        """Tools of our integrations. None that puts questions to people: only a task of the crew may do that."""
        found: dict[str, Offer] = {}
        for name in self.names:
            spec = self._gateway.stack.spec(name)
            if spec is None or self._gateway.stack.usable(name) is not None:
                continue
            for action in spec.actions:
                if not action.asks and self._possible(name, action.name, action.effect):
                    public = agent_tool_name(name, action.name)
                    definition = self._shown(action, tool_definition(action, public))
                    if action.effect is Effect.RISKY:
                        asks = f"{action.summary} A person is asked first."
                        definition = definition.model_copy(update={"description": asks})
                    found[public] = Offer(name, action.name, action.effect, definition)
        return found

    def third_party(self, taken: Mapping[str, Offer] | None = None) -> dict[str, Offer]:
        """The accepted tools of third-party servers, as they were accepted.

        Args:
            taken: names that are ours.
        """
        found: dict[str, Offer] = {}
        for server in self.names:
            if server in self._gateway.stack.own or self._gateway.stack.usable(server) is not None:
                continue
            for public, offer in self._accepted(server).items():
                if public in (taken or {}) or self._gateway.standing.withheld(server, offer.action) is not None:
                    continue
                if self._possible(server, offer.action, offer.effect):
                    found[public] = offer
        return found

    def left_out(self) -> dict[str, str]:
        """Server of somebody else -> why nothing of it is offered, where there is a reason."""
        found: dict[str, str] = {}
        for server in self.names:
            if server in self._gateway.stack.own:
                continue
            why = self._gateway.stack.usable(server) or self._gateway.standing.down(server)
            try:
                if not why and not self._gateway.tools(server):
                    why = f"nobody has accepted a tool of it: mlops-crew tools accept {server}"
            except ConfigError as error:
                why = why or str(error)
            if why:
                found[server] = why
        return found

    def reaches(self, public: str) -> Offer | None:
        """The tool of this name, also one that is left out for now: its call says why, or shows that it is back."""
        for server in self.names:
            if server in self._gateway.stack.own:
                continue
            if (offer := self._accepted(server).get(public)) is not None:
                return offer
        return None

    def _accepted(self, server: str) -> dict[str, Offer]:
        """Public name -> accepted tool of somebody else's server, whether it is offered or not."""
        found: dict[str, Offer] = {}
        try:
            tools = self._gateway.tools(server)
        except ConfigError as error:
            _log.warning("the tools of %s are left out: %s", server, error)
            return found
        for tool in tools:
            effect = self._gateway.policy.effect_of(server, tool["name"])
            public = agent_tool_name(server, tool["name"])
            found[public] = Offer(server, tool["name"], effect, _foreign_definition(public, tool, effect))
        return found

    def _shown(self, action: Action, definition: types.Tool) -> types.Tool:
        """Without the arguments that the goal binds: a client need not, and cannot, say them."""
        stated = [name for name, kind in bound_arguments(action.args).items() if kind.name not in self._scope.values]
        return definition.model_copy(update={"inputSchema": agent_schema(action, stated)})

    def _possible(self, server: str, action: str, effect: Effect) -> bool:
        """Whether the policy could let the call happen; what it never does is not offered."""
        real = self._gateway.stack.is_real(server)
        call = ProposedCall(server, action, effect, {}, role=self._role, granted=self.granted, real=real)
        return self._gateway.policy.could_allow(call)


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
