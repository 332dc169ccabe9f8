"""What DVC ships to the contract suite."""

from pathlib import Path

from tools.core.contract_suite import Example
from tools.core.errors import ErrorKind
from tools.core.results import Status


def _table(project: Path) -> None:
    (project / "data.csv").write_text("x,y\n1,0\n2,1\n")


EXAMPLES = (
    Example("list_versions", status=Status.NO_DATA),
    Example("version_data", {"paths": ["data.csv"]}, prepare=_table),
    Example("version_data", {"paths": ["missing.csv"]}, status=Status.FAILED, error=ErrorKind.FIXABLE),
)
