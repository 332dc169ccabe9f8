"""The Optuna tool class."""

from tools.core.tool import IntegrationTool
from tools.integrations.optuna.spec import SPEC


class OptunaTool(IntegrationTool):
    """Optuna, for agents and notebooks."""

    spec = SPEC
