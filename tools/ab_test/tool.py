"""The A/B test tool class."""

from tools.ab_test.spec import SPEC
from tools.core.tool import IntegrationTool


class AbTestTool(IntegrationTool):
    """A/B tests, for agents and notebooks."""

    spec = SPEC
