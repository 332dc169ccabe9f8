"""Whether a server of its own answers MCP, and with the tools that a person accepted. Finds, never repairs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anyio

from crew.roles import load_agents
from crew.third_party import misnamed
from tools.core.client import listed_tools
from tools.core.errors import ToolError
from tools.core.pins import STATES
from tools.core.policy import Policy
from tools.core.stack import ServerConfig, Stack
from tools.core.yamlfile import ConfigError


class Reached(NamedTuple):
    """What was found: see `crew.checks.Check`."""

    state: Literal["ok", "warn", "broken"]
    detail: str
    fix: str
    reached: bool


def reach(name: str, stack: Stack, project: Path, env: Mapping[str, str]) -> Reached:
    """Ask a server for its tools. Takes as long as it may take to start."""
    if (why := stack.usable(name)) is not None:
        return Reached("broken", why, "see the message", False)
    config = stack.config(name)
    answer = anyio.run(_list_tools, name, config)
    if isinstance(answer, ToolError):
        return Reached("broken", answer.message, "start it, or correct config/stack.yaml", False)
    detail = f"MCP server {config.url or ' '.join(config.command)} answers with {len(answer)} tools"
    if name not in stack.third_party:
        return Reached("ok", detail, "", True)
    try:
        found = [*_not_as_accepted(name, stack, answer), *_misnamed(name, stack, answer, project, env)]
    except ConfigError as error:
        return Reached("broken", str(error), "correct the file", True)
    if not found:
        return Reached("ok", detail, "", True)
    told, fixes = zip(*found, strict=True)
    return Reached("warn", "; ".join([detail, *told]), "; ".join(dict.fromkeys(fixes)), True)


def _not_as_accepted(name: str, stack: Stack, listed: list[dict[str, Any]]) -> list[tuple[str, str]]:
    differences = stack.pins.compare(name, listed)
    named = {state: [d.tool for d in differences if d.state == state] for state in STATES if state != "same"}
    told = [f"{state}: {', '.join(names)}" for state, names in named.items() if names]
    how = f"look at them and accept them with: mlops-crew tools accept {name}"
    return [(f"not as accepted: {'; '.join(told)}", how)] if told else []


def _misnamed(
    name: str, stack: Stack, listed: list[dict[str, Any]], project: Path, env: Mapping[str, str]
) -> list[tuple[str, str]]:
    config = project / "config"
    policy, agents = Policy.load(config / "policy.yaml", env), load_agents(config)
    found = misnamed(stack, policy.file, agents, listed={name: [str(tool["name"]) for tool in listed]})
    return [(str(item), "correct the names that no tool has") for item in found if item.server == name]


async def _list_tools(name: str, config: ServerConfig) -> list[dict[str, Any]] | ToolError:
    """The tools of a server, or why it cannot be asked."""
    try:
        return await listed_tools(name, config)
    except ToolError as error:
        return error
