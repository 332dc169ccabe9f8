"""What the A/B test integration offers: define a test, assign units, record outcomes, conclude.

Ranges are checked by the backend: in the schema they would cost every agent tokens on every request.
"""

from typing import Annotated, Literal

from pydantic import Field

from tools.core.arguments import Bound, Free, ReadPath
from tools.core.contract import Action, Args, Data, Effect, Integration
from tools.core.names import Name
from tools.core.writes import ReadBack
from tools.integrations.ab_test import writes

WinnerName = Literal["champion", "challenger"]
TEST = "its name"


class CreateArgs(Args):
    # The covariate was known before the test. Guardrails lie in [0, 1]; `failed`: the variant gave no answer.
    test: Annotated[Name, Bound()] = Field(description=TEST)
    champion: Annotated[str, Bound()] = Field(description="version")
    challenger: Annotated[str, Bound()] = Field(description="version")
    plan: Annotated[ReadPath, Bound()] = Field(description="plan JSON")
    unit: Annotated[str, Bound()] = Field(description="unit column")
    outcome: Annotated[str, Bound()] = Field(description="error, loss, other")
    minimize: Annotated[bool, Bound()] = Field(False, description="less is better")
    upper: Annotated[float, Bound()] = Field(0.0, description="its maximum; 0: none")
    segment: Annotated[str, Bound()] = Field("", description="its column")
    covariate: Annotated[str, Bound()] = Field("", description="its column")
    guardrails: Annotated[list[str], Bound()] = Field(default_factory=list[str], description="failed, ...")


class Test(Data):
    """A test as it is on disk. `salt` is the seed that serving routes by."""

    test: str
    state: Literal["planned", "running", "concluded"]
    champion: str
    challenger: str
    percent: float
    salt: int
    planned_units: int
    outcomes: int
    units: int
    champion_units: int
    challenger_units: int
    mixed_units: int  # met both variants
    misassigned: int  # outcomes whose variant is not the one this test assigns
    winner: WinnerName | None
    verdict: str | None
    reason: str | None
    units_path: str | None  # Parquet for the judge; None before the first outcome
    design_path: str
    message: str


class AssignArgs(Args):
    test: Annotated[Name, Bound()] = Field(description=TEST)
    units: Annotated[list[str], Free("asks which variant a unit belongs to")] = Field(description="unit ids")


class Assignment(Data):
    variants: dict[str, WinnerName]
    message: str


class RecordArgs(Args):
    test: Annotated[Name, Bound()] = Field(description=TEST)
    data: Annotated[ReadPath, Bound()] = Field(
        description="CSV/Parquet: outcome_id, unit, outcome; or serving's evidence"
    )


class Recorded(Data):
    """`added` of the rows were new; `known` had been recorded before with the same content."""

    added: int
    known: int
    unanswered: int  # without an outcome, left out
    outcomes: int
    units: int
    units_path: str
    message: str


class StatusArgs(Args):
    test: Annotated[Name, Bound()] = Field(description=TEST)


class ConcludeArgs(Args):
    test: Annotated[Name, Bound()] = Field(description=TEST)
    winner: Annotated[WinnerName, Bound()] = Field(description="who serves from now on")
    verdict: Annotated[str, Bound()] = Field(description="the judge's")
    reason: Annotated[str, Free("recorded beside the decision")] = Field(description="why")


class CountArgs(Args):
    data: Annotated[ReadPath, Bound()] = Field(description="CSV/Parquet")
    unit: Annotated[str, Bound()] = Field(description="unit column")
    start: Annotated[int, Bound()] = Field(0, description="first row")
    rows: Annotated[int, Bound()] = Field(0, description="at most; 0: all")
    time_column: Annotated[str, Bound()] = Field("", description="for units per day")


class UnitCount(Data):
    """How many units a file holds. `units_per_day`: first appearances; None without a time column."""

    rows: int
    units: int
    rows_per_unit: float
    days: float | None
    units_per_day: float | None
    message: str


SPEC = Integration(
    name="ab_test",
    title="A/B tests",
    summary="Defines A/B tests, assigns units, records outcomes and decisions.",
    actions=(
        Action(
            name="create_test",
            summary="Define a planned test.",
            args=CreateArgs,
            result=Test,
            effect=Effect.WRITE,
            idempotent=True,
            key=("test",),
            read_back=ReadBack("status", writes.created, writes.as_read, writes.of_test),
        ),
        Action(name="assign", summary="Variants of units.", args=AssignArgs, result=Assignment),
        Action(name="count_units", summary="Units in a file.", args=CountArgs, result=UnitCount),
        Action(
            name="record_outcomes",
            summary="Add outcomes; known ids are skipped.",
            args=RecordArgs,
            result=Recorded,
            effect=Effect.WRITE,
            idempotent=True,
            timeout_s=600,
            key=("test", "data"),
            repeatable=True,
        ),
        Action(name="status", summary="A test, its counts and decision.", args=StatusArgs, result=Test),
        Action(
            name="conclude",
            summary="Record the decision; ends the test.",
            args=ConcludeArgs,
            result=Test,
            effect=Effect.WRITE,
            idempotent=True,
            key=("test",),
            read_back=ReadBack("status", writes.concluded, writes.as_read, writes.of_test),
        ),
    ),
    backend="tools.integrations.ab_test.backend:AbTestBackend",
    requires=("pandas", "pyarrow"),
)
