"""The Hyperopt tool class."""

from tools.core.tool import IntegrationTool
from tools.integrations.hyperopt.spec import SPEC


class HyperoptTool(IntegrationTool):
    """Hyperopt, for agents and notebooks."""

    spec = SPEC
