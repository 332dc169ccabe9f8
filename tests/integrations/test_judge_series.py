"""The judge's series of scores, from files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Project
from tools.core.errors import ErrorKind
from tools.judge.estimates import Scores


def scored(rows: int, seed: int, lost: np.ndarray | float = 0.0, shift: float = 0.0) -> Scores:
    """Scores of a binary champion that lost some skill: each row's probability means nothing with that chance."""
    random = np.random.default_rng(seed)
    odds = random.normal(shift, 2, rows)
    meant = np.where(random.random(rows) < lost, random.normal(0, 2, rows), odds)
    truth = random.random(rows) < 1 / (1 + np.exp(-meant))
    probability = np.asarray(1 / (1 + np.exp(-odds)), dtype=np.float64)
    loss = np.asarray(-np.log(np.where(truth, probability, 1 - probability)), dtype=np.float64)
    text = [np.where(value, "yes", "no").astype(object) for value in (truth, probability > 0.5)]
    return Scores(text[0], text[1], loss, probability, "yes")


def write(scores: Scores, path: Path, **columns: object) -> str:
    frame = pd.DataFrame(
        {
            "row": np.arange(len(scores)),
            "y_true": scores.y_true,
            "prediction": scores.prediction,
            "probability": scores.probability,
            "loss": scores.loss,
        }
    )
    frame.assign(**columns).to_parquet(path)
    return str(path)


def test_the_series_has_the_times_of_the_scored_rows_also_where_labels_are_missing(project: Project, tmp_path: Path):
    data = tmp_path / "data.parquet"
    times = pd.date_range("2026-01-01", periods=900, freq="h")
    pd.DataFrame({"at": times, "y": "yes"}).to_parquet(data)
    labelled = np.flatnonzero(np.arange(900) % 3 > 0)
    path = write(scored(600, 1), tmp_path / "s.parquet", row=labelled)
    found = project.ok("judge", "score_series", scores=path, measure="loss", task="binary", times=f"{data}:at")
    assert (found["unit"], found["readings"]) == ("s", 20)
    written = pd.read_parquet(project.root / found["series_path"])
    expected = [1_767_225_600.0 + 3600 * int(labelled[29 + 30 * i]) for i in range(20)]
    assert written["time"].tolist() == expected
    assert found["span"] == expected[-1] - expected[0]


def test_without_a_clock_the_series_counts_in_rows_and_so_does_its_forecast(project: Project, tmp_path: Path):
    data = tmp_path / "data.parquet"
    pd.DataFrame({"day": np.arange(900) / 900}).to_parquet(data)  # orders the rows, but is no time
    path = write(scored(900, 1, np.linspace(0, 0.7, 900)), tmp_path / "s.parquet")
    for times in ({}, {"times": f"{data}:day"}):
        series = project.ok("judge", "score_series", scores=path, measure="roc_auc", task="binary", **times)
        assert (series["unit"], series["span"], series["higher_is_better"]) == ("rows", 870.0, True)
        found = project.ok(
            "judge", "forecast_threshold", series=series["series_path"], threshold=0.3, horizon_s=450, side="below"
        )
        assert found["unit"] == "rows" and "450 rows" in found["message"]


def test_the_course_of_a_forecast_begins_at_the_newest_reading_and_spans_the_horizon(project: Project, tmp_path: Path):
    random = np.random.default_rng(1)
    pd.DataFrame({"time": np.arange(100) * 60.0, "value": np.arange(100) * 0.01 + random.normal(0, 0.02, 100)}).to_csv(
        tmp_path / "s.csv", index=False
    )
    found = project.ok("judge", "forecast_threshold", series=str(tmp_path / "s.csv"), threshold=1.5, horizon_s=6000)
    assert found["trend"] > 0.9
    drawn = pd.read_json(project.root / found["course_path"], typ="series")
    ahead = np.array(drawn["ahead"])
    assert len(drawn["readings"]) == 100
    assert 5940 < ahead[0, 0] < 6100 and ahead[-1, 0] == pytest.approx(5940 + 6000)
    assert (ahead[:, 1] <= ahead[:, 2]).all() and (ahead[:, 2] <= ahead[:, 3]).all()
    assert ahead[-1, 2] == pytest.approx(1.99, abs=0.15)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"measure": "rmse"}, "valid measures"),
        ({"measure": "drift"}, "reference"),
        ({"task": "guess"}, "'binary', 'multiclass' or 'regression'"),
        ({"times": "short.csv:at"}, "another file"),
        ({"times": "short.csv:when"}, "no column 'when'"),
    ],
)
def test_a_series_that_cannot_be_made_says_why(project: Project, tmp_path: Path, change: dict[str, str], said: str):
    (tmp_path / "short.csv").write_text("at\n2026-01-01\n2026-01-02\n")
    arguments = {"scores": write(scored(300, 1), tmp_path / "s.parquet"), "measure": "loss", "task": "binary", **change}
    result = project.call("judge", "score_series", **arguments)
    assert result.error is not None and result.error.kind is ErrorKind.FIXABLE
    assert said in result.error.message
