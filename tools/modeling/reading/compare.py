"""Two files of one kind side by side: their times, and the rows that are in both."""

from collections.abc import Collection
from typing import Any

import pandas as pd
from pandas.util import hash_pandas_object

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any
Series = Any

SHARED_SHARE = 0.001  # of the current rows, beyond what chance repeats
MEASURED_SHARE = 0.5  # of the rows, that have a value of their own
GAP_SHARE = 0.5  # of the longer file's span


def compare_files(reference: Frame, current: Frame, column: str | None) -> list[str]:
    """What is odd about the two files side by side, in words: their times, and rows that are in both."""
    found = [] if not column else _compare_times(reference[column], current[column], column)
    shared = shared_rows(reference, current)
    if shared:
        found.append(
            f"{shared} of {len(current)} current rows are also in the reference, value by value: a model is then "
            "judged by rows that it has learned"
        )
    return found


def _compare_times(before: Series, now: Series, column: str) -> list[str]:
    starts, ends = (before.min(), now.min()), (before.max(), now.max())
    ranges = f"reference {starts[0]} to {ends[0]}, current {starts[1]} to {ends[1]}"
    if ends[1] < starts[0]:
        return [f"{column}: all current rows are older than the reference ({ranges}); are the two files exchanged?"]
    if starts[1] < ends[0]:
        early = int((now < ends[0]).sum())
        return [
            f"{column}: the files overlap in time: {early} of {len(now)} current rows are older than the newest "
            f"reference row ({ranges})"
        ]
    gap, span = starts[1] - ends[0], max(ends[0] - starts[0], ends[1] - starts[1])
    return [f"{column}: between the files lies a gap of {gap} ({ranges})"] if span and gap > GAP_SHARE * span else []


def shared_rows(reference: Frame, current: Frame, skip: Collection[str] = ()) -> int:
    """Rows of `current` that are in `reference`; 0 where so many are repeated by chance, as rows of few values are.

    Rows that differ in nothing but a number or name of the row, or in what is in `skip` (a time, columns that no model
    sees), are the same to a model: they count too.
    """
    names = [name for name in current.columns if name in reference.columns]
    seen = [name for name in names if name not in skip and not any(_names_rows(f[name]) for f in (reference, current))]
    chosen = [names, seen] if seen != names and any(_is_measured(current[name]) for name in seen) else [names]
    return max(_shared_in(reference, current, these) for these in chosen)


def _is_measured(column: Series) -> bool:
    """Whether it holds numbers that hardly repeat by themselves, unlike the hours and days that every year has."""
    present = column.dropna()
    fractions = pd.api.types.is_float_dtype(column.dtype) and bool((present % 1 != 0).any())
    return fractions and present.nunique() > MEASURED_SHARE * len(column)


def _names_rows(column: Series) -> bool:
    """Whether every row has a value of its own, which is no measured number."""
    return not pd.api.types.is_float_dtype(column.dtype) and bool(column.is_unique)


def _shared_in(reference: Frame, current: Frame, names: list[Any]) -> int:
    if not names:
        return 0
    hash_rows: Any = hash_pandas_object  # pandas' own annotation is of its decorator
    hashed = [hash_rows(_hashable(frame[names]), index=False) for frame in (reference, current)]
    shared = int(hashed[1].isin(hashed[0].unique()).sum())
    by_chance = max(float(one.duplicated().mean()) for one in hashed)
    return shared if shared / len(current) > 2 * by_chance + SHARED_SHARE else 0


def _hashable(frame: Frame) -> Frame:
    """The columns so that equal values have equal hashes in both files: 1 and 1.0, times of any resolution."""
    made: dict[str, Series] = {}
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
            column = column.astype("float64")
        elif pd.api.types.is_datetime64_any_dtype(column.dtype):
            column = (
                column.astype("datetime64[ns]") if column.dt.tz is None else column.dt.tz_convert("UTC").astype(object)
            )
        else:
            column = column.astype(object).map(str, na_action="ignore")
        made[str(name)] = column
    return pd.DataFrame(made)
