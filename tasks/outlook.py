"""What production's own metrics foretell: error share and memory forecast to their bounds, burn-rate alerts, and what
is unusual. An anomaly warns and proves nothing: no decision follows from one alone.

For a runbook that watches production: `seen = yield from production_outlook(inputs.goal, metrics_url, bound)`.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from tasks.base import Evidence, Steps, call, expect
from tasks.goal import Goal
from tools.core.grants import Grant, grant
from tools.core.results import Status
from tools.integrations.judge.outlook_spec import BurnRates, SeriesAnomalies, ThresholdForecast
from tools.integrations.prometheus.spec import QueryResult, RangeResult
from tools.judge.outlook import MIN_TREND

LOOKBACK_S = 4 * 3600.0
HORIZON_S = 2 * 3600.0
STEP_S = 60.0
MIB = 1024**2

ERROR_SHARE = (
    'sum(rate(mlops_requests_total{{instance="{at}",status!="200"}}[5m])) / '
    'sum(rate(mlops_requests_total{{instance="{at}"}}[5m]))'
)
LATENCY_MS = (
    '1000 * histogram_quantile(0.95, sum by (le) (rate(mlops_request_latency_seconds_bucket{{instance="{at}"}}[5m])))'
)
MEMORY_MIB = f'sum(process_resident_memory_bytes{{{{instance="{{at}}"}}}}) / {MIB}'


@dataclass(frozen=True)
class ProductionOutlook:
    """`warnings` are sentences on what is to be expected; empty where nothing is. `told`: what each forecast said.

    `alert` is the worst burn-rate alert that fires: page, ticket or None.
    """

    warnings: tuple[str, ...]
    told: tuple[str, ...]
    alert: str | None


def production_outlook(goal: Goal, metrics_url: str, max_error_rate: float) -> Steps[ProductionOutlook]:
    """Forecast the serving engine's error share and memory over the next two hours, from the last four, and say which
    of them and of the latency is unusual.

    Args:
        metrics_url: of the serving engine, as its status names it.
        max_error_rate: share of requests, 0 to 1, that is harmful.
    """
    parts = urlsplit(metrics_url)
    at = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    warnings: list[str] = []
    told: list[str] = []
    errors = yield from _series(ERROR_SHARE.format(at=at))
    alert = None
    if errors is None:
        told.append("Error share: no error was counted.")
    else:
        yield from _look("Error share", errors, max_error_rate, warnings, told)
        measured = yield call("judge", "burn_rate", series=errors, slo=goal.watch.slo)
        if measured.status is not Status.NO_DATA:  # no finite share, which was told above
            burn = expect(measured, BurnRates, "measuring the burn rate")
            alert = burn.severity
            (warnings if alert else told).append(burn.message)
        yield from _unusual("Error share", errors, warnings, told)
    latency = yield from _series(LATENCY_MS.format(at=at))
    if latency is not None:
        yield from _unusual("p95 latency in ms", latency, warnings, told)
    if goal.watch.max_memory_mib is not None:
        memory = yield from _series(MEMORY_MIB.format(at=at))
        if memory is None:
            told.append("Memory: not measured.")
        else:
            yield from _look("Memory in MiB", memory, goal.watch.max_memory_mib, warnings, told)
            yield from _unusual("Memory in MiB", memory, warnings, told)
    return ProductionOutlook(tuple(warnings), tuple(told), alert)


def _series(expr: str) -> Steps[str | None]:
    """The file of a metric over the last hours; None when there is no such series."""
    newest = yield call("prometheus", "query", expr=expr)
    if newest.status is Status.NO_DATA:
        return None
    now = expect(newest, QueryResult, f"querying {expr}").timestamp_s
    found = yield call("prometheus", "query_range", expr=expr, start=now - LOOKBACK_S, end=now, step=STEP_S)
    return None if found.status is Status.NO_DATA else expect(found, RangeResult, f"querying {expr}").path


def _look(name: str, series: str, bound: float, warnings: list[str], told: list[str]) -> Steps[None]:
    looked = yield call("judge", "forecast_threshold", series=series, threshold=bound, horizon_s=HORIZON_S)
    if looked.status is Status.NO_DATA:
        told.append(f"{name}: no finite reading.")
        return
    found = expect(looked, ThresholdForecast, f"forecasting {name}")
    coming = found.outlook == "crossing" and found.trend is not None and found.trend >= MIN_TREND
    (warnings if coming or found.outlook == "crossed" else told).append(f"{name}: {found.message}")


def _unusual(name: str, series: str, warnings: list[str], told: list[str]) -> Steps[None]:
    looked = yield call("judge", "find_anomalies", series=series)
    if looked.status is Status.NO_DATA:
        return  # without a finite reading, which was told where it matters
    found = expect(looked, SeriesAnomalies, f"looking for anomalies in {name}")
    (warnings if found.unusual else told).append(f"{name}: {found.message}")


def grants(goal: Goal, done: Evidence, max_error_rate: float) -> list[Grant]:
    """The calls that look ahead: any metric may be read; forecasts are of what was read, against the goal's bounds."""
    found = [grant("prometheus.query"), grant("prometheus.query_range")]
    bounds = (max_error_rate, *([goal.watch.max_memory_mib] if goal.watch.max_memory_mib is not None else []))
    for series in dict.fromkeys(data.path for _, data in done.all("prometheus.query_range", RangeResult)):
        found += [grant("judge.burn_rate", series=series), grant("judge.find_anomalies", series=series)]
        found += [
            grant("judge.forecast_threshold", series=series, threshold=bound, horizon_s=HORIZON_S) for bound in bounds
        ]
    return found
