"""What the A/B test integration ships to the contract suite."""

from pathlib import Path

from tools.core.contract_suite import Example
from tools.core.errors import ErrorKind
from tools.core.results import Status

_TEST = {
    "test": "checkout",
    "champion": "1",
    "challenger": "2",
    "plan": "plan.json",
    "unit": "unit",
    "outcome": "outcome",
    "upper": 1.0,
}
_PLAN = '{"percent": 50, "mde": 0.05, "alpha": 0.05, "power": 0.8, "variance": 0.1, "units": 3000}'


def _plan(project: Path) -> None:
    (project / "plan.json").write_text(_PLAN)


def _outcomes(project: Path) -> None:
    rows = "".join(f"{number},user-{number % 40},{number % 3 == 0:d}\n" for number in range(100))
    (project / "outcomes.csv").write_text(f"outcome_id,unit,outcome\n{rows}")


_RECORD = {"test": "checkout", "data": "outcomes.csv"}
_CONCLUDE = {"test": "checkout", "winner": "champion", "verdict": "no_relevant_gain", "reason": "no difference"}
EXAMPLES = (
    Example("create_test", _TEST, prepare=_plan),
    Example("create_test", {**_TEST, "plan": "none.json"}, status=Status.FAILED, error=ErrorKind.FIXABLE),
    Example("status", {"test": "unheard-of"}, status=Status.NO_DATA),
    Example("assign", {"test": "checkout", "units": ["ada", "bob"]}),
    Example("count_units", {"data": "outcomes.csv", "unit": "unit"}, prepare=_outcomes),
    Example("record_outcomes", _RECORD, prepare=_outcomes),
    Example("status", {"test": "checkout"}),
    Example("conclude", _CONCLUDE),
    Example("record_outcomes", _RECORD, status=Status.FAILED, error=ErrorKind.FIXABLE),
)
