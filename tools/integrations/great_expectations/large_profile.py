"""The profile of a file that is too large to load, by Polars: the same facts as `profile`, from a few streamed scans.

Memory grows by 8 bytes per row, for the hashes of whole rows that find duplicates. Two different rows have the same
64-bit hash with probability below rows**2 / 2**65 in all (3e-6 at 10 million rows); everything else is exact, but
`unique` of numbers, which is a lower bound (2 stands for "varies") where the exact number decides nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tools.integrations.great_expectations.profile import (
    COUNTER_DENSITY,
    IDENTIFIER_ROWS,
    IDENTIFIER_SHARE,
    MAX_CATEGORIES,
    MOSTLY_WHOLE_SHARE,
    ColumnProfile,
    Kind,
    TableProfile,
    fillers_needed,
    sparse_columns,
)
from tools.modeling.large_files import LargeTable

Facts = dict[str, Any]


@dataclass(frozen=True)
class PlainTable:
    """A table as `profile.plain` makes it: numbers, naive times, text; NaN is null."""

    lazy: pl.LazyFrame
    rows: int
    dtypes: dict[str, pl.DataType]

    def without(self, column: str) -> "PlainTable":
        """The table without a column; as it is where there is no such column."""
        kept = {name: dtype for name, dtype in self.dtypes.items() if name != column}
        return PlainTable(self.lazy.select(list(kept)), self.rows, kept)

    def facts(self, expressions: Sequence[pl.Expr]) -> Facts:
        """Aggregates by name, in one scan."""
        if not expressions:
            return {}
        return self.lazy.select(expressions).collect(engine="streaming").row(0, named=True)

    def kind(self, name: str) -> Kind:
        """What the type says; a column without values is "text" here and "empty" in its profile."""
        dtype = self.dtypes[name]
        return "number" if _is_number(dtype) else "time" if dtype == pl.Datetime else "text"


def plain(table: LargeTable) -> PlainTable:
    """The table with numbers, naive times and text only."""
    lazy = table.lazy()
    lazy = lazy.select(_plain(name, dtype) for name, dtype in lazy.collect_schema().items())
    return PlainTable(lazy, table.rows, dict(lazy.collect_schema()))


def _plain(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype.is_float() or dtype.is_decimal():
        return column.cast(pl.Float64).fill_nan(None)
    if _is_number(dtype):
        return column
    if isinstance(dtype, pl.Datetime):
        zoned = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
        return zoned.cast(pl.Datetime("ns"))
    return column.cast(pl.Datetime("ns") if dtype == pl.Date else pl.String)


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean


def profile(table: PlainTable) -> TableProfile:
    """The table's profile."""
    seen = table.facts([expression for name in table.dtypes for expression in _facts(table, name)])
    columns = {name: _column(table, name, seen) for name in table.dtypes}
    share = duplicated(row_hashes(table, list(table.dtypes))).mean() if table.rows else 0.0
    return TableProfile(table.rows, columns, float(share))


def _facts(table: PlainTable, name: str) -> list[pl.Expr]:
    column = pl.col(name)
    found = {"nulls": column.null_count()}
    if table.kind(name) == "number":
        values = column.cast(pl.Float64)
        finite = values.is_finite()
        found |= {
            "low": values.filter(finite).min(),
            "high": values.filter(finite).max(),
            "least": values.min(),
            "most": values.max(),
            "finite": finite.sum(),
            "whole": (finite & (values == values.floor())).sum(),
        }
    elif table.kind(name) == "text":
        found |= {
            "blanks": (column.str.strip_chars() == "").sum(),
            "numbers": column.str.strip_chars().cast(pl.Float64, strict=False).is_not_nan().sum(),
        }
    return [expression.alias(f"{name}\n{fact}") for fact, expression in found.items()]


def _column(table: PlainTable, name: str, seen: Facts) -> ColumnProfile:
    def fact(what: str) -> Any:
        return seen.get(f"{name}\n{what}")

    kind = table.kind(name)
    present = table.rows - int(fact("nulls"))
    low, high = fact("low"), fact("high")
    whole = number_like = None
    categories: tuple[Any, ...] | None = None
    unique, counts = 0, False
    if present and kind == "number":
        whole = fact("whole") / fact("finite") if fact("finite") else 0.0
        unique = 1 if fact("least") == fact("most") else 2
        if low is not None and whole >= MOSTLY_WHOLE_SHARE and present >= IDENTIFIER_ROWS:
            width, fractions = high - low + 1, present - fact("whole")
            if present >= COUNTER_DENSITY * width and width + fractions >= IDENTIFIER_SHARE * present:
                unique = _unique(table, name)
                counts = unique >= COUNTER_DENSITY * width
    elif present:
        unique = _unique(table, name)
        if kind == "text":
            number_like = fact("numbers") / present
            if unique <= MAX_CATEGORIES:
                values = table.lazy.select(pl.col(name).drop_nulls().unique()).collect(engine="streaming")
                categories = tuple(sorted(values.to_series().to_list()))
    return ColumnProfile(
        name=name,
        kind=kind if present else "empty",
        null_share=int(fact("nulls")) / table.rows if table.rows else 0.0,
        unique=unique,
        low=low,
        high=high,
        categories=categories,
        whole_share=whole,
        number_like_share=number_like,
        blanks=int(fact("blanks") or 0),
        identifier=present >= IDENTIFIER_ROWS
        and unique >= IDENTIFIER_SHARE * present
        and ((kind == "text" and present > 0) or counts),
    )


def _unique(table: PlainTable, name: str) -> int:
    """Different values that are not null, one column at a time so that memory holds one set."""
    values = pl.col(name).hash() if table.kind(name) == "text" else pl.col(name)
    return int(table.facts([values.filter(pl.col(name).is_not_null()).n_unique().alias("n")])["n"])


def row_hashes(table: PlainTable, columns: list[str]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row's values in the columns, in the rows' order; equal rows have equal hashes."""
    lazy = table.lazy.select(columns)
    batches = lazy.collect_batches(maintain_order=True, engine="streaming")
    parts = [batch.hash_rows().to_numpy() for batch in batches]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)


def duplicated(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which entries, in sorted order, occur more than once; shape (rows,)."""
    ordered = np.sort(hashes)
    same = ordered[1:] == ordered[:-1]
    return np.append(same, False) | np.append(False, same)[: len(ordered)]


def filler_columns(table: PlainTable, seen: TableProfile, exclude: str) -> list[str]:
    """As `profile.filler_columns`."""
    sparse, needed = sparse_columns(seen, exclude), fillers_needed(seen)
    if len(sparse) < needed:
        return []
    together = pl.sum_horizontal(pl.col(name).is_null() for name in sparse) >= needed
    found = table.facts([together.sum().alias("\n")] + [(pl.col(n).is_null() & together).sum() for n in sparse])
    rows = found.pop("\n")
    often = sorted((name for name in sparse if found[name] >= 0.5 * rows), key=lambda name: -found[name])
    return often if rows else []


def share_allows(mostly: float, unexpected: int, of: int) -> bool:
    """GX's rule for `mostly`; nothing to check passes."""
    return of == 0 or (of - unexpected) / of >= mostly or math.isclose((of - unexpected) / of, mostly, abs_tol=1e-15)
