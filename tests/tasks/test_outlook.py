"""What production's metrics foretell, asked of the embedded Prometheus and the judge."""

import time
from typing import Any

import numpy as np
import pytest

from tasks.goal import Goal
from tasks.outlook import ProductionOutlook, production_outlook
from tests.conftest import Project
from tools.integrations.prometheus.store import NAME, Point, Store

MINUTES = 240
URL = "http://127.0.0.1:8123/metrics"


def goal(**watch: Any) -> Goal:
    data = {"reference": "a.csv", "current": "b.csv"}
    return Goal.model_validate(
        {"name": "g", "task": "binary", "target": "y", "metric": "roc_auc", "data": data, "watch": watch}
    )


def fill(
    project: Project,
    *,
    failing: np.ndarray | float = 0.0,
    memory_mib: np.ndarray | None = None,
    requests: int = 600,
    slow: np.ndarray | None = None,
) -> None:
    """Four hours of the engine's metrics up to now, one scrape a minute: its `requests`, of which a share fails,
    and another is slower than 100 ms."""
    now_ms = int(time.time() * 1000)
    times = [now_ms - 60_000 * (MINUTES - 1 - i) for i in range(MINUTES)]
    share = np.broadcast_to(failing, MINUTES)
    counters = {"500": np.cumsum(requests * share), "200": np.cumsum(requests * (1 - share))}
    rows: list[tuple[dict[str, str], Point]] = []
    for status, values in counters.items():
        if status == "200" or share.any():
            labels = {NAME: "mlops_requests_total", "instance": "127.0.0.1:8123", "variant": "champion"}
            rows += [({**labels, "status": status}, Point(t, float(v))) for t, v in zip(times, values, strict=True)]
    if memory_mib is not None:
        labels = {NAME: "process_resident_memory_bytes", "instance": "127.0.0.1:8123"}
        rows += [(labels, Point(t, float(v) * 1024**2)) for t, v in zip(times, memory_mib, strict=True)]
    if slow is not None:
        buckets = {"0.05": requests / 2 * (1 - slow), "0.1": requests * (1 - slow), "1.0": requests + 0 * slow}
        for bound, values in {**buckets, "+Inf": requests + 0 * slow}.items():
            labels = {NAME: "mlops_request_latency_seconds_bucket", "instance": "127.0.0.1:8123", "le": bound}
            rows += [(labels, Point(t, float(v))) for t, v in zip(times, np.cumsum(values), strict=True)]
    folder = project.ctx.store("prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    Store(folder).append(rows)


def looked(project: Project, wanted: Goal, max_error_rate: float = 0.05) -> ProductionOutlook:
    """The helper, each of its calls made."""
    steps = production_outlook(wanted, URL, max_error_rate)
    asked = next(steps)
    while True:
        try:
            asked = steps.send(project.call(asked.tool, asked.action, **asked.arguments))
        except StopIteration as end:
            return end.value


minute = np.arange(MINUTES)
noise = np.random.default_rng(1).normal(0, 1, MINUTES)


def test_a_leak_is_warned_of_before_the_memory_is_gone(project: Project) -> None:
    fill(project, memory_mib=500 + 2 * minute + 5 * noise)
    seen = looked(project, goal(max_memory_mib=1100))  # 978 now, 2 more a minute: in about an hour
    assert len(seen.warnings) == 1
    assert seen.warnings[0].startswith("Memory in MiB: ") and "expected to cross 1100 in" in seen.warnings[0]
    assert seen.alert is None


def test_steady_memory_and_no_errors_warn_of_nothing(project: Project) -> None:
    fill(project, memory_mib=500 + 5 * noise)
    seen = looked(project, goal(max_memory_mib=1100))
    assert seen.warnings == () and seen.alert is None
    assert seen.told[0] == "Error share: no error was counted."
    assert "no crossing" in seen.told[1]


def test_growing_errors_are_foretold_before_they_reach_the_bound(project: Project) -> None:
    fill(project, failing=np.clip(0.0002 * (minute - 60), 0.0002, 1) * (1 + 0.05 * noise))
    seen = looked(project, goal(slo=0.9))  # 0.036 now, 0.012 more an hour
    assert "Error share: " in seen.warnings[0] and "expected to cross 0.05" in seen.warnings[0]
    assert seen.alert is None


def test_an_unusual_latency_is_a_warning_and_no_alert(project: Project) -> None:
    slow = 0.02 + 0.002 * noise
    slow[-10:] = 0.5
    fill(project, slow=slow)
    seen = looked(project, goal())
    assert len(seen.warnings) == 1
    assert seen.warnings[0].startswith("p95 latency in ms: unusual since ") and "once in" in seen.warnings[0]
    assert seen.alert is None


def test_a_latency_as_ever_is_told(project: Project) -> None:
    fill(project, slow=0.02 + 0.002 * noise)
    seen = looked(project, goal())
    assert seen.warnings == ()
    assert any(told.startswith("p95 latency in ms: as usual over the newest 30 points") for told in seen.told)


def test_a_budget_that_burns_too_fast_is_an_alert(project: Project) -> None:
    fill(project, failing=0.03)
    seen = looked(project, goal(slo=0.999))
    assert seen.alert == "page"
    assert any(warning.startswith("Burn-rate alert (page)") for warning in seen.warnings)


def test_an_engine_without_requests_has_no_share_of_errors(project: Project) -> None:
    """Its counters are there and stand still, so that every share is none of none."""
    fill(project, failing=0.01, requests=0)
    seen = looked(project, goal())
    assert (seen.warnings, seen.alert) == ((), None)
    assert seen.told == ("Error share: no finite reading.",)


def test_an_unwatched_engine_is_told_and_not_judged(project: Project) -> None:
    fill(project)
    seen = looked(project, goal(max_memory_mib=100.0))
    assert seen.warnings == ()
    assert seen.told[1] == "Memory: not measured."


@pytest.mark.parametrize("horizon, ahead", [("7 d", (604800.0, "s")), ("90min", (5400.0, "s")), ("", None)])
def test_a_horizon_is_a_number_with_a_unit(horizon: str, ahead: object) -> None:
    assert goal(horizon=horizon).watch.ahead == ahead
    assert goal(horizon="5000 rows").watch.ahead == (5000.0, "rows")


@pytest.mark.parametrize("horizon", ["7", "soon", "3 months", "0 d", "-1 d"])
def test_other_horizons_are_refused_with_what_is_valid(horizon: str) -> None:
    with pytest.raises(ValueError, match="number with a unit"):
        goal(horizon=horizon)
