"""Watch production after the release, on the traffic that is left; a new champion is on probation meanwhile."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from tasks import canary, check_data, outlook
from tasks.base import Evidence, Inputs, Runbook, Steps, TaskResult, call, expect, succeed
from tasks.decision import decided
from tasks.outlook import production_outlook
from tools.core.grants import Grant, grant
from tools.core.results import Status
from tools.integrations.judge.canary_spec import ProbationVerdict
from tools.integrations.prometheus.spec import Watched
from tools.integrations.serving.spec import ServingStatus, Traffic

WATCH_S = 2.0
LOOKBACK_S = 60.0  # beside the time that the traffic took
WATCH_BATCH = 10_000  # apart from the canary's batches in the evidence
MAX_ERROR_RATE = 0.01  # where the goal names none


CALLS: dict[str, tuple[str, ...]] = {
    "serving.status": (),
    "prometheus.watch": ("seconds",),
    "serving.send_traffic": (),
    "serving.record_labels": (),
    "judge.judge_probation": (),
    "serving.end_probation": (),
    "prometheus.query": (),
    "prometheus.query_range": (),
    "judge.forecast_threshold": (
        "series",
        "threshold",
    ),
    "judge.burn_rate": ("series",),
    "judge.find_anomalies": ("series",),
}


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
    status = expect((yield call("serving", "status")), ServingStatus, "reading what production serves")
    if not status.running or status.metrics_url is None:
        return Result(healthy=False, error_rate=None, latency_p95_ms=None, summary="Production does not answer.")
    target = status.metrics_url
    # Counters tell nothing by themselves: this reading is what the later one is compared with.
    baseline = yield call("prometheus", "watch", target=target, seconds=0.0)
    if baseline.status is not Status.NO_DATA:
        succeed(baseline, "reading the metrics")
    on_probation = bool(status.former_version)
    sent, found = yield from _traffic(inputs, on_probation)
    unanswered, lookback_s = sum(batch.failed_requests for batch in sent), _lookback_s(sent)
    watched = expect(
        (yield call("prometheus", "watch", target=target, seconds=WATCH_S, interval=1.0, lookback=lookback_s)),
        Watched,
        "watching production",
    )
    ahead = yield from production_outlook(inputs.goal, target, _max_error_rate(inputs))
    problems = _problems(inputs, watched)
    if unanswered:
        problems.append(f"{unanswered} requests got no answer")
    if found is not None and found.verdict == "restore":
        problems.append(f"harm is proven on requests after those the canary was judged on: {found.reasons[0]}")
    if on_probation and not problems:
        # Otherwise the former champion stays loaded: bringing it back then takes no time.
        succeed((yield call("serving", "end_probation")), "ending the probation")
    rate = watched.error_rate
    measured = "" if rate is None else f" Error rate {rate:.4f} over {watched.requests:.0f} requests."
    told = "" if found is None or found.verdict == "restore" else f" Probation: {found.reasons[0]}"
    story = "Production is healthy." if not problems else f"Production is not healthy: {'; '.join(problems)}"
    return Result(
        healthy=not problems,
        error_rate=rate,
        latency_p95_ms=watched.latency_p95_ms,
        probation=found.verdict if found is not None else None,
        probation_reasons=found.reasons if found is not None else [],
        warnings=list(ahead.warnings),
        summary=" ".join([f"{story.rstrip('.')}.{measured}{told}", *(f"Warning: {w}" for w in ahead.warnings)]),
    )


def _lookback_s(sent: list[Traffic]) -> float:
    """Reaches back to the reading before the traffic, however long a busy machine took for that."""
    return LOOKBACK_S + math.ceil(sum(batch.took_s for batch in sent))


def _traffic(inputs: Inputs, on_probation: bool) -> Steps[tuple[list[Traffic], ProbationVerdict | None]]:
    """Send what is left of the live slice and judge what was not judged before the promotion.

    Returns:
        What was sent, and the last verdict of the probation (None where nothing was judged).
    """
    load = _load(inputs, on_probation)
    start, batch, done, found, batches = load.start, WATCH_BATCH, 0, None, list[Traffic]()
    while True:
        arguments = _batch(inputs, load, start, batch, done)
        sent = expect((yield call("serving", "send_traffic", **arguments)), Traffic, "sending traffic")
        start, batch, done = sent.next_start, batch + 1, done + sent.requests
        batches.append(sent)
        if on_probation and (table := canary.label_table(inputs, sent)) is not None:
            succeed((yield call("serving", "record_labels", **table)), "recording labels")
        if on_probation and _is_judgeable(inputs, load):
            first = _first_unjudged(inputs)
            shared = canary.judging(inputs.goal)
            found = expect(
                (yield call("judge", "judge_probation", evidence=sent.evidence_path, start=first, **shared)),
                ProbationVerdict,
                "judging the probation",
            )
            if found.verdict == "restore":
                break
        if not sent.rows_left or done >= load.limit:
            break
    return batches, found


def _max_error_rate(inputs: Inputs) -> float:
    stated = inputs.goal.canary.max_error_rate
    return MAX_ERROR_RATE if stated is None else stated


def _problems(inputs: Inputs, watched: Watched) -> list[str]:
    problems: list[str] = []
    bound = _max_error_rate(inputs)
    if watched.error_rate is None:
        problems.append("no request was measured")
    elif watched.error_rate > bound:
        problems.append(f"error rate {watched.error_rate:.4f} is above {bound:g}")
    return problems


@dataclass(frozen=True)
class _Load:
    """What is sent: from which row, how many requests at most, and whether they are new evidence."""

    start: int
    limit: int
    fresh: bool
    on_probation: bool


def _load(inputs: Inputs, on_probation: bool) -> _Load:
    goal, delay = inputs.goal, inputs.goal.canary.label_delay_requests
    rows = inputs.need("check_data", check_data.Result).live_rows
    # All sent already: they serve once more, as load. They were judged, so they are no new evidence; only the
    # canary's last requests, whose labels come meanwhile, are.
    next_row = decided(inputs).next_row
    fresh = next_row < rows
    wanted = (
        goal.canary.probation_requests if goal.canary.probation_requests is not None else goal.canary.batch_requests
    )
    limit = 1 if not on_probation else max(wanted, 1) + delay if fresh else max(delay, 1)
    return _Load(next_row if fresh else 0, limit, fresh, on_probation)


def _batch(inputs: Inputs, load: _Load, start: int, batch: int, done: int) -> dict[str, Any]:
    """The arguments of the next batch, after `done` requests."""
    arguments = canary.traffic(inputs, start, batch)
    if load.on_probation and inputs.goal.canary.label_delay_requests and not load.fresh:
        arguments["rows"] = min(arguments["rows"], load.limit - done)
    return arguments


def _first_unjudged(inputs: Inputs) -> int:
    """First request whose label the canary's judge did not know."""
    judged = inputs.need("canary", canary.Result)
    return max(0, judged.requests - inputs.goal.canary.label_delay_requests)


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    found = [grant("serving.status")]
    # The first: it says whether there is a probation.
    status = next((data for _, data in done.all("serving.status", ServingStatus)), None)
    if status is None or not status.running:
        return found
    target, on_probation = status.metrics_url, bool(status.former_version)
    load = _load(inputs, on_probation)
    sent = [data for _, data in done.all("serving.send_traffic", Traffic)]
    start, requests = (sent[-1].next_start if sent else load.start), sum(data.requests for data in sent)
    found += [
        grant("prometheus.watch", target=target, seconds=0.0),
        grant("prometheus.watch", target=target, seconds=WATCH_S, interval=1.0, lookback=_lookback_s(sent)),
        *outlook.grants(inputs.goal, done, _max_error_rate(inputs)),
    ]
    if any(judged.verdict == "restore" for _, judged in done.all("judge.judge_probation", ProbationVerdict)):
        return found  # harm is proven: nothing more is sent, judged or ended
    is_judged = not on_probation or done.is_newer("judge.judge_probation", than="serving.send_traffic")
    if requests < load.limit and (not sent or is_judged or not _is_judgeable(inputs, load)):
        found.append(canary.next_batch(_batch(inputs, load, start, WATCH_BATCH + len(sent), requests)))
    if not sent or not on_probation:
        return found
    found += canary.granted_labels(inputs, sent[-1])
    if _is_judgeable(inputs, load):
        path = sent[-1].evidence_path
        found.append(grant("judge.judge_probation", evidence=path, start=_first_unjudged(inputs)))
    if _may_end(inputs, done, load):
        found.append(grant("serving.end_probation"))
    return found


def _is_judgeable(inputs: Inputs, load: _Load) -> bool:
    """Whether there are requests, or labels, that the canary was not judged on."""
    return load.fresh or bool(inputs.goal.canary.label_delay_requests)


def _may_end(inputs: Inputs, done: Evidence, load: _Load) -> bool:
    """A probation ends once it was judged, where it can be, and nothing speaks against the new champion."""
    judged = done.last("judge.judge_probation", ProbationVerdict)
    watched = [data for given, data in done.all("prometheus.watch", Watched) if given["seconds"] > 0]
    if not watched or _problems(inputs, watched[-1]) or (_is_judgeable(inputs, load) and judged is None):
        return False
    return judged is None or judged.verdict != "restore"


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    judged = evidence.last("judge.judge_probation", ProbationVerdict)
    if result.probation is not None and (judged is None or judged.verdict != result.probation):
        return [f"probation is {result.probation!r}, the judge said {judged.verdict if judged else 'nothing'!r}"]
    if result.healthy and judged is not None and judged.verdict == "restore":
        return ["healthy is true, but the judge found harm in the probation"]
    watched = evidence.last("prometheus.watch", Watched)
    if watched is None:
        return [] if not result.healthy else ["healthy is true, but production was not watched"]
    if result.healthy and _problems(evidence.inputs, watched):
        return [f"healthy is true, but {'; '.join(_problems(evidence.inputs, watched))}"]
    return []
