"""Decide whether the champion's loss of quality calls for action."""

from pydantic import Field

from tasks import detect_drift, establish_champion, foresee
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, data_of
from tasks.common import scoring, slices


class Result(TaskResult):
    """`reference_value` and `current_value` are the goal's metric of the champion, before and now."""

    act: bool = Field(description="as the judge decided")
    reference_value: float
    current_value: float
    reasons: list[str]


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    paths = slices(inputs)
    champion = inputs.need("establish_champion", establish_champion.Result)
    drift = inputs.need("detect_drift", detect_drift.Result)
    shared = scoring(goal)
    before = data_of(
        (
            yield call(
                "mlflow",
                "evaluate_model",
                model_uri=champion.model_uri,
                data=paths["reference_holdout"],
                **shared,
            )
        ),
        "evaluating the champion on the reference holdout",
    )
    now = data_of(
        (yield call("mlflow", "evaluate_model", model_uri=champion.model_uri, data=paths["current_all"], **shared)),
        "evaluating the champion on the current data",
    )
    minimum = {"min_metric": goal.constraints.min_metric} if goal.constraints.min_metric is not None else {}
    decision = data_of(
        (
            yield call(
                "judge",
                "decide_retraining",
                reference_scores=before["scores_path"],
                current_scores=now["scores_path"],
                metric=goal.metric,
                task=goal.task,
                drift_share=drift.share_drifted,
                **minimum,
            )
        ),
        "deciding whether to act",
    )
    expected = foresee.reason_to_act(inputs)
    return Result(
        act=decision["act"] or bool(expected),
        reference_value=decision["reference_value"],
        current_value=decision["current_value"],
        reasons=[*decision["reasons"], *expected],
        summary=" ".join([decision["message"], *expected]),
    )


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    decision = evidence.last("judge", "decide_retraining")
    if decision is None:
        return ["nothing was decided (judge decide_retraining did not succeed)"]
    expected = foresee.reason_to_act(evidence.inputs)
    if result.act != (decision["act"] or bool(expected)):
        forecast = " and the forecast calls for action" if expected else ""
        return [f"act is {result.act}, the judge decided {decision['act']}{forecast}"]
    return []
