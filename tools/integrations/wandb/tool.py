"""The tool class of the W&B integration."""

from tools.core.tool import IntegrationTool
from tools.integrations.wandb.spec import SPEC


class WandbTool(IntegrationTool):
    spec = SPEC
