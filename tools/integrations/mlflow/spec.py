"""What the MLflow integration can do: train, track, evaluate, register, promote and retire models."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from tools.core.arguments import Bound, Drop, Free, Metric, ModelName, ModelRef, Positive, ReadPath, Seed, Target
from tools.core.bounds import read_json
from tools.core.contract import Action, Args, Data, Effect, Integration, Setting
from tools.core.writes import EACH_CALL, ReadBack, Undo
from tools.integrations.mlflow import writes

Task = Literal["binary", "multiclass", "regression"]


class TrainModelArgs(Args):
    """The user's own trainer is `module:function` or `command: ...`; `training` has its contract."""

    train: Annotated[list[ReadPath], Bound()] = Field(description="files, oldest first")
    target: Target = Field(description="label column")
    task: Annotated[Task, Bound("goal.task")] = Field(description="kind")
    metric: Metric = Field(description="validation metric")
    config: Annotated[dict[str, Any], Bound()] = Field(default_factory=dict, description="model config; empty: default")
    seed: Seed = Field(0, description="seed")
    drop: Drop = Field(default_factory=list, description="columns to ignore")
    trainer: Annotated[str, Bound("goal.trainer")] = Field("builtin", description="or module:function, or command: ...")
    run_name: Annotated[str, Free("a label")] = Field("", description="label")
    positive: Positive = Field("", description="positive class")

    @field_validator("config", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        """Models often send an object as JSON text."""
        if isinstance(value, str):
            return read_json(value) if value.strip() else {}
        return value


class TrainedModel(Data):
    run_id: str
    model_uri: str
    validation_metric: str
    validation_value: float | None  # None: the user's own trainer logged no metric of that name
    size_bytes: int
    fit_s: float
    too_good: str = ""  # why the value cannot be believed; empty: it can, or the trainer is the user's own
    message: str


class ProbeWindowsArgs(Args):
    older: Annotated[list[ReadPath], Bound()] = Field(description="reference files, oldest first")
    train: Annotated[list[ReadPath], Bound()] = Field(description="current files to train on")
    later: Annotated[list[ReadPath], Bound()] = Field(description="current files to score on")
    target: Target = Field(description="label column")
    task: Annotated[Task, Bound("goal.task")] = Field(description="kind")
    windows: Annotated[list[str], Bound()] = Field(description="training windows")
    drop: Drop = Field(default_factory=list, description="columns to ignore")
    seed: Seed = Field(0, description="seed")
    positive: Positive = Field("", description="positive class")


class ProbedWindows(Data):
    """A quick model per window, scored on later rows. Nothing is logged or kept but the scores."""

    scores_path: str  # Parquet: window, y_true, prediction, probability, loss; a row per window and later row
    train_rows: dict[str, int]  # window -> rows that its model was trained on
    failed: dict[str, str]  # window -> why it could not be trained
    rows: int  # scored
    fit_s: float  # seconds for all of them
    message: str


class LogTrialsArgs(Args):
    trials_path: Annotated[ReadPath, Bound()] = Field(description="trials JSON of a search")
    experiment: Annotated[str, Bound("goal.name")] = Field("", description="empty: default")


class LoggedStudy(Data):
    """A parent run with one nested run per trial."""

    run_id: str
    experiment: str
    trials: int
    failed: int
    best_run_id: str | None
    best_value: float | None
    message: str


class AskModelArgs(Args):
    """What every action that asks a model about rows is told of it; `output`: `tools.modeling.output_settings`."""

    model_uri: Annotated[ModelRef, Bound()] = Field(description="model")
    target: Target = Field(description="label column")
    task: Annotated[Task, Bound("goal.task")] = Field(description="kind")
    drop: Drop = Field(default_factory=list[str], description="columns to ignore")
    output: Annotated[dict[str, Any], Bound("goal.output")] = Field(
        default_factory=dict[str, Any], description="how answers are read"
    )


class EvaluateModelArgs(AskModelArgs):
    data: Annotated[ReadPath, Bound()] = Field(description="labelled file")
    metric: Metric = Field(description="metric name")
    segment: Annotated[str, Bound()] = Field("", description="column to report per value")
    gap: Annotated[str, Bound()] = Field("", description="fairness measure between segments")
    positive: Positive = Field("", description="positive class")


class Evaluation(Data):
    """A model on labelled rows. Latencies are of predicting one row on this machine, without waits for a core."""

    model_uri: str
    metric: str
    value: float
    rows: int
    latency_ms_p50: float
    latency_ms_p95: float
    size_bytes: int
    model_digest: str  # SHA-256 over names and content of its files
    rows_digest: str  # SHA-256 of the data file
    scores_path: str  # Parquet: row, y_true, prediction, probability, loss, error
    segments: dict[str, float | None] | None  # the metric per segment; None where it is not defined on the rows
    fairness_gap: float | None  # None: not asked for, or no two segments have enough rows
    positive: str = ""  # the class that the metric is of, in a binary task
    too_good: str = ""  # why the value cannot be believed; empty: it can
    message: str


class ColumnImportanceArgs(AskModelArgs):
    data: Annotated[ReadPath, Bound()] = Field(description="labelled file")
    seed: Seed = Field(0, description="seed")


class ColumnImportance(Data):
    """Permutation importance: the mean loss that permuting a column adds (log loss, or absolute error)."""

    importance_path: str  # JSON: column -> importance
    most_important: list[str]  # at most five, the most important first
    used_columns: int  # with an importance above 0
    columns: int
    rows: int
    loss: float  # of the model on the rows as they are
    message: str


class ScoreRowsArgs(AskModelArgs):
    data: Annotated[list[ReadPath], Bound()] = Field(description="files, oldest first; labels may be missing")
    positive: Positive = Field("", description="positive class")


class ReadOutputArgs(AskModelArgs):
    data: Annotated[list[ReadPath], Bound()] = Field(description="labelled files; the first is asked about")


class ReadOutput(Data):
    """How a model's answers are read from now on, wherever it is asked. `supposed`: what was neither stated nor said by
    the model, in words; empty: nothing."""

    model_uri: str
    kind: str  # own, labels, probability, probabilities or numbers
    labels: list[str]
    supposed: str
    message: str


class ScoredRows(Data):
    scores_path: str  # Parquet: row, y_true, prediction, probability, loss; null and NaN where there is no label
    rows: int
    labelled_rows: int
    message: str


class RegisterModelArgs(Args):
    model_uri: Annotated[ModelRef, Bound()] = Field(description="logged model")
    name: ModelName = Field(description="registered model")
    note: Annotated[str, Free("a note on the version")] = Field("", description="why")


class RegisteredVersion(Data):
    name: str
    version: int
    model_uri: str
    run_id: str | None
    is_new: bool
    message: str


class ModelNameArgs(Args):
    name: ModelName = Field(description="registered model")


class GetChampionArgs(ModelNameArgs):
    champion: Annotated[str, Bound("goal.champion")] = Field(default_factory=str, description="version, alias or stage")


class Champion(Data):
    name: str
    version: int
    model_uri: str
    run_id: str | None
    since: str | None  # None: the alias was not set by promote_version
    previous: int | None = None  # the champion before it, where promote_version set it
    unfinished: bool = False  # the promotion was cut off before its tags were written; promoting again completes it
    named_by: str = "alias champion"  # what names it: an alias, a stage, or the goal
    message: str


class VersionInfo(Data):
    version: int
    model_uri: str
    run_id: str | None
    aliases: list[str]
    stage: str = ""  # of older registries; empty: none
    created: str
    retired: str | None  # when
    note: str


class Versions(Data):
    name: str
    versions: list[VersionInfo]  # newest first
    message: str


class PromoteVersionArgs(Args):
    name: ModelName = Field(description="registered model")
    version: Annotated[int, Bound()] = Field(description="new champion")
    reason: Annotated[str, Free("recorded beside the version")] = Field(description="evidence")
    digest: Annotated[str, Bound()] = Field(default_factory=str, description="SHA-256 of its files")


class Promotion(Data):
    name: str
    version: int
    previous_version: int | None
    promoted_at: str | None  # None: it was made champion outside the crew
    already_champion: bool
    message: str


class SetBackupArgs(Args):
    name: ModelName = Field(description="registered model")
    version: Annotated[int, Bound()] = Field(description="checked; never the champion")
    reason: Annotated[str, Free("recorded beside the version")] = Field(description="why now")


class Backup(Data):
    """The version that stands by: it has the alias `backup` and can be promoted at once."""

    name: str
    version: int
    model_uri: str
    already_backup: bool
    message: str


class RetireVersionArgs(Args):
    name: ModelName = Field(description="registered model")
    version: Annotated[int, Bound()] = Field(description="loser; never the champion")
    reason: Annotated[str, Free("recorded beside the version")] = Field(description="evidence")


class Retirement(Data):
    name: str
    version: int
    retired_at: str
    already_retired: bool
    message: str


class ProductionPeriod(Data):
    version: int
    since: str | None  # None: the alias was moved outside the crew, at an unknown time
    until: str | None  # None: still in production, or ended outside the crew at an unknown time
    reason: str


class ProductionHistory(Data):
    name: str
    periods: list[ProductionPeriod]  # newest first
    message: str


class SearchRunsArgs(Args):
    filter: Annotated[str, Free("reads runs of the configured store")] = Field(
        "", description="MLflow filter, e.g. metrics.f1 > 0.8"
    )
    limit: Annotated[int, Free("reads runs of the configured store")] = Field(
        10, ge=1, le=100, description="newest first"
    )


class RunInfo(Data):
    run_id: str
    run_name: str
    status: str
    started: str
    metrics: dict[str, float]


class FoundRuns(Data):
    runs: list[RunInfo]
    message: str


SPEC = Integration(
    name="mlflow",
    title="MLflow",
    summary="Trains and evaluates models, tracks runs, and keeps the model registry with the champion and its history.",
    actions=(
        Action(
            name="train_model",
            summary="Train and log a model.",
            args=TrainModelArgs,
            result=TrainedModel,
            effect=Effect.WRITE,
            timeout_s=3600,
            key=(),
            repeatable=True,
        ),
        Action(
            name="probe_windows",
            summary="Train a quick model per window, score later rows.",
            args=ProbeWindowsArgs,
            result=ProbedWindows,
            idempotent=True,
            timeout_s=600,
        ),
        Action(
            name="log_trials",
            summary="Log a study as nested runs.",
            args=LogTrialsArgs,
            result=LoggedStudy,
            effect=Effect.WRITE,
            key=(),
            repeatable=True,
        ),
        Action(
            name="evaluate_model",
            summary="Score a model on labelled rows.",
            args=EvaluateModelArgs,
            result=Evaluation,
            idempotent=True,
            timeout_s=600,
        ),
        Action(
            name="column_importance",
            summary="How much a model needs each column.",
            args=ColumnImportanceArgs,
            result=ColumnImportance,
            idempotent=True,
            timeout_s=600,
        ),
        Action(
            name="score_rows",
            summary="Score rows that may lack labels.",
            args=ScoreRowsArgs,
            result=ScoredRows,
            idempotent=True,
            timeout_s=600,
        ),
        Action(
            name="read_output",
            summary="Find out what a model's answers mean.",
            args=ReadOutputArgs,
            result=ReadOutput,
            idempotent=True,
            timeout_s=600,
        ),
        Action(
            name="register_model",
            summary="Register a model as the challenger version.",
            args=RegisterModelArgs,
            result=RegisteredVersion,
            effect=Effect.WRITE,
            idempotent=True,
            key=("model_uri", "name"),
            repeatable=True,
            undo=Undo("retire_version", writes.retiring),
        ),
        Action(
            name="get_champion",
            summary="The version in production.",
            args=GetChampionArgs,
            result=Champion,
            idempotent=True,
        ),
        Action(
            name="list_versions",
            summary="Versions of a registered model.",
            args=ModelNameArgs,
            result=Versions,
            idempotent=True,
        ),
        Action(
            name="promote_version",
            summary="Make a version the champion.",
            args=PromoteVersionArgs,
            result=Promotion,
            effect=Effect.RISKY,
            idempotent=True,
            key=EACH_CALL,
            read_back=ReadBack(
                "get_champion", writes.promoted, writes.promotion, writes.of_name, state=("name", "version")
            ),
            undo=Undo("promote_version", writes.promoting_back),
        ),
        Action(
            name="set_backup",
            summary="Have a version stand by.",
            args=SetBackupArgs,
            result=Backup,
            effect=Effect.WRITE,
            idempotent=True,
            key=("name", "version"),
            repeatable=True,
        ),
        Action(
            name="retire_version",
            summary="Mark a losing version as retired.",
            args=RetireVersionArgs,
            result=Retirement,
            effect=Effect.RISKY,
            idempotent=True,
            key=("name", "version"),
            read_back=ReadBack("list_versions", writes.retired, writes.retirement, writes.of_name),
        ),
        Action(
            name="production_history",
            summary="Which version was in production when, and why.",
            args=ModelNameArgs,
            result=ProductionHistory,
            idempotent=True,
        ),
        Action(
            name="search_runs",
            summary="Find tracked runs.",
            args=SearchRunsArgs,
            result=FoundRuns,
            idempotent=True,
        ),
    ),
    backend="tools.integrations.mlflow.backend:MLflowBackend",
    requires=("mlflow", "scikit-learn", "pandas"),
    imports=("alembic", "mlflow", "sqlalchemy"),
    settings=(
        Setting("MLFLOW_TRACKING_URI", "MLflow tracking store; unset: SQLite in the state folder", real=True),
        Setting("MLFLOW_REGISTRY_URI", "model registry; unset: the tracking store", real=True),
        Setting("MLFLOW_EXPERIMENT_NAME", "experiment that runs are logged to", default="mlops-crew"),
        Setting("MLFLOW_TRACKING_USERNAME", "user of a server with basic authentication"),
        Setting("MLFLOW_TRACKING_PASSWORD", "password of that user", secret=True),
        Setting("MLFLOW_TRACKING_TOKEN", "bearer token of the server", secret=True),
    ),
)
