"""Servers of other people as the crew's files name them: which of their tools a role gets, and names no tool has.

Asks no server: what there is, is what a person has accepted.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crew.roles import AgentConfig
from tools.core.gateway import Gateway
from tools.core.policy import Policy, PolicyFile, ProposedCall
from tools.core.stack import Stack
from tools.core.yamlfile import ConfigError


@dataclass(frozen=True)
class Misnamed:
    """A name that none of a server's tools has, and where it stands."""

    server: str
    where: str
    name: str
    valid: tuple[str, ...]

    def __str__(self) -> str:
        close = difflib.get_close_matches(self.name, self.valid, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        return f"{self.where}: {self.server} has no tool {self.name!r}{hint} (there: {', '.join(self.valid)})"


def misnamed(
    stack: Stack,
    policy: PolicyFile,
    agents: Mapping[str, AgentConfig],
    *,
    listed: Mapping[str, Collection[str]] | None = None,
) -> list[Misnamed]:
    """Names in grants (agents.yaml) and in the policy's blocks that none of a server's tools has: they do nothing.

    Args:
        listed: server -> its tools, where it was asked. Of a server that was not, those accepted count; where none was
            accepted nothing can be said.

    Raises:
        ConfigError: what was accepted cannot be read.
    """
    found: list[Misnamed] = []
    for server in stack.third_party:
        known = {tool["name"] for tool in stack.pins.tools(server)} | set((listed or {}).get(server, ()))
        if not known:
            continue
        named = [
            (f"agents.yaml: {role}", action)
            for role, agent in agents.items()
            for action in agent.integrations.get(server) or ()
        ]
        named += [(f"policy.yaml: integrations.{server}.{key}", name) for key, name in _in_policy(policy, server)]
        valid = tuple(sorted(known))
        found += [Misnamed(server, where, name, valid) for where, name in named if name not in known]
    return found


def _in_policy(policy: PolicyFile, server: str) -> Iterable[tuple[str, str]]:
    block = policy.integrations.get(server)
    if block is None:
        return
    named: dict[str, Iterable[str]] = {
        "effects": block.effects, "allow": block.allow if block.allow != "*" else (), "forbid": block.forbid,
        "ask": block.ask, "to_stable": block.to_stable or (),
    }  # fmt: skip
    for key, names in named.items():
        for name in names:
            yield key, name


def granted_tools(stack: Stack, policy: Policy, role: str, config: AgentConfig, server: str) -> list[dict[str, Any]]:
    """The accepted tools of a server that a role is granted and that the policy could ever allow it.

    Raises:
        ConfigError: what was accepted cannot be read.
    """
    named = config.integrations[server]

    def may_happen(tool: str) -> bool:
        effect = policy.effect_of(server, tool)
        call = ProposedCall(server, tool, effect, {}, role=role, granted=config.granted, real=True)
        return policy.could_allow(call)

    return [
        tool
        for tool in stack.pins.tools(server)
        if (named is None or tool["name"] in named) and may_happen(tool["name"])
    ]


def tools_for_agent(gateway: Gateway, role: str, config: AgentConfig, server: str) -> list[dict[str, Any]]:
    """`granted_tools`, without those known not to work now. A server that is left out costs its own tools only, and
    the journal's listeners are told why; it is looked at again for the tasks that follow."""
    gateway.look_again()
    try:
        why = gateway.stack.usable(server) or gateway.standing.down(server)
        tools = [] if why else granted_tools(gateway.stack, gateway.policy, role, config, server)
    except ConfigError as error:
        why, tools = str(error), []
    if why:
        gateway.leave_out(server, why)
    return [tool for tool in tools if gateway.standing.withheld(server, tool["name"]) is None]
