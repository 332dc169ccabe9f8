"""Rows that wait for their label, from staging to the scores, and what a model needs of its columns."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Project

TASK: dict[str, Any] = {"target": "y", "task": "binary"}


def table(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"when": pd.date_range("2026-01-01", periods=rows, freq="h"), "a": random.normal(size=rows)})
    frame["b"], frame["idle"] = random.choice(["x", "z"], rows), random.normal(size=rows)
    likely = 1 / (1 + np.exp(-2 * frame["a"] - (frame["b"] == "x")))
    return frame.assign(y=np.where(random.random(rows) < likely, "yes", "no"))


def delayed() -> pd.DataFrame:
    """The newest 100 of 400 rows have no label, and one older row has a blank one."""
    frame = table(400, 2).astype({"y": object})
    frame.loc[300:, "y"] = None
    frame.loc[7, "y"] = " "
    return frame


def test_rows_without_a_label_are_staged_apart_and_the_rest_in_time_order(project: Project) -> None:
    table(300, 1).to_parquet(project.root / "old.parquet")
    delayed().sample(frac=1, random_state=0).to_parquet(project.root / "new.parquet")
    ask = {"reference": "old.parquet", "current": "new.parquet", "target": "y", "time_column": "when"}
    staged = project.ok("dvc", "stage_data", **ask, allow_unlabelled=True)
    assert (staged["rows"]["current_all"], staged["rows"]["unlabelled"]) == (299, 101)
    apart = pd.read_parquet(project.root / staged["unlabelled"])
    assert "y" not in apart.columns
    assert apart["when"].is_monotonic_increasing
    parts = [pd.read_parquet(project.root / staged[name]) for name in ("train", "holdout", "live")]
    together = pd.concat(parts)
    assert together["when"].is_monotonic_increasing
    assert together["y"].isin(["yes", "no"]).all()
    assert len(together) + len(apart) == 400
    assert project.ok("dvc", "stage_data", **ask, name="usual")["unlabelled"] is None


def test_too_few_labelled_rows_are_said_as_such(project: Project) -> None:
    table(300, 1).to_parquet(project.root / "old.parquet")
    table(300, 2).assign(y=None).to_parquet(project.root / "new.parquet")
    ask = {"reference": "old.parquet", "current": "new.parquet", "target": "y", "allow_unlabelled": True}
    error = project.call("dvc", "stage_data", **ask).error
    assert error is not None
    assert "0 rows with a label (y) and 300 without" in error.message


@pytest.mark.parametrize("spoiled", [False, True])
def test_rows_without_a_label_are_checked_in_everything_else(project: Project, spoiled: bool) -> None:
    table(300, 1).to_parquet(project.root / "old.parquet")
    waiting = table(200, 2).drop(columns="y")
    if spoiled:
        waiting["a"] = np.nan
    waiting.to_parquet(project.root / "waiting.parquet")
    found = project.ok(
        "great_expectations", "validate", data="waiting.parquet", reference="old.parquet", labelled=False, **TASK
    )
    assert found["passed"] is not spoiled
    assert {finding["column"] for finding in found["critical"]} == ({"a"} if spoiled else set())


@pytest.fixture
def trained(project: Project, mlflow_database: Path) -> tuple[Project, dict[str, Any]]:
    shutil.copyfile(mlflow_database, project.ctx.store("mlflow") / "mlflow.db")
    table(400, 1).to_parquet(project.root / "old.parquet")
    table(400, 3).to_parquet(project.root / "holdout.parquet")
    made = project.ok("mlflow", "train_model", train=["old.parquet"], metric="roc_auc", drop=["when"], **TASK)
    return project, {"model_uri": made["model_uri"], "drop": ["when"], **TASK}


@pytest.mark.filterwarnings("ignore")
def test_a_model_is_asked_what_it_needs_and_scores_rows_with_and_without_labels(
    trained: tuple[Project, dict[str, Any]],
) -> None:
    project, ask = trained
    found = project.ok("mlflow", "column_importance", data="holdout.parquet", seed=1, **ask)
    importance = json.loads((project.root / found["importance_path"]).read_text())
    assert set(importance) == {"a", "b", "idle"}
    assert importance["a"] > 5 * max(importance["b"], importance["idle"])
    assert found["most_important"][0] == "a"
    first = (project.root / found["importance_path"]).read_text()
    again = project.ok("mlflow", "column_importance", data="holdout.parquet", seed=1, **ask)
    assert (project.root / again["importance_path"]).read_text() == first

    table(150, 4).drop(columns="y").to_parquet(project.root / "waiting.parquet")
    scored = project.ok("mlflow", "score_rows", data=["holdout.parquet", "waiting.parquet"], **ask)
    assert (scored["rows"], scored["labelled_rows"]) == (550, 400)
    scores = pd.read_parquet(project.root / scored["scores_path"])
    evaluated = project.ok("mlflow", "evaluate_model", data="holdout.parquet", metric="roc_auc", **ask)
    same = pd.read_parquet(project.root / evaluated["scores_path"])
    np.testing.assert_allclose(scores["probability"][:400], same["probability"])
    np.testing.assert_allclose(scores["loss"][:400], same["loss"])
    assert scores["y_true"][:400].tolist() == same["y_true"].tolist()
    assert scores["y_true"][400:].isna().all() and scores["loss"][400:].isna().all()
    estimate = project.ok(
        "judge", "estimate_performance", reference_scores=evaluated["scores_path"],
        current_scores=scored["scores_path"], metric="accuracy", task="binary",
    )  # fmt: skip
    assert (estimate["rows"], estimate["labelled_rows"], estimate["trusted"]) == (150, 400, True)
