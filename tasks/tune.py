"""Tune the chosen architecture: Ray Tune where it is installed and starts, else Hyperopt.

Tuning looks at the metric alone. Where another objective was chosen for, a tuned config that gives that up is not
taken: the chosen one stays.
"""

from typing import Any

from pydantic import Field

from tasks import choose_tradeoff, search_architecture
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect
from tasks.common import constrained, log_trials, training_files
from tools.core.errors import ErrorKind
from tools.core.grants import Grant, grant
from tools.core.results import Status, ToolResult
from tools.modeling.search import SearchResult

SLACK = 1.25  # latencies and sizes within this factor count as equal, as on the search's front
MIB = 2**20
ENGINES = ("hyperopt", "ray")


CALLS: dict[str, tuple[str, ...]] = {
    "hyperopt.tune": (),
    "ray.tune": (),
    "mlflow.log_trials": ("trials_path",),
}


class Result(TaskResult):
    config: dict[str, Any]
    value: float | None = Field(description="validation value of the tuned config; null when nothing was tuned")
    engine: str = Field(description="hyperopt, ray or none")


def engine_of(inputs: Inputs) -> str:
    """The tuner: as the goal says, or Ray Tune where it is installed."""
    wanted = inputs.goal.train.tuner
    return ("ray" if "ray" in inputs.installed else "hyperopt") if wanted == "auto" else wanted


def start_of(inputs: Inputs) -> dict[str, Any]:
    """The config that tuning starts from: the one that was chosen, else the search's best."""
    chosen = inputs.get("choose_tradeoff", choose_tradeoff.Result)
    return chosen.config if chosen else inputs.need("search_architecture", search_architecture.Result).config


def given_up(inputs: Inputs, tuned: SearchResult) -> str:
    """What the best tuned config loses of what was chosen, in words; empty when nothing."""
    chosen = inputs.get("choose_tradeoff", choose_tradeoff.Result)
    front = tuned.pareto  # best value first: the first is the tuned config
    if chosen is None or not front:
        return ""
    latency, size = front[0].latency_ms, front[0].size_bytes / MIB
    lost: list[str] = []
    objectives = inputs.goal.objectives
    if "latency" in objectives and chosen.latency_ms and latency > SLACK * chosen.latency_ms:
        lost.append(f"{latency:.3g} instead of {chosen.latency_ms:.3g} ms per prediction")
    if "size" in objectives and chosen.size_mib and size > SLACK * chosen.size_mib:
        lost.append(f"{size:.3g} instead of {chosen.size_mib:.3g} MiB")
    return " and ".join(lost)


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    found = inputs.need("search_architecture", search_architecture.Result)
    start = start_of(inputs)
    if not goal.train.builtin:
        return Result(
            config=found.config,
            value=found.value,
            engine="none",
            summary="The goal's own trainer was searched as a whole: there is nothing left to tune.",
        )
    engine, instead = engine_of(inputs), ""
    answer = yield call(engine, "tune", **_asked(inputs, start))
    if _did_not_run(answer) and engine == "ray" and "hyperopt" in inputs.installed:
        engine, instead = "hyperopt", f"Hyperopt tuned, for Ray did not: {answer.message.rstrip('.')}. "
        answer = yield call(engine, "tune", **_asked(inputs, start))
    tuned = expect(answer, SearchResult, f"tuning with {engine}")
    untold = yield from log_trials("mlflow", tuned.trials_path, experiment=goal.name)
    lost = given_up(inputs, tuned)
    if lost:
        return Result(
            config=start,
            value=tuned.start_value,
            engine=engine,
            summary=f"{instead}The chosen config stays: tuning for {goal.metric} alone came to {lost}.{untold}",
        )
    return Result(
        config=tuned.best_config, value=tuned.best_value, engine=engine, summary=f"{instead}{tuned.message}{untold}"
    )


def _asked(inputs: Inputs, start: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a tuner, whichever it is."""
    goal = inputs.goal
    return {
        "paths": training_files(inputs),
        "target": goal.target,
        "task": goal.task,
        "metric": goal.metric,
        "drop": goal.dropped,
        "trials": goal.budget.tuning_trials,
        "minutes": goal.budget.minutes,
        "seed": inputs.seed,
        "config": start,
        **constrained(goal),
    }


def _did_not_run(answer: ToolResult) -> bool:
    """Whether a tuner failed for reasons of its own: not for its arguments, which would fail the other one too."""
    fixable = answer.error is not None and answer.error.kind is ErrorKind.FIXABLE
    return answer.status in (Status.FAILED, Status.UNKNOWN) and not fixable


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    if not inputs.goal.train.builtin:
        return []
    bound = {
        "paths": training_files(inputs),
        "trials": inputs.goal.budget.tuning_trials,
        "config": start_of(inputs),
    }
    engines = [engine for engine in ENGINES if engine in inputs.installed or engine == engine_of(inputs)]
    tuned = [done.last(f"{engine}.tune", SearchResult) for engine in engines]
    return [
        *(grant(f"{engine}.tune", **bound) for engine in engines),
        *(grant("mlflow.log_trials", trials_path=found.trials_path) for found in tuned if found is not None),
    ]


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    if not evidence.inputs.goal.train.builtin:
        return []
    found = [t for name in ("ray", "hyperopt") if (t := evidence.last(f"{name}.tune", SearchResult)) is not None]
    if not found:
        return ["nothing was tuned (neither hyperopt nor ray tune succeeded)"]
    allowed = [start_of(evidence.inputs) if given_up(evidence.inputs, t) else t.best_config for t in found]
    if result.config not in allowed:
        return [f"config must be exactly the best one found: {allowed[0]}"]
    return []
