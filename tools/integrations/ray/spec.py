"""What the Ray integration offers."""

from typing import Annotated

from pydantic import Field

from tools.core.arguments import Bound, ReadPath
from tools.core.contract import Action, Args, Data, Effect, Integration, Setting
from tools.modeling.search import SearchResult, TuneArgs


class CountArgs(Args):
    reference: Annotated[ReadPath, Bound()] = Field(description="older Parquet file or folder")
    current: Annotated[ReadPath, Bound()] = Field(description="newer")
    exclude: Annotated[list[str], Bound("goal.drop")] = Field(default_factory=list, description="columns to skip")


class ColumnCounts(Data):
    counts_path: str  # JSON, for judge_drift
    columns: int
    skipped: dict[str, str]  # column -> why
    reference_rows: int
    current_rows: int
    largest_error: float  # of a column's Kolmogorov-Smirnov distance, as a share of rows
    rows_by_node: dict[str, int]
    message: str


SPEC = Integration(
    name="ray",
    title="Ray",
    summary="Tunes model configs and counts huge data in parallel.",
    actions=(
        Action(
            name="tune",
            summary="Tune a config's numeric hyperparameters in parallel.",
            args=TuneArgs,
            result=SearchResult,
            effect=Effect.WRITE,
            idempotent=True,
            timeout_s=6 * 3600.0,
            key=(),
            repeatable=True,
        ),
        Action(
            name="count_columns",
            summary="Count huge Parquet data on the cluster, for judge_drift.",
            args=CountArgs,
            result=ColumnCounts,
            effect=Effect.READ,
            idempotent=True,
            timeout_s=6 * 3600.0,
        ),
    ),
    backend="tools.integrations.ray.backend:RayBackend",
    requires=("ray",),
    imports=("ray",),
    extra="ray",
    settings=(
        Setting(
            "RAY_ADDRESS",
            "address of a running Ray cluster (host:port, ray://host:port, auto); unset: local processes for the call",
            real=True,
        ),
    ),
)
