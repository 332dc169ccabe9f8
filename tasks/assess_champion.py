"""Decide whether the champion's loss of quality calls for action."""

from typing import Any, Protocol

from pydantic import Field

from tasks import detect_drift, establish_champion, foresee, unlabelled, version_data
from tasks.base import Evidence, Inputs, Runbook, Steps, TaskResult, call, expect, returned
from tasks.common import scoring, slices
from tools.core.grants import Grant, grant
from tools.integrations.judge.champion_spec import (
    PerformanceEstimate,
    RetrainingDecision,
    RetrainingGain,
    RetrainingPlan,
)
from tools.integrations.mlflow.spec import Evaluation, ProbedWindows

CALLS: dict[str, tuple[str, ...]] = {
    "mlflow.evaluate_model": ("data",),
    "judge.decide_retraining": (),
    "judge.plan_retraining": (),
    "mlflow.probe_windows": (),
    "judge.weigh_gain": (),
    "mlflow.score_rows": (),
    "judge.estimate_performance": (),
}


class Result(TaskResult):
    """`reference_value` and `current_value` are the goal's metric of the champion, before and now.

    `act`: it got worse beyond doubt, and retraining pays and has the rows for it; or a new model would win enough; or
    the goal's minimum is breached; or it is expected to become harmful soon. `watch`: its estimate on rows without a
    label fell below the floor: a reason to look again, not to act.
    """

    act: bool = Field(description="as the judge decided and planned")
    reference_value: float
    current_value: float
    savings: float | None = Field(description="forecast, in rows answered without a model; null when not to be told")
    window: str = Field(description="what a challenger is to be trained on first")
    reasons: list[str]
    watch: bool = False


class Decided(Protocol):
    """What the judge decided: see `RetrainingDecision`."""

    @property
    def act(self) -> bool: ...

    @property
    def breached_minimum(self) -> bool: ...


class Planned(Protocol):
    """What the judge planned: see `RetrainingPlan`."""

    @property
    def pays(self) -> bool: ...

    @property
    def enough_rows(self) -> bool: ...

    @property
    def window(self) -> str: ...


class Weighed(Protocol):
    """What the judge found of a new model: see `RetrainingGain`."""

    @property
    def wins(self) -> bool: ...

    @property
    def window(self) -> str | None: ...


def acts(decision: Decided, plan: Planned | None, gain: Weighed | None) -> bool:
    """Whether to act on what the judge decided, planned (None: too few rows) and found that a new model would win."""
    if gain is not None and gain.wins:
        return True
    if decision.breached_minimum or plan is None:
        return decision.act
    return decision.act and plan.pays and plan.enough_rows


def window_of(plan: Planned | None, gain: Weighed | None) -> str:
    """What to train on: the window that did best, else the planned one."""
    if gain is not None and gain.window is not None:
        return gain.window
    return "all" if plan is None else plan.window


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
    gain, untested = yield from _weighed(inputs, plan, before, now)
    expected = foresee.reason_to_act(inputs)
    act = acts(decision, plan, gain) or bool(expected)
    said = [_told(decision, act, gain), *expected]
    if plan is not None and decision.act:
        said += [plan.message, *([] if act else ["So nothing is done yet."])]
    weighed = [untested] if gain is None else gain.reasons
    said += weighed
    estimated = yield from unlabelled.estimate(inputs, champion.model_uri, before.scores_path)
    warning = unlabelled.to_watch(goal, estimated)
    warnings = [warning] if warning else []
    return Result(
        act=act,
        reference_value=decision.reference_value,
        current_value=decision.current_value,
        savings=None if plan is None else plan.savings,
        window=window_of(plan, gain),
        reasons=[*decision.reasons, *expected, *([] if plan is None else plan.reasons), *weighed, *warnings],
        watch=warning is not None,
        summary=" ".join([*said, *([estimated.message] if estimated else []), *warnings]),
    )


def _weighed(
    inputs: Inputs, plan: RetrainingPlan | None, before: Evaluation, now: Evaluation
) -> Steps[tuple[RetrainingGain | None, str]]:
    """What a new model would win; None, and the reason in words, where that cannot be tested."""
    cannot = "Whether a new model would win cannot be tested:"
    if not inputs.goal.train.builtin:
        return None, f"{cannot} the quick models for it are not of the goal's own trainer."
    if plan is None or not plan.probe:
        return None, f"{cannot} there are too few new rows to train one on."
    probed = yield call("mlflow", "probe_windows", **_probe(inputs, plan))
    probes = returned(probed, ProbedWindows)
    if probes is None:
        return None, f"{cannot} {probed.message.rstrip('.')}."
    weighed = yield call("judge", "weigh_gain", **_weighing(inputs, before, now, probes))
    gain = returned(weighed, RetrainingGain)
    return gain, f"{cannot} {weighed.message.rstrip('.')}."


def _probe(inputs: Inputs, plan: RetrainingPlan) -> dict[str, Any]:
    """Quick models learn from all but the newest current rows, and are scored on those."""
    goal, paths = inputs.goal, slices(inputs)
    return {
        "older": [paths["reference_all"]],
        "train": [paths["train"], paths["holdout"]],
        "later": [paths["live"]],
        "target": goal.target,
        "task": goal.task,
        "windows": plan.probe,
        "drop": goal.dropped,
        "seed": inputs.seed,
    }


def _weighing(inputs: Inputs, before: Evaluation, now: Evaluation, probes: ProbedWindows) -> dict[str, Any]:
    goal = inputs.goal
    return {
        "reference_scores": before.scores_path,
        "current_scores": now.scores_path,
        "probe_scores": probes.scores_path,
        "metric": goal.metric,
        "task": goal.task,
        "cost": goal.retrain.cost,
        "min_gain": goal.retrain.min_gain,
        "reference_rows": inputs.need("version_data", version_data.Result).rows["reference_all"],
        **({"horizon": goal.retrain.horizon_rows} if goal.retrain.horizon_rows is not None else {}),
    }


def _told(decision: RetrainingDecision, act: bool, gain: RetrainingGain | None) -> str:
    """The judge's decision, in a sentence that agrees with what is done."""
    if decision.act == act:
        return decision.message
    if not decision.act and gain is not None and gain.wins:
        return (
            f"Retrain: the champion is not proven worse than it was, but a new model would win. {decision.reasons[0]}"
        )
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
        *_probe_grants(inputs, done, reference, current),
        *unlabelled.grants(inputs, done, champion, reference.scores_path),
    ]


def _probe_grants(inputs: Inputs, done: Evidence, reference: Evaluation, current: Evaluation) -> list[Grant]:
    plan = done.last("judge.plan_retraining", RetrainingPlan)
    if plan is None or not plan.probe or not inputs.goal.train.builtin:
        return []
    asked = _probe(inputs, plan)
    found = [grant("mlflow.probe_windows", **{name: asked[name] for name in ("older", "train", "later", "windows")})]
    if (probes := done.last("mlflow.probe_windows", ProbedWindows)) is not None:
        asked = _weighing(inputs, reference, current, probes)
        named = ("reference_scores", "current_scores", "probe_scores", "reference_rows")
        found.append(grant("judge.weigh_gain", **{name: asked[name] for name in named}))
    return found


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    decision = evidence.last("judge.decide_retraining", RetrainingDecision)
    if decision is None:
        return ["nothing was decided (judge decide_retraining did not succeed)"]
    plan = evidence.last("judge.plan_retraining", RetrainingPlan)
    gain = evidence.last("judge.weigh_gain", RetrainingGain)
    if plan is not None and plan.probe and evidence.inputs.goal.train.builtin:
        if not evidence.named("mlflow.probe_windows"):
            return ["whether a new model would win was not tested (mlflow probe_windows was not called)"]
        if evidence.succeeded("mlflow.probe_windows") and not evidence.named("judge.weigh_gain"):
            return ["what a new model would win was not weighed (judge weigh_gain was not called)"]
    forecast = foresee.reason_to_act(evidence.inputs)
    expected = acts(decision, plan, gain) or bool(forecast)
    if result.act != expected:
        planned = "there is no plan" if plan is None else f"it pays: {plan.pays}, enough rows: {plan.enough_rows}"
        return [
            f"act is {result.act}, but must be {expected}: the judge decided {decision.act}; {planned}"
            + ("" if gain is None else f"; a new model would win enough: {gain.wins}")
            + ("; the forecast calls for action" if forecast else "")
        ]
    if result.window != (window := window_of(plan, gain)):
        return [f"window is {result.window!r}, the judge found {window!r}"]
    estimated = evidence.last("judge.estimate_performance", PerformanceEstimate)
    watch = unlabelled.to_watch(evidence.inputs.goal, estimated) is not None
    if result.watch != watch:
        return [f"watch is {result.watch}, by the judge's estimate it is {watch}"]
    return []
