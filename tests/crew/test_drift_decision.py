"""The drift decision of a run: by the judge, weighted by what the champion needs, also before labels arrive."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks import assess_champion, check_data, detect_drift
from tests.crew.test_loop import Played
from tests.helpers.tiny_project import make_project

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

UNTIL_DRIFT = ["version_data", "check_data", "establish_champion", "detect_drift"]


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tiny(mlflow_database: Path) -> Callable[..., Path]:
    return functools.partial(make_project, mlflow_database=mlflow_database)


def rows(count: int, seed: int, a: float = 0.0, idle: float = 0.0, off: float = 0.0) -> pd.DataFrame:
    """The label depends on `a` alone; `idle` says nothing. Both may be moved, in standard deviations; with `off`, what
    is recorded of `a` is off by so much."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": random.normal(a, 1, count), "idle": random.normal(idle, 1, count)})
    likely = 1 / (1 + np.exp(-3 * frame["a"]))
    return frame.assign(y=np.where(random.random(count) < likely, "yes", "no"), a=frame["a"] + off)


def played(project: Path, current: pd.DataFrame) -> Played:
    rows(1500, 1).to_csv(project / "data" / "reference.csv", index=False)
    current.to_csv(project / "data" / "current.csv", index=False)
    return Played(project, seed=3)


@pytest.mark.parametrize(
    ("moved", "drifted", "severity", "column"),
    [
        ({}, False, "none", None),
        ({"idle": 1.0}, True, "low", "idle"),
        ({"a": 1.0}, True, "low", "a"),
        ({"off": 1.0}, True, "high", "a"),
    ],
    ids=[
        "nothing",
        "a column the champion does not need",
        "the rows move to where it is surer",
        "a is recorded wrongly",
    ],
)
def test_severity_is_what_the_drift_means_for_the_champion(
    tmp_path: Path,
    tiny: Callable[..., Path],
    moved: dict[str, float],
    drifted: bool,
    severity: str,
    column: str | None,
) -> None:
    run = played(tiny(tmp_path / "p", tasks=UNTIL_DRIFT), rows(1500, 2, **moved))
    found = run.result("detect_drift", detect_drift.Result)
    assert (found.drifted, found.severity) == (drifted, severity), found.summary
    assert [one.column for one in found.moved if one.column != "y"] == ([column] if column else [])
    assert ("Its severity is " in found.summary and "the champion's loss per row" in found.summary) == drifted
    assert found.checks_between_false_alarms == pytest.approx(100)
    assert ("chance alone gives such an alarm at most once in 100 checks" in found.summary) == drifted
    report = json.loads((run.outcome.folder / "report.json").read_text())["drift"]
    assert report["decisions"][0]["drifted"] == drifted
    judged = {row["column"]: row["judge"]["drifted"] for row in report["columns"] if row["judge"]}
    assert {name for name, is_drifted in judged.items() if is_drifted} == {one.column for one in found.moved}
    assert report["evidently_report"]


def test_rows_without_a_label_are_estimated_and_a_fall_is_watched_not_acted_on(
    tmp_path: Path, tiny: Callable[..., Path]
) -> None:
    """The newest rows are all near the boundary, where the champion can but guess; their labels have not come."""
    newest = rows(4000, 5)
    newest = newest[newest["a"].abs() < 0.3].assign(y=None)
    project = tiny(
        tmp_path / "p",
        tasks=[*UNTIL_DRIFT, "foresee", "assess_champion"],
        metric="accuracy",
        data={"reference": "data/reference.csv", "current": "data/current.csv", "unlabelled": "estimate"},
    )
    run = played(project, pd.concat([rows(1500, 4), newest], ignore_index=True))
    staged = run.data("dvc", "stage_data")[0]
    assert (staged["rows"]["current_all"], staged["rows"]["unlabelled"]) == (1500, len(newest))
    checked = run.result("check_data", check_data.Result)
    assert checked.usable and checked.slices["unlabelled"] == staged["unlabelled"]
    drift = run.result("detect_drift", detect_drift.Result)
    assert drift.drifted and "rows that wait for their label" in drift.summary
    assert drift.false_alarm_probability == pytest.approx(0.01)
    assessed = run.result("assess_champion", assess_champion.Result)
    assert (assessed.act, assessed.watch) == (False, True), assessed.summary
    estimated = run.data("judge", "estimate_performance")[0]
    assert estimated["rows"] == len(newest) and estimated["labelled_rows"] == 1500 and estimated["trusted"]
    assert estimated["estimated_high"] < estimated["reference_value"]
    assert "Watch: " in assessed.summary and f"on {len(newest)} rows without a label" in assessed.summary


def test_rows_without_a_label_are_rejected_unless_the_goal_allows_them(
    tmp_path: Path, tiny: Callable[..., Path]
) -> None:
    current = rows(1500, 4)
    current.loc[1400:, "y"] = None
    run = played(tiny(tmp_path / "p", tasks=UNTIL_DRIFT), current)
    assert run.outcome.outcome == "data_rejected"
    assert "the target is missing in these rows" in run.outcome.summary and "(100 rows)" in run.outcome.summary
