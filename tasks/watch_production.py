"""Watch production after the release, on the traffic that is left."""

from typing import Any

from pydantic import Field

from tasks import canary
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, data_of
from tasks.common import slices

WATCH_S = 2.0
LOOKBACK_S = 300.0
MAX_ERROR_RATE = 0.01  # where the goal names none


class Result(TaskResult):
    healthy: bool
    error_rate: float | None = Field(description="share of requests, 0 to 1; null when nothing was measured")
    latency_p95_ms: float | None


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    judged = inputs.need("canary", canary.Result)
    status = data_of((yield call("serving", "status")), "reading what production serves")
    if not status["running"]:
        return Result(healthy=False, error_rate=None, latency_p95_ms=None, summary="Production does not answer.")
    data = slices(inputs)["live"]
    sent = yield call(
        "serving",
        "send_traffic",
        data=data,
        target=goal.target,
        task=goal.task,
        start=judged.next_row,
        rows=goal.canary.batch_requests,
        batch=10_000,  # apart from the canary's batches
        seed=inputs.seed,
    )
    failed_requests = int(sent.data["failed_requests"]) if sent.ok and sent.data else 0
    watched = data_of(
        (
            yield call(
                "prometheus",
                "watch",
                target=status["metrics_url"],
                seconds=WATCH_S,
                interval=1.0,
                lookback=LOOKBACK_S,
            )
        ),
        "watching production",
    )
    problems = _problems(inputs, watched)
    if failed_requests:
        problems.append(f"{failed_requests} requests got no answer")
    rate = watched["error_rate"]
    measured = "" if rate is None else f" Error rate {rate:.4f}."
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
    if watched["error_rate"] is not None and watched["error_rate"] > bound:
        problems.append(f"error rate {watched['error_rate']:.4f} is above {bound:g}")
    return problems


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    watched = evidence.last("prometheus", "watch")
    if watched is None:
        return [] if not result.healthy else ["healthy is true, but production was not watched"]
    if result.healthy and _problems(evidence.inputs, watched):
        return [f"healthy is true, but {'; '.join(_problems(evidence.inputs, watched))}"]
    return []
