"""What the Prometheus integration can do: scrape, query, list metrics, watch production for a while."""

from typing import Annotated

from pydantic import Field

from tools.core.arguments import Bound, Free
from tools.core.contract import Action, Args, Data, Effect, Integration, Setting
from tools.core.writes import EACH_CALL


class ScrapeArgs(Args):
    target: Annotated[str, Bound(), Bound()] = Field(description="/metrics URL")


class Scraped(Data):
    target: str
    samples: int
    series: int  # in the whole store
    timestamp_s: float
    message: str


class QueryArgs(Args):
    expr: Annotated[
        str, Free("reads a metric of the configured server"), Free("reads a metric of the configured server")
    ] = Field(min_length=1, description="PromQL")
    time: Annotated[
        float | None, Free("reads a metric of the configured server"), Free("reads a metric of the configured server")
    ] = Field(None, description="Unix seconds; default now")


class Sample(Data):
    """One series at one time. `value` is None for NaN and infinities."""

    labels: dict[str, str]
    value: float | None


class QueryResult(Data):
    """At most 50 samples, sorted by labels; `total` counts all."""

    samples: list[Sample]
    total: int
    timestamp_s: float
    message: str


class QueryRangeArgs(Args):
    expr: Annotated[
        str, Free("reads a metric of the configured server"), Free("reads a metric of the configured server")
    ] = Field(min_length=1, description="PromQL")
    start: Annotated[
        float, Free("reads a metric of the configured server"), Free("reads a metric of the configured server")
    ] = Field(description="Unix seconds")
    end: Annotated[
        float, Free("reads a metric of the configured server"), Free("reads a metric of the configured server")
    ] = Field(description="Unix seconds")
    step: Annotated[
        float, Free("reads a metric of the configured server"), Free("reads a metric of the configured server")
    ] = Field(15.0, gt=0, description="seconds between points")


class SeriesSummary(Data):
    """Statistics over the finite points of one series; None where there are none."""

    labels: dict[str, str]
    points: int
    first: float | None
    last: float | None
    minimum: float | None
    maximum: float | None
    mean: float | None


class RangeResult(Data):
    """`path` is JSON: {"expr", "start", "end", "step", "series": [{"labels", "points": [[unix_s, value], ...]}]}."""

    path: str
    series: list[SeriesSummary]
    total: int
    message: str


class ListMetricsArgs(Args):
    contains: Annotated[
        str, Free("reads names of the configured server"), Free("reads names of the configured server")
    ] = Field("", description="part of the name")


class Metrics(Data):
    """At most 200 names; `total` counts all."""

    names: list[str]
    total: int
    message: str


class WatchArgs(Args):
    target: Annotated[str, Bound(), Bound()] = Field(description="/metrics URL")
    seconds: Annotated[float, Bound(), Bound()] = Field(10.0, ge=0, le=3600, description="how long")
    interval: Annotated[float, Bound(), Bound()] = Field(1.0, ge=0.1, le=300, description="scrape every, s")
    lookback: Annotated[float, Bound(), Bound()] = Field(0.0, ge=0, le=86400, description="earlier seconds too")


class VariantHealth(Data):
    """One variant over the window. None where nothing was measured."""

    variant: str
    requests: float  # may be fractional: Prometheus extrapolates to the window's edges
    request_rate: float | None  # per second
    error_rate: float | None  # share of requests, 0 to 1
    latency_p95_ms: float | None


class Watched(Data):
    window_s: float
    scrapes: int  # 0 with a real server, which scrapes by itself
    failed_scrapes: int
    requests: float
    error_rate: float | None
    latency_p95_ms: float | None
    variants: list[VariantHealth]
    message: str


SPEC = Integration(
    name="prometheus",
    title="Prometheus",
    summary="Scrapes and queries metrics, on a Prometheus server or embedded.",
    actions=(
        Action(
            name="scrape",
            summary="Read a metrics endpoint once into the embedded store.",
            args=ScrapeArgs,
            result=Scraped,
            effect=Effect.WRITE,
            key=EACH_CALL,
            repeatable=True,
        ),
        Action(name="query", summary="Evaluate PromQL at one time.", args=QueryArgs, result=QueryResult),
        Action(
            name="query_range",
            summary="Evaluate PromQL over a period into a JSON file.",
            args=QueryRangeArgs,
            result=RangeResult,
        ),
        Action(name="list_metrics", summary="Names of the metrics there are.", args=ListMetricsArgs, result=Metrics),
        Action(
            name="watch",
            summary="Watch request rate, errors, p95 latency per variant.",
            args=WatchArgs,
            result=Watched,
            timeout_s=4000,
        ),
    ),
    backend="tools.integrations.prometheus.backend:PrometheusBackend",
    requires=("prometheus-client", "httpx"),
    imports=("prometheus_client",),
    settings=(
        Setting("PROMETHEUS_URL", "URL of a Prometheus server; unset: the embedded store", real=True),
        Setting("PROMETHEUS_TOKEN", "bearer token of that server; unset: none", secret=True),
        Setting(
            "PROMETHEUS_TARGETS",
            "addresses of metrics, with commas between, that may be watched besides the local serving engine's",
        ),
        Setting("PROMETHEUS_TIMEOUT_S", "seconds to wait for that server's answer", default="60"),
    ),
)
