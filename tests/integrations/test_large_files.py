"""Large files are scanned, with the verdicts of the same files loaded."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Project
from tests.integrations.test_data_integrations import broken, save, table
from tools.modeling import large_files


@pytest.fixture
def every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("LARGE_ROWS", "LARGE_CSV_BYTES", "LARGE_GZIP_BYTES"):
        monkeypatch.setattr(large_files, limit, 0)
    monkeypatch.setattr(large_files, "BATCH_ROWS", 70)


def both_ways(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    data: pd.DataFrame,
    reference: pd.DataFrame,
    kind: str,
    **more: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report of the loaded and of the scanned files, and the bad rows in each."""
    for name, frame in (("reference", reference), ("data", data)):
        if kind == "csv":
            save(project, f"{name}.csv", frame)
        else:
            frame.to_parquet(project.root / f"{name}.parquet", row_group_size=170)
    asked = {"data": f"data.{kind}", "reference": f"reference.{kind}", "target": "label", "task": "binary", **more}
    reports: list[dict[str, Any]] = []
    for limit in (large_files.LARGE_ROWS, 0):
        for name in ("LARGE_ROWS", "LARGE_CSV_BYTES"):
            monkeypatch.setattr(large_files, name, limit)
        report = project.ok("great_expectations", "validate", **asked)
        bad = report.pop("bad_rows_path")
        report["bad"] = pd.read_parquet(project.root / bad).to_dict("list") if bad else None
        for finding in report["critical"] + report["warnings"]:  # GX words its exceptions by itself
            if finding["reason"].startswith("could not be checked"):
                finding["reason"] = "could not be checked"
        message = report.pop("message")
        assert message.endswith("not by Great Expectations.") == (limit == 0)
        reports.append(report)
    return reports[0], reports[1]


def odd_table(seed: int) -> pd.DataFrame:
    """Columns of many types and habits."""
    random = np.random.default_rng(seed)
    rows = 600
    return pd.DataFrame(
        {
            "when": pd.date_range("2026-01-01", periods=rows, freq="h"),
            "count": np.arange(rows) + rows * seed,
            "code": [f"id-{seed}-{k}" for k in range(rows)],
            "written": random.integers(0, 900, rows).astype(str),
            "sparse": np.where(random.random(rows) < 0.4, np.nan, random.normal(size=rows)),
            "flag": random.random(rows) < 0.3,
            "infinite": np.where(random.random(rows) < 0.01, np.inf, random.normal(size=rows)),
            "same": 1,
            "city": random.choice(["Lima", "Bonn"], rows),
            "label": random.choice(["yes", "no"], rows),
        }
    )


def odd(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    data, reference = odd_table(1), odd_table(0)
    match name:
        case "sound":
            pass
        case "blanks":
            data.loc[3:5, "city"] = " "
        case "not a number":
            data.loc[3:5, "written"] = "many"
        case "constant":
            data["sparse"] = 1.5
        case "out of range":
            data.loc[[7, 70, 300], "sparse"] = 1e6
        case "more nulls":
            data.loc[:400, "sparse"] = np.nan
        case "time became text":
            data["when"] = data["when"].dt.strftime("%d.%m.%y")
        case "number became time":
            data["sparse"] = data["when"]
        case "fractions in a counter":
            data["count"] = data["count"].astype(float)
            data.loc[[5, 11], "count"] += 0.5
        case "new columns":
            data = data.assign(extra=1, hollow=np.nan)
        case "three classes":
            data.loc[:9, "label"] = "maybe"
            reference.loc[:9, "label"] = "maybe"
        case "everything null":
            data["city"] = None
        case "some rows twice":
            data = pd.concat([data, data.iloc[:30]], ignore_index=True)
        case _:
            raise AssertionError(name)
    return data, reference


ODD = ["sound", "blanks", "not a number", "constant", "out of range", "more nulls", "time became text",
       "number became time", "fractions in a counter", "new columns", "three classes", "everything null",
       "some rows twice"]  # fmt: skip
BROKEN = ["missing column", "changed type", "empty column", "many nulls", "no label", "unknown class", "one class",
          "loaded twice", "fractions"]  # fmt: skip


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("name", ODD)
def test_every_check_of_an_odd_file_ends_as_with_great_expectations(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    loaded, scanned = both_ways(project, monkeypatch, *odd(name), kind)
    for key in loaded:
        assert (key, scanned[key]) == (key, loaded[key])


@pytest.mark.parametrize("name", BROKEN)
def test_every_check_of_a_broken_file_ends_as_with_great_expectations(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    loaded, scanned = both_ways(project, monkeypatch, broken(name), table(), "csv")
    assert not loaded["passed"]
    for key in loaded:
        assert (key, scanned[key]) == (key, loaded[key])
