"""The tool class that notebooks and agents use."""

from tools.core.tool import IntegrationTool
from tools.integrations.great_expectations.spec import SPEC


class GreatExpectationsTool(IntegrationTool):
    spec = SPEC
