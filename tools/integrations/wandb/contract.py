"""What Weights & Biases ships to the contract suite."""

from tools.core.contract_suite import Example
from tools.core.results import Status

EXAMPLES = (
    Example("list_runs", status=Status.NO_DATA),
    Example("log_metrics", {"run_name": "example", "metrics": {"accuracy": 0.9}}),
)
