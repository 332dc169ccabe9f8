"""Whole runs as the crew would record them, made up: a promotion, a run without drift, a run that fails.

The shapes are those of the integrations' results; the numbers are invented. Written by hand (no library runs), so that
tests of the display and the report take milliseconds.
"""

# fmt: off
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers import journal_stages as stages
from tests.helpers.journal_builder import RUN_ID, Example

__all__ = ["RUN_ID", "Example", "failed_run", "promoted_run", "quiet_run"]


def promoted_run(
    project: Path, run_id: str = RUN_ID, listener: Callable[[dict[str, Any]], None] | None = None
) -> Example:
    """Drift, a search, a canary in four batches, a promotion approved by a person; one failed call, one fallback."""
    run = stages.started(project, run_id, listener)
    data = stages.staging(run)
    stages.champion(run, data)
    stages.drift(run, data)
    stages.assessment(run, act=True)
    run.skip("synthesize", "synthesis", "the goal asks for no synthetic rows")
    stages.search(run, data)
    stages.challenger(run, data)
    stages.canary(run)
    stages.release(run)
    run.add(
        "run_finished", wait=0.1, outcome="promoted", exit_code=0, duration_s=run.seconds,
        summary="Version 2 (hist_gradient_boosting) replaced version 1: ROC AUC 0.842 against 0.731 on the newest "
        "data, proven not worse on 1,200 live requests.",
    )
    return run


def quiet_run(project: Path, run_id: str = "20261122-090000-00aa") -> Example:
    """Nothing drifted: no action."""
    run = stages.started(project, run_id, None)
    data = stages.staging(run)
    stages.champion(run, data)
    stages.drift(run, data, drifted=False)
    stages.assessment(run, act=False)
    for task, role in _AFTER_ASSESSMENT:
        run.skip(task, role, "no reason to retrain is proven")
    run.add(
        "run_finished", outcome="no_action", summary="Nothing drifted; the champion stays.", exit_code=0, duration_s=9.0
    )
    return run


def failed_run(project: Path, run_id: str = "20261121-080000-00bb") -> Example:
    """The search fails: the run ends with an error."""
    run = stages.started(project, run_id, None)
    data = stages.staging(run)
    stages.champion(run, data)
    stages.drift(run, data)
    stages.assessment(run, act=True)
    run.begin("search_architecture", "architect")
    run.call(
        "optuna", "search", {}, 3.2, effect="write", status="failed", paths=[data["train"]], trials=40,
        message="the disk is full: cannot write .mlops/optuna/churn.log (No space left on device)",
    )
    run.add("error", message="search_architecture: the disk is full: cannot write .mlops/optuna/churn.log")
    run.add("run_finished", outcome="failed", summary="The search could not be recorded.", exit_code=1, duration_s=14.0)
    return run


_AFTER_ASSESSMENT = [
    ("synthesize", "synthesis"),
    ("search_architecture", "architect"),
    ("tune", "optimization"),
    ("train_challenger", "optimization"),
    ("register_challenger", "deployment"),
    ("canary", "deployment"),
    ("release", "deployment"),
]
