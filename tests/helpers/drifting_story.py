"""A project whose concept rotates, with a champion, for the tests of the tasks that judge and replace one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from tasks import check_data, establish_champion, train_challenger, tune, version_data
from tasks.base import Evidence, Inputs, Runbook, TaskResult
from tasks.goal import Goal
from tests.conftest import Project
from tools.core.results import ToolResult

Answer = Callable[[str, str, dict[str, Any]], ToolResult]


def play(runbook: Runbook, answer: Answer) -> tuple[Any, list[tuple[str, str, dict[str, Any], ToolResult]]]:
    """The runbook's result and its calls."""
    calls: list[tuple[str, str, dict[str, Any], ToolResult]] = []
    try:
        asked = next(runbook)
        while True:
            result = answer(asked.tool, asked.action, asked.arguments)
            calls.append((asked.tool, asked.action, asked.arguments, result))
            asked = runbook.send(result)
    except StopIteration as stop:
        return stop.value, calls


def goal_of(**more: Any) -> Goal:
    content = {"name": "shop", "task": "binary", "target": "y", "metric": "roc_auc"}
    return Goal.model_validate({**content, "data": {"reference": "r.csv", "current": "c.csv"}, **more})


def drifting_rows(count: int, turn: float, seed: int) -> pd.DataFrame:
    """Rows of four numbers; `turn` rotates the concept from the first two of them to the last two."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(count, 4))
    odds = 2 * (np.cos(turn) * (X[:, 0] + X[:, 1]) + np.sin(turn) * (X[:, 2] + X[:, 3]))
    label = np.where(random.random(count) < 1 / (1 + np.exp(-odds)), "yes", "no")
    return pd.DataFrame({"row": np.arange(count), **{f"x{i}": X[:, i] for i in range(4)}, "y": label})


class Story:
    """A project with staged data and a champion trained on the reference slice."""

    def __init__(self, project: Project, reference: pd.DataFrame, current: pd.DataFrame, **goal: Any) -> None:
        self.project = project
        for name, frame in (("r.csv", reference), ("c.csv", current)):
            frame.to_csv(project.root / name, index=False)
        self.goal = goal_of(**goal)
        staged = project.ok("dvc", "stage_data", reference="r.csv", current="c.csv", target="y", name="shop")
        self.slices = {name: str(staged[name]) for name in version_data.SLICES}
        trained = project.ok(
            "mlflow", "train_model", train=[self.slices["reference"]], target="y", task="binary", metric="roc_auc"
        )
        self.results: dict[str, TaskResult] = {
            "version_data": version_data.Result(version="v", rows=staged["rows"], summary="", **self.slices),
            "check_data": check_data.Result(
                usable=True,
                quarantined_rows=0,
                critical=[],
                warnings=0,
                slices=self.slices,
                live_rows=staged["rows"]["live"],
                summary="",
            ),
            "establish_champion": establish_champion.Result(
                version=1, model_uri=trained["model_uri"], trained_now=True, summary=""
            ),
        }

    @property
    def inputs(self) -> Inputs:
        return Inputs(self.goal, self.results)

    def challenge(self, window: str) -> tuple[train_challenger.Result, Evidence]:
        config = {"family": "hist_gradient_boosting", "window": window}
        self.results["tune"] = tune.Result(config=config, value=None, engine="none", summary="")
        result, calls = play(
            train_challenger.runbook(self.inputs), lambda tool, action, given: self.project.call(tool, action, **given)
        )
        return result, Evidence(tuple(calls), self.inputs)
