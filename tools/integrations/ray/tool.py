"""The Ray tool class."""

from tools.core.tool import IntegrationTool
from tools.integrations.ray.spec import SPEC


class RayTool(IntegrationTool):
    """Ray, for agents and notebooks."""

    spec = SPEC
