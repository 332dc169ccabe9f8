"""Watch production after the release, on the traffic that is left."""

from typing import Any

from pydantic import Field

from tasks import check_data, version_data
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, data_of
from tasks.decision import decided
from tools.core.results import Status

WATCH_S = 2.0
LOOKBACK_S = 60.0
WATCH_BATCH = 10_000  # apart from the canary's batches in the evidence
MAX_ERROR_RATE = 0.01  # where the goal names none


class Result(TaskResult):
    healthy: bool
    error_rate: float | None = Field(description="share of requests, 0 to 1; null when nothing was measured")
    latency_p95_ms: float | None


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    judged = decided(inputs)
    status = data_of((yield call("serving", "status")), "reading what production serves")
    if not status["running"]:
        return Result(healthy=False, error_rate=None, latency_p95_ms=None, summary="Production does not answer.")
    target = status["metrics_url"]
    # Counters tell nothing by themselves: this reading is what the later one is compared with.
    baseline = yield call("prometheus", "watch", target=target, seconds=0.0)
    if baseline.status is not Status.NO_DATA:
        data_of(baseline, "reading the metrics")
    live = inputs.need("check_data", check_data.Result).slices["live"]
    rows = inputs.need("version_data", version_data.Result).rows["live"]
    start = judged.next_row if judged.next_row < rows else 0  # all sent already: they serve once more, as load
    sent = data_of(
        (
            yield call(
                "serving",
                "send_traffic",
                data=live,
                target=goal.target,
                task=goal.task,
                start=start,
                rows=goal.canary.batch_requests,
                batch=WATCH_BATCH,
                seed=inputs.seed,
            )
        ),
        "sending traffic",
    )
    watched = data_of(
        (yield call("prometheus", "watch", target=target, seconds=WATCH_S, interval=1.0, lookback=LOOKBACK_S)),
        "watching production",
    )
    problems = _problems(inputs, watched)
    if sent["failed_requests"]:
        problems.append(f"{sent['failed_requests']} requests got no answer")
    rate = watched["error_rate"]
    measured = "" if rate is None else f" Error rate {rate:.4f} over {watched['requests']:.0f} requests."
    return Result(
        healthy=not problems,
        error_rate=rate,
        latency_p95_ms=watched["latency_p95_ms"],
        summary=(f"Production is not healthy: {'; '.join(problems)}." if problems else "Production is healthy.")
        + measured,
    )


def _problems(inputs: Inputs, watched: dict[str, Any]) -> list[str]:
    problems: list[str] = []
    bound = inputs.goal.canary.max_error_rate
    bound = MAX_ERROR_RATE if bound is None else bound
    if watched["error_rate"] is None:
        problems.append("no request was measured")
    elif watched["error_rate"] > bound:
        problems.append(f"error rate {watched['error_rate']:.4f} is above {bound:g}")
    return problems


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    watched = evidence.last("prometheus", "watch")
    if watched is None:
        return [] if not result.healthy else ["healthy is true, but production was not watched"]
    if result.healthy and _problems(evidence.inputs, watched):
        return [f"healthy is true, but {'; '.join(_problems(evidence.inputs, watched))}"]
    return []
