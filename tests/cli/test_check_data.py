"""`mlops-crew check-data`: how files are understood, before any run."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.cli.conftest import Cli


def write(path: Path, start: str, rows: int = 200) -> None:
    path.parent.mkdir(exist_ok=True)
    frame = pd.DataFrame(
        {
            "ts": pd.date_range(start, periods=rows, freq="11h").strftime("%d/%m/%Y %H:%M"),
            "amount": [f"$1,{k % 900 + 100}.50" for k in range(rows)],
            "plan": ["None" if k % 3 else "plus" for k in range(rows)],
            "id": [f"customer {k}" for k in range(rows)],
            "churned": ["yes" if k % 2 else "no" for k in range(rows)],
        }
    )
    frame.to_csv(path, index=False, sep=";")


def test_it_shows_what_was_understood_and_why(cli: Cli, folder: Path) -> None:
    write(folder / "data" / "old.csv", "2025-01-01")
    ended = cli("check-data", "data/old.csv", "--time-column", "ts")
    assert ended.code == 0, ended.err
    for words in (
        "separated by semicolon, utf-8, 200 records, 5 columns",
        "2025-01-01 00:00:00 to 2025-04-02",
        "can be nothing else",
        "numbers in $",
        "'None' (133), 'plus' (67)",
        "id: no feature: a different text",
    ):
        assert words in ended.out, ended.out


def test_two_files_are_read_together_and_compared(cli: Cli, folder: Path) -> None:
    write(folder / "data" / "old.csv", "2025-01-01")
    write(folder / "data" / "new.csv", "2025-03-01")
    ended = cli("check-data", "data/old.csv", "data/new.csv", "--time-column", "ts", "--json")
    told = json.loads(ended.out)
    assert [one["records"] for one in told["files"]] == [200, 200]
    assert "overlap in time" in told["findings"][0]
    (clock,) = (column for column in told["files"][1]["columns"] if column["name"] == "ts")
    assert clock["type"] == "time" and "of data/old.csv can be nothing else" in clock["why"]


def test_what_a_run_would_refuse_ends_with_3_and_the_setting(cli: Cli, folder: Path) -> None:
    (folder / "old.csv").write_text("Report\na,b,c\n1,2,3\n4,5,6\n")
    ended = cli("check-data", "old.csv")
    assert ended.code == 3 and "data.read.skip_rows: 1" in " ".join(ended.err.replace("!", "").split())
    assert cli("check-data", "old.csv", "--skip-rows", "1").code == 0
    assert cli("check-data", "nowhere.csv").code == 3
    for wrong in (("check-data",), ("check-data", "old.csv", "--separator", "xx"), ("check-data", "a", "b", "c")):
        assert cli(*wrong).code == 2


def test_a_goal_says_which_files_and_how(cli: Cli, folder: Path) -> None:
    write(folder / "data" / "old.csv", "2025-01-01", 100)
    write(folder / "data" / "new.csv", "2025-02-20", 100)
    data = {"reference": "data/old.csv", "current": "data/new.csv", "time_column": "ts", "drop": ["id"],
            "read": {"nulls": ["None"]}}  # fmt: skip
    goal = {"name": "g", "task": "binary", "target": "churned", "metric": "roc_auc", "data": data}
    (folder / "goal.yaml").write_text(yaml.safe_dump(goal))
    ended = cli("check-data", "--goal", "goal.yaml", "--json")
    # All amounts are those of the older file, under new times and names: what a run refuses, this refuses too.
    assert ended.code == 3 and "100 of the 100 current rows" in json.loads(ended.out)["refused"][0]
    (folder / "goal.yaml").write_text(yaml.safe_dump({**goal, "data": {**data, "accept": ["shared_rows"]}}))
    ended = cli("check-data", "--goal", "goal.yaml", "--json")
    assert ended.code == 0, ended.err
    plans = [column for one in json.loads(ended.out)["files"] for column in one["columns"] if column["name"] == "plan"]
    assert [plan["nulls"] for plan in plans] == [66, 66]
    assert cli("check-data", "data/old.csv", "--goal", "goal.yaml").code == 2


def test_files_are_looked_at_outside_of_any_project(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "elsewhere" / "old.csv", "2025-01-01")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "200 records" in cli("check-data", "old.csv").out
    assert cli("check-data", "--goal", "goal.yaml").code == 2, "a goal is read in its project"
