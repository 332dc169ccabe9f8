"""The Prometheus backend: the same actions over a real server or the embedded store."""

import math
import os
import time
from collections.abc import Mapping
from typing import Any

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError, NoDataError, RetryableError
from tools.core.files import write_json
from tools.integrations.prometheus.spec import (
    ListMetricsArgs,
    Metrics,
    QueryArgs,
    QueryRangeArgs,
    QueryResult,
    RangeResult,
    Sample,
    ScrapeArgs,
    Scraped,
    SeriesSummary,
    VariantHealth,
    WatchArgs,
    Watched,
)

MAX_SAMPLES = 50
MAX_SERIES = 20
MAX_NAMES = 200
POLL_S = 0.1

REQUESTS = "sum by (variant) (increase(mlops_requests_total{{{where}}}[{window}]))"
RATE = "sum by (variant) (rate(mlops_requests_total{{{where}}}[{window}]))"
ERRORS = 'sum by (variant) (increase(mlops_requests_total{{{where},status!="200"}}[{window}]))'
P95 = "histogram_quantile(0.95, sum by (le{by}) (rate(mlops_request_latency_seconds_bucket{{{where}}}[{window}])))"


class PrometheusBackend(Backend):
    """Holds one client: of the server at PROMETHEUS_URL, or of the embedded store."""

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        super().__init__(settings)
        self._remote: Any = None
        if settings.get("PROMETHEUS_URL"):
            from tools.integrations.prometheus.remote import RemotePrometheus

            self._remote = RemotePrometheus(settings)

    def _source(self, ctx: CallContext) -> Any:
        if self._remote is not None:
            return self._remote
        from tools.integrations.prometheus.embedded import EmbeddedPrometheus

        return EmbeddedPrometheus(ctx.store("prometheus"))

    def scrape(self, args: ScrapeArgs, ctx: CallContext) -> Scraped:
        if self._remote is not None:
            raise FixableError(
                f"{self._remote.where} scrapes by itself (its scrape_configs say what); scrape is for the embedded "
                "store: unset PROMETHEUS_URL to use that"
            )
        self._check_target(args.target, ctx)
        source = self._source(ctx)
        samples, t_ms = source.scrape(args.target)
        series = source.store.count()
        return Scraped(
            target=args.target,
            samples=samples,
            series=series,
            timestamp_s=t_ms / 1000.0,
            message=f"{samples} samples read from {args.target}.",
        )

    def query(self, args: QueryArgs, ctx: CallContext) -> QueryResult:
        source = self._source(ctx)
        values, t = source.query(args.expr, args.time)
        if not values:
            raise NoDataError(f"no series for {args.expr}", tried=f"{source.where}, at Unix time {t:.3f}")
        values = sorted(values, key=lambda value: sorted(value.labels.items()))
        shown = [Sample(labels=value.labels, value=_finite(value.value)) for value in values[:MAX_SAMPLES]]
        return QueryResult(
            samples=shown, total=len(values), timestamp_s=t, message=f"{len(values)} series for {args.expr}."
        )

    def query_range(self, args: QueryRangeArgs, ctx: CallContext) -> RangeResult:
        source = self._source(ctx)
        found = source.query_range(args.expr, args.start, args.end, args.step)
        if not found:
            tried = f"{source.where}, Unix time {args.start:.3f} to {args.end:.3f}"
            raise NoDataError(f"no series for {args.expr}", tried=tried)
        found = sorted(found, key=lambda series: sorted(series.labels.items()))
        content = {
            **args.model_dump(),
            "series": [{"labels": s.labels, "points": [[t, _finite(v)] for t, v in s.points]} for s in found],
        }
        path = ctx.workspace / "prometheus" / f"range-{args.question_digest()}.json"
        write_json(path, content)
        return RangeResult(
            path=ctx.show(path),
            series=[_summary(series) for series in found[:MAX_SERIES]],
            total=len(found),
            message=f"{len(found)} series, {sum(len(s.points) for s in found)} points.",
        )

    def list_metrics(self, args: ListMetricsArgs, ctx: CallContext) -> Metrics:
        source = self._source(ctx)
        names = [name for name in source.names() if args.contains in name]
        if not names:
            raise NoDataError(f"no metric whose name contains {args.contains!r}", tried=source.where)
        return Metrics(names=names[:MAX_NAMES], total=len(names), message=f"{len(names)} metrics.")

    def watch(self, args: WatchArgs, ctx: CallContext) -> Watched:
        from tools.integrations.prometheus.embedded import instance_of

        instance = instance_of(args.target)
        self._check_target(args.target, ctx)
        source = self._source(ctx)
        interval = source.scrape_interval_s(instance)
        if self._remote is not None and not interval:
            raise NoDataError(
                f"the server does not scrape {instance}; add it to its scrape_configs",
                tried=f"the active targets of {self._remote.where}",
            )
        began = time.time()
        scrapes, failed, problem = self._observe(source, args, ctx)
        if scrapes == failed and self._remote is None and args.lookback == 0:
            raise RetryableError(f"all {failed} scrapes of {args.target} failed: {problem}")
        # At least two samples must lie inside the window, or there is no rate. A slow target takes longer than asked.
        watched_s = max(args.seconds, time.time() - began)
        window_s = watched_s + args.lookback + max(args.interval, 2 * interval)
        return self._judge(source, instance, window_s, scrapes, failed, args.target)

    def _observe(self, source: Any, args: WatchArgs, ctx: CallContext) -> tuple[int, int, str]:
        """Scrape until the time is over (a server does so itself): scrapes, failed ones, the last problem."""
        began = time.monotonic()
        scrapes = failed = 0
        problem = ""
        while True:
            elapsed = time.monotonic() - began
            if self._remote is None and elapsed >= min(scrapes * args.interval, args.seconds):
                scrapes += 1
                try:
                    source.scrape(args.target)
                except RetryableError as error:  # one missed scrape is a finding, not the end
                    failed += 1
                    problem = error.message
            if elapsed >= args.seconds:
                return scrapes, failed, problem
            ctx.progress(min(elapsed, args.seconds), args.seconds, f"watching {args.target}")
            time.sleep(min(POLL_S, max(0.0, args.seconds - elapsed)))

    def _judge(self, source: Any, instance: str, window_s: float, scrapes: int, failed: int, target: str) -> Watched:
        from tools.integrations.prometheus.promql import quoted

        t = time.time()

        def by_variant(template: str, by: str = "") -> dict[str, float]:
            expr = template.format(
                where=f"instance={quoted(instance)}", window=f"{math.ceil(window_s * 1000)}ms", by=by
            )
            values, _ = source.query(expr, t)
            return {value.labels.get("variant", ""): value.value for value in values}

        requests, rates, errors = by_variant(REQUESTS), by_variant(RATE), by_variant(ERRORS)
        if not requests:
            tried = f"mlops_requests_total of {instance} over the last {window_s:g} s in {source.where}"
            raise NoDataError(f"{target} was watched, but there are not two samples of its requests", tried=tried)
        latency = by_variant(P95, ", variant")
        total = sum(requests.values())
        variants = [
            VariantHealth(
                variant=variant,
                requests=requests[variant],
                request_rate=_finite(rates.get(variant, math.nan)),
                error_rate=errors.get(variant, 0.0) / requests[variant] if requests[variant] > 0 else None,
                latency_p95_ms=_milliseconds(latency.get(variant, math.nan)),
            )
            for variant in sorted(requests)
        ]
        error_rate = sum(errors.values()) / total if total > 0 else None
        p95 = _milliseconds(by_variant(P95).get("", math.nan))
        told = "no requests arrived" if error_rate is None else f"{total:.0f} requests, {error_rate:.2%} errors"
        told += "" if p95 is None else f", p95 {p95:.1f} ms"
        told += f"; {failed} of {scrapes} scrapes failed" if failed else ""
        return Watched(
            window_s=window_s,
            scrapes=scrapes,
            failed_scrapes=failed,
            requests=total,
            error_rate=error_rate,
            latency_p95_ms=p95,
            variants=variants,
            message=f"Over {window_s:.0f} s: {told}.",
        )

    def _check_target(self, target: str, ctx: CallContext) -> None:
        """Refuse an address that neither the settings name nor the local serving engine has.

        Raises:
            FixableError: names the valid ones.
        """
        from tools.integrations.prometheus.embedded import instance_of
        from tools.modeling.serving_address import recorded_address

        instance_of(target)  # an address at all
        configured = [value.strip() for value in (self.settings.get("PROMETHEUS_TARGETS") or "").split(",")]
        engine = recorded_address(ctx.home / "serving")
        valid = [value for value in (*configured, engine.metrics_url if engine else "") if value]
        if target not in valid:
            raise FixableError(
                f"target {target!r} is no address that may be watched; valid: {', '.join(valid) or 'none now'} "
                "(the local serving engine while it runs, and PROMETHEUS_TARGETS)"
            )

    def health(self, ctx: CallContext) -> str:
        if self._remote is not None:
            return f"Prometheus {self._remote.version()} at {self._remote.shown}"
        folder = ctx.home / "prometheus"
        if (folder / "metrics.db").exists() and not os.access(folder, os.W_OK):
            raise FixableError(f"no permission to write to {folder}, where the embedded store is kept")
        return "embedded store" if folder.exists() else "embedded store, empty"

    def close(self) -> None:
        if self._remote is not None:
            self._remote.close()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _milliseconds(seconds: float) -> float | None:
    return seconds * 1000.0 if math.isfinite(seconds) else None


def _summary(series: Any) -> SeriesSummary:
    values = [value for _, value in series.points if math.isfinite(value)]
    return SeriesSummary(
        labels=series.labels,
        points=len(series.points),
        first=values[0] if values else None,
        last=values[-1] if values else None,
        minimum=min(values, default=None),
        maximum=max(values, default=None),
        mean=math.fsum(values) / len(values) if values else None,
    )
