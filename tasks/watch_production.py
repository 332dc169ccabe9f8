"""Watch production after the release, on the traffic that is left; a new champion is on probation meanwhile."""

from collections.abc import Generator
from typing import Any, Literal

from pydantic import Field

from tasks import canary, version_data
from tasks.base import Evidence, Inputs, Runbook, TaskResult, ToolCall, call, data_of
from tasks.decision import decided
from tasks.outlook import production_outlook
from tools.core.results import Status, ToolResult

WATCH_S = 2.0
LOOKBACK_S = 60.0
WATCH_BATCH = 10_000  # apart from the canary's batches in the evidence
MAX_ERROR_RATE = 0.01  # where the goal names none


class Result(TaskResult):
    """`probation`: what the judge said of the requests that were not judged before the promotion; null without one.
    `warnings`: what production's own metrics foretell; they say nothing on whether it is healthy now."""

    healthy: bool
    error_rate: float | None = Field(description="share of requests, 0 to 1; null when nothing was measured")
    latency_p95_ms: float | None
    probation: Literal["restore", "confirmed", "open"] | None = None
    probation_reasons: list[str] = Field(default_factory=list[str])
    warnings: list[str] = Field(default_factory=list[str])


def runbook(inputs: Inputs) -> Runbook:
    judged = inputs.need("canary", canary.Result)
    status = data_of((yield call("serving", "status")), "reading what production serves")
    if not status["running"]:
        return Result(healthy=False, error_rate=None, latency_p95_ms=None, summary="Production does not answer.")
    target = status["metrics_url"]
    # Counters tell nothing by themselves: this reading is what the later one is compared with.
    baseline = yield call("prometheus", "watch", target=target, seconds=0.0)
    if baseline.status is not Status.NO_DATA:
        data_of(baseline, "reading the metrics")
    on_probation = bool(status["former_version"])
    unanswered, found = yield from _traffic(inputs, judged, on_probation)
    watched = data_of(
        (yield call("prometheus", "watch", target=target, seconds=WATCH_S, interval=1.0, lookback=LOOKBACK_S)),
        "watching production",
    )
    ahead = yield from production_outlook(inputs.goal, target, _max_error_rate(inputs))
    problems = _problems(inputs, watched)
    if unanswered:
        problems.append(f"{unanswered} requests got no answer")
    if found is not None and found["verdict"] == "restore":
        problems.append(f"harm is proven on requests after those the canary was judged on: {found['reasons'][0]}")
    if on_probation and not problems:
        # Otherwise the former champion stays loaded: bringing it back then takes no time.
        data_of((yield call("serving", "end_probation")), "ending the probation")
    rate = watched["error_rate"]
    measured = "" if rate is None else f" Error rate {rate:.4f} over {watched['requests']:.0f} requests."
    told = "" if found is None or found["verdict"] == "restore" else f" Probation: {found['reasons'][0]}"
    story = "Production is healthy." if not problems else f"Production is not healthy: {'; '.join(problems)}"
    return Result(
        healthy=not problems,
        error_rate=rate,
        latency_p95_ms=watched["latency_p95_ms"],
        probation=found["verdict"] if found is not None else None,
        probation_reasons=found["reasons"] if found is not None else [],
        warnings=list(ahead.warnings),
        summary=" ".join([f"{story.rstrip('.')}.{measured}{told}", *(f"Warning: {w}" for w in ahead.warnings)]),
    )


def _traffic(
    inputs: Inputs, judged: canary.Result, on_probation: bool
) -> Generator[ToolCall, ToolResult, tuple[int, dict[str, Any] | None]]:
    """Send what is left of the live slice and judge what was not judged before the promotion.

    Returns:
        Number of requests without an answer, and the last verdict of the probation (None where nothing was judged).
    """
    goal, delay = inputs.goal, inputs.goal.canary.label_delay_requests
    rows = inputs.need("version_data", version_data.Result).rows["live"]
    # All sent already: they serve once more, as load. They were judged, so they are no new evidence; only the
    # canary's last requests, whose labels come meanwhile, are.
    next_row = decided(inputs).next_row
    fresh = next_row < rows
    start = next_row if fresh else 0
    wanted = (
        goal.canary.probation_requests if goal.canary.probation_requests is not None else goal.canary.batch_requests
    )
    limit = 1 if not on_probation else max(wanted, 1) + delay if fresh else max(delay, 1)
    unanswered, batch, done, found = 0, WATCH_BATCH, 0, None
    while True:
        arguments = canary.traffic(inputs, start, batch)
        if on_probation and delay and not fresh:
            arguments["rows"] = min(arguments["rows"], limit - done)
        sent = data_of((yield call("serving", "send_traffic", **arguments)), "sending traffic")
        start, batch, done = sent["next_start"], batch + 1, done + sent["requests"]
        unanswered += sent["failed_requests"]
        if on_probation and (table := canary.label_table(inputs, sent)) is not None:
            data_of((yield call("serving", "record_labels", **table)), "recording labels")
        if on_probation and (fresh or delay):
            first = max(0, judged.requests - delay)
            shared = canary.judging(goal)
            found = data_of(
                (yield call("judge", "judge_probation", evidence=sent["evidence_path"], start=first, **shared)),
                "judging the probation",
            )
            if found["verdict"] == "restore":
                break
        if not sent["rows_left"] or done >= limit:
            break
    return unanswered, found


def _max_error_rate(inputs: Inputs) -> float:
    stated = inputs.goal.canary.max_error_rate
    return MAX_ERROR_RATE if stated is None else stated


def _problems(inputs: Inputs, watched: dict[str, Any]) -> list[str]:
    problems: list[str] = []
    bound = _max_error_rate(inputs)
    if watched["error_rate"] is None:
        problems.append("no request was measured")
    elif watched["error_rate"] > bound:
        problems.append(f"error rate {watched['error_rate']:.4f} is above {bound:g}")
    return problems


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    judged = evidence.last("judge", "judge_probation")
    if result.probation is not None and (judged is None or judged["verdict"] != result.probation):
        return [f"probation is {result.probation!r}, the judge said {judged['verdict'] if judged else 'nothing'!r}"]
    if result.healthy and judged is not None and judged["verdict"] == "restore":
        return ["healthy is true, but the judge found harm in the probation"]
    watched = evidence.last("prometheus", "watch")
    if watched is None:
        return [] if not result.healthy else ["healthy is true, but production was not watched"]
    if result.healthy and _problems(evidence.inputs, watched):
        return [f"healthy is true, but {'; '.join(_problems(evidence.inputs, watched))}"]
    return []
