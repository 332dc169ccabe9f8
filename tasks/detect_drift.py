"""Measure drift between reference and current data, column by column."""

from pydantic import Field

from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, data_of
from tasks.common import dropped, slices

NAMED_COLUMNS = 5


class Result(TaskResult):
    dataset_drift: bool
    share_drifted: float = Field(description="share of drifted columns, 0 to 1")
    drifted_columns: list[str]
    report_path: str = Field(description="Evidently's report")


def runbook(inputs: Inputs) -> Runbook:
    paths = slices(inputs)
    report = data_of(
        (
            yield call(
                "evidently",
                "detect_drift",
                reference=paths["reference_all"],
                current=paths["current_all"],
                target=inputs.goal.target,
                exclude=dropped(inputs.goal),
                seed=inputs.seed,
            )
        ),
        "measuring drift",
    )
    drifted = [column["column"] for column in report["columns"] if column["drifted"]]
    named = ", ".join(drifted[:NAMED_COLUMNS]) + (", …" if len(drifted) > NAMED_COLUMNS else "")
    return Result(
        dataset_drift=report["dataset_drift"],
        share_drifted=report["share_drifted"],
        drifted_columns=drifted,
        report_path=report["report_path"],
        summary=f"{len(drifted)} of {len(report['columns'])} columns drifted" + (f": {named}." if drifted else "."),
    )


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    report = evidence.last("evidently", "detect_drift")
    if report is None:
        return ["drift was not measured (evidently detect_drift did not succeed)"]
    problems: list[str] = []
    if result.dataset_drift != report["dataset_drift"]:
        problems.append(f"dataset_drift is {result.dataset_drift}, Evidently returned {report['dataset_drift']}")
    drifted = {column["column"] for column in report["columns"] if column["drifted"]}
    if set(result.drifted_columns) != drifted:
        problems.append(f"drifted_columns must be exactly {sorted(drifted)}")
    return problems
