"""The judge's actions on series files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tests.conftest import Project
from tools.core.errors import ErrorKind
from tools.core.results import Status

Floats = NDArray[np.float64]

minutes = np.arange(200, dtype=np.float64)


def noise(seed: int, n: int = 200, size: float = 0.2) -> Floats:
    return np.random.default_rng(seed).normal(0, size, n)


days = np.arange(0, 3 * 86400, 60, dtype=np.float64)


def errors(*parts: tuple[float, float]) -> Floats:
    """Error shares of three days: each (seconds before the end, share from then on)."""
    shares = np.zeros(len(days))
    for before_s, share in parts:
        shares[days > days[-1] - before_s] = share
    return shares


def csv(path: Path, values: Floats, times: object = None, **columns: object) -> str:
    pd.DataFrame({"time": 60.0 * np.arange(len(values)) if times is None else times, "value": values} | columns).to_csv(
        path, index=False
    )
    return str(path)


def query_range(path: Path, *series: Floats) -> str:
    points = [[[1000 + 15.0 * i, None if np.isnan(v) else v] for i, v in enumerate(values)] for values in series]
    content = {"expr": "x", "series": [{"labels": {"i": str(i)}, "points": p} for i, p in enumerate(points)]}
    path.write_text(json.dumps(content))
    return str(path)


def test_a_file_of_query_range_is_forecast(project: Project, tmp_path: Path):
    values = 1 + 0.04 * np.maximum(0, minutes - 120) + noise(1)
    values[5] = np.nan
    path = query_range(tmp_path / "range.json", values)
    found = project.ok("judge", "forecast_threshold", series=path, threshold=6.0, horizon_s=1800)
    assert found["outlook"] == "crossing"
    assert found["readings"] == 199
    end = 1000 + 15.0 * 199
    assert found["earliest_at_s"] <= end + 46 * 15 <= found["latest_at_s"]
    assert found["expected_at_s"] == pytest.approx(end + found["expected_in_s"])


def test_date_times_are_read_as_unix_seconds(project: Project, tmp_path: Path):
    stamps = pd.date_range("2026-01-01", periods=200, freq="min", tz="UTC").astype(str)
    path = csv(tmp_path / "s.csv", 1 + 3.0 * (minutes >= 192) + noise(1), stamps)
    found = project.ok("judge", "forecast_threshold", series=path, threshold=6.0)
    assert found["outlook"] == "not_forecastable"
    assert found["probability"] is None
    assert "jumped" in found["message"]


def test_burn_rates_of_a_file(project: Project, tmp_path: Path):
    path = csv(tmp_path / "errors.csv", np.full(90, 0.02))
    found = project.ok("judge", "burn_rate", series=path, slo=0.999)
    assert found["severity"] == "page"
    assert [window["firing"] for window in found["windows"]] == [True, True, True]
    assert found["windows"][2]["covered_s"] == 89 * 60
    weighted = csv(tmp_path / "w.csv", np.array([1.0, 0.0]), requests=[1, 9999])
    assert project.ok("judge", "burn_rate", series=weighted, slo=0.999)["severity"] is None


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("missing.json", None, "no such file"),
        ("broken.json", "{", "JSON"),
        ("other.json", "[1]", "query_range"),
        ("points.json", '{"series": [{"points": [["a", "b"]]}]}', "pairs"),
        ("empty.csv", "", "empty"),
        ("columns.csv", "t,v\n1,2\n", "time"),
        ("text.csv", "time,value\n1,hello\n", "numeric"),
        ("clock.csv", "time,value\nyesterday,1\n", "time"),
    ],
)
def test_a_foreign_file_is_refused_with_what_is_valid(
    project: Project, tmp_path: Path, name: str, content: str | None, said: str
):
    if content is not None:
        (tmp_path / name).write_text(content)
    result = project.call("judge", "forecast_threshold", series=name, threshold=1.0)
    assert result.error is not None and result.error.kind is ErrorKind.FIXABLE
    assert said in result.error.message


def test_several_series_in_one_file_are_named(project: Project, tmp_path: Path):
    result = project.call(
        "judge", "forecast_threshold", series=query_range(tmp_path / "r.json", minutes, minutes), threshold=1.0
    )
    assert result.error is not None and result.error.kind is ErrorKind.FIXABLE
    assert '"i": "1"' in result.error.message


def test_a_series_without_a_finite_value_is_no_data(project: Project, tmp_path: Path):
    path = query_range(tmp_path / "r.json", np.full(20, np.nan))
    for action, more in (
        ("forecast_threshold", {"threshold": 1.0}),
        ("burn_rate", {"slo": 0.9}),
    ):
        assert project.call("judge", action, series=path, **more).status is Status.NO_DATA


def test_impossible_arguments_are_refused(project: Project, tmp_path: Path):
    path = csv(tmp_path / "s.csv", noise(1, 40))
    for action, more in (
        ("forecast_threshold", {"threshold": 1.0, "horizon_s": 0}),
        ("forecast_threshold", {"threshold": float("nan")}),
        ("burn_rate", {"slo": 1.0}),
        ("burn_rate", {"slo": 0.99}),  # the values are no shares
    ):
        result = project.call("judge", action, series=path, **more)
        assert result.error is not None and result.error.kind is ErrorKind.FIXABLE, (action, more)


START = 1_764_504_000.0  # 2025-11-30 12:00 UTC


def test_an_unusual_metric_is_named_with_time_range_and_rarity(project: Project, tmp_path: Path):
    values = 100 + 5 * noise(3, size=1.0)
    values[180:] += 300
    path = csv(tmp_path / "latency.csv", values, START + 60 * minutes)
    found = project.ok("judge", "find_anomalies", series=path)
    assert found["unusual"] is True
    since = found["unusual_since"]
    assert START + 180 * 60 <= since <= START + 190 * 60
    alarm = next(one for one in found["alarms"] if one["at"] == since)
    assert alarm["value"] > 350 and 85 < alarm["usual_low"] < 95 and 105 < alarm["usual_high"] < 115
    assert found["message"].startswith("unusual since 15:0")
    assert f"(score {alarm['score']:.4f}: once in {alarm['once_in']:,.0f} points)" in found["message"]


def test_an_alarm_of_the_past_is_told_and_no_news(project: Project, tmp_path: Path):
    values = 100 + 5 * noise(4, n=400, size=1.0)
    values[300:310] += 300
    path = csv(tmp_path / "latency.csv", values, START + 60 * np.arange(400.0))
    found = project.ok("judge", "find_anomalies", series=path)
    assert (found["unusual"], found["unusual_since"]) == (False, None)
    assert found["alarms"] and "as usual over the newest 30 points; last unusual at 17:0" in found["message"]


def test_a_series_that_is_too_short_is_said_not_judged(project: Project, tmp_path: Path):
    path = csv(tmp_path / "short.csv", np.array([1.0, np.nan, *range(12)]))
    found = project.ok("judge", "find_anomalies", series=path)
    assert (found["unusual"], found["judged"], found["alarms"]) == (None, 0, [])
    assert found["message"] == (
        "cannot be judged: 13 points, more than 150 are needed; 1 of its readings are missing or infinite and left out."
    )
