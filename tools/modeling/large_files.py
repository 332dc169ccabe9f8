"""Tables that are too large to load, read by Polars in memory that does not grow with their number of rows."""

import contextlib
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tools.core.errors import FixableError, shorten
from tools.core.files import replacing
from tools.modeling.data import check_file, read_table
from tools.modeling.reading.parquet import physical_columns
from tools.modeling.reading.records import refuse_doubles
from tools.modeling.reading.settings import DEFAULT, ReadSettings
from tools.modeling.reading.table import csv_to_parquet
from tools.modeling.reading.text import PARQUET_ENDS, is_text, stem

LARGE_ROWS = 500_000  # of a Parquet file
LARGE_CSV_BYTES = 64 * 2**20  # the rows of a CSV file are not known before it is read
LARGE_PACKED_BYTES = 16 * 2**20
BATCH_ROWS = 1 << 17
WIDTH = 32  # columns that are read at once, so that memory does not grow with their number either


@dataclass(frozen=True)
class LargeTable:
    """A table on disk whose rows have a fixed order. Valid inside the `with` of `open_large` that made it."""

    source: Path
    rows: int
    columns: list[str]

    def lazy(self) -> pl.LazyFrame:
        """The rows in their order."""
        return _lazy(self.source)

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """All rows in batches of about `BATCH_ROWS`, in any order."""
        lazy = self.lazy().select(columns)
        return iter(lazy.collect_batches(chunk_size=BATCH_ROWS, maintain_order=False, engine="streaming"))

    def stretches(self, count: int, rows: int, columns: Sequence[str]) -> list[pl.DataFrame]:
        """Up to `count` stretches of consecutive rows, spread evenly over the table; all rows of a small table."""
        lazy = self.lazy().select(columns)
        if self.rows <= count * rows:
            return [lazy.collect()]
        starts = np.linspace(0, self.rows - rows, count).astype(int)
        return [lazy.slice(int(start), rows).collect() for start in starts]

    def sample(self, rows: int, seed: int) -> pd.DataFrame:
        """So many rows drawn at random without replacement, in their order."""
        drawn = np.sort(np.random.default_rng(seed).choice(self.rows, min(rows, self.rows), replace=False))
        kept = pl.LazyFrame({"__row": drawn.astype(np.uint32)})
        parts: list[pd.DataFrame] = []
        for columns in in_widths(self.columns):
            lazy = self.lazy().select(columns).with_row_index("__row")
            found = lazy.join(kept, on="__row", how="semi", maintain_order="left").drop("__row")
            parts.append(found.collect(engine="streaming").to_pandas())
        return parts[0] if len(parts) == 1 else pd.concat(parts, axis=1)


def in_widths(columns: Sequence[str]) -> Iterator[list[str]]:
    """The columns in their order, `WIDTH` at a time."""
    return (list(columns[start : start + WIDTH]) for start in range(0, len(columns), WIDTH))


def is_large(path: Path) -> bool:
    """Whether the file is one to scan rather than to load. A file that cannot be read is not: loading it says why.

    Large is a Parquet file of more than `LARGE_ROWS` rows, a CSV file of more than `LARGE_CSV_BYTES`, a packed one of
    more than `LARGE_PACKED_BYTES`.
    """
    name = path.name.lower()
    if not path.is_file():
        return False
    if name.endswith(PARQUET_ENDS):
        try:
            return _rows(_lazy(path)) > LARGE_ROWS
        except (pl.exceptions.PolarsError, pa.ArrowException, OSError, FixableError):
            return False
    packed = name != stem(path)
    return is_text(path) and path.stat().st_size > (LARGE_PACKED_BYTES if packed else LARGE_CSV_BYTES)


@contextlib.contextmanager
def open_large(path: Path, settings: ReadSettings = DEFAULT) -> Generator[LargeTable]:
    """A Parquet or CSV file, or a folder of Parquet files (in the order of their names), to scan.

    Parquet is read where it is. CSV is written as Parquet into a temporary folder first, because it is read several
    times; it is read by the same code as when it is loaded (`tools.modeling.reading.table`).

    Raises:
        FixableError: it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="large-") as folder:
        if not path.exists() or (path.is_dir() and not any(path.rglob("*.parquet"))):
            raise FixableError(
                f"cannot read {path}: it is {'a folder without Parquet' if path.exists() else 'missing'}"
            )
        try:
            source = path
            if not (path.is_dir() or path.name.lower().endswith(PARQUET_ENDS)):
                source = Path(folder) / "table.parquet"
                check_file(path)
                csv_to_parquet(path, source, settings)
            lazy = _lazy(source)
            table = LargeTable(source, _rows(lazy), lazy.collect_schema().names())
        except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
            text = shorten(" ".join(str(error).split()), 200)
            raise FixableError(f"cannot read {path}: it is damaged or of an unknown form: {text}") from error
        yield table


def sample_file(path: Path, rows: int, seed: int) -> tuple[pd.DataFrame, int]:
    """A table of the file, and the number of rows of the file: all of them, or of a large file a random sample."""
    if not is_large(path):
        frame = read_table(path)
        return frame, len(frame)
    with open_large(path) as table:
        return table.sample(rows, seed), table.rows


def column_of(path: Path, name: str) -> pd.Series | None:
    """One column of a file of any size; None where the file has no such column."""
    if not is_large(path):
        frame = read_table(path)
        return cast(pd.Series, frame[name]) if name in frame.columns else None
    with open_large(path) as table:
        if name not in table.columns:
            return None
        return table.lazy().select(name).collect(engine="streaming").to_series().to_pandas()


def split_rows(
    path: Path, bad: pd.DataFrame, kept: Path, quarantined: Path, check: Callable[[pd.Series, int], None]
) -> int:
    """Write the file's rows to `kept`, but those of `bad` (`row`, from 0, and `reason`) to `quarantined`.

    Returns the number of rows of the file. `check` may refuse the rows to be set aside, before anything is written.
    """
    with open_large(path) as table:
        check(cast(pd.Series, bad["row"]), table.rows)
        rows = table.lazy().with_row_index("\nrow")
        reasons = pl.DataFrame(
            {"\nrow": bad["row"].to_numpy().astype(np.uint32), "quarantine_reason": bad["reason"].tolist()}
        ).lazy()
        for target, how in ((kept, "anti"), (quarantined, "inner")):
            found = rows.join(reasons, on="\nrow", how=cast(Any, how), maintain_order="left").drop("\nrow")
            write_lazy(found, target)
        return table.rows


def write_lazy(lazy: pl.LazyFrame, path: Path) -> None:
    """Write Parquet batch by batch, whole or not at all."""
    with replacing(path) as draft:
        lazy.sink_parquet(draft, row_group_size=BATCH_ROWS, engine="streaming")


def _lazy(path: Path) -> pl.LazyFrame:
    """The rows of Parquet files, with the types that `reading.parquet` gives a loaded one."""
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    schema = pq.read_schema(files[0])
    refuse_doubles(list(schema.names), files[0], "the file")
    lazy = pl.scan_parquet(files, glob=False) if path.is_dir() else pl.scan_parquet(path, glob=False)
    names = physical_columns(schema)
    made = [_as_loaded(name, schema.field(name).type) for name in names]
    if len(names) == len(schema.names) and all(expression.meta.is_column() for expression in made):
        return lazy
    return lazy.select(made)


def _as_loaded(name: str, kind: Any) -> pl.Expr:
    column = pl.col(name)
    if pa.types.is_decimal(kind):
        return column.cast(pl.Float64)
    if pa.types.is_duration(kind):
        return (column.dt.total_nanoseconds() / 1e9).alias(name)
    if pa.types.is_time(kind):
        return (column.cast(pl.Int64) / 1e9).alias(name)
    if pa.types.is_date(kind):
        return column.cast(pl.Datetime("ms"))
    return column


def _rows(lazy: pl.LazyFrame) -> int:
    return int(cast(Any, lazy.select(pl.len()).collect()).item())
