"""What the serving integration can do: deploy a champion, run a canary beside it, send traffic, promote, roll back."""

from typing import Annotated, Any

from pydantic import Field

from tools.core.arguments import Bound, ModelName, ModelRef, Positive, ReadPath, Seed, Target, Task
from tools.core.contract import Action, Args, Data, Effect, Integration, Limited, NoArgs, Setting
from tools.core.names import Name, NameOrEmpty
from tools.core.writes import EACH_CALL, ReadBack, Undo
from tools.integrations.serving import writes
from tools.modeling.search import Count, Index

# What a person's leave to change production rests on; the process that serves it is no part of it.
SERVED = ("name", "champion_version", "canary_version", "canary_percent")


class DeployArgs(Args):
    model_uri: Annotated[ModelRef, Bound()] = Field(description="models:/…")
    version: Annotated[Name, Bound()] = Field(description="version label")
    digest: Annotated[str, Bound()] = Field(default_factory=str, description="SHA-256 of its files")
    name: ModelName = Field("model", description="model name")


class CanaryArgs(Args):
    model_uri: Annotated[ModelRef, Bound()] = Field(description="models:/…")
    version: Annotated[Name, Bound()] = Field(description="version label")
    digest: Annotated[str, Bound()] = Field(default_factory=str, description="SHA-256 of its files")
    percent: Annotated[float, Bound()] = Limited("traffic_percent", "its share of requests", 5.0, ge=0, le=100)
    seed: Annotated[int, Bound()] = Field(0, description="routing seed")


class SetTrafficArgs(Args):
    percent: Annotated[float, Bound()] = Limited("traffic_percent", "canary's share of requests", ge=0, le=100)


class PromoteArgs(Args):
    version: Annotated[NameOrEmpty, Bound()] = Field("", description="refuse any other canary")
    keep_former: Annotated[bool, Bound()] = Field(True, description="old champion shadow-scores on")
    digest: Annotated[str, Bound()] = Field("", description="SHA-256 of its files, as judged")


class Production(Data):
    """What production serves now. `changed` is False when it already was so."""

    url: str
    metrics_url: str
    name: str
    champion_version: str
    champion_uri: str
    canary_version: str | None
    canary_percent: float
    champion_digest: str | None = None  # SHA-256 over the model's files
    canary_digest: str | None = None
    former_version: str | None = None  # the former champion, while it scores in the shadow after a promotion
    changed: bool
    start_s: float | None = None  # seconds from process start to accepting requests; None: it was running
    load_s: float | None = None  # seconds to load the model; None: nothing was loaded
    message: str


class SendTrafficArgs(Args):
    data: Annotated[ReadPath, Bound()] = Field(description="CSV/Parquet")
    target: Target = Field(description="label")
    task: Task = Field(description="task")
    start: Annotated[Index, Bound()] = Field(0, description="first row")
    rows: Annotated[Count, Bound()] = Field(200, description="how many")
    batch: Annotated[Index, Bound()] = Field(0, description="number")
    seed: Seed = Field(0, description="for request ids")
    # Factories keep the defaults out of the schema, which a model pays for on each request.
    label_delay: Annotated[Index, Bound()] = Field(default_factory=lambda: 0, description="in requests")
    segment: Annotated[str, Bound()] = Field(default_factory=str, description="column")
    unit: Annotated[str, Bound()] = Field(default_factory=str, description="routes by")
    keep: Annotated[list[str], Bound()] = Field(default_factory=list[str], description="columns")
    positive: Positive = Field(default_factory=str, description="class")


class RecordLabelsArgs(Args):
    evidence: Annotated[ReadPath, Bound()] = Field(description="evidence Parquet")
    labels: Annotated[ReadPath, Bound()] = Field(description="table of request_id, label")
    task: Task = Field(description="task type")
    read: Annotated[dict[str, Any], Bound("goal.labels_read")] = Field(
        default_factory=dict[str, Any], description="how the table is read"
    )


class RecordedLabels(Data):
    """What a table of labels added to the evidence. A label that is there already is never changed."""

    evidence_path: str
    recorded: int  # requests that got their label now
    labelled: int  # requests with a label
    requests: int
    unknown: int  # labels of requests that are not in the evidence
    changed: int  # labels that differ from the one recorded before; the first stands
    message: str


class VariantTraffic(Data):
    """One variant over one batch. Losses as in `tools.modeling.metrics.row_losses`; None where nothing was scored."""

    served: int  # requests it answered
    scored: int  # requests it scored, answering or in the shadow
    errors: int  # requests it failed to score
    left_out: int = 0  # requests it was not asked to score in the shadow, because too much was waiting
    late: int = 0  # of the requests routed to it: answered after SERVING_CHALLENGER_TIMEOUT_S, or not at all
    latency_p50_ms: float | None  # scoring of one row inside its process, without waits for a core
    latency_p95_ms: float | None
    mean_loss: float | None
    mean_error: float | None


class Traffic(Data):
    evidence_path: str
    labels_path: str | None  # labels that are known by now, where they come late
    batch: int
    requests: int
    failed_requests: int  # requests that got no answer at all
    rows_left: int
    next_start: int
    champion: VariantTraffic
    challenger: VariantTraffic | None  # None: no canary was running
    routed: int = 0  # requests routed to the challenger
    fallbacks: dict[str, int] = Field(default_factory=dict[str, int])  # of them answered by the champion, by reason
    response_p50_ms: float  # whole request as the client saw it
    response_p95_ms: float
    requests_per_s: float
    took_s: float = 0.0  # the whole call, waiting for shadow scores included
    message: str


class ServingStatus(Data):
    running: bool
    url: str | None
    metrics_url: str | None
    pid: int | None
    name: str | None
    champion_version: str | None
    champion_uri: str | None
    canary_version: str | None
    canary_percent: float
    champion_digest: str | None = None  # SHA-256 over the model's files
    canary_digest: str | None = None
    former_version: str | None = None  # the former champion, while it scores in the shadow after a promotion
    challenger_state: str | None  # of the canary or the former champion: ready, unhealthy, disabled
    message: str


class Stopped(Data):
    stopped: bool
    message: str


SPEC = Integration(
    name="serving",
    title="Serving",
    summary="Serves models over HTTP with canary routing and shadow scoring.",
    actions=(
        Action(
            name="deploy_model",
            summary="Serve this model to all traffic as champion; starts the engine.",
            args=DeployArgs,
            result=Production,
            effect=Effect.RISKY,
            idempotent=True,
            timeout_s=180,
            key=EACH_CALL,
            read_back=ReadBack("status", writes.deployed, writes.production, state=SERVED),
            undo=Undo("deploy_model", writes.champion_before),
            survives_process=False,
            ends=("deploy_model", "start_canary", "set_traffic", "promote_canary"),
        ),
        Action(
            name="start_canary",
            summary="Give a challenger a share of traffic; it shadow-scores the rest.",
            args=CanaryArgs,
            result=Production,
            effect=Effect.RISKY,
            idempotent=True,
            timeout_s=180,
            key=EACH_CALL,
            read_back=ReadBack("status", writes.canary_started, writes.production, state=SERVED),
            undo="rollback_canary",
            survives_process=False,
            ends=("start_canary", "set_traffic"),
        ),
        Action(
            name="set_traffic",
            summary="Change the canary's traffic share.",
            args=SetTrafficArgs,
            result=Production,
            effect=Effect.RISKY,
            idempotent=True,
            key=EACH_CALL,
            read_back=ReadBack("status", writes.share_set, writes.production, state=SERVED),
            undo=Undo("set_traffic", writes.share_before),
            survives_process=False,
            ends=("set_traffic",),
        ),
        Action(
            name="send_traffic",
            summary="Send labelled rows as requests; append evidence.",
            args=SendTrafficArgs,
            result=Traffic,
            effect=Effect.WRITE,
            idempotent=True,
            timeout_s=1800,
            key=("data", "start", "rows", "batch", "seed"),
            repeatable=True,
        ),
        Action(
            name="record_labels",
            summary="Add labels that came late to the evidence.",
            args=RecordLabelsArgs,
            result=RecordedLabels,
            effect=Effect.WRITE,
            idempotent=True,
            key=EACH_CALL,
            repeatable=True,
        ),
        Action(
            name="promote_canary",
            summary="Make the canary the champion at 100 %.",
            args=PromoteArgs,
            result=Production,
            effect=Effect.RISKY,
            key=EACH_CALL,
            read_back=ReadBack("status", writes.canary_promoted, writes.production, state=SERVED),
            undo=Undo("deploy_model", writes.champion_before),
            survives_process=False,
            ends=("deploy_model", "start_canary", "set_traffic"),
        ),
        Action(
            name="rollback_canary",
            summary="Remove the canary; champion takes all traffic.",
            args=NoArgs,
            result=Production,
            effect=Effect.RISKY,
            idempotent=True,
            key=EACH_CALL,
            read_back=ReadBack("status", writes.canary_removed, writes.production, state=SERVED),
            ends=("start_canary", "set_traffic"),
        ),
        Action(
            name="end_probation",
            summary="Stop the old champion's shadow scoring.",
            args=NoArgs,
            result=Production,
            effect=Effect.WRITE,
            idempotent=True,
            key=EACH_CALL,
            read_back=ReadBack("status", writes.probation_ended, writes.production, state=SERVED),
        ),
        Action(
            name="status",
            summary="What production serves now.",
            args=NoArgs,
            result=ServingStatus,
            survives_process=False,
        ),
        Action(
            name="stop",
            summary="Stop serving.",
            args=NoArgs,
            result=Stopped,
            effect=Effect.RISKY,
            idempotent=True,
            key=EACH_CALL,
            read_back=ReadBack("status", writes.stopped, writes.stop, state=SERVED),
            ends=("deploy_model", "start_canary", "set_traffic", "promote_canary"),
        ),
    ),
    backend="tools.integrations.serving.backend:ServingBackend",
    requires=("mlflow", "scikit-learn", "starlette", "uvicorn", "prometheus-client", "httpx"),
    imports=("prometheus_client",),
    settings=(
        Setting("SERVING_PORT", "port of the engine on 127.0.0.1; unset: a free one is picked"),
        Setting(
            "SERVING_CHALLENGER_TIMEOUT_S",
            "seconds a challenger may take for one answer before the champion answers instead",
            default="2",
        ),
        Setting("MLFLOW_TRACKING_URI", "where models: and runs: URIs are looked up; unset: the embedded MLflow store"),
        Setting("MLFLOW_REGISTRY_URI", "model registry, where it is not the tracking server"),
        Setting("MLFLOW_TRACKING_USERNAME", "user of a server with basic authentication"),
        Setting("MLFLOW_TRACKING_PASSWORD", "password of that user", secret=True),
        Setting("MLFLOW_TRACKING_TOKEN", "bearer token of the server", secret=True),
    ),
)
