"""Staging reads a user's files once: what it decides, says and refuses reaches everything after it as Parquet."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Project

ROWS = 240


def rows(start: str = "2025-01-01", seed: int = 0) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "ts": pd.date_range(start, periods=ROWS, freq="7h"),
            "amount": chance.normal(5000, 900, ROWS).round(2),
            "plan": chance.choice(["None", "NA", "plus"], ROWS),
            "label": chance.choice(["yes", "no"], ROWS),
        }
    )


def stage(project: Project, before: str, now: str, **more: Any) -> dict[str, Any]:
    arguments = {"reference": before, "current": now, "target": "label", "time_column": "ts", **more}
    return project.ok("dvc", "stage_data", **arguments)


def refusal(project: Project, **more: Any) -> str:
    arguments = {"reference": "old.csv", "current": "new.csv", "target": "label", "time_column": "ts", **more}
    result = project.call("dvc", "stage_data", **arguments)
    assert not result.ok and result.error is not None
    return result.error.message


def write(project: Project, name: str, frame: pd.DataFrame, form: str = "%Y-%m-%d %H:%M:%S", **how: Any) -> str:
    frame.assign(ts=frame["ts"].dt.strftime(form)).to_csv(project.root / name, index=False, **how)
    return name


def test_a_european_export_is_staged_as_numbers_times_and_values(project: Project) -> None:
    before, now = rows(), rows("2025-03-20", seed=1)
    how = {"sep": ";", "decimal": ",", "encoding": "cp1252"}
    names = [write(project, f"{k}.csv", frame, "%d.%m.%Y %H:%M:%S", **how) for k, frame in enumerate((before, now))]
    staged = stage(project, *names)
    found = pd.read_parquet(project.root / staged["current_all"])
    pd.testing.assert_frame_equal(found, now.astype({"plan": object, "label": object}), check_dtype=False)
    assert found["amount"].dtype == "float64" and found["ts"].dtype == "datetime64[ns]"
    assert "semicolon-separated CSV" in staged["understood"][0] and "ts: dates: day first" in staged["understood"][0]
    assert not staged["findings"] and "Current from 2025-03-20" in staged["message"]


def test_day_and_month_are_never_swapped_in_some_rows(project: Project) -> None:
    write(project, "old.csv", rows(), "%d/%m/%Y %H:%M:%S")
    write(project, "new.csv", rows("2025-03-20", seed=1), "%d/%m/%Y %H:%M:%S")
    staged = stage(project, "old.csv", "new.csv")
    times = pd.read_parquet(project.root / staged["reference_all"])["ts"]
    assert times.tolist() == rows()["ts"].tolist()
    write(project, "new.csv", rows("2025-03-20", seed=1), "%m/%d/%Y %H:%M:%S")
    message = refusal(project)
    assert "'ts' writes dates in more than one way" in message and "of old.csv day first" in message
    short = rows().assign(ts=pd.date_range("2025-01-01", periods=ROWS, freq="1h"))
    for name in ("old.csv", "new.csv"):
        write(project, name, short, "%d/%m/%Y %H:%M:%S")
    assert "data.read.date_format" in refusal(project)
    staged = stage(project, "old.csv", "new.csv", read={"date_format": "dmy"})
    assert staged["time_range"]["reference_all"][1].startswith("2025-01-10")


def test_what_is_left_out_or_odd_is_named_with_the_reason(project: Project) -> None:
    before = rows().assign(note=[f"text {k}" for k in range(ROWS)], nothing=None)
    before.insert(0, "", np.arange(ROWS))
    for name in ("old.csv", "new.csv"):
        write(project, name, before)
    staged = stage(project, "old.csv", "new.csv")
    assert "row numbers" in staged["left_out"]["Unnamed: 0"]
    assert "a different text in nearly every row" in staged["left_out"]["note"]
    assert "no value in any row" in staged["left_out"]["nothing"]
    assert "Unnamed: 0" not in staged["columns"] and {"note", "nothing"} <= set(staged["columns"])
    assert ["overlap" in one or "also in the reference" in one for one in staged["findings"]] == [True, True]
    for told in (*staged["left_out"], *staged["findings"]):
        assert told in staged["message"]


def test_one_file_named_twice_is_read_and_told(project: Project) -> None:
    write(project, "old.csv", rows())
    staged = stage(project, "old.csv", "old.csv")
    assert staged["rows"]["reference_all"] == staged["rows"]["current_all"] == ROWS
    assert any(f"{ROWS} of {ROWS} current rows are also in the reference" in one for one in staged["findings"])


def test_a_setting_in_times_needs_a_clock_before_anything_is_made(project: Project) -> None:
    for name, start in (("old.csv", 0), ("new.csv", ROWS)):
        rows().assign(ts=np.arange(start, start + ROWS)).to_csv(project.root / name, index=False)
    assert stage(project, "old.csv", "new.csv")["time_range"]["reference_all"] == ["0", "239"]
    message = refusal(project, needs_clock=True)
    assert "'ts' holds plain numbers" in message and "watch.horizon" in message
    for name, start in (("old.csv", 20250101), ("new.csv", 20250201)):
        rows().assign(ts=start + np.arange(ROWS) % 28).to_csv(project.root / name, index=False)
    assert stage(project, "old.csv", "new.csv", needs_clock=True)["time_range"]["live"][1].startswith("2025-02-28")


def test_a_time_column_may_have_any_name(project: Project) -> None:
    name = "time:utc, (€)\t'x'"
    for file, start in (("old.csv", "2025-01-01"), ("new.csv", "2025-03-20")):
        rows(start).rename(columns={"ts": name}).to_csv(project.root / file, index=False)
    staged = stage(project, "old.csv", "new.csv", time_column=name)
    scores = project.ctx.workspace / "scores.parquet"
    scores.parent.mkdir(parents=True, exist_ok=True)
    count = staged["rows"]["current_all"]
    truth = np.tile(["yes", "no"], count // 2)
    pd.DataFrame(
        {"row": np.arange(count), "y_true": truth, "prediction": truth, "loss": 0.1, "probability": 0.5}
    ).to_parquet(scores)
    series = project.ok(
        "judge", "score_series", scores=project.ctx.show(scores), measure="loss", task="binary",
        times=f"{staged['current_all']}:{name}",
    )  # fmt: skip
    assert series["unit"] == "s"


@pytest.mark.parametrize(
    ("read", "words"),
    [
        ({"seperator": ";"}, "seperator"),
        ({"separator": ";"}, "has no column"),
        ({"current": {"skip_footer": 1}}, ""),
    ],
)
def test_the_settings_of_the_goal_are_those_of_the_files(project: Project, read: dict[str, Any], words: str) -> None:
    write(project, "old.csv", rows())
    write(project, "new.csv", rows("2025-03-20", seed=1))
    (project.root / "new.csv").write_text((project.root / "new.csv").read_text() + "Total,9,,\n")
    if words:
        assert words in refusal(project, read=read)
        return
    assert "'Total'" in refusal(project) and "skip_footer: 1" in refusal(project)
    staged = stage(project, "old.csv", "new.csv", read=read)
    assert staged["rows"]["reference_all"] == staged["rows"]["current_all"] == ROWS
    assert "1 records at the end were skipped" in staged["understood"][1]
