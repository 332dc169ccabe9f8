"""A scan of large files gives what the tables in memory give."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tools.judge.drift.verdict import judge
from tools.modeling import large_files
from tools.modeling.column_counts import count_frames
from tools.modeling.column_scan import scan


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


def test_a_scan_gives_the_verdicts_of_the_tables_in_memory(parquet: Any) -> None:
    scanned = scan(parquet[0], parquet[1])
    loaded = count_frames(parquet[2], parquet[3])
    assert (scanned.reference_rows, scanned.current_rows) == (40_000, 30_000)
    found, expected = judge(list(scanned.columns)), judge(list(loaded.columns))
    assert [v.name for v in found.columns if v.drifted] == [v.name for v in expected.columns if v.drifted] == ["a"]
    for one in scanned.columns:
        other = next(column for column in loaded.columns if column.name == one.name)
        assert one.reference.sum() == 40_000
        assert one.current.sum() == 30_000
        if one.kind == "category":
            counted = dict(zip(other.cells, other.reference, strict=True))
            assert dict(zip(one.cells, one.reference, strict=True)) == counted
        else:
            assert one.distance is not None
            assert other.distance is not None
            assert one.distance <= other.distance + 1e-12 <= one.distance + one.distance_error + 2e-12
            assert one.distance_error < 0.003


def test_a_scan_reads_nulls_booleans_and_numbers_written_as_text(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    frame = pd.DataFrame(
        {
            "flag": random.random(5000) < 0.3,
            "text": random.integers(0, 1000, 5000).astype(str),
            "hole": np.where(random.random(5000) < 0.4, None, random.normal(size=5000)),
            "word": np.where(random.random(5000) < 0.1, None, random.choice(["x", "y"], 5000)),
        }
    )
    path = tmp_path / "one.parquet"
    pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=900)
    found = {column.name: column for column in scan(path, path).columns}
    assert {name: column.kind for name, column in found.items()} == {
        "flag": "number", "text": "number", "hole": "number", "word": "category",
    }  # fmt: skip
    assert found["hole"].reference[0] == frame["hole"].isna().sum()
    assert found["word"].reference[found["word"].cells.index("(null)")] == frame["word"].isna().sum()
    assert all(column.reference.sum() == 5000 for column in found.values())


@pytest.mark.parametrize("width", [1, 3])
def test_columns_read_a_few_at_a_time_give_the_same_counts(
    parquet: Any, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    whole = scan(parquet[0], parquet[1], ["b"])
    read: list[int] = []
    batches = large_files.LargeTable.batches
    monkeypatch.setattr(large_files, "WIDTH", width)
    monkeypatch.setattr(
        large_files.LargeTable, "batches", lambda self, columns: read.append(len(columns)) or batches(self, columns)
    )
    parts = scan(parquet[0], parquet[1], ["b"])
    assert max(read) == width
    assert parts.skipped == whole.skipped and "b" in parts.skipped
    for one, other in zip(parts.columns, whole.columns, strict=True):
        assert (one.name, one.kind, one.distance, one.inflation) == (
            other.name, other.kind, other.distance, other.inflation,
        )  # fmt: skip
        assert dict(zip(one.cells, one.current, strict=True)) == dict(zip(other.cells, other.current, strict=True))
