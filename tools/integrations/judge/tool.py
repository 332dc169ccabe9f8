"""The judge as a tool of agents and notebooks."""

from tools.core.tool import IntegrationTool
from tools.integrations.judge.spec import SPEC


class JudgeTool(IntegrationTool):
    """Decides on retraining, comparison and canaries."""

    spec = SPEC
