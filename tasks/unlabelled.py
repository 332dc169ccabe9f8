"""Rows whose labels have not arrived: the champion's metric on them, estimated, and what follows from it.

What follows is a reason to watch, never to act. The estimate supposes that labels still go with the scores as they did,
that is, that the champion still knows what can be known about these rows; that they are harder is then no fault that
training again would mend, and the rows that could show otherwise have no labels to learn from or be judged by. So it is
said early, with its interval, and acted on when labels come.
"""

from tasks import version_data
from tasks.base import Evidence, Inputs, Steps, call, expect
from tasks.common import scoring, slices
from tasks.goal import Goal
from tools.core.grants import Grant, grant
from tools.integrations.judge.champion_spec import PerformanceEstimate
from tools.integrations.mlflow.spec import ScoredRows

MIN_ROWS = 100  # fewer give no interval worth having


def estimate(inputs: Inputs, model_uri: str, reference_scores: str) -> Steps[PerformanceEstimate | None]:
    """The judge's estimate of the champion's metric on the rows without a label; None where there are too few.

    Args:
        reference_scores: the champion's scores on the reference holdout.
    """
    goal, files = inputs.goal, _files(inputs)
    if files is None:
        return None
    shared = {name: value for name, value in scoring(goal).items() if name != "metric"}
    scored = expect(
        (yield call("mlflow", "score_rows", model_uri=model_uri, data=files, **shared)),
        ScoredRows,
        "scoring the rows without a label",
    )
    return expect(
        (
            yield call(
                "judge",
                "estimate_performance",
                reference_scores=reference_scores,
                current_scores=scored.scores_path,
                metric=goal.metric,
                task=goal.task,
                seed=inputs.seed,
            )
        ),
        PerformanceEstimate,
        "estimating the champion on the rows without a label",
    )


def grants(inputs: Inputs, done: Evidence, model_uri: str, reference_scores: str) -> list[Grant]:
    """The calls that estimate the champion's metric on the rows without a label, where there are enough of them."""
    if (paths := _files(inputs)) is None:
        return []
    found = [grant("mlflow.score_rows", model_uri=model_uri, data=paths)]
    if (scored := done.last("mlflow.score_rows", ScoredRows, model_uri=model_uri)) is not None:
        scores = {"reference_scores": reference_scores, "current_scores": scored.scores_path}
        found.append(grant("judge.estimate_performance", **scores))
    return found


def _files(inputs: Inputs) -> list[str] | None:
    """The labelled current rows and those that wait for their label; None where too few wait."""
    paths = slices(inputs)
    rows = inputs.need("version_data", version_data.Result).rows.get(version_data.UNLABELLED, 0)
    if version_data.UNLABELLED not in paths or rows < MIN_ROWS:
        return None
    return [paths["current_all"], paths[version_data.UNLABELLED]]


def to_watch(goal: Goal, estimated: PerformanceEstimate | None) -> str | None:
    """The reason to watch, as a sentence: the whole interval is worse than the goal's minimum, or without one worse
    than the metric was. None: no reason."""
    if estimated is None:
        return None
    stated = goal.constraints.min_metric
    floor = estimated.reference_value if stated is None else stated
    name = "it was before" if stated is None else f"the goal's {'maximum' if goal.minimize else 'minimum'}"
    fell = estimated.estimated_low > floor if goal.minimize else estimated.estimated_high < floor
    if not fell:
        return None
    doubt = "; the labels that are there contradict the estimate" if estimated.trusted is False else ""
    return (
        f"Watch: on {estimated.rows} rows without a label the estimated {goal.metric} is "
        f"{estimated.estimated_low:.4f} to {estimated.estimated_high:.4f}, all of it worse than {name} "
        f"({floor:.4f}){doubt}."
    )
