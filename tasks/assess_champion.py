"""Decide whether the champion's loss of quality calls for action."""

from pydantic import Field

from tasks import detect_drift, establish_champion, foresee, unlabelled, version_data
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect, returned
from tasks.common import scoring, slices
from tools.core.grants import Grant, grant
from tools.integrations.judge.champion_spec import PerformanceEstimate, RetrainingDecision, RetrainingPlan
from tools.integrations.mlflow.spec import Evaluation

CALLS: dict[str, tuple[str, ...]] = {
    "mlflow.evaluate_model": ("data",),
    "judge.decide_retraining": (),
    "judge.plan_retraining": (),
    "mlflow.score_rows": (),
    "judge.estimate_performance": (),
}


class Result(TaskResult):
    """`reference_value` and `current_value` are the goal's metric of the champion, before and now.

    `act`: it got worse beyond doubt, and retraining pays and has the rows for it; or the goal's minimum is breached; or
    it is expected to become harmful soon. `watch`: its estimate on rows without a label fell below the floor: a reason
    to look again, not to act.
    """

    act: bool = Field(description="as the judge decided and planned")
    reference_value: float
    current_value: float
    savings: float | None = Field(description="forecast, in rows answered without a model; null when not to be told")
    window: str = Field(description="what a challenger is to be trained on first")
    reasons: list[str]
    watch: bool = False


def acts(decision: RetrainingDecision, plan: RetrainingPlan | None) -> bool:
    """Whether to act on the judge's decision and plan (None: there are too few rows for one)."""
    if decision.breached_minimum or plan is None:
        return decision.act
    return decision.act and plan.pays and plan.enough_rows


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    paths = slices(inputs)
    champion = inputs.need("establish_champion", establish_champion.Result)
    drift = inputs.need("detect_drift", detect_drift.Result)
    shared = scoring(goal)
    before = expect(
        (
            yield call(
                "mlflow",
                "evaluate_model",
                model_uri=champion.model_uri,
                data=paths["reference_holdout"],
                **shared,
            )
        ),
        Evaluation,
        "evaluating the champion on the reference holdout",
    )
    now = expect(
        (yield call("mlflow", "evaluate_model", model_uri=champion.model_uri, data=paths["current_all"], **shared)),
        Evaluation,
        "evaluating the champion on the current data",
    )
    minimum = {"min_metric": goal.constraints.min_metric} if goal.constraints.min_metric is not None else {}
    decision = expect(
        (
            yield call(
                "judge",
                "decide_retraining",
                reference_scores=before.scores_path,
                current_scores=now.scores_path,
                metric=goal.metric,
                task=goal.task,
                drift_share=drift.share_drifted,
                **minimum,
            )
        ),
        RetrainingDecision,
        "deciding whether to act",
    )
    planned = yield call(
        "judge",
        "plan_retraining",
        reference_scores=before.scores_path,
        current_scores=now.scores_path,
        task=goal.task,
        cost=goal.retrain.cost,
        train_rows=trainable_rows(inputs, now.rows),
        **({"horizon": goal.retrain.horizon_rows} if goal.retrain.horizon_rows is not None else {}),
    )
    plan = returned(planned, RetrainingPlan)
    expected = foresee.reason_to_act(inputs)
    act = acts(decision, plan) or bool(expected)
    said = [_told(decision, act), *expected]
    if plan is not None and decision.act:
        said += [plan.message, *([] if act else ["So nothing is done yet."])]
    estimated = yield from unlabelled.estimate(inputs, champion.model_uri, before.scores_path)
    warning = unlabelled.to_watch(goal, estimated)
    warnings = [warning] if warning else []
    return Result(
        act=act,
        reference_value=decision.reference_value,
        current_value=decision.current_value,
        savings=None if plan is None else plan.savings,
        window="all" if plan is None else plan.window,
        reasons=[*decision.reasons, *expected, *([] if plan is None else plan.reasons), *warnings],
        watch=warning is not None,
        summary=" ".join([*said, *([estimated.message] if estimated else []), *warnings]),
    )


def _told(decision: RetrainingDecision, act: bool) -> str:
    """The judge's decision, in a sentence that agrees with what is done."""
    if decision.act == act:
        return decision.message
    return f"{'Proven worse' if decision.act else 'Not proven worse yet'}: {decision.reasons[0]}"


def trainable_rows(inputs: Inputs, labelled: int) -> int:
    """How many of the labelled current rows, from the first on, belong to the training slice."""
    rows = inputs.need("version_data", version_data.Result).rows
    share = rows["train"] / max(1, rows["current_all"])
    return max(1, round(labelled * share))


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    paths = slices(inputs)
    champion = inputs.need("establish_champion", establish_champion.Result).model_uri
    evaluate = "mlflow.evaluate_model"
    before, now = paths["reference_holdout"], paths["current_all"]
    found = [grant(evaluate, model_uri=champion, data=path) for path in (before, now)]
    reference = done.last(evaluate, Evaluation, model_uri=champion, data=before)
    current = done.last(evaluate, Evaluation, model_uri=champion, data=now)
    if reference is None or current is None:
        return found
    scores = {"reference_scores": reference.scores_path, "current_scores": current.scores_path}
    drift = inputs.need("detect_drift", detect_drift.Result)
    return [
        *found,
        grant("judge.decide_retraining", **scores, drift_share=drift.share_drifted),
        grant("judge.plan_retraining", **scores, train_rows=trainable_rows(inputs, current.rows)),
        *unlabelled.grants(inputs, done, champion, reference.scores_path),
    ]


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    decision = evidence.last("judge.decide_retraining", RetrainingDecision)
    if decision is None:
        return ["nothing was decided (judge decide_retraining did not succeed)"]
    plan = evidence.last("judge.plan_retraining", RetrainingPlan)
    forecast = foresee.reason_to_act(evidence.inputs)
    expected = acts(decision, plan) or bool(forecast)
    if result.act != expected:
        planned = "there is no plan" if plan is None else f"it pays: {plan.pays}, enough rows: {plan.enough_rows}"
        return [
            f"act is {result.act}, but must be {expected}: the judge decided {decision.act}; {planned}"
            + ("; the forecast calls for action" if forecast else "")
        ]
    window = "all" if plan is None else plan.window
    if result.window != window:
        return [f"window is {result.window!r}, the judge planned {window!r}"]
    estimated = evidence.last("judge.estimate_performance", PerformanceEstimate)
    watch = unlabelled.to_watch(evidence.inputs.goal, estimated) is not None
    if result.watch != watch:
        return [f"watch is {result.watch}, by the judge's estimate it is {watch}"]
    return []
