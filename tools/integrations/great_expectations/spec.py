"""What the Great Expectations integration can do: validate a file, set bad rows aside."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tools.core.arguments import Bound, Drop, Positive, ReadPath, Target, Task
from tools.core.contract import Action, Args, Data, Effect, Integration
from tools.modeling.accepted import check_accepted


class ValidateArgs(Args):
    """Without a reference the file is compared with itself: only flaws that show in it alone are found."""

    data: Annotated[ReadPath, Bound()] = Field(description="file to check")
    reference: Annotated[ReadPath | None, Bound()] = Field(None, description="sound older file")
    target: Target = Field(description="label")
    task: Task = Field(description="kind of model")
    suite: Annotated[ReadPath | None, Bound("goal.suite")] = Field(None, description="own GX suite JSON")
    max_null_share: Annotated[float, Bound("goal.max_null_share")] = Field(0.05, description="where reference has none")
    labelled: Annotated[bool, Bound()] = Field(True, description="false: rows wait for labels")
    drop: Drop = Field(default_factory=list, description="unused columns")
    metric: Annotated[str, Bound("goal.metric")] = Field("", description="goal's metric")
    positive: Positive = Field("", description="class")
    accept: Annotated[list[str], Bound("goal.accept")] = Field(default_factory=list, description="findings to let pass")

    @field_validator("accept")
    @classmethod
    def _are_known(cls, value: list[str]) -> list[str]:
        return check_accepted(value)

    @field_validator("max_null_share")
    @classmethod
    def _is_share(cls, value: float) -> float:
        if not 0 <= value < 1:
            raise ValueError("must be at least 0 and below 1")
        return value


class Finding(Data):
    """One expectation that was not met."""

    column: str | None
    expectation: str  # GX's type, e.g. expect_column_values_to_not_be_null; or a kind of `tools.modeling.doubts`
    unexpected_count: int | None
    unexpected_percent: float | None
    examples: list[str]
    reason: str


class ValidationReport(Data):
    """`passed` is False exactly when `critical` is not empty; warnings never fail a file."""

    passed: bool
    critical: list[Finding]
    warnings: list[Finding]
    rows: int
    columns: int
    expectations: int
    bad_rows: int
    bad_rows_path: str | None  # Parquet with `row` (0-based) and `reason`; None: no bad row
    suite_path: str
    message: str


class QuarantineRowsArgs(Args):
    data: Annotated[ReadPath, Bound()] = Field(description="the file that was validated")
    bad_rows_path: Annotated[ReadPath, Bound()] = Field(description="from validate")
    target: Annotated[str, Bound("goal.target")] = Field("", description="label")
    task: Annotated[Literal["binary", "multiclass", "regression"] | None, Bound("goal.task")] = Field(
        None, description="kind"
    )
    max_null_share: Annotated[float, Bound("goal.max_null_share")] = Field(0.05, description="of the target")
    accept: Annotated[list[str], Bound("goal.accept")] = Field(default_factory=list, description="findings to let pass")


class QuarantinedRows(Data):
    kept: str
    quarantined: str
    kept_rows: int
    quarantined_rows: int
    message: str


SPEC = Integration(
    name="great_expectations",
    title="Great Expectations",
    summary="Checks that a data file is fit to be used.",
    actions=(
        Action(
            name="validate",
            summary="Check a file's schema, nulls, types, target and rows.",
            args=ValidateArgs,
            result=ValidationReport,
            effect=Effect.READ,
            idempotent=True,
            timeout_s=1800,  # a busy machine; without its answer nothing may be trained
        ),
        Action(
            name="quarantine_rows",
            summary="Write the file without its bad rows, and those apart.",
            args=QuarantineRowsArgs,
            result=QuarantinedRows,
            effect=Effect.WRITE,
            idempotent=True,
            key=(),
            repeatable=True,
        ),
    ),
    backend="tools.integrations.great_expectations.backend:GreatExpectationsBackend",
    requires=("great-expectations",),
    imports=("great_expectations",),
)
