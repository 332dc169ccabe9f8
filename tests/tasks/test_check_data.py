"""The data checks: what is set aside, and how the rest is staged again."""

from typing import Any

import pytest

from tasks import check_data, version_data
from tasks.base import Inputs, TaskFailedError, ToolCall
from tasks.goal import Goal
from tests.helpers.results import data_like
from tools.core.errors import ErrorKind
from tools.core.results import ErrorInfo, Status, ToolResult
from tools.integrations.dvc.spec import StagedData, VersionedData
from tools.integrations.great_expectations.spec import QuarantinedRows, ValidationReport

ANSWERS: dict[str, Any] = {
    "quarantine_rows": data_like(QuarantinedRows, kept="kept.parquet", quarantined_rows=3),
    "version_data": data_like(VersionedData),
    "stage_data": data_like(StagedData, rows={"live": 20}),
}


BAD = data_like(ValidationReport, passed=False, bad_rows_path="bad.parquet")


def played(inputs: Inputs, *answers: ToolResult) -> check_data.Result:
    """The runbook's result, by these answers to what it asks for."""
    book, given = check_data.runbook(inputs), iter(answers)
    next(book)
    while True:
        try:
            book.send(next(given))
        except StopIteration as done:
            return done.value


def quarantining(unlabelled: str | None = None) -> Inputs:
    data = {"source": "a.csv", "on_bad_rows": "quarantine"}
    goal = Goal.model_validate({"name": "g", "task": "binary", "target": "y", "metric": "accuracy", "data": data})
    names = {name: f"{name}.parquet" for name in version_data.SLICES}
    staged = version_data.Result.model_construct(**names, unlabelled=unlabelled, rows={"live": 25}, summary="s")
    return Inputs(goal, {"version_data": staged})


def failed(kind: ErrorKind, message: str) -> ToolResult:
    return ToolResult(status=Status.FAILED, message=message, error=ErrorInfo(kind=kind, message=message))


def checked(report: dict[str, Any]) -> ToolResult:
    return ToolResult(status=Status.OK, data=report)


def test_rows_that_may_not_be_set_aside_are_a_finding_on_the_data() -> None:
    passed = data_like(ValidationReport, passed=True, bad_rows_path=None)
    refused = failed(ErrorKind.FIXABLE, "they are all rows of the class 'yes'.")
    result = played(quarantining(), checked(BAD), checked(passed), refused)
    assert not result.usable and result.critical[0] == "they are all rows of the class 'yes'"
    waiting = [checked({**passed, "critical": []}), checked({**BAD, "critical": []}), refused]
    result = played(quarantining("u.parquet"), *waiting)
    assert not result.usable and result.slices["unlabelled"] == "u.parquet"
    assert result.critical == ["rows without a label: they are all rows of the class 'yes'"]


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if kind is not ErrorKind.FIXABLE])
@pytest.mark.parametrize("waiting", [True, False])
def test_a_technical_failure_to_set_rows_aside_says_nothing_about_the_data(kind: ErrorKind, waiting: bool) -> None:
    passed = checked(data_like(ValidationReport, passed=True, bad_rows_path=None))
    before = [passed, checked(BAD)] if waiting else [checked(BAD), passed]
    with pytest.raises(TaskFailedError, match=r"setting bad rows of .*: the disk is full"):
        played(quarantining("u.parquet" if waiting else None), *before, failed(kind, "the disk is full"))


@pytest.mark.parametrize("column", ["when", ""])
def test_cleaned_data_is_staged_in_the_goals_time_order_again(column: str) -> None:
    data = {"source": "a.csv", "time_column": column, "on_bad_rows": "quarantine"}
    goal = Goal.model_validate({"name": "g", "task": "binary", "target": "y", "metric": "accuracy", "data": data})
    names = {name: f"{name}.parquet" for name in version_data.SLICES}
    staged = version_data.Result.model_construct(**names, unlabelled=None, rows={"live": 25}, summary="s")
    inputs = Inputs(goal, {"version_data": staged})
    bad = data_like(ValidationReport, passed=False, bad_rows_path="bad.parquet")
    reports = iter([bad, *[data_like(ValidationReport, passed=True)] * 5])
    book, calls = check_data.runbook(inputs), list[ToolCall]()
    wanted = next(book)
    while True:
        calls.append(wanted)
        answer = next(reports) if wanted.action == "validate" else ANSWERS[wanted.action]
        try:
            wanted = book.send(ToolResult(status=Status.OK, data=answer))
        except StopIteration as done:
            assert done.value.usable and done.value.quarantined_rows == 3
            break
    again = next(call.arguments for call in calls if call.action == "stage_data")
    assert again.get("time_column") == (column or None)
