"""The tool class that notebooks and agents use."""

from tools.core.tool import IntegrationTool
from tools.integrations.prometheus.spec import SPEC


class PrometheusTool(IntegrationTool):
    spec = SPEC
