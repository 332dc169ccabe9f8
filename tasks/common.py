"""What several runbooks share: where the data is, what is not a feature, which files train a model."""

from typing import Any

from tasks import check_data, synthesize
from tasks.base import Inputs, Steps, ToolCall, call
from tasks.goal import Goal


def slices(inputs: Inputs) -> dict[str, str]:
    """Slice name -> path of the data that passed the checks."""
    return inputs.need("check_data", check_data.Result).slices


def training_files(inputs: Inputs) -> list[str]:
    """The files a challenger may learn from, oldest first: reference, synthetic rows if any, current training slice."""
    paths = slices(inputs)
    made = inputs.get("synthesize", synthesize.Result)
    return [paths["reference_all"], *([made.rows_path] if made else []), paths["train"]]


def unanswered(state: str, otherwise: str) -> str:
    """What follows when a person was to choose and nobody did: what happened instead, and how to have it decided."""
    return f"{otherwise} State {state}, or run again and answer with `mlops-crew choose`."


def constrained(goal: Goal) -> dict[str, Any]:
    """The goal's constraints on trials as an argument of a search; no argument where it states nothing."""
    return {"constraints": goal.search_constraints} if goal.search_constraints else {}


def training(inputs: Inputs, files: list[str], run_name: str, **more: Any) -> ToolCall:
    """The call that trains a model of the goal on files, oldest first. `more`: its config, unless it is the default."""
    goal = inputs.goal
    return call(
        "mlflow",
        "train_model",
        train=files,
        target=goal.target,
        task=goal.task,
        metric=goal.metric,
        drop=goal.dropped,
        trainer=goal.train.trainer,
        seed=inputs.seed,
        run_name=run_name,
        **more,
    )


def scoring(goal: Goal) -> dict[str, Any]:
    """The arguments every evaluation shares."""
    return {"target": goal.target, "task": goal.task, "metric": goal.metric, "drop": goal.dropped}


def log_trials(tracker: str, trials_path: str, **place: str) -> Steps[str]:
    """Log the trials of a search to a tracker. A tracker that fails is told and ends nothing: the trials are in a file.

    Returns:
        A sentence that says what was not logged and why; empty where all was.
    """
    logged = yield call(tracker, "log_trials", trials_path=trials_path, **place)
    return "" if logged.ok else f" The trials are not in {tracker}: {logged.message.rstrip('.')}."
