"""Search model family, training window and architecture; every trial goes to MLflow and Weights & Biases."""

from typing import Any

from pydantic import Field

from tasks import assess_champion, version_data
from tasks.base import Evidence, Inputs, Runbook, Steps, TaskFailedError, TaskResult, call, expect, returned, succeed
from tasks.common import constrained, log_trials, training, training_files
from tools.core.grants import Grant, grant
from tools.integrations.mlflow.spec import TrainedModel
from tools.integrations.optuna.spec import Asked, BestTrial
from tools.modeling.search import SearchResult

WARMS = ("serving",)


TRACKERS = {"mlflow": "experiment", "wandb": "project"}  # each with its name for where trials go
CALLS: dict[str, tuple[str, ...]] = {
    "optuna.search": (),
    "mlflow.log_trials": (),
    "wandb.log_trials": (),
    "optuna.ask": (),
    "mlflow.train_model": ("config",),
    "optuna.tell": (
        "index",
        "value",
    ),
    "optuna.best_trial": (),
}


class Result(TaskResult):
    """`config` is what the trainer takes; empty when the goal's own trainer declares no space to search."""

    config: dict[str, Any]
    value: float | None = Field(description="validation value of the best trial; null when nothing was searched")
    trials: int
    trials_path: str = Field(default="", description="file of all trials; empty for the goal's own trainer")


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    if not goal.train.builtin:
        return (yield from _search_own_trainer(inputs))
    found = expect(
        (
            yield call(
                "optuna",
                "search",
                paths=training_files(inputs),
                target=goal.target,
                task=goal.task,
                metric=goal.metric,
                drop=goal.dropped,
                trials=goal.budget.search_trials,
                minutes=goal.budget.minutes,
                seed=inputs.seed,
                **constrained(goal),
                window=inputs.need("assess_champion", assess_champion.Result).window,
            )
        ),
        SearchResult,
        "searching the architecture",
    )
    untold = ""
    for tracker, place in TRACKERS.items():
        untold += yield from log_trials(tracker, found.trials_path, **{place: goal.name})
    return Result(
        config=found.best_config,
        value=found.best_value,
        trials=found.completed,
        trials_path=found.trials_path,
        summary=f"{found.message}{untold}",
    )


def _search_own_trainer(inputs: Inputs) -> Steps[Result]:
    """Ask Optuna, train with the goal's own trainer, tell Optuna: the trainer stays a black box."""
    goal = inputs.goal
    if not goal.train.space:
        return Result(
            config={}, value=None, trials=0, summary="The goal's own trainer declares no space: nothing to search."
        )
    study = _study(inputs)
    direction = "minimize" if goal.minimize else "maximize"
    for index in range(goal.budget.search_trials):
        asked = expect(
            (
                yield call(
                    "optuna",
                    "ask",
                    study=study,
                    index=index,
                    space=goal.train.space,
                    direction=direction,
                    seed=inputs.seed,
                )
            ),
            Asked,
            "asking for parameters",
        )
        trial = training(inputs, training_files(inputs), f"trial-{index}", config=asked.params)
        trained = returned((yield trial), TrainedModel)
        told = {} if trained is None or trained.validation_value is None else {"value": trained.validation_value}
        succeed((yield call("optuna", "tell", study=study, index=index, **told)), "reporting a trial")
    best = expect((yield call("optuna", "best_trial", study=study)), BestTrial, "reading the best trial")
    if not best.completed:
        raise TaskFailedError(f"none of {goal.budget.search_trials} trials of the goal's own trainer succeeded")
    return Result(
        config=best.params,
        value=best.value,
        trials=best.completed,
        summary=f"Best of {best.completed} trials of the goal's own trainer: {goal.metric} {best.value:.4f}.",
    )


def _study(inputs: Inputs) -> str:
    """Name of the study of the goal's own trainer."""
    return f"{inputs.goal.name}-{inputs.need('version_data', version_data.Result).version[:8]}-{inputs.seed}"


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    goal = inputs.goal
    if not goal.train.builtin:
        return _granted_trials(inputs, done) if goal.train.space else []
    window = inputs.need("assess_champion", assess_champion.Result).window
    found = [grant("optuna.search", paths=training_files(inputs), trials=goal.budget.search_trials, window=window)]
    if (searched := done.last("optuna.search", SearchResult)) is not None:
        found += [grant(f"{tracker}.log_trials", trials_path=searched.trials_path) for tracker in TRACKERS]
    return found


def _granted_trials(inputs: Inputs, done: Evidence) -> list[Grant]:
    """Ask for parameters, train with what was asked, tell what that training gave."""
    study, files = _study(inputs), training_files(inputs)
    found = [grant("optuna.ask", study=study), grant("optuna.best_trial", study=study)]
    trained = [(given.get("config"), result) for given, result in done.named("mlflow.train_model")]
    for given, asked in done.all("optuna.ask", Asked):
        found.append(grant("mlflow.train_model", train=files, config=asked.params))
        results = [result for config, result in trained if config == asked.params]
        if results:
            last = returned(results[-1], TrainedModel)
            value = None if last is None else last.validation_value
            found.append(grant("optuna.tell", study=study, index=given["index"], value=value))
    return found


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    if not evidence.inputs.goal.train.builtin:
        best = evidence.last("optuna.best_trial", BestTrial)
        expected = best.params if best else {}
    else:
        found = evidence.last("optuna.search", SearchResult)
        if found is None:
            return ["nothing was searched (optuna search did not succeed)"]
        missing = [tracker for tracker in TRACKERS if not evidence.named(f"{tracker}.log_trials")]
        if missing:
            return [f"it was not tried to log the trials to {' and '.join(missing)}"]
        expected = found.best_config
    return [] if result.config == expected else [f"config must be exactly the best one found: {expected}"]
