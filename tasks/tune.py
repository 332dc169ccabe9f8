"""Tune the best architecture: Ray Tune where it is installed, else Hyperopt."""

from typing import Any

from pydantic import Field

from tasks import search_architecture
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, data_of
from tasks.common import dropped, search_constraints, training_files


class Result(TaskResult):
    config: dict[str, Any]
    value: float | None = Field(description="validation value of the tuned config; null when nothing was tuned")
    engine: str = Field(description="hyperopt, ray or none")


def engine_of(inputs: Inputs) -> str:
    """The tuner: as the goal says, or Ray Tune where it is installed."""
    wanted = inputs.goal.train.tuner
    return ("ray" if "ray" in inputs.installed else "hyperopt") if wanted == "auto" else wanted


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    found = inputs.need("search_architecture", search_architecture.Result)
    if not goal.train.builtin:
        return Result(
            config=found.config,
            value=found.value,
            engine="none",
            summary="The goal's own trainer was searched as a whole: there is nothing left to tune.",
        )
    engine = engine_of(inputs)
    tuned = data_of(
        (
            yield call(
                engine,
                "tune",
                paths=training_files(inputs),
                target=goal.target,
                task=goal.task,
                metric=goal.metric,
                drop=dropped(goal),
                trials=goal.budget.tuning_trials,
                minutes=goal.budget.minutes,
                seed=inputs.seed,
                config=found.config,
                **search_constraints(goal),
            )
        ),
        f"tuning with {engine}",
    )
    data_of(
        (yield call("mlflow", "log_trials", trials_path=tuned["trials_path"], experiment=goal.name)),
        "logging the trials to mlflow",
    )
    return Result(config=tuned["best_config"], value=tuned["best_value"], engine=engine, summary=tuned["message"])


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    if not evidence.inputs.goal.train.builtin:
        return []
    found = [t for t in (evidence.last("ray", "tune"), evidence.last("hyperopt", "tune")) if t is not None]
    if not found:
        return ["nothing was tuned (neither hyperopt nor ray tune succeeded)"]
    if result.config not in [t["best_config"] for t in found]:
        return [f"config must be exactly the best one found: {found[0]['best_config']}"]
    return []
