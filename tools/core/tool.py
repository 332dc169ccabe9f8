"""The tool classes: an integration in the hands of an agent, a notebook or `call_tool`. Every call takes one path.

`tools.integrations.mlflow.tool.MLflowTool(path).call("get_champion", name="churn")`
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from tools.core.calls import PERSON, Caller
from tools.core.contract import Action, Integration
from tools.core.results import ToolResult
from tools.core.schema import agent_schema, agent_tool_name, schema_model

if TYPE_CHECKING:
    from crewai.tools import BaseTool


class Path(Protocol):
    """The path of every call: the gateway, or a run that stands before it."""

    def call(self, tool: str, arguments: Mapping[str, Any], caller: Caller = PERSON) -> ToolResult: ...

    async def call_tool(self, tool: str, arguments: Mapping[str, Any], caller: Caller = PERSON) -> ToolResult: ...


class ServerTool:
    """A server of the stack in the hands of a caller; by itself one of somebody else, whose tools only it knows.

    Args:
        path: of every call.
        name: of the server.
        caller: on whose behalf; a person by default.
    """

    def __init__(self, path: Path, name: str, caller: Caller = PERSON) -> None:
        self.path = path
        self.name = name
        self.caller = caller

    def call(self, action: str, **arguments: Any) -> ToolResult:
        """Call an action and wait for its result."""
        return self.path.call(self.name, {**arguments, "action": action}, self.caller)

    async def acall(self, action: str, **arguments: Any) -> ToolResult:
        """`call`, to be awaited."""
        return await self.path.call_tool(self.name, {**arguments, "action": action}, self.caller)

    def agent_tool(self, action: str, summary: str, schema: dict[str, Any]) -> "BaseTool":
        """One action as a CrewAI tool named `<server>_<action>`."""
        from tools.core.crewai_tool import GatewayTool

        return GatewayTool(
            name=agent_tool_name(self.name, action),
            description=summary or action,
            args_schema=schema_model(action, schema),
            call=lambda given: self.path.call(self.name, {**given, "action": action}, self.caller),
        )


class IntegrationTool(ServerTool):
    """One of our integrations; each has a class of its own in `tools/integrations/<name>/tool.py`."""

    spec: ClassVar[Integration]

    def __init__(self, path: Path, caller: Caller = PERSON) -> None:
        super().__init__(path, self.spec.name, caller)

    def for_agent(self, stated: Mapping[str, Collection[str]] | None = None) -> "list[BaseTool]":
        """The actions as CrewAI tools.

        Args:
            stated: the actions to give, each with the bound arguments that its caller must state; every other bound
                argument is filled in by the gateway and not shown. None: every action with every argument.
        """

        def make(action: Action) -> "BaseTool":
            schema = agent_schema(action, None if stated is None else stated[action.name])
            return self.agent_tool(action.name, action.summary, schema)

        return [make(action) for action in self.spec.actions if stated is None or action.name in stated]
