"""What Optuna ships to the contract suite."""

from tools.core.contract_suite import Example
from tools.core.results import Status

EXAMPLES = (
    Example("list_studies", status=Status.NO_DATA),
    Example("ask", {"study": "s", "index": 0, "space": '{"x": {"type": "float", "low": 0, "high": 1}}'}),
    Example("best_trial", {"study": "unheard_of"}, status=Status.NO_DATA),
)
