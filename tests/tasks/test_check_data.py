"""The data checks: what is set aside, and how the rest is staged again."""

from typing import Any

import pytest

from tasks import check_data, version_data
from tasks.base import Inputs, ToolCall
from tasks.goal import Goal
from tests.helpers.results import data_like
from tools.core.results import Status, ToolResult
from tools.integrations.dvc.spec import StagedData, VersionedData
from tools.integrations.great_expectations.spec import QuarantinedRows, ValidationReport

ANSWERS: dict[str, Any] = {
    "quarantine_rows": data_like(QuarantinedRows, kept="kept.parquet", quarantined_rows=3),
    "version_data": data_like(VersionedData),
    "stage_data": data_like(StagedData, rows={"live": 20}),
}


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
