"""A table in words: what each column holds, for the person who asks how a file was understood."""

from dataclasses import dataclass
from typing import cast

import pandas as pd

EXAMPLES = 3
SHOWN = 24  # characters of an example
CATEGORIES = 6


@dataclass(frozen=True)
class ColumnFacts:
    """One column. `values`: its range, its categories or a few examples."""

    name: str
    type: str
    nulls: int
    values: str


def describe(frame: pd.DataFrame) -> list[ColumnFacts]:
    """The columns in their order."""
    return [_column(str(name), cast(pd.Series, frame[name])) for name in frame.columns]


def _column(name: str, column: pd.Series) -> ColumnFacts:
    present = column.dropna()
    nulls = len(column) - len(present)
    if present.empty:
        return ColumnFacts(name, "empty", nulls, "")
    if pd.api.types.is_bool_dtype(present.dtype) or pd.api.types.infer_dtype(present) == "boolean":
        return ColumnFacts(name, "true/false", nulls, f"true in {int(present.astype(bool).sum())}")
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return ColumnFacts(name, "time", nulls, f"{present.min()} to {present.max()}")
    if pd.api.types.is_numeric_dtype(column.dtype):
        whole = pd.api.types.is_integer_dtype(column.dtype)
        low, high = present.min(), present.max()
        shown = f"{low} to {high}" if whole else f"{float(low):.6g} to {float(high):.6g}"
        return ColumnFacts(name, "whole number" if whole else "number", nulls, shown)
    counted = present.astype(str).value_counts()
    if len(counted) <= CATEGORIES:
        shown = ", ".join(f"{_short(text)} ({count})" for text, count in counted.items())
        return ColumnFacts(name, "text", nulls, shown)
    examples = ", ".join(_short(text) for text in present.astype(str).unique()[:EXAMPLES])
    return ColumnFacts(name, "text", nulls, f"{len(counted)} different: {examples}, ...")


def _short(text: object) -> str:
    shown = repr(str(text))
    return shown if len(shown) <= SHOWN else shown[: SHOWN - 2] + "…'"
