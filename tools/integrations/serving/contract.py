"""What the serving engine ships to the contract suite."""

from tools.core.contract_suite import Example
from tools.core.results import Status

EXAMPLES = (Example("status", status=Status.NO_DATA),)
