"""What the DVC integration can do: stage data slices, version them, list and restore versions."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from tools.core.arguments import Bound, Drop, Free, Positive, ReadPath, Target, WritePath
from tools.core.contract import Action, Args, Data, Effect, Integration, NoArgs, Setting
from tools.core.names import Name
from tools.modeling.reading.settings import ReadSettings

Kind = Literal["binary", "multiclass", "regression"]


class StageDataArgs(Args):
    """Either `reference` and `current`, or one `source` that is split in time order."""

    reference: Annotated[ReadPath | None, Bound()] = Field(None, description="older file")
    current: Annotated[ReadPath | None, Bound()] = Field(None, description="newer file")
    source: Annotated[ReadPath | None, Bound()] = Field(None, description="one file instead")
    time_column: Annotated[str | None, Bound()] = Field(None, description="else row order")
    reference_share: Annotated[float, Bound()] = Field(0.5, description="of source")
    target: Target = Field(description="label")
    name: Annotated[Name, Bound()] = Field("snapshot", description="folder")
    baseline_share: Annotated[float, Bound()] = Field(0.8, description="of reference")
    allow_unlabelled: Annotated[bool, Bound()] = Field(False, description="current rows without label apart")
    read: Annotated[dict[str, Any], Bound("goal.read")] = Field(default_factory=dict, description="how files are read")
    drop: Drop = Field(default_factory=list, description="unused columns")
    task: Annotated[Kind | None, Bound("goal.task")] = Field(None, description="without it labels are not read")
    positive: Positive = Field("", description="class")
    meanings: Annotated[dict[str, str], Bound("goal.labels")] = Field(default_factory=dict, description="label: meant")
    needs_clock: Annotated[bool, Bound("goal.needs_clock")] = Field(False, description="time_column must be a clock")

    @property
    def read_settings(self) -> ReadSettings:
        return ReadSettings.model_validate(self.read)

    # Checked here and not in the schema, which models pay for on every request.
    @field_validator("read")
    @classmethod
    def _is_read(cls, value: dict[str, Any]) -> dict[str, Any]:
        return ReadSettings.model_validate(value).stated()

    @field_validator("reference_share", "baseline_share")
    @classmethod
    def _is_share(cls, value: float) -> float:
        if not 0.05 <= value <= 0.95:
            raise ValueError("must be between 0.05 and 0.95")
        return value


class StagedData(Data):
    """Paths of the slices, all Parquet; `rows` and `time_range` are keyed by slice name.

    With `allow_unlabelled`, current rows without a label are in `unlabelled` (without the label's column) and in no
    other slice. `understood` says of each file how it was read, `left_out` why a column is not in the slices or is in
    them and of no use to the built-in models, `findings` what a person should know before they trust the result, and
    `positive` which class a binary task is about, and why.
    """

    reference: str
    reference_holdout: str
    train: str
    holdout: str
    live: str
    reference_all: str
    current_all: str
    unlabelled: str | None = None  # None: not asked for, or every current row has a label
    rows: dict[str, int]
    columns: list[str]
    time_range: dict[str, tuple[str, str]] | None  # None: no time column, row order
    input_md5: dict[str, str]
    understood: list[str] = Field(default_factory=list[str])
    left_out: dict[str, str] = Field(default_factory=dict[str, str])
    findings: list[str] = Field(default_factory=list[str])
    positive: str = ""
    message: str


def staged_in_words(
    time_range: dict[str, tuple[str, str]] | None, left_out: dict[str, str], findings: list[str], limit: int = 10
) -> str:
    """The period of each file, the columns that are not used (at most `limit`, with the reason) and what is odd."""
    ranges = time_range or {}
    told = "".join(
        f" {name.removesuffix('_all').capitalize()} from {ranges[name][0]} to {ranges[name][1]}."
        for name in ("reference_all", "current_all")
        if name in ranges
    )
    if left_out:
        shown = "; ".join(f"{name} ({why})" for name, why in list(left_out.items())[:limit])
        told += f" Left out: {shown}{f'; and {len(left_out) - limit} more' if len(left_out) > limit else ''}."
    return told + (f" Look at: {'; '.join(findings)}." if findings else "")


class VersionDataArgs(Args):
    paths: Annotated[list[ReadPath], Bound()] = Field(min_length=1, description="files or folders")
    name: Annotated[Name, Bound()] = Field("snapshot", description="data set name")
    message: Annotated[str | None, Free("a note in the version")] = Field(None, description="why")


class DataVersion(Data):
    """One version: `version` is DVC's md5 of the directory listing, so equal content has an equal version."""

    version: str
    name: str
    files: list[str]
    size_bytes: int
    created: str
    note: str


class VersionedData(Data):
    version: str
    name: str
    files: list[str]
    size_bytes: int
    is_new: bool
    pushed_files: int
    pushed_bytes: int
    remote: str | None  # None: the user's repository has no default remote
    metafile: str
    message: str


class Versions(Data):
    versions: list[DataVersion]
    message: str


class RestoreVersionArgs(Args):
    version: Annotated[str, Free("one that was recorded")] = Field(min_length=4, description="version id or its start")
    out: Annotated[WritePath, Free("held to the run's own folders")] = Field(description="new or empty folder")


class RestoredVersion(Data):
    version: str
    name: str
    folder: str
    files: list[str]
    size_bytes: int
    message: str


SPEC = Integration(
    name="dvc",
    title="DVC",
    summary="Stages data slices and versions them by content.",
    actions=(
        Action(
            name="stage_data",
            summary="Split data in time order into reference, train, holdout, live.",
            args=StageDataArgs,
            result=StagedData,
            effect=Effect.WRITE,
            idempotent=True,
            timeout_s=300,
            key=(),
            repeatable=True,
        ),
        Action(
            name="version_data",
            summary="Version files by content and push them to the DVC remote.",
            args=VersionDataArgs,
            result=VersionedData,
            effect=Effect.WRITE,
            idempotent=True,
            timeout_s=900,
            key=("paths", "name"),
            repeatable=True,
        ),
        Action(
            name="list_versions",
            summary="Data versions, newest first.",
            args=NoArgs,
            result=Versions,
            effect=Effect.READ,
            idempotent=True,
        ),
        Action(
            name="restore_version",
            summary="Copy a data version into a folder.",
            args=RestoreVersionArgs,
            result=RestoredVersion,
            effect=Effect.WRITE,
            timeout_s=900,
            key=(),
            repeatable=True,
        ),
    ),
    backend="tools.integrations.dvc.backend:DVCBackend",
    requires=("dvc",),
    imports=("dvc", "dvc_data"),
    settings=(
        Setting(
            name="DVC_REPO",
            description="folder of an existing DVC repository; unset: an embedded one in the state folder",
            real=True,
        ),
    ),
)
