"""The CrewAI side of a tool call: nothing but handing it to the gateway. The only module here that imports CrewAI."""

from collections.abc import Callable
from typing import Any

from crewai.tools import BaseTool
from pydantic import Field

from tools.core.results import ToolResult


def _never_cache(*_: Any) -> bool:
    return False


class GatewayTool(BaseTool):
    """One action, called through the gateway; the agent reads the whole result as JSON, errors included."""

    call: Callable[[dict[str, Any]], ToolResult] = Field(exclude=True)
    cache_function: Callable[..., bool] = _never_cache

    def _run(self, **arguments: Any) -> str:
        return self.call(arguments).for_agent()
