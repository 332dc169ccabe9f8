"""The tool class that notebooks and agents use."""

from tools.core.tool import IntegrationTool
from tools.integrations.serving.spec import SPEC


class ServingTool(IntegrationTool):
    spec = SPEC
