"""Serve the challenger to a small share of the traffic and judge it batch by batch."""

from typing import Any, Literal

from pydantic import Field

from tasks import establish_champion, register_challenger
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, data_of
from tasks.common import slices


class Result(TaskResult):
    """`verdict` is the judge's last one; `wait`, and `undecided`, when the requests were used up before it was sure."""

    verdict: Literal["promote", "rollback", "wait"]
    undecided: bool
    requests: int
    champion_value: float | None
    challenger_value: float | None
    evidence_path: str
    reasons: list[str]
    next_row: int = Field(description="first row of the live slice that was not sent")


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    champion = inputs.need("establish_champion", establish_champion.Result)
    challenger = inputs.need("register_challenger", register_challenger.Result)
    data_of(
        (
            yield call(
                "serving",
                "deploy_model",
                model_uri=champion.model_uri,
                version=str(champion.version),
                name=goal.registered_model,
            )
        ),
        "serving the champion",
    )
    data_of(
        (
            yield call(
                "serving",
                "start_canary",
                model_uri=challenger.model_uri,
                version=str(challenger.version),
                percent=goal.canary.percent,
                seed=inputs.seed,
            )
        ),
        "starting the canary",
    )
    accepted = {
        name: value
        for name, value in (
            ("tolerance", goal.canary.tolerance),
            ("max_error_rate", goal.canary.max_error_rate),
            ("max_latency_ms", goal.constraints.max_latency_ms),
        )
        if value is not None
    }
    start, batch = 0, 0
    while True:
        sent = data_of(
            (
                yield call(
                    "serving",
                    "send_traffic",
                    data=slices(inputs)["live"],
                    target=goal.target,
                    task=goal.task,
                    start=start,
                    rows=goal.canary.batch_requests,
                    batch=batch,
                    seed=inputs.seed,
                )
            ),
            "sending traffic",
        )
        start, batch = sent["next_start"], batch + 1
        judged = data_of(
            (
                yield call(
                    "judge",
                    "judge_canary",
                    evidence=sent["evidence_path"],
                    metric=goal.metric,
                    task=goal.task,
                    alpha=goal.canary.alpha,
                    **accepted,
                )
            ),
            "judging the canary",
        )
        if judged["verdict"] != "wait" or not sent["rows_left"] or start >= goal.canary.max_requests:
            break
    return Result(
        verdict=judged["verdict"],
        undecided=judged["verdict"] == "wait",
        requests=judged["requests"],
        champion_value=judged["champion_value"],
        challenger_value=judged["challenger_value"],
        evidence_path=sent["evidence_path"],
        reasons=judged["reasons"],
        next_row=start,
        summary=_story(judged),
    )


def _story(judged: dict[str, Any]) -> str:
    """The judge's sentence, with what both models achieved on the same requests."""
    champion, challenger = judged["champion_value"], judged["challenger_value"]
    if champion is None or challenger is None:
        return str(judged["message"])
    return (
        f"{judged['message']} On the same requests: {judged['measure']} {challenger:.4f} for the challenger, "
        f"{champion:.4f} for the champion."
    )


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    judged = evidence.last("judge", "judge_canary")
    if judged is None:
        return ["the canary was not judged (judge judge_canary did not succeed)"]
    if result.verdict != judged["verdict"]:
        return [f"verdict is {result.verdict!r}, the judge said {judged['verdict']!r}"]
    if result.undecided != (result.verdict == "wait"):
        return ["undecided must be true exactly where the verdict is 'wait'"]
    if not evidence.succeeded("serving", "send_traffic"):
        return ["no traffic was sent to the canary"]
    return []
