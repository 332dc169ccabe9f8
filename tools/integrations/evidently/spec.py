"""What the Evidently integration can do: detect drift, summarise a table."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tools.core.arguments import Bound, Free, ReadPath, Seed
from tools.core.contract import Action, Args, Data, Effect, Integration


def enough_rows(value: int) -> int:
    """The value, if a test on so many rows says anything; pydantic turns the ValueError into a message."""
    if value < 100:
        raise ValueError("must be at least 100")
    return value


class DetectDriftArgs(Args):
    reference: Annotated[ReadPath, Bound()] = Field(description="older file")
    current: Annotated[ReadPath, Bound()] = Field(description="newer file")
    target: Annotated[str | None, Bound("goal.target")] = Field(None, description="label")
    exclude: Annotated[list[str], Bound("goal.drop")] = Field(default_factory=list, description="columns to skip")
    drift_share: Annotated[float, Bound()] = Field(0.5, description="of columns: limit")
    sample_rows: Annotated[int, Free("its report describes and decides nothing")] = Field(
        20_000, description="per file"
    )
    seed: Seed = Field(0, description="of the sample")

    @field_validator("drift_share")
    @classmethod
    def _is_share(cls, value: float) -> float:
        if not 0 < value <= 1:
            raise ValueError("must be above 0 and at most 1")
        return value

    _is_sample = field_validator("sample_rows")(enough_rows)


class ColumnDrift(Data):
    """Evidently's verdict on one column; the method and threshold are its own choice by type and size."""

    column: str
    kind: Literal["number", "category"]
    method: str
    score: float
    threshold: float
    drifted: bool


class DriftReport(Data):
    """`columns` are sorted: drifted first, then by how far the score is beyond its threshold."""

    dataset_drift: bool
    share_drifted: float
    drifted_columns: int
    drift_share: float
    target_drifted: bool | None  # None: no target given, or no labels in one of the files
    columns: list[ColumnDrift]
    skipped: dict[str, str]  # column -> why
    reference_rows: int
    current_rows: int
    reference_sample: int
    current_sample: int
    seed: int
    report_path: str  # Evidently's own HTML
    json_path: str  # Evidently's own JSON
    profile_path: str  # histograms per column for a plot
    message: str


class SummarizeDataArgs(Args):
    data: Annotated[ReadPath, Bound()] = Field(description="CSV/Parquet")
    sample_rows: Annotated[int, Free("a summary decides nothing")] = Field(100_000, description="cap")
    seed: Seed = Field(0, description="of the sample")

    _is_sample = field_validator("sample_rows")(enough_rows)


class DataSummary(Data):
    rows: int
    sample: int
    columns: int
    missing_share: float
    missing_share_by_column: dict[str, float]  # columns with nulls only
    duplicate_rows: int
    constant_columns: list[str]
    empty_columns: list[str]
    duplicate_columns: int
    report_path: str
    message: str


SPEC = Integration(
    name="evidently",
    title="Evidently",
    summary="Detects drift between two files and summarises a table.",
    actions=(
        Action(
            name="detect_drift",
            summary="Drift per column and of the data set, with report.",
            args=DetectDriftArgs,
            result=DriftReport,
            effect=Effect.READ,
            idempotent=True,
            timeout_s=600,
        ),
        Action(
            name="summarize_data",
            summary="Missing values, duplicates, constant columns, with report.",
            args=SummarizeDataArgs,
            result=DataSummary,
            effect=Effect.READ,
            idempotent=True,
            timeout_s=600,
        ),
    ),
    backend="tools.integrations.evidently.backend:EvidentlyBackend",
    requires=("evidently",),
    imports=("evidently",),
)
