"""The tool classes that agents and notebooks hold: one per integration, every call through the gateway."""

from typing import TYPE_CHECKING, Any, ClassVar

from tools.core.calls import PERSON, Caller
from tools.core.contract import Action, Integration
from tools.core.gateway import Gateway
from tools.core.results import ToolResult
from tools.core.schema import model_of

if TYPE_CHECKING:
    from crewai.tools import BaseTool


class IntegrationTool:
    """An integration in the hands of a caller.

    Args:
        gateway: the path of every call.
        caller: on whose behalf; a person by default.

    Example:
        `MLflowTool(gateway).call("get_champion", name="churn")`
    """

    spec: ClassVar[Integration]

    def __init__(self, gateway: Gateway, caller: Caller = PERSON) -> None:
        self.gateway = gateway
        self.caller = caller

    def call(self, action: str, **arguments: Any) -> ToolResult:
        """Call an action and wait for its result."""
        return self.gateway.call(self.spec.name, {"action": action, **arguments}, self.caller)

    async def acall(self, action: str, **arguments: Any) -> ToolResult:
        """`call`, to be awaited."""
        return await self.gateway.call_tool(self.spec.name, {"action": action, **arguments}, self.caller)

    def for_agent(self, allowed: "frozenset[str] | None" = None) -> "list[BaseTool]":
        """The actions as CrewAI tools named `<integration>_<action>`; `allowed` narrows them."""
        from tools.core.crewai_tool import GatewayTool

        def make(action: Action) -> "BaseTool":
            return GatewayTool(
                name=agent_tool_name(self.spec.name, action.name),
                description=action.summary,
                args_schema=model_of(action),
                call=lambda arguments: self.gateway.call(
                    self.spec.name, {**arguments, "action": action.name}, self.caller
                ),
            )

        return [make(action) for action in self.spec.actions if allowed is None or action.name in allowed]


def agent_tool_name(integration: str, action: str) -> str:
    """How an agent names an action: unique over all integrations."""
    return f"{integration}_{action}"
