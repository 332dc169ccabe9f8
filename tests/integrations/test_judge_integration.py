"""The judge's actions on files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Project


def scores(path: Path, rows: int = 1000, seed: int = 1, signal: float = 2.0, **columns: Any) -> str:
    random = np.random.default_rng(seed)
    truth = np.random.default_rng(99 + rows).random(rows) < 0.4
    probability = 1 / (1 + np.exp(-(signal * (truth - 0.5) + random.normal(0, 1, rows))))
    right = np.where(truth, probability, 1 - probability).clip(1e-6)
    frame = pd.DataFrame(
        {
            "row": np.arange(rows),
            "y_true": truth.astype(int),
            "prediction": (probability > 0.5).astype(int),
            "probability": probability,
            "loss": -np.log(right),
            "error": (truth != (probability > 0.5)).astype(float),
        }
    ).assign(**columns)
    frame.to_parquet(path)
    return str(path)


def evidence(path: Path, rows: int = 1500, loss: float = 0.0, **columns: Any) -> str:
    random = np.random.default_rng(5)
    draw = random.random(rows)
    champion = (draw < 0.15).astype(float)
    challenger = ((draw < 0.12) | (draw > 0.97 - loss)).astype(float)
    truth = random.random(rows) < 0.5
    made: dict[str, Any] = {
        "request_id": [f"r{i}" for i in range(rows)],
        "served_by": np.where(random.random(rows) < 0.05, "challenger", "champion"),
        "y_true": np.where(truth, "yes", "no"),
        "batch": 0,
    }
    for who, wrong in (("champion", champion), ("challenger", challenger)):
        said = truth ^ (wrong == 1)
        made[f"{who}_prediction"] = np.where(said, "yes", "no")
        made[f"{who}_probability"] = np.where(said, 0.8, 0.2)
        made[f"{who}_loss"] = np.where(wrong == 1, -np.log(0.2), -np.log(0.8))
        made[f"{who}_error"] = wrong
        made[f"{who}_latency_ms"] = random.lognormal(1, 0.3, rows)
        made[f"{who}_status"] = 200
    pd.DataFrame(made).assign(**columns).to_parquet(path)
    return str(path)


def test_a_champion_that_lost_its_skill_is_to_be_retrained(project: Project, tmp_path: Path):
    before, now = scores(tmp_path / "before.parquet"), scores(tmp_path / "now.parquet", seed=2, signal=0.2)
    result = project.call(
        "judge", "decide_retraining", reference_scores=before, current_scores=now, metric="roc_auc", task="binary"
    )
    assert result.data is not None
    assert result.data["act"] is True
    assert result.message.startswith("Retrain: roc_auc fell from 0.")
    same = project.ok(
        "judge",
        "decide_retraining",
        reference_scores=before,
        current_scores=scores(tmp_path / "same.parquet", seed=3),
        metric="roc_auc",
        task="binary",
        drift_share=0.8,
    )
    assert same["act"] is False


def test_a_plan_weighs_the_forecast_loss_against_the_cost(project: Project, tmp_path: Path):
    files = {
        "reference_scores": scores(tmp_path / "before.parquet"),
        "current_scores": scores(tmp_path / "now.parquet", seed=2, signal=0.2),
    }
    cheap = project.ok("judge", "plan_retraining", **files, task="binary", cost=20, train_rows=600)
    dear = project.ok("judge", "plan_retraining", **files, task="binary", cost=5000, train_rows=600)
    assert (cheap["pays"], dear["pays"]) == (True, False)
    assert cheap["window"] == "recent" and cheap["new_rows"] == 600 and cheap["enough_rows"] is True
    assert cheap["savings_low"] < cheap["savings"] == dear["savings"] < cheap["savings_high"]
    refused = project.call("judge", "plan_retraining", **files, task="binary", cost=20, train_rows=2000)
    assert refused.error is not None and "train_rows 1 to 1000" in refused.error.message


def test_a_better_challenger_is_recognised_from_two_score_files(project: Project, tmp_path: Path):
    champion = scores(tmp_path / "champion.parquet", signal=1.0)
    challenger = scores(tmp_path / "challenger.parquet", signal=2.5)
    found = project.ok(
        "judge", "compare_models", champion_scores=champion, challenger_scores=challenger, metric="f1", task="binary"
    )
    assert found["better"] is True
    assert found["difference_low"] > 0


@pytest.mark.parametrize(
    ("loss", "metric", "verdict"), [(-0.02, "accuracy", "promote"), (0.06, "log_loss", "rollback")]
)
def test_a_canary_is_judged_from_its_evidence_and_its_course_is_written(
    project: Project, tmp_path: Path, loss: float, metric: str, verdict: str
):
    path = evidence(tmp_path / "evidence.parquet", loss=loss)
    found = project.ok("judge", "judge_canary", evidence=path, metric=metric, task="binary")
    assert found["verdict"] == verdict
    course = json.loads((project.root / found["trajectory_path"]).read_text())
    assert course["looks"][-1]["verdict"] == verdict
    assert course["looks"][-1]["requests"] == 1500
    assert {"quality", "failures", "latency"} <= set(course["rollback_at_log_e"])
    assert found == project.ok("judge", "judge_canary", evidence=path, metric=metric, task="binary")


def test_labels_that_have_not_arrived_mean_wait_whatever_the_losses_say(project: Project, tmp_path: Path):
    path = evidence(tmp_path / "evidence.parquet", loss=0.2, y_true=None)
    for metric in ("accuracy", "roc_auc"):
        result = project.call("judge", "judge_canary", evidence=path, metric=metric, task="binary")
        assert result.data is not None
        assert result.data["verdict"] == "wait"
        assert "no data means wait" in result.message


def test_a_segment_column_in_the_evidence_is_judged_per_segment(project: Project, tmp_path: Path):
    path = evidence(tmp_path / "evidence.parquet", segment=["a", "b"] * 750)
    found = project.ok("judge", "judge_canary", evidence=path, metric="accuracy", task="binary")
    assert [c["name"] for c in found["checks"]] == ["quality", "segment a", "segment b", "failures", "latency"]


def test_a_canary_without_labels_is_held_against_its_holdout_and_a_probation_is_judged_from_a_start(
    project: Project, tmp_path: Path
):
    path = evidence(tmp_path / "evidence.parquet", loss=0.3)
    holdout = {f"{who}_holdout": scores(tmp_path / f"{who}.parquet") for who in ("champion", "challenger")}
    asked = {"evidence": path, "metric": "log_loss", "task": "binary", "label_delay": 2000}
    found = project.ok("judge", "judge_canary", **asked, **holdout)
    assert (found["verdict"], found["held"], found["labelled"]) == ("wait", True, 0)
    assert {p["name"] for p in found["proxies"]} == {"disagreement", "score gap", "estimated loss"}
    assert any(p["alarm"] and p["raised_after"] < 1500 for p in found["proxies"])
    half = project.call("judge", "judge_canary", **asked, champion_holdout=holdout["champion_holdout"])
    assert half.error is not None and "both" in half.error.message
    asked["label_delay"] = 100
    judged = project.ok("judge", "judge_probation", start=500, **asked)
    assert (judged["verdict"], judged["requests"], judged["labelled"]) == ("restore", 1000, 900)
    beyond = project.call("judge", "judge_probation", start=1501, **asked)
    assert beyond.error is not None and "1500 requests" in beyond.error.message


def test_the_needed_requests_fall_with_the_size_of_the_loss(project: Project):
    large, small = (project.ok("judge", "plan_canary", loss=loss)["labelled_requests"] for loss in (0.04, 0.01))
    assert large < small / 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "mae"}, "valid metrics: accuracy"),
        ({"task": "ranking"}, "'binary', 'multiclass' or 'regression'"),
        ({"alpha": 0.9}, "alpha must be between 0 and 0.5"),
        ({"evidence": "absent.parquet"}, "missing"),
        ({"max_latency_ms": -1.0}, "max_latency_ms must be"),
        ({"tolerance": -0.1}, "tolerance must be"),
    ],
)
def test_a_wrong_argument_is_named_with_the_valid_ones(
    project: Project, tmp_path: Path, change: dict[str, Any], message: str
):
    arguments = {"evidence": evidence(tmp_path / "e.parquet", rows=50), "metric": "accuracy", "task": "binary"} | change
    result = project.call("judge", "judge_canary", **arguments)
    assert result.error is not None
    assert result.error.kind == "fixable"
    assert message in result.message


def test_unusable_files_are_refused_by_name(project: Project, tmp_path: Path):
    good = scores(tmp_path / "good.parquet")
    foreign = tmp_path / "foreign.parquet"
    pd.DataFrame({"x": [1]}).to_parquet(foreign)
    unlabelled = scores(tmp_path / "unlabelled.parquet", y_true=None)
    one_class = scores(tmp_path / "one.parquet", y_true=1)
    text = scores(tmp_path / "text.parquet", loss="high")
    for path, message in (
        (str(foreign), "no column 'y_true'"),
        (unlabelled, "no row with both a label"),
        (one_class, "needs both classes"),
        (text, "must be numeric"),
    ):
        result = project.call(
            "judge", "decide_retraining", reference_scores=good, current_scores=path, metric="roc_auc", task="binary"
        )
        assert result.error is not None, path
        assert message in result.message
