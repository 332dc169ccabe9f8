"""CSV files: which separator, which header, which records; read right or refused with what helps."""

import bz2
import csv
import gzip
import io
import lzma
import random
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from tools.core.errors import FixableError
from tools.modeling.data import read_table
from tools.modeling.large_files import open_large
from tools.modeling.reading.settings import ReadSettings

ROWS = "".join(f"{i},n{i},{i * 1.5}\n" for i in range(20))
NASTY = [
    "",
    "a",
    "two words",
    'say "hi"',
    "x,y",
    "p;q",
    "tab\there",
    "line\nbreak",
    "ümlaut",
    " lead",
    "NA",
    "None",
    "#1",
]


def written(tmp_path: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(tmp_path: Path, text: str | bytes, **settings: Any) -> pd.DataFrame:
    return read_table(written(tmp_path, text), settings=ReadSettings.model_validate(settings))


def refused(tmp_path: Path, text: str | bytes, **settings: Any) -> str:
    with pytest.raises(FixableError) as caught:
        read(tmp_path, text, **settings)
    return caught.value.message


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("seed", range(4))
def test_what_a_csv_writer_wrote_is_read_back_value_by_value(tmp_path: Path, separator: str, seed: int) -> None:
    chance = random.Random(seed)
    rows = [[chance.choice(NASTY) for _ in range(4)] for _ in range(60)]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator=chance.choice(["\n", "\r\n"]))
    writer.writerow(["first", "second", "third", "fourth"])
    writer.writerows(row for row in rows)
    text = out.getvalue()
    frame = read(tmp_path, text, separator=separator)
    expected = [row for row in rows if any(row)]
    found = frame.astype(object).where(frame.notna(), "").to_numpy().tolist()
    assert found == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_large_reader_reads_exactly_alike(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    kinds = {
        "whole": lambda i: str(i),
        "gaps": lambda i: chance.choice(["", "NA", str(i)]),
        "share": lambda i: f"{chance.random():.4f}",
        "amount": lambda i: f'"{chance.randint(1000, 99999):,}.50"',
        "code": lambda i: f"{i:05}",
        "plan": lambda i: chance.choice(["NA", "None", "plus", ""]),
        "flag": lambda i: chance.choice(["True", "False"]),
        "nothing": lambda i: "",
        "id": lambda i: chance.choice(["", str(2**53 + 2 * i + 1)]),
    }
    lines = [",".join(make(i) for make in kinds.values()) for i in range(500)]
    path = written(tmp_path, "\n".join([",".join(kinds), *lines]) + "\n")
    loaded = read_table(path)
    with open_large(path) as table:
        scanned = table.lazy().collect().to_pandas()
        assert table.rows == len(loaded) == 500
    assert dict(loaded.dtypes) == dict(scanned.dtypes)
    pd.testing.assert_frame_equal(loaded, scanned)
    assert loaded["amount"].dtype == "float64" and loaded["gaps"].dtype == "float64"
    assert loaded["code"].tolist()[7] == "00007" and {"NA", "None"} <= set(loaded["plan"])
    assert all(int(value) % 2 == 1 for value in loaded["id"].dropna().tolist())


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("a,b,c\n" + ROWS.replace("\n", ",\n"), {}, ["20 of 20", "4 fields", "line 2, 3, 4", "data.read.names"]),
        ("a,b\n1,2\n3\n4,5\n6,7\n", {}, ["1 of 4", "line 3", "'3'"]),
        ("a,b,c\n" + ROWS + "Total: 20\n", {}, ["line 22", "data.read.skip_footer: 1"]),
        ("Report of May\n\na,b,c\n" + ROWS, {}, ["'Report of May'", "data.read.skip_rows: 1"]),
        ("a,b,a\n" + ROWS, {}, ["'a' 2 times", "columns 1, 3"]),
        ("a,b,c\n" + ROWS + '5,"open,3\n' + ROWS, {}, ["line 22", "never closed", "data.read.quote"]),
        ("a,b,c\n" + ROWS + '5,"12" pipe",3\n', {}, ["line 22", "closing quote"]),
        ("a,b,c\n" + ROWS + '5,"in\n' + ROWS + 'out",3\n', {}, ["line 22", "look like records", "multiline"]),
        ("Größe,b\n1,2\n".encode("cp1252"), {}, ["not UTF-8", "data.read.encoding", "Größe"]),
        ("a,b\n1,2\n".encode("utf-16-le"), {}, ["NUL", "data.read.encoding"]),
        ("a,b;c\n1,2;3\n4,5;6\n", {}, ["comma (2 columns)", "semicolon (2 columns)", "data.read.separator"]),
        ("\n\n", {}, ["empty"]),
        ("a,b\n1,2,3\n", {"names": ["x"]}, ["names 1 column"]),
    ],
)
def test_what_leaves_a_doubt_is_refused_with_the_setting_that_helps(
    tmp_path: Path, text: str | bytes, settings: dict[str, Any], words: list[str]
) -> None:
    message = refused(tmp_path, text, **settings)
    for word in words:
        assert word in message, message
    assert "Error" not in message
    with pytest.raises(FixableError) as caught, open_large(written(tmp_path, text)):
        pass
    if not settings:
        assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "settings", "rows", "columns"),
    [
        ("sep=;\na;b\n1;2\n", {}, 1, ["a", "b"]),
        ("a, b, c\n1, x, 2\n3, y, 4\n", {}, 2, ["a", "b", "c"]),
        ("a,b\r1,2\r3,4\r", {}, 2, ["a", "b"]),
        ("a,b\n1,2\n\n,\na,b\n3,4\n\n", {}, 2, ["a", "b"]),
        ("﻿a,b\n1,2\n", {}, 1, ["a", "b"]),
        ("a,b\n1,2\n".encode("utf-16"), {}, 1, ["a", "b"]),
        ("1,2\n3,4\n", {"names": ["x", "y"]}, 2, ["x", "y"]),
        ("# made today\n# by us\na,b\n1,2\n", {"skip_rows": 2}, 1, ["a", "b"]),
        ("a,b\n1,2\nTotal,9\n", {"skip_footer": 1}, 1, ["a", "b"]),
        ("a~b\n1~2\n", {"separator": "~"}, 1, ["a", "b"]),
        ("Größe;b\n1;2\n".encode("cp1252"), {"encoding": "latin-1"}, 1, ["Größe", "b"]),
        ('a,b\n1,"say \\"hi\\" x"\n', {"escape": "\\"}, 1, ["a", "b"]),
        ('a,b\n1,"x\n2,y\n', {"quote": ""}, 2, ["a", "b"]),
        ("only\n1\n2\n", {}, 2, ["only"]),
        (",a\n5,1\n6,2\n", {}, 2, ["Unnamed: 0", "a"]),
    ],
)
def test_forms_that_leave_no_doubt_are_read(
    tmp_path: Path, text: str | bytes, settings: dict[str, Any], rows: int, columns: list[str]
) -> None:
    frame = read(tmp_path, text, **settings)
    assert (len(frame), list(frame.columns)) == (rows, columns)


def test_packed_files_are_read_and_broken_ones_refused(tmp_path: Path) -> None:
    text = ("a,b,c\n" + ROWS).encode()
    plain = read_table(written(tmp_path, text))
    packed = {"gz": gzip.compress(text), "bz2": bz2.compress(text), "xz": lzma.compress(text)}
    packed["zst"] = pa.compress(text, codec="zstd", asbytes=True)
    for end, content in packed.items():
        pd.testing.assert_frame_equal(read_table(written(tmp_path, content, f"t.csv.{end}")), plain)
        for broken in (content[:-5], b"nothing of the kind"):
            with pytest.raises(FixableError, match="cut off, or not packed as its name says"):
                read_table(written(tmp_path, broken, f"broken.csv.{end}"))
    with zipfile.ZipFile(tmp_path / "one.csv.zip", "w") as archive:
        archive.writestr("inside.csv", text)
    pd.testing.assert_frame_equal(read_table(tmp_path / "one.csv.zip"), plain)
    with zipfile.ZipFile(tmp_path / "two.csv.zip", "w") as archive:
        archive.writestr("a.csv", text)
        archive.writestr("b.csv", text)
    with pytest.raises(FixableError, match=r"holds 2 \(a.csv, b.csv\)"):
        read_table(tmp_path / "two.csv.zip")


def test_nulls_are_not_invented_and_can_be_stated(tmp_path: Path) -> None:
    text = "n,t\nNA,NA\n1,None\n2.5,\n,NULL\n"
    frame = read(tmp_path, text)
    assert frame["n"].dtype == "float64" and frame["n"].isna().tolist() == [True, False, False, True]
    assert frame["t"].tolist() == ["NA", "None", None, None]
    assert read(tmp_path, text, nulls=["NA", "None"])["t"].tolist() == [None, None, None, "NULL"]


def test_whole_numbers_lose_no_digit(tmp_path: Path) -> None:
    large = 2**53 + 1
    assert read(tmp_path, f"id,v\n{large},1\n{large + 2},2\n")["id"].tolist() == [large, large + 2]
    assert read(tmp_path, f"id,v\n{large},1\n,2\n")["id"].tolist() == [str(large), None]
    assert read(tmp_path, f"id,v\n{10**25},1\n7,2\n")["id"].tolist() == [str(10**25), "7"]
    assert read(tmp_path, "zip,v\n01234,1\n12345,2\n")["zip"].tolist() == ["01234", "12345"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"separator": "ab"}, "one character"),
        ({"decimal": ","  , "thousands": ","}, "both"),
        ({"encoding": "utf-99"}, "no such encoding"),
        ({"date_format": "day first"}, "dmy"),
        ({"timezone": "Mars/Base"}, "no such time zone"),
        ({"seperator": ","}, "Extra inputs"),
        ({"current": {"current": {"skip_rows": 1}}}, "not files again"),
    ],
)  # fmt: skip
def test_a_setting_that_is_none_is_refused(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ReadSettings.model_validate(bad)


def test_settings_of_one_file_stand_over_those_of_both() -> None:
    settings = ReadSettings.model_validate({"separator": "semicolon", "current": {"skip_footer": 1}})
    assert settings.of("current").stated() == {"separator": ";", "skip_footer": 1}
    assert settings.of("reference").stated() == settings.of("anything").stated() == {"separator": ";"}


def test_the_real_data_sets_are_read_as_pandas_reads_them(real_data: Path) -> None:
    for path in sorted(real_data.rglob("*.csv.gz")):
        expected, found = pd.read_csv(path, low_memory=False), read_table(path)
        assert found.shape == expected.shape and dict(found.dtypes) == dict(expected.dtypes), path.name
        pd.testing.assert_frame_equal(
            found.astype(object).where(found.notna(), None), expected.astype(object).where(expected.notna(), None)
        )
