"""What a table looks like, as far as the data checks need it. Pure: a table in, facts out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any
Series = Any

Kind = Literal["number", "text", "time", "empty"]
MAX_CATEGORIES = 50  # a text column with more values is free text or an identifier, not a category
NUMBER_LIKE_SHARE = 0.95
MOSTLY_WHOLE_SHARE = 0.95
IDENTIFIER_ROWS, IDENTIFIER_SHARE, COUNTER_DENSITY = 100, 0.9, 0.5
FILLER_NULL_SHARE = 0.05  # a column with more nulls is not "otherwise complete"
FILLER_COLUMNS, FILLER_COLUMN_SHARE = 3, 0.2


@dataclass(frozen=True)
class ColumnProfile:
    """Facts about one column; shares are of all rows (`null_share`) or of the rows that are not null (the others)."""

    name: str
    kind: Kind
    null_share: float
    unique: int
    low: float | None  # numbers only
    high: float | None
    categories: tuple[Any, ...] | None  # text with few values only
    whole_share: float | None  # numbers only
    number_like_share: float | None  # text only: share that reads as numbers
    blanks: int  # text only: empty or white space
    identifier: bool  # nearly every value differs: text, or whole numbers that fill their range (a row counter)


@dataclass(frozen=True)
class TableProfile:
    rows: int
    columns: dict[str, ColumnProfile]
    duplicate_share: float


def plain(frame: Frame) -> Frame:
    """The table with numpy types only (numbers, times without zone, text): checks mean the same in CSV and Parquet.

    Booleans stay booleans, or become 0 and 1 where some are null.
    """
    import pandas as pd

    made: dict[str, Series] = {}
    for name in frame.columns:
        column = frame[name].reset_index(drop=True)
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        elif pd.api.types.is_datetime64_any_dtype(column.dtype) or isinstance(column.dtype, pd.PeriodDtype):
            column = column.astype("datetime64[ns]")
        elif pd.api.types.is_numeric_dtype(column.dtype) and pd.api.types.is_extension_array_dtype(column.dtype):
            column = column.astype("float64" if column.isna().any() else column.dtype.type)
        elif not pd.api.types.is_numeric_dtype(column.dtype):
            column = _plain_objects(column.astype(object))
        made[str(name)] = column
    return pd.DataFrame(made)


def _plain_objects(column: Series) -> Series:
    import pandas as pd

    match pd.api.types.infer_dtype(column, skipna=True):
        case "string" | "empty":
            return column.where(column.notna(), None)
        case "boolean" | "integer" | "floating" | "mixed-integer-float" | "decimal":
            return column.astype("float64" if column.isna().any() else None).astype("float64")
        case "date" | "datetime" | "datetime64":
            return pd.to_datetime(column, errors="coerce", utc=True).dt.tz_localize(None)
        case _:
            return column.map(str, na_action="ignore")


def profile(frame: Frame) -> TableProfile:
    """Profile a table made by `plain`."""
    return TableProfile(
        rows=len(frame),
        columns={name: _column(name, frame[name]) for name in frame.columns},
        duplicate_share=float(frame.duplicated(keep=False).mean()) if len(frame) else 0.0,
    )


def _column(name: str, column: Series) -> ColumnProfile:
    import numpy as np
    import pandas as pd

    present = column.dropna()
    unique = int(present.nunique())
    kind: Kind = "text"
    if present.empty:
        kind = "empty"
    elif pd.api.types.is_numeric_dtype(column.dtype):
        kind = "number"
    elif pd.api.types.is_datetime64_any_dtype(column.dtype):
        kind = "time"
    low = high = whole = number_like = None
    categories: tuple[Any, ...] | None = None
    blanks = 0
    if kind == "number":
        values = present.to_numpy(dtype="float64")
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
        whole = float((finite == np.floor(finite)).mean()) if len(finite) else 0.0
    elif kind == "text":
        if unique <= MAX_CATEGORIES:
            categories = tuple(sorted(present.unique()))
        numbers: Series = pd.to_numeric(present, errors="coerce")
        number_like = float(numbers.notna().mean())
        blanks = int((present.str.strip() == "").sum())
    counts = bool(
        whole is not None
        and whole >= MOSTLY_WHOLE_SHARE
        and low is not None
        and high is not None
        and unique >= COUNTER_DENSITY * (high - low + 1)
    )
    return ColumnProfile(
        name=name,
        kind=kind,
        null_share=float(column.isna().mean()),
        unique=unique,
        low=low,
        high=high,
        categories=categories,
        whole_share=whole,
        number_like_share=number_like,
        blanks=blanks,
        identifier=len(present) >= IDENTIFIER_ROWS
        and unique >= IDENTIFIER_SHARE * len(present)
        and (kind == "text" or counts),
    )


def filler_columns(frame: Frame, seen: TableProfile, exclude: str) -> list[str]:
    """Columns that are null together in some rows and complete elsewhere; the most often null first, [] if none.

    Such rows are fillers: made up so that no row is missing. A row counts when at least three of these columns, and at
    least a fifth of all columns, are null at once.
    """
    sparse, needed = sparse_columns(seen, exclude), fillers_needed(seen)
    if len(sparse) < needed:
        return []
    nulls = frame[sparse].isna()
    rows = nulls[nulls.sum(axis=1) >= needed]
    if rows.empty:
        return []
    counts = rows.sum().sort_values(ascending=False, kind="stable")
    return [str(name) for name, count in counts.items() if count >= 0.5 * len(rows)]


def sparse_columns(seen: TableProfile, exclude: str) -> list[str]:
    """Columns with a few nulls."""
    return [c.name for c in seen.columns.values() if 0 < c.null_share <= FILLER_NULL_SHARE and c.name != exclude]


def fillers_needed(seen: TableProfile) -> int:
    """Columns that must be null at once in a filler row."""
    return max(FILLER_COLUMNS, math.ceil(FILLER_COLUMN_SHARE * len(seen.columns)))
