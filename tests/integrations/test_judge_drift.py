"""The judge's actions on drift and on the metric without labels, from files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Project
from tools.core.contract_suite import definition_tokens
from tools.core.errors import FixableError
from tools.judge.estimates import Scores
from tools.registry import load_spec


def table(rows: int, random: np.random.Generator, shift: float = 0.0) -> pd.DataFrame:
    """Eight columns of many kinds; `shift` moves the first, in standard deviations."""
    common = random.normal(size=rows)
    return pd.DataFrame(
        {
            "a": random.normal(shift, 1, rows),
            "b": common,
            "c": common + random.normal(0, 0.1, rows),
            "d": np.round(random.exponential(2, rows)),
            "e": random.random(rows) * (random.random(rows) < 0.1),
            "f": np.where(random.random(rows) < 0.2, np.nan, random.normal(size=rows)),
            "g": random.choice(["x", "y", "z"], rows, p=[0.7, 0.2, 0.1]),
            "h": (random.zipf(1.6, rows).clip(max=300)).astype(str),
        }
    ).astype({"h": "string"})


@pytest.fixture
def parquet(tmp_path: Path) -> tuple[Path, Path, pd.DataFrame, pd.DataFrame]:
    random = np.random.default_rng(7)
    frames = table(40_000, random), table(30_000, random, shift=0.3)
    for frame in frames:
        frame["i"] = random.poisson(3, len(frame))
    paths = tmp_path / "reference.parquet", tmp_path / "current.parquet"
    for path, frame in zip(paths, frames, strict=True):
        pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=7_000)
    return *paths, *frames


def scored(rows: int, random: np.random.Generator, shift: float = 0.0, flip: float = 0.0) -> tuple[Scores, np.ndarray]:
    """Scores that are overconfident, a population moved by `shift`, and labels of which a share is turned over."""
    x = random.normal(shift, 1.5, rows)
    truth = random.random(rows) < 1 / (1 + np.exp(-x))
    truth ^= random.random(rows) < flip
    probability = 1 / (1 + np.exp(-2 * x))
    names = np.array(["no", "yes"], dtype=object)
    right = np.clip(np.where(truth, probability, 1 - probability), 1e-6, 1)
    return Scores(
        names[truth.astype(int)], names[(probability > 0.5).astype(int)], -np.log(right), probability, "yes"
    ), truth


def test_the_action_decides_explains_and_writes_every_column(project: Project) -> None:
    random = np.random.default_rng(14)
    table(2000, random).to_parquet(project.root / "a.parquet")
    table(1000, random, shift=0.8).to_csv(project.root / "b.csv", index=False)
    (project.root / "importance.json").write_text(json.dumps({"a": 0.3, "b": 0.1, "c": -0.001}))
    found = project.ok("judge", "judge_drift", reference="a.parquet", current="b.csv", importance="importance.json")
    assert found["drifted"]
    assert [column["column"] for column in found["moved"]] == ["a"]
    assert found["moved"][0]["importance"] == pytest.approx(0.75)
    assert found["checks_between_false_alarms"] == pytest.approx(100)
    details = json.loads((project.root / found["details_path"]).read_text())
    assert len(details["columns"]) == found["columns"] == 8


def test_the_estimate_is_made_before_labels_and_compared_when_they_come(project: Project) -> None:
    random = np.random.default_rng(15)

    def write(name: str, rows: int, shift: float, labels: bool) -> None:
        scores, _ = scored(rows, random, shift)
        frame = pd.DataFrame(
            {"y_true": scores.y_true, "prediction": scores.prediction, "probability": scores.probability,
             "loss": scores.loss}
        )  # fmt: skip
        if not labels:
            frame["y_true"], frame["loss"] = None, np.nan
        frame.to_parquet(project.root / name)

    write("before.parquet", 2000, 0.0, True)
    write("unlabelled.parquet", 1000, 0.5, False)
    write("labelled.parquet", 1000, 0.5, True)
    ask: dict[str, Any] = {"reference_scores": "before.parquet", "metric": "accuracy", "task": "binary"}
    early = project.ok("judge", "estimate_performance", current_scores="unlabelled.parquet", **ask)
    assert early["labelled_rows"] == 0
    assert early["actual_value"] is None
    assert early["estimated_low"] < early["estimated_value"] < early["estimated_high"]
    later = project.ok("judge", "estimate_performance", current_scores="labelled.parquet", **ask)
    assert later["estimated_low"] <= later["actual_value"] <= later["estimated_high"]
    assert "no change in how they go with the scores is proven" in later["message"]
    assert project.ok("judge", "estimate_performance", current_scores="labelled.parquet", **ask) == later


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"current": "missing.csv"}, "missing"),
        ({"current": "few.csv"}, "at least 50"),
        ({"alpha": 0.9}, "alpha must be between"),
        ({"min_effect": 2}, "min_effect must be between"),
        ({"importance": "few.csv"}, "expected JSON"),
        ({"importance": "words.json"}, "one finite number per column"),
        ({"current": "other.csv"}, "no column can be compared"),
    ],
    ids=["missing", "few rows", "alpha", "effect", "no JSON", "words", "no common column"],
)
def test_bad_input_is_refused_with_what_is_valid(project: Project, change: dict[str, Any], says: str) -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=200)})
    frame.to_csv(project.root / "good.csv", index=False)
    frame.head(20).to_csv(project.root / "few.csv", index=False)
    frame.rename(columns={"a": "z"}).to_csv(project.root / "other.csv", index=False)
    (project.root / "words.json").write_text('{"a": "much"}')
    result = project.call("judge", "judge_drift", **{"reference": "good.csv", "current": "good.csv", **change})
    assert result.error is not None
    assert result.error.kind == FixableError.kind
    assert says in result.error.message


@pytest.mark.parametrize("name", ["judge_drift", "estimate_performance"])
def test_a_definition_costs_at_most_120_tokens(name: str) -> None:
    assert definition_tokens(load_spec("judge").action(name)) <= 120
