"""The tool class that notebooks and agents use."""

from tools.core.tool import IntegrationTool
from tools.integrations.evidently.spec import SPEC


class EvidentlyTool(IntegrationTool):
    spec = SPEC
