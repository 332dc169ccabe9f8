"""Numbers written for people, dates, and typed columns: one reading per column over all files, or a refusal by name."""

import datetime as dt
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tools.core.errors import FixableError
from tools.modeling.columns import unusable
from tools.modeling.reading.compare import compare_files
from tools.modeling.reading.date_parts import take_apart
from tools.modeling.reading.describe import describe
from tools.modeling.reading.numbers import read_amount
from tools.modeling.reading.settings import ReadSettings
from tools.modeling.reading.understand import ReadFile, read_together


def save(folder: Path, name: str, frame: pd.DataFrame, **how: Any) -> Path:
    path = folder / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False, **how)
    return path


def together(folder: Path, *frames: pd.DataFrame, kind: str = "csv", clock: str = "", drop: tuple[str, ...] = (),
             sep: str = ",", **settings: Any) -> list[ReadFile]:  # fmt: skip
    names = ["reference", "current"][: len(frames)]
    how = {} if kind == "parquet" else {"sep": sep}
    files = {name: save(folder, f"{name}.{kind}", frame, **how) for name, frame in zip(names, frames, strict=True)}
    return read_together(
        files, ReadSettings.model_validate(settings), roles={n: n for n in names}, clock=clock, target="y", drop=drop
    )


def refusal(folder: Path, *frames: pd.DataFrame, **more: Any) -> str:
    with pytest.raises(FixableError) as caught:
        together(folder, *frames, **more)
    return caught.value.message


def column(*values: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": list(values), "y": ["a"] * len(values)})


# --- numbers


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("1,234.50", 1234.5, None),
        ("1.234,50", None, 1234.5),
        ("12,34", None, 12.34),
        ("1,234", 1234.0, 1.234),
        ("1,234,567", 1234567.0, None),
        ("$1,234", 1234.0, 1.234),
        ("($1,200.00)", -1200.0, None),
        ("12,00 €", None, 12.0),
        ("52.84%", 52.84, None),
        ("1 234,5", None, 1234.5),
        ("1'234.5", 1234.5, None),
        ("\u22125", -5.0, -5.0),
        ("12,3,4", None, None),
        ("1.2.3", None, None),
        ("abc", None, None),
        ("", None, None),
    ],
)
def test_a_text_is_a_number_in_the_ways_that_it_can_be_written(
    text: str, point: float | None, comma: float | None
) -> None:
    for way, expected in ((".", point), (",", comma)):
        found = read_amount(text, way)
        assert (None if found is None else found[0]) == expected


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("group", "decimal"), [(",", "."), (".", ","), ("'", "."), (" ", ",")])
@pytest.mark.parametrize(("before", "after"), [("", ""), ("$", ""), ("", " €"), ("", "%")])
def test_any_amount_that_is_written_is_read_back(
    tmp_path: Path, seed: int, group: str, decimal: str, before: str, after: str
) -> None:
    chance = random.Random(seed)
    values = [round(chance.uniform(-50_000, 50_000), 2) for _ in range(40)]
    written = [
        before + f"{value:,.2f}".replace(",", "_").replace(".", decimal).replace("_", group) + after for value in values
    ]
    (read,) = together(tmp_path, column(*written))
    assert read.frame["x"].tolist() == values
    assert "x" in read.facts.columns


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1,234", "5,678"], ["'x'", "'1,234' is 1234 with a decimal point and 1.234", "data.read.decimal"]),
        (["1,234.5", "1.234,5"], ["two ways", "'1,234.5'", "'1.234,5'"]),
        (["$1,200.50", "€5.00"], ["several units", "$ in 1, € in 1"]),
        (["5%", "0.2"], ["several units"]),
    ],
)
def test_numbers_that_can_be_read_in_two_ways_are_refused(tmp_path: Path, values: list[str], words: list[str]) -> None:
    message = refusal(tmp_path, column(*values))
    assert all(word in message for word in words), message
    assert together(tmp_path, column(*values), drop=("x",))[0].frame["x"].tolist()[0] in values


def test_one_column_shows_how_the_others_of_its_file_are_written(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": ["1,234", "2,345"], "b": ["5,5", "6,25"], "y": ["u", "v"]})
    (read,) = together(tmp_path, frame, sep=";")
    assert read.frame["a"].tolist() == [1.234, 2.345]
    doubtful = frame.assign(a=["1.234", "2.345"])
    assert "'1.234' is 1.234 with a decimal point and 1234" in refusal(tmp_path, doubtful, sep=";")
    (read,) = together(tmp_path, doubtful, sep=";", decimal=",")
    assert read.frame["a"].tolist() == [1234.0, 2345.0]


def test_a_number_is_read_alike_in_both_files(tmp_path: Path) -> None:
    before, now = together(tmp_path, column("1,234", "5,678"), column("1,234.50", "2"))
    assert before.frame["x"].tolist() == [1234.0, 5678.0] and now.frame["x"].tolist() == [1234.5, 2.0]
    for kind in ("csv", "parquet"):
        (read,) = together(tmp_path, column("$1,234.50", None, "$2"), kind=kind)
        assert read.frame["x"].dtype == "float64" and read.frame["x"].isna().tolist() == [False, True, False]


def test_a_few_texts_among_numbers_are_left_for_the_checks_and_many_are_said(tmp_path: Path) -> None:
    (read,) = together(tmp_path, column(*["1,234.5"] * 39, "oops"))
    assert read.frame["x"].tolist()[0] == "1234.5" and read.frame["x"].tolist()[-1] == "oops"
    assert "1 values are no numbers" in read.facts.warnings[0] and "'oops'" in read.facts.warnings[0]
    (read,) = together(tmp_path, column(*["1,234.5"] * 30, *["?"] * 10))
    assert "kept as text" in read.facts.warnings[0] and "data.read.nulls" in read.facts.warnings[0]
    (read,) = together(tmp_path, column(*["1,234.5"] * 30, *["?"] * 10), nulls=["?"])
    assert read.frame["x"].dtype == "float64" and not read.facts.warnings


# --- dates

FORMS = ["%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%y %H:%M", "%d-%b-%Y %I:%M %p",
         "%I:%M %p %d-%b-%Y", "%b %d, %Y %H:%M", "%Y/%m/%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+02:00",
         "%Y%m%dT%H%M%S", "%a, %d %b %Y %H:%M:%S GMT", "%d %B %Y %H:%M"]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_clock", [True, False])
def test_dates_of_any_form_are_read_back_whole(tmp_path: Path, form: str, is_clock: bool) -> None:
    times = pd.date_range("2025-01-01", periods=400, freq="37h")
    zone = pd.Timedelta(hours=2) if "+02:00" in form else pd.Timedelta(0)
    before, now = times[:200], times[200:]
    frames = [pd.DataFrame({"x": pd.Series(part).dt.strftime(form), "y": "a"}) for part in (before, now)]
    read = together(tmp_path, *frames, clock="x" if is_clock else "")
    for one, part in zip(read, (before, now), strict=True):
        found = pd.to_datetime(one.frame["x"], utc=True).dt.tz_localize(None)
        assert (found.to_numpy() == (part - zone).to_numpy()).all()
    if is_clock:
        assert read[0].frame["x"].dtype == "datetime64[ns]" and read[0].facts.columns["x"]


def test_day_and_month_are_settled_by_both_files_together(tmp_path: Path) -> None:
    before, now = column("01/02/2025", "03/02/2025"), column("04/02/2025", "13/02/2025")
    read = together(tmp_path, before, now, clock="x")
    assert read[0].frame["x"].tolist() == [pd.Timestamp(2025, 2, 1), pd.Timestamp(2025, 2, 3)]
    assert "'13/02/2025' of current can be nothing else" in read[0].facts.columns["x"]
    message = refusal(tmp_path, before, column("04/02/2025"), clock="x")
    for word in ("'x'", "'01/02/2025' is 2025-02-01 (dmy, day first) or 2025-01-02 (mdy", "data.read.date_format"):
        assert word in message
    for stated in ("mdy", "%m/%d/%Y", {"x": "mdy"}):
        read = together(tmp_path, before, column("04/02/2025"), clock="x", date_format=stated)
        assert read[0].frame["x"].tolist() == [pd.Timestamp(2025, 1, 2), pd.Timestamp(2025, 3, 2)]


def test_a_format_for_dates_in_general_leaves_other_columns_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"x": ["01/02/2025", "03/02/2025"], "iso": ["2025-01-01", "2025-01-02"], "plan": ["a", "b"],
         "named": ["Mar 3, 2025", "Mar 4, 2025"], "y": ["u", "v"]}
    )  # fmt: skip
    for stated in ("dmy", "%d/%m/%Y"):
        for clock in ("x", "iso"):
            (read,) = together(tmp_path, frame, clock=clock, date_format=stated)
            assert read.frame["x"].iloc[0] == pd.Timestamp(2025, 2, 1)
            assert pd.Timestamp(read.frame["iso"].iloc[1]) == pd.Timestamp(2025, 1, 2)
            assert read.frame["named"].iloc[0] == pd.Timestamp(2025, 3, 3) and read.frame["plan"].tolist() == ["a", "b"]
    assert "'plan'" in refusal(tmp_path, frame.drop(columns="x"), date_format={"plan": "%d/%m/%Y"})


@pytest.mark.parametrize(
    ("before", "now", "settings", "words"),
    [
        (["01/13/2025"], ["13/01/2025"], {}, ["more than one way", "of reference month first", "of current day first"]),
        (["2025-01-01"] * 9 + ["13.01.2025"] * 9, ["2025-01-02"], {}, ["9 rows of reference day first"]),
        (["2025-01-01 00:00Z"], ["2025-01-02 00:00"], {}, ["carry a zone", "data.read.timezone"]),
        (["2025-01-01"] * 30 + ["Total"], ["2025-01-02"], {}, ["'Total'", "record 31", "data.read.skip_footer: 1"]),
        (["soon", "2025-01-01"], ["2025-01-02"], {}, ["no dates", "'soon'", "record 1"]),
        (["01/02/2025"], ["13/02/2025"], {"date_format": "mdy"}, ["'13/02/2025'", "mdy", "date_format states"]),
        (["01/02/2025"], ["13/02/2025"], {"date_format": "%m/%d/%Y"}, ["'13/02/2025'", "'%m/%d/%Y'"]),
        ([1735689600, 1746057600000], [1735689600], {}, ["seconds and milliseconds"]),
        ([1, 2], [1735689600], {}, ["plain numbers", "one way"]),
    ],
)  # fmt: skip
def test_a_clock_that_leaves_a_doubt_is_refused(
    tmp_path: Path, before: list[Any], now: list[Any], settings: dict[str, Any], words: list[str]
) -> None:
    message = refusal(tmp_path, column(*before), column(*now), clock="x", **settings)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("values", "first"),
    [
        ([20250131, 20250201], "2025-01-31 00:00"),
        ([202501311530, 202502010000], "2025-01-31 15:30"),
        ([20250131153010, 20250201000000], "2025-01-31 15:30:10"),
        ([1735689600, 1735693200], "2025-01-01 00:00"),
        ([1735689600000, 1735693200000], "2025-01-01 00:00"),
        ([1735689600.5, 1735693200.0], "2025-01-01 00:00:00.5"),
    ],
)
def test_numbers_that_are_times_are_read_as_a_clock(tmp_path: Path, values: list[float], first: str) -> None:
    (read,) = together(tmp_path, column(*values), clock="x")
    assert read.frame["x"].iloc[0] == pd.Timestamp(first)
    (read,) = together(tmp_path, column(*values))
    assert pd.api.types.is_numeric_dtype(read.frame["x"]), "only the time column is"
    (read,) = together(tmp_path, column(3, 1, 2), clock="x")
    assert read.frame["x"].tolist() == [3, 1, 2]


def test_days_of_a_spreadsheet_are_times_where_they_are_stated(tmp_path: Path) -> None:
    clock = together(tmp_path, column(44927, 44927.5), column(44929, None), clock="x", date_format="excel")
    assert [str(one.frame["x"].iloc[-1]) for one in clock] == ["2023-01-01 12:00:00", "NaT"]
    assert clock[0].facts.columns["x"] == "spreadsheet days, as stated"
    (other,) = together(tmp_path, column(1, 45000), date_format={"x": "excel"})
    assert str(other.frame["x"].iloc[0]) == "1899-12-31 00:00:00"
    (unstated,) = together(tmp_path, column(44927, 44928), clock="x")
    assert pd.api.types.is_numeric_dtype(unstated.frame["x"]), "numbers that order rows are guessed to be no clock"
    message = refusal(tmp_path, column(44927, 1672531200), clock="x", date_format={"x": "excel"})
    assert "1 of 2 values are no spreadsheet days" in message and "record 2" in message


def test_seconds_in_one_file_and_milliseconds_in_the_other_are_read_and_said(tmp_path: Path) -> None:
    read = together(tmp_path, column(1735689600), column(1735693200000), clock="x")
    assert [one.frame["x"].iloc[0].hour for one in read] == [0, 1]
    assert "seconds since 1970 (UTC) in reference, milliseconds" in read[1].facts.warnings[0]


def test_times_without_a_zone_are_of_the_stated_one(tmp_path: Path) -> None:
    read = together(
        tmp_path, column("2025-07-01T00:00:00Z"), column("2025-07-01 12:00:00"), clock="x", timezone="Europe/Berlin"
    )
    assert [one.frame["x"].iloc[0].hour for one in read] == [0, 10]
    aware = pd.DataFrame({"x": pd.to_datetime(["2025-07-01"]).tz_localize("Europe/Berlin"), "y": ["a"]})
    naive = pd.DataFrame({"x": pd.to_datetime(["2025-07-01"]), "y": ["a"]})
    assert "data.read.timezone" in refusal(tmp_path, aware, naive, kind="parquet", clock="x")
    read = together(tmp_path, aware, naive, kind="parquet", clock="x", timezone="UTC")
    assert [one.frame["x"].iloc[0].hour for one in read] == [22, 0]


@pytest.mark.parametrize(
    "text", ["10.20.30.40", "2025-13-45", "31/31/2025", "v1.2.3", "12", "a-b-c", "25:00 01-May-2025", ""]
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert take_apart(text) is None


def test_sizes_are_not_taken_for_dates(tmp_path: Path) -> None:
    (read,) = together(tmp_path, column("10-12-11", "09-08-07"))
    assert read.frame["x"].tolist() == ["10-12-11", "09-08-07"]


# --- typed files


def test_what_a_parquet_file_holds_is_converted_or_refused_by_name(tmp_path: Path) -> None:
    good = pd.DataFrame(
        {
            "money": [Decimal("1.50"), None, Decimal("3.25")],
            "span": pd.to_timedelta([1.5, 2, None], unit="s"),
            "at": [dt.time(1, 0, 1), None, dt.time(0, 0, 2)],
            "born": [dt.date(2000, 1, 2), None, dt.date(9999, 12, 31)],
            "id": pd.array([2**53 + 1, None, 5], dtype="Int64"),
            "text": [b"one", b"two", None],
            "y": ["a", "b", "c"],
        }
    )
    (read,) = together(tmp_path, good, kind="parquet")
    frame = read.frame
    assert frame["money"].tolist()[::2] == [1.5, 3.25] and frame["span"].tolist()[:2] == [1.5, 2.0]
    assert frame["at"].tolist()[::2] == [3601.0, 2.0] and frame["born"].tolist()[2] == "9999-12-31"
    assert frame["text"].tolist() == ["one", "two", None]
    assert int(frame["id"].iloc[0]) == 2**53 + 1
    assert {"money", "span", "at"} <= read.facts.columns.keys()
    for name, values in {
        "tags": [["u"], ["v"], []],
        "place": [{"zip": 1}] * 3,
        "raw": [b"\xff\x00", b"\x01", None],
    }.items():
        message = refusal(tmp_path, good.assign(**{name: values}), kind="parquet")
        assert repr(name) in message and "data.drop" in message and "Error" not in message
        (read,) = together(tmp_path, good.assign(**{name: values}), kind="parquet", drop=(name,))
        assert name not in read.frame and name in read.facts.left_out


def test_an_index_with_a_name_is_a_column_and_row_numbers_are_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1, 2, 3], "y": list("abc"), "when": pd.date_range("2025-01-01", periods=3)})
    (read,) = together(tmp_path, frame.set_index("when"), kind="parquet", clock="when")
    assert list(read.frame.columns) == ["x", "y", "when"] and read.frame["when"].dtype == "datetime64[ns]"
    (read,) = together(tmp_path, frame.iloc[[2, 0, 1]], kind="parquet")
    assert list(read.frame.columns) == ["x", "y", "when"] and "row numbers" in str(read.facts.left_out)
    exported = frame.reset_index().rename(columns={"index": ""})
    (read,) = together(tmp_path, exported)
    assert "Unnamed: 0" not in read.frame and "row numbers" in read.facts.left_out["Unnamed: 0"]
    (read,) = together(tmp_path, exported.assign(**{"": [1, 1, 2]}))
    assert "Unnamed: 0" in read.frame, "values that repeat number no rows"


def test_codes_of_one_file_are_codes_in_the_other(tmp_path: Path) -> None:
    before, now = together(tmp_path, column("01234", "5"), column("77", "8"))
    assert before.frame["x"].tolist() == ["01234", "5"] and now.frame["x"].tolist() == ["77", "8"]


# --- two files side by side


def rows(start: str, count: int = 300, seed: int = 0) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    return pd.DataFrame({"t": pd.date_range(start, periods=count, freq="h"), "v": chance.normal(size=count), "y": "a"})


def test_files_that_overlap_are_exchanged_lie_far_apart_or_share_rows_are_told() -> None:
    before = rows("2025-01-01")
    assert compare_files(before, rows("2025-01-14", seed=1), "t") == []
    for other, word in ((rows("2025-01-10", seed=1), "overlap"), (rows("2024-01-01", seed=1), "exchanged"),
                        (rows("2026-01-01", seed=1), "gap")):  # fmt: skip
        (finding,) = compare_files(before, other, "t")
        assert word in finding and "2025-01-01" in finding
    assert any(
        "300 of 300 current rows are also in the reference" in found for found in compare_files(before, before, "t")
    )
    few = pd.DataFrame({"a": [1, 2] * 100, "y": ["u", "v"] * 100})
    assert compare_files(few, few.astype({"a": "float64"}), None) == [], "rows of few values repeat by chance"


def test_columns_of_no_use_are_named_with_the_reason() -> None:
    frame = pd.DataFrame({"none": [None] * 80, "id": [f"u{i}" for i in range(80)], "v": range(80)})
    assert unusable(frame) == {"none": "no value in any row", "id": "a different text in nearly every row"}


def test_a_table_is_described_column_by_column() -> None:
    frame = rows("2025-01-01").assign(flag=True, n=range(300), none=None, many=[f"m{i}" for i in range(300)])
    kinds = {one.name: (one.type, one.nulls) for one in describe(frame)}
    assert kinds == {
        "t": ("time", 0), "v": ("number", 0), "y": ("text", 0), "flag": ("true/false", 0), "n": ("whole number", 0),
        "none": ("empty", 300), "many": ("text", 0),
    }  # fmt: skip
    assert "300 different: 'm0'" in describe(frame)[-1].values
