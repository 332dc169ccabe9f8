"""Stage the goal's data into time-ordered slices and version them."""

from typing import Any

from pydantic import Field

from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect
from tasks.goal import Goal
from tools.core.grants import Grant, grant
from tools.integrations.dvc.spec import StagedData, VersionedData, staged_in_words

CALLS: dict[str, tuple[str, ...]] = {
    "dvc.stage_data": (),
    "dvc.version_data": (),
}


class Result(TaskResult):
    """Paths are Parquet files. `reference` trains the baseline; `reference_holdout` is its later part; `train`,
    `holdout` and `live` are the current data in time order. `unlabelled` are current rows whose labels have not
    arrived, without the label's column: only where the goal allows them, and there are any."""

    version: str = Field(description="DVC version of the slices")
    reference: str
    reference_holdout: str
    train: str
    holdout: str
    live: str
    reference_all: str
    current_all: str
    unlabelled: str | None = Field(default=None, description="rows without a label, if the goal allows them")
    rows: dict[str, int] = Field(description="rows of each slice")
    findings: list[str] = Field(default_factory=list[str], description="what is odd about the files, as staging says")
    positive: str = Field("", description="which class a binary task is about")
    left_out: dict[str, str] = Field(default_factory=dict[str, str], description="column to why it is not used")


UNLABELLED = "unlabelled"
SLICES = ("reference", "reference_holdout", "train", "holdout", "live", "reference_all", "current_all")


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    staged = expect(
        (yield call("dvc", "stage_data", target=goal.target, **_where(goal))), StagedData, "staging the data"
    )
    paths = paths_of(staged)
    versioned = expect(
        (yield call("dvc", "version_data", paths=list(paths.values()), name=goal.name, message="staged for a run")),
        VersionedData,
        "versioning the data",
    )
    rows = staged.rows
    apart = f", {rows[UNLABELLED]} more whose labels have not arrived," if UNLABELLED in paths else ""
    return Result(
        version=versioned.version,
        rows=rows,
        **paths,
        summary=(
            f"{rows['reference_all']} reference and {rows['current_all']} current rows{apart} staged and versioned as "
            f"{versioned.version[:12]}.{staged_in_words(staged.time_range, staged.left_out, staged.findings)}"
            f"{f' {staged.positive}' if staged.positive else ''}"
        ),
        findings=staged.findings,
        positive=staged.positive,
        left_out=staged.left_out,
    )


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    staged = done.last("dvc.stage_data", StagedData)
    versioned = (
        [] if staged is None else [grant("dvc.version_data", paths=[*paths_of(staged).values()], name=inputs.goal.name)]
    )
    return [grant("dvc.stage_data", **_where(inputs.goal)), *versioned]


def _where(goal: Goal) -> dict[str, Any]:
    """The goal's data, as arguments of the staging."""
    data = goal.data
    shared = {"time_column": data.time_column, "name": goal.name, "baseline_share": data.baseline_share}
    if data.unlabelled == "estimate":
        shared["allow_unlabelled"] = True
    if data.source:
        return {"source": data.source, "reference_share": data.reference_share, **shared}
    return {"reference": data.reference, "current": data.current, **shared}


def paths_of(staged: StagedData) -> dict[str, str]:
    """Slice -> path, of those that were staged."""
    paths = {name: str(getattr(staged, name)) for name in SLICES}
    return paths | ({UNLABELLED: staged.unlabelled} if staged.unlabelled else {})


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    versioned = evidence.last("dvc.version_data", VersionedData)
    if versioned is None:
        return ["no data was versioned (dvc version_data did not succeed)"]
    staged = evidence.last("dvc.stage_data", StagedData)
    if staged is None:
        return ["no data was staged (dvc stage_data did not succeed)"]
    problems = [
        f"{name} is {getattr(result, name)!r}, staged was {getattr(staged, name)!r}"
        for name in (*SLICES, UNLABELLED)
        if getattr(result, name) != getattr(staged, name)
    ]
    if result.version != versioned.version:
        problems.append(f"version is {result.version!r}, DVC returned {versioned.version!r}")
    return problems
