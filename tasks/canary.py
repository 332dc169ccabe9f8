"""Serve the challenger to a small share of the traffic and judge it batch by batch."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from tasks import establish_champion, register_challenger, train_challenger
from tasks.base import Evidence, Inputs, Runbook, TaskResult, ToolCall, call, expect, succeed
from tasks.common import slices
from tasks.goal import Goal
from tools.core.grants import Grant, grant
from tools.core.waiting import Wait
from tools.integrations.judge.canary_spec import CanaryVerdict
from tools.integrations.serving.spec import Production, RecordedLabels, Traffic

GOAL_BOUND = ("target", "task", "seed")
NOT_ANSWERED = {  # why the champion answered in its place
    "slow": "where it gave no answer in time",
    "failed": "where it failed",
    "lost": "where its process was gone",
}
CALLS: dict[str, tuple[str, ...]] = {
    "serving.deploy_model": (),
    "serving.start_canary": (),
    "serving.set_traffic": (),
    "serving.send_traffic": (),
    "serving.record_labels": (),
    "judge.judge_canary": (),
}


class Result(TaskResult):
    """`verdict` is the judge's last one; `wait`, and `undecided`, when the requests were used up before it was sure."""

    verdict: Literal["promote", "rollback", "wait"]
    undecided: bool
    requests: int
    champion_value: float | None
    challenger_value: float | None
    evidence_path: str
    challenger_digest: str = Field("", description="SHA-256 of the challenger's files, as judged")
    evidence_digest: str = Field("", description="SHA-256 of the evidence, as judged")
    reasons: list[str]
    next_row: int = Field(description="first row of the live slice that was not sent")


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    challenger = inputs.need("register_challenger", register_challenger.Result)
    succeed(
        (yield call("serving", "deploy_model", **_stable(inputs), name=goal.registered_model)), "serving the champion"
    )
    begun = expect((yield call("serving", "start_canary", **_started(inputs))), Production, "starting the canary")
    expected = _expected(inputs)
    share, shares, may_raise = begun.canary_percent, [begun.canary_percent], True
    start, batches = 0, list[Traffic]()
    while True:
        asked = call("serving", "send_traffic", **traffic(inputs, start, len(batches)))
        sent = expect((yield asked), Traffic, "sending traffic")
        batches.append(sent)
        start = sent.next_start
        if (table := label_table(inputs, sent)) is not None:
            succeed((yield call("serving", "record_labels", **table)), "recording labels")
        judged = expect((yield _judge(goal, sent, expected)), CanaryVerdict, "judging the canary")
        if judged.verdict != "wait" or _used_up(goal, sent):
            break
        wanted = next_share(goal, share, held=judged.held, harm_ruled_out=judged.harm_ruled_out)
        if wanted != share and (may_raise or not 0 < share < wanted):
            # Signs against the challenger, and no labels yet: it answers nobody until they decide, and scores on in the
            # shadow. A refusal changes nothing but that users go on getting its share; a raise is not asked for twice.
            changed = yield call("serving", "set_traffic", percent=wanted)
            may_raise &= changed.ok or wanted < share
            if changed.ok:
                share = wanted
                shares.append(share)
    while judged.verdict == "wait" and goal.canary.wait_for_labels_s and table is not None:
        # No process is held meanwhile; what it was, the canary is again when the run goes on.
        what = f"the canary of version {challenger.version} waits for labels in {goal.canary.labels}"
        yield Wait("labels", what, path=goal.canary.labels, for_s=goal.canary.wait_for_labels_s)
        news = expect((yield call("serving", "record_labels", **table)), RecordedLabels, "recording labels")
        if not news.recorded:
            break  # the time was up, or the table says nothing new
        judged = expect((yield _judge(goal, sent, expected)), CanaryVerdict, "judging the canary")
    return Result(
        verdict=judged.verdict,
        undecided=judged.verdict == "wait",
        requests=judged.requests,
        champion_value=judged.champion_value,
        challenger_value=judged.challenger_value,
        evidence_path=sent.evidence_path,
        challenger_digest=judged.challenger_digest or "",
        evidence_digest=judged.evidence_digest,
        reasons=judged.reasons,
        next_row=start,
        summary=_story(judged, batches, shares),
    )


def _stable(inputs: Inputs) -> dict[str, Any]:
    """What serves all traffic beside the canary."""
    champion = inputs.need("establish_champion", establish_champion.Result)
    return {"model_uri": champion.model_uri, "version": str(champion.version)}


def _started(inputs: Inputs) -> dict[str, Any]:
    """The canary, as it is started."""
    challenger = inputs.need("register_challenger", register_challenger.Result)
    return {
        "model_uri": challenger.model_uri,
        "version": str(challenger.version),
        "percent": inputs.goal.canary.percent,
        "seed": inputs.seed,
        "digest": inputs.need("train_challenger", train_challenger.Result).challenger_digest,
    }


def next_share(goal: Goal, share: float, *, held: bool, harm_ruled_out: bool) -> float:
    """The share in percent until the next look, by the verdict of this one: none under an alarm, twice as much where
    harm is ruled out."""
    if held:
        return 0.0
    if not share:
        return goal.canary.percent
    return max(share, min(2 * share, goal.canary.max_percent)) if harm_ruled_out else share


def _used_up(goal: Goal, sent: Traffic) -> bool:
    """Whether there are no more requests: all whose labels can be known within the limit, and those after them, which
    are sent only to let time pass."""
    return not sent.rows_left or sent.next_start >= goal.canary.max_requests + goal.canary.label_delay_requests


def _judge(goal: Goal, sent: Traffic, expected: dict[str, Any]) -> ToolCall:
    late = {"min_label_share": goal.canary.min_label_share} if goal.canary.label_delay_requests else {}
    return call("judge", "judge_canary", evidence=sent.evidence_path, **judging(goal), **late, **expected)


def traffic(inputs: Inputs, start: int, batch: int) -> dict[str, Any]:
    """The arguments of a batch of requests from the live slice."""
    goal = inputs.goal
    optional = {"label_delay": goal.canary.label_delay_requests, "segment": goal.canary.segment}
    return {
        "data": slices(inputs)["live"],
        "target": goal.target,
        "task": goal.task,
        "start": start,
        "rows": goal.canary.batch_requests,
        "batch": batch,
        "seed": inputs.seed,
        **{name: value for name, value in optional.items() if value},
    }


def label_table(inputs: Inputs, sent: Traffic) -> dict[str, Any] | None:
    """The arguments that add the late labels known by now to the evidence; None where labels come at once."""
    goal = inputs.goal
    if not goal.canary.label_delay_requests:
        return None
    return {
        "evidence": sent.evidence_path,
        "labels": goal.canary.labels or sent.labels_path,
        "task": goal.task,
    }


def judging(goal: Goal) -> dict[str, Any]:
    """What the judge is told of the goal, in the canary and in the probation after it."""
    optional = {
        "tolerance": goal.canary.tolerance,
        "max_error_rate": goal.canary.max_error_rate,
        "max_latency_ms": goal.constraints.max_latency_ms,
        "label_delay": goal.canary.label_delay_requests or None,
    }
    return {
        "metric": goal.metric,
        "task": goal.task,
        "alpha": goal.canary.alpha,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _story(judged: CanaryVerdict, batches: Sequence[Traffic], shares: list[float]) -> str:
    """The judge's sentence, with what both models achieved on the same requests, and who answered them."""
    champion, challenger, told = judged.champion_value, judged.challenger_value, judged.message
    if champion is not None and challenger is not None:
        told += (
            f" On the same requests: {judged.measure} {challenger:.4f} for the challenger, {champion:.4f} for the "
            "champion."
        )
    if max(shares) > shares[0]:
        told += f" Its share was raised from {shares[0]:g} to {max(shares):g} % once harm was ruled out."
    fallbacks = sum((Counter(sent.fallbacks) for sent in batches), Counter[str]())
    if fallbacks:
        why = " and ".join(f"{count} {NOT_ANSWERED[name]}" for name, count in fallbacks.items())
        told += (
            f" {fallbacks.total()} of the {sum(sent.routed for sent in batches)} requests routed to the challenger "
            f"were answered by the champion: {why}."
        )
    left_out = sum(side.left_out for sent in batches for side in (sent.champion, sent.challenger) if side is not None)
    if left_out:
        told += f" {left_out} scores in the shadow were left out, because too much was waiting."
    return told


def _expected(inputs: Inputs) -> dict[str, str]:
    """What both models scored on the holdout, as arguments of the judge."""
    trained = inputs.get("train_challenger", train_challenger.Result)
    if trained is None or not trained.champion_scores or not trained.challenger_scores:
        return {}
    return {"champion_holdout": trained.champion_scores, "challenger_holdout": trained.challenger_scores}


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    """One step after the other: the canary is set up once, and each batch is judged before the next one is sent."""
    goal = inputs.goal
    sent = [data for _, data in done.all("serving.send_traffic", Traffic)]
    judged = [data for _, data in done.all("judge.judge_canary", CanaryVerdict)]
    if any(verdict.verdict != "wait" for verdict in judged):
        return []  # a verdict is final: it cannot be judged away with more requests, nor with another canary
    found: list[Grant] = []
    if not done.succeeded("serving.start_canary"):
        found.append(grant("serving.deploy_model", **_stable(inputs)))
    if done.succeeded("serving.deploy_model") and not sent:
        found.append(grant("serving.start_canary", **_started(inputs)))
    is_judged = done.is_newer("judge.judge_canary", than="serving.send_traffic")
    if done.succeeded("serving.start_canary") and (not sent or (is_judged and not _used_up(goal, sent[-1]))):
        found.append(next_batch(traffic(inputs, sent[-1].next_start if sent else 0, len(sent))))
    # One step per verdict: each share is judged before the next.
    if is_judged and sent and not done.is_newer("serving.set_traffic", than="judge.judge_canary"):
        share, seen = _share(done), judged[-1]
        if share is not None:
            wanted = next_share(goal, share, held=seen.held, harm_ruled_out=seen.harm_ruled_out)
            found += [grant("serving.set_traffic", percent=wanted)] if wanted != share else []
    if sent:
        found.append(grant("judge.judge_canary", evidence=sent[-1].evidence_path, **_expected(inputs)))
        found += granted_labels(inputs, sent[-1])
    return found


def _share(done: Evidence) -> float | None:
    """The canary's share in percent, as production says; None before it was started."""
    changed = done.last("serving.set_traffic", Production) or done.last("serving.start_canary", Production)
    return None if changed is None else changed.canary_percent


def next_batch(arguments: dict[str, Any]) -> Grant:
    """The one batch of requests that may be sent next: which rows are evidence is nobody's choice."""
    return Grant("serving.send_traffic", {name: value for name, value in arguments.items() if name not in GOAL_BOUND})


def granted_labels(inputs: Inputs, sent: Traffic) -> list[Grant]:
    """The recording of late labels, where they come late."""
    table = label_table(inputs, sent)
    return [] if table is None else [grant("serving.record_labels", evidence=table["evidence"], labels=table["labels"])]


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    judged = evidence.last("judge.judge_canary", CanaryVerdict)
    if judged is None:
        return ["the canary was not judged (judge judge_canary did not succeed)"]
    if result.verdict != judged.verdict:
        return [f"verdict is {result.verdict!r}, the judge said {judged.verdict!r}"]
    if result.undecided != (result.verdict == "wait"):
        return ["undecided must be true exactly where the verdict is 'wait'"]
    compared = evidence.inputs.need("train_challenger", train_challenger.Result).challenger_digest
    digest = judged.challenger_digest or ""
    if result.challenger_digest != digest or result.evidence_digest != judged.evidence_digest:
        return ["challenger_digest and evidence_digest must be those of the judge's last verdict"]
    if compared and digest != compared:
        return ["the canary is not of the model that was compared with the champion"]
    if not evidence.succeeded("serving.send_traffic"):
        return ["no traffic was sent to the canary"]
    return []
