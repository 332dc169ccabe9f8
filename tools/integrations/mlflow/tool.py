"""The tool class of the MLflow integration."""

from tools.core.tool import IntegrationTool
from tools.integrations.mlflow.spec import SPEC


class MLflowTool(IntegrationTool):
    spec = SPEC
