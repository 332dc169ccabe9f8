"""The tool class that notebooks and agents use."""

from tools.core.tool import IntegrationTool
from tools.integrations.dvc.spec import SPEC


class DVCTool(IntegrationTool):
    spec = SPEC
