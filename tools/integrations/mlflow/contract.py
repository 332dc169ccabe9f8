"""What MLflow ships to the contract suite."""

from tools.core.contract_suite import Example
from tools.core.results import Status

EXAMPLES = (Example("get_champion", {"name": "nobody"}, status=Status.NO_DATA),)
UNREACHABLE = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
