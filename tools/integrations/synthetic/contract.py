"""What the synthetic data integration ships to the contract suite."""

from pathlib import Path

from tools.core.contract_suite import Example
from tools.core.errors import ErrorKind
from tools.core.results import Status


def _table(project: Path) -> None:
    rows = "".join(f"{number % 17},{number % 2}\n" for number in range(200))
    (project / "data.csv").write_text(f"x,y\n{rows}")


EXAMPLES = (
    Example("generate_rows", {"data": "data.csv", "target": "y", "rows": 50}, prepare=_table),
    Example(
        "generate_rows",
        {"data": "missing.csv", "target": "y", "rows": 50},
        status=Status.FAILED,
        error=ErrorKind.FIXABLE,
    ),
)
