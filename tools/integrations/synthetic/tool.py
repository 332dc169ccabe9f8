"""The tool class that notebooks and agents use."""

from tools.core.tool import IntegrationTool
from tools.integrations.synthetic.spec import SPEC


class SyntheticTool(IntegrationTool):
    spec = SPEC
