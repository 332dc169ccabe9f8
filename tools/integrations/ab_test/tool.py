"""The A/B test tool class."""

from tools.core.tool import IntegrationTool
from tools.integrations.ab_test.spec import SPEC


class AbTestTool(IntegrationTool):
    """A/B tests, for agents and notebooks."""

    spec = SPEC
