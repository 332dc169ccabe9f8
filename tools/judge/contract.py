"""What the judge ships to the contract suite."""

from tools.core.contract_suite import Example
from tools.core.errors import ErrorKind
from tools.core.results import Status

EXAMPLES = (
    Example("plan_canary", {"loss": 0.02}),
    Example("plan_canary", {"loss": 0.02, "alpha": 7}, status=Status.FAILED, error=ErrorKind.FIXABLE),
)
