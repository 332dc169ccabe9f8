"""What Great Expectations ships to the contract suite."""

from pathlib import Path

from tools.core.contract_suite import Example
from tools.core.errors import ErrorKind
from tools.core.results import Status


def _table(project: Path) -> None:
    rows = "".join(f"{number},{number % 2}\n" for number in range(200))
    (project / "data.csv").write_text(f"x,y\n{rows}")


EXAMPLES = (
    Example("validate", {"data": "data.csv", "target": "y", "task": "binary"}, prepare=_table),
    Example(
        "validate",
        {"data": "missing.csv", "target": "y", "task": "binary"},
        status=Status.FAILED,
        error=ErrorKind.FIXABLE,
    ),
)
