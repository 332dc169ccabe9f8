"""What Hyperopt ships to the contract suite."""

from tools.core.contract_suite import Example
from tools.core.errors import ErrorKind
from tools.core.results import Status

_MISSING = {"paths": ["missing.csv"], "target": "y", "task": "binary", "metric": "accuracy", "config": "missing.json"}
EXAMPLES = (Example("tune", _MISSING, status=Status.FAILED, error=ErrorKind.FIXABLE),)
