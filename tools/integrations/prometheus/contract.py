"""What Prometheus ships to the contract suite."""

from tools.core.contract_suite import Example
from tools.core.errors import ErrorKind
from tools.core.results import Status

EXAMPLES = (
    Example("list_metrics", status=Status.NO_DATA),
    Example("query", {"expr": "sum(("}, status=Status.FAILED, error=ErrorKind.FIXABLE),
)
UNREACHABLE = {"PROMETHEUS_URL": "http://127.0.0.1:9"}
