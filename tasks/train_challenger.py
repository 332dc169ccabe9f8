"""Train the challenger and compare it with the champion on the holdout slice, which neither has seen."""

from pydantic import Field

from tasks import establish_champion, tune
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect
from tasks.common import scoring, slices, training, training_files
from tasks.goal import Goal
from tools.core.grants import Grant, grant
from tools.integrations.judge.champion_spec import ModelComparison
from tools.integrations.mlflow.spec import Evaluation, TrainedModel

MIB = 2**20


CALLS: dict[str, tuple[str, ...]] = {
    "mlflow.train_model": (),
    "mlflow.evaluate_model": ("model_uri",),
    "judge.compare_models": (),
}


class Result(TaskResult):
    """`better`: the judge found the challenger better on the holdout, and it keeps to the goal's constraints."""

    better: bool
    model_uri: str
    champion_value: float
    challenger_value: float
    broken_constraints: list[str]
    champion_scores: str = Field("", description="holdout scores file")
    challenger_scores: str = Field("", description="holdout scores file")
    challenger_digest: str = Field("", description="SHA-256 of the challenger's files, as compared")


def broken_constraints(goal: Goal, evaluation: Evaluation) -> list[str]:
    """The goal's constraints that an evaluated model does not keep to, in words; and that it cannot be believed."""
    constraints = goal.constraints
    broken: list[str] = []
    latency, size = evaluation.latency_ms_p95, evaluation.size_bytes / MIB
    if constraints.max_latency_ms is not None and latency > constraints.max_latency_ms:
        broken.append(f"latency {latency:.1f} ms is above the goal's {constraints.max_latency_ms:g} ms")
    if constraints.max_size_mib is not None and size > constraints.max_size_mib:
        broken.append(f"size {size:.1f} MiB is above the goal's {constraints.max_size_mib:g} MiB")
    if constraints.min_metric is not None:
        value, bound = evaluation.value, constraints.min_metric
        if (value > bound) if goal.minimize else (value < bound):
            broken.append(f"{evaluation.metric} {value:.4f} misses the goal's {bound:g}")
    if goal.fairness is not None and goal.fairness.max_gap is not None:
        gap, bound = evaluation.fairness_gap, goal.fairness.max_gap
        if gap is None:
            broken.append(f"the fairness gap by {goal.fairness.column} cannot be computed on these rows")
        elif gap > bound:
            broken.append(f"fairness gap {gap:.3f} by {goal.fairness.column} is above the goal's {bound:g}")
    if evaluation.too_good and not goal.accepts("perfect_score"):
        broken.append(evaluation.too_good.rstrip("."))
    return broken


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    champion = inputs.need("establish_champion", establish_champion.Result)
    holdout = slices(inputs)["holdout"]
    trained = expect(
        (yield training(inputs, training_files(inputs), "challenger", config=inputs.need("tune", tune.Result).config)),
        TrainedModel,
        "training the challenger",
    )
    groups = _groups(goal)
    evaluations: list[Evaluation] = []
    for role, uri in (("champion", champion.model_uri), ("challenger", trained.model_uri)):
        evaluations.append(
            expect(
                (yield call("mlflow", "evaluate_model", model_uri=uri, data=holdout, **scoring(goal), **groups)),
                Evaluation,
                f"evaluating the {role} on the holdout",
            )
        )
    before, after = evaluations
    comparison = expect(
        (
            yield call(
                "judge",
                "compare_models",
                champion_scores=before.scores_path,
                challenger_scores=after.scores_path,
                metric=goal.metric,
                task=goal.task,
            )
        ),
        ModelComparison,
        "comparing the challenger with the champion",
    )
    broken = broken_constraints(goal, after)
    kept = "" if not broken else f" It breaks the goal's constraints: {'; '.join(broken)}."
    return Result(
        better=comparison.better and not broken,
        model_uri=trained.model_uri,
        champion_value=comparison.champion_value,
        challenger_value=comparison.challenger_value,
        broken_constraints=broken,
        champion_scores=before.scores_path,
        challenger_scores=after.scores_path,
        challenger_digest=comparison.challenger_digest or "",
        summary=f"{comparison.message}{kept}",
    )


def _groups(goal: Goal) -> dict[str, str]:
    """The groups that are to be treated alike, as arguments of an evaluation."""
    return {} if goal.fairness is None else {"segment": goal.fairness.column, "gap": goal.fairness.measure}


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    champion = inputs.need("establish_champion", establish_champion.Result).model_uri
    holdout, config = slices(inputs)["holdout"], inputs.need("tune", tune.Result).config
    trained = done.last("mlflow.train_model", TrainedModel)
    challenger = None if trained is None else trained.model_uri
    evaluate = "mlflow.evaluate_model"
    found = [grant("mlflow.train_model", train=training_files(inputs), config=config)]
    found += [
        grant(evaluate, model_uri=uri, data=holdout, **_groups(inputs.goal)) for uri in (champion, challenger) if uri
    ]
    before = done.last(evaluate, Evaluation, model_uri=champion, data=holdout)
    after = done.last(evaluate, Evaluation, model_uri=challenger, data=holdout)
    if before is not None and after is not None:
        scores = {"champion_scores": before.scores_path, "challenger_scores": after.scores_path}
        found.append(grant("judge.compare_models", **scores))
    return found


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    comparison = evidence.last("judge.compare_models", ModelComparison)
    if comparison is None:
        return ["the models were not compared (judge compare_models did not succeed)"]
    if result.better and not comparison.better:
        return ["better is true, but the judge did not find the challenger better"]
    trained = evidence.last("mlflow.train_model", TrainedModel)
    if trained is None or result.model_uri != trained.model_uri:
        return [f"model_uri is {result.model_uri!r}, which was not the model trained last"]
    if result.challenger_digest != (comparison.challenger_digest or ""):
        return ["challenger_digest is not that of the model that was compared"]
    holdout = slices(evidence.inputs)["holdout"]
    evaluated = evidence.last("mlflow.evaluate_model", Evaluation, model_uri=trained.model_uri, data=holdout)
    if result.better and evaluated is not None and (broken := broken_constraints(evidence.inputs.goal, evaluated)):
        return [f"better is true, but the challenger breaks the goal's constraints: {'; '.join(broken)}"]
    if not result.better and comparison.better and not result.broken_constraints:
        return ["better is false, but the judge found the challenger better and no broken constraint is named"]
    return []
