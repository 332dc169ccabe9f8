"""What the W&B integration can do: log studies and metrics, list and read runs."""

from typing import Annotated, Any

from pydantic import Field

from tools.core.arguments import Bound, Free, ReadPath
from tools.core.contract import Action, Args, Data, Effect, Integration, Setting
from tools.core.names import Name, NameOrEmpty
from tools.core.writes import EACH_CALL


class LogTrialsArgs(Args):
    trials_path: Annotated[ReadPath, Bound()] = Field(description="trials JSON of a search")
    project: Annotated[NameOrEmpty, Bound("goal.name")] = Field("", description="W&B project; empty: default")


class LoggedStudy(Data):
    """One W&B run that holds a study: one step per trial, the best trial in its summary."""

    run_id: str
    run_name: str
    project: str
    mode: str  # offline | online
    trials: int
    best_value: float | None
    run_dir: str
    url: str | None  # None when offline
    message: str


class LogMetricsArgs(Args):
    run_name: Annotated[str, Free("a label")] = Field(description="calls with one name extend one run")
    metrics: Annotated[dict[str, float], Free("numbers for people; no decision reads them")] = Field(
        description="name to value"
    )
    step: Annotated[int, Free("of those numbers")] = Field(-1, description="-1: next")
    project: Annotated[NameOrEmpty, Bound("goal.name")] = Field("", description="empty: default")


class LoggedMetrics(Data):
    run_id: str
    project: str
    mode: str
    step: int
    url: str | None
    message: str


class ListRunsArgs(Args):
    project: Annotated[NameOrEmpty, Bound("goal.name")] = Field("", description="empty: all")
    limit: Annotated[int, Free("reads runs of the configured account")] = Field(
        20, ge=1, le=200, description="newest first"
    )


class RunInfo(Data):
    run_id: str
    run_name: str
    project: str
    state: str  # finished | crashed | running | unknown, as W&B's own log says
    started: str
    run_dir: str


class Runs(Data):
    runs: list[RunInfo]
    message: str


class ReadRunArgs(Args):
    run_id: Annotated[Name, Free("reads a run of the configured account")] = Field(description="W&B run ID")


class RunContent(Data):
    """A run read back from its local log. `history_path` is a JSON-lines file, one object a step."""

    run_id: str
    run_name: str
    project: str
    state: str
    config: dict[str, Any]
    summary: dict[str, Any]
    steps: int
    history_path: str
    message: str


SPEC = Integration(
    name="wandb",
    title="Weights & Biases",
    summary="Logs studies and metrics as W&B runs (offline by default) and reads them back.",
    actions=(
        Action(
            name="log_trials",
            summary="Log a study's trials as one W&B run.",
            args=LogTrialsArgs,
            result=LoggedStudy,
            effect=Effect.WRITE,
            timeout_s=180,
            key=(),
            repeatable=True,
        ),
        Action(
            name="log_metrics",
            summary="Log metrics to a W&B run.",
            args=LogMetricsArgs,
            result=LoggedMetrics,
            effect=Effect.WRITE,
            key=EACH_CALL,
            repeatable=True,
        ),
        Action(
            name="list_runs",
            summary="List W&B runs logged from this machine.",
            args=ListRunsArgs,
            result=Runs,
            idempotent=True,
        ),
        Action(
            name="read_run",
            summary="Read a W&B run: config, summary, history file.",
            args=ReadRunArgs,
            result=RunContent,
            idempotent=True,
        ),
    ),
    backend="tools.integrations.wandb.backend:WandbBackend",
    requires=("wandb",),
    imports=("wandb",),
    settings=(
        Setting("WANDB_API_KEY", "W&B API key; unset: runs stay offline on this machine", secret=True, real=True),
        Setting("WANDB_PROJECT", "W&B project that runs are logged to", default="mlops-crew"),
        Setting("WANDB_ENTITY", "W&B team or user; unset: the key's default"),
        Setting("WANDB_BASE_URL", "address of a self-hosted W&B server; unset: W&B's cloud"),
        Setting("WANDB_MODE", "offline | online; unset: online when a key is set, else offline"),
    ),
)
