"""What the judge ships to the contract suite."""

from tools.core.contract_suite import Example
from tools.core.errors import ErrorKind
from tools.core.results import Status

EXAMPLES = (
    Example("plan_canary", {"loss": 0.02}),
    Example("plan_ab_test", {"mde": 0.02, "variance": 0.16, "units_per_day": 500}),
    Example("plan_ab_test", {"mde": 0.02}, status=Status.FAILED, error=ErrorKind.FIXABLE),
    Example("plan_canary", {"loss": 0.02, "alpha": 7}, status=Status.FAILED, error=ErrorKind.FIXABLE),
)
