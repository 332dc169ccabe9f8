"""The tool class of the people integration."""

from tools.core.tool import IntegrationTool
from tools.integrations.people.spec import SPEC


class PeopleTool(IntegrationTool):
    """Questions to people, for agents and notebooks."""

    spec = SPEC
