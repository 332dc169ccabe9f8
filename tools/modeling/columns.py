"""The front of every model: raw tables of any types in, the columns the model was trained on out.

A model meets rows from Parquet, CSV and JSON over HTTP. The same column arrives as int, float, text or all null, and
columns are missing or new. `ColumnReader` makes one table of float64 and text columns out of all of these.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from tools.core.errors import FixableError
from tools.modeling.data import as_text

MISSING = "(missing)"
# Formats that are tried in this order; the first that reads nearly every value is the column's.
TIME_FORMATS = (
    "ISO8601",
    "%m/%d/%y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%d.%m.%Y %H:%M",
)
# A few typing errors must not turn a numeric column into one with a category per number.
READABLE_SHARE = 0.95
IDENTIFIER_SHARE = 0.9
IDENTIFIER_ROWS = 50
CALENDAR = ("year", "month", "day", "weekday", "hour")
TRUE_FALSE = {"true": 1.0, "false": 0.0}
LIMIT = 1e30  # forests compute in float32

Schema = dict[str, str]
"""Column -> "number", "category" or "time:<format>", in the order of the table."""


def infer_schema(frame: pd.DataFrame) -> Schema:
    """What each usable column holds.

    Left out: all-null columns, and text columns in which nearly every value differs (identifiers).

    Raises:
        FixableError: no column is usable.
    """
    kinds = {str(name): _kind(cast(pd.Series, frame[name])) for name in frame.columns}
    schema = {name: kind for name, kind in kinds.items() if kind}
    if not schema:
        raise FixableError(
            f"none of the {frame.shape[1]} columns can be used as a feature: "
            "each is null in every row or holds a different text in every row"
        )
    return schema


def unusable(frame: pd.DataFrame) -> dict[str, str]:
    """Column -> why `infer_schema` leaves it out."""
    found = {str(name): cast(pd.Series, frame[name]) for name in frame.columns}
    return {name: _why_not(column) for name, column in found.items() if _kind(column) is None}


def _why_not(column: pd.Series) -> str:
    if not (as_text(column) != "").any():
        return "no value in any row"
    return "a different text in nearly every row"


def _kind(column: pd.Series) -> str | None:
    present = column.dropna()
    if present.empty:
        return None
    if pd.api.types.is_bool_dtype(present.dtype) or pd.api.types.is_numeric_dtype(present.dtype):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(present.dtype):
        return "time:ISO8601"
    texts = as_text(present)
    texts = texts[texts != ""]
    if not len(texts):
        return None
    unique = pd.Series(pd.unique(texts))
    if to_number(unique).notna().mean() >= READABLE_SHARE:
        return "number"
    for form in TIME_FORMATS:
        if _parse_time(unique, form).notna().mean() >= READABLE_SHARE:
            return f"time:{form}"
    if len(texts) >= IDENTIFIER_ROWS and len(unique) > IDENTIFIER_SHARE * len(texts):
        return None
    return "category"


def to_number(column: pd.Series) -> pd.Series:
    """Any column as float64; what is not a finite number is NaN; true and false (also as text) are 1 and 0."""
    if column.dtype != object:
        if pd.api.types.is_numeric_dtype(column.dtype):
            numbers = pd.Series(column.to_numpy(dtype="float64", na_value=np.nan), index=column.index)
            return _finite(numbers)
        column = column.astype(object)
    numbers = cast(pd.Series, pd.to_numeric(column, errors="coerce"))
    unread = numbers.isna() & column.notna()
    if unread.any():
        numbers = numbers.where(~unread, column.where(unread).astype(str).str.strip().str.lower().map(TRUE_FALSE))
    return _finite(numbers.astype("float64"))


def _finite(numbers: pd.Series) -> pd.Series:
    values = numbers.to_numpy()
    if np.isfinite(values).all() and (not len(values) or np.abs(values).max() <= LIMIT):
        return numbers
    return numbers.where(np.isfinite(values)).clip(-LIMIT, LIMIT)


def to_time(column: pd.Series, form: str) -> pd.Series:
    """Any column as UTC times; numbers are epochs (seconds to nanoseconds, by their size); the rest is NaT."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return pd.to_datetime(column, utc=True)
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        values = column.to_numpy(dtype="float64", na_value=np.nan)
        size = np.nanmax(np.abs(values)) if np.isfinite(values).any() else 0.0
        unit = next((u for limit, u in ((1e11, "s"), (1e14, "ms"), (1e17, "us")) if size < limit), "ns")
        return pd.to_datetime(pd.Series(values, index=column.index), unit=cast(Any, unit), errors="coerce", utc=True)
    times = _parse_time(column, form)
    # Over HTTP a time arrives as ISO text, whatever the training file wrote.
    return times if form == "ISO8601" or times.notna().all() else times.fillna(_parse_time(column, "ISO8601"))


def _parse_time(column: pd.Series, form: str) -> pd.Series:
    return pd.to_datetime(column.astype(object), format=form, errors="coerce", utc=True)


def number_features(schema: Mapping[str, str]) -> list[str]:
    """Names of the float64 columns that `ColumnReader` makes."""
    names: list[str] = []
    for name, kind in schema.items():
        if kind == "number":
            names.append(name)
        elif kind.startswith("time:"):
            names.extend(f"{name}:{part}" for part in CALENDAR)
    return names


def category_features(schema: Mapping[str, str]) -> list[str]:
    """Names of the text columns that `ColumnReader` makes."""
    return [name for name, kind in schema.items() if kind == "category"]


class ColumnReader(TransformerMixin, BaseEstimator):
    """Transformer: raw DataFrame -> the columns of a schema as float64 and text.

    Missing columns are filled with nulls, unknown ones ignored. Nulls of a category become the category "(missing)".
    Times become calendar parts, never the time itself: a model must not extrapolate along it.
    Holds no state but the schema, so it may be used from several threads.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Nothing is learned beyond the schema."""
        self.feature_names_in_ = np.array(list(self.schema), dtype=object)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Any) -> pd.DataFrame:
        """The schema's columns of `X`, in the schema's order.

        Raises:
            FixableError: `X` is no table, or has none of the columns.
        """
        if not isinstance(X, pd.DataFrame):
            raise FixableError(f"rows must be a table with named columns, got {type(X).__name__}")
        known = set(X.columns)
        if not known.intersection(self.schema):
            raise FixableError(
                f"the rows have none of the model's columns; got {_some(list(X.columns))}; "
                f"the model uses {_some(list(self.schema))}"
            )
        made: dict[str, Any] = {}
        empty = pd.Series(np.nan, index=X.index, dtype="float64")
        for name, kind in self.schema.items():
            column = cast(pd.Series, X[name]) if name in known else empty
            if kind == "number":
                made[name] = to_number(column).to_numpy()
            elif kind == "category":
                texts = as_text(column)
                texts[texts == ""] = MISSING
                made[name] = texts
            else:
                made.update(_calendar(name, to_time(column, kind.removeprefix("time:"))))
        return pd.DataFrame(made, index=X.index)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that `transform` makes."""
        names: list[str] = []
        for name, kind in self.schema.items():
            names.extend([f"{name}:{part}" for part in CALENDAR] if kind.startswith("time:") else [name])
        return np.array(names, dtype=object)


def _calendar(name: str, times: pd.Series) -> dict[str, np.ndarray]:
    parts = times.dt
    values = (parts.year, parts.month, parts.day, parts.weekday, parts.hour)
    return {
        f"{name}:{part}": value.to_numpy(dtype="float64", na_value=np.nan)
        for part, value in zip(CALENDAR, values, strict=True)
    }


def _some(names: Sequence[Any], limit: int = 12) -> str:
    shown = ", ".join(map(str, names[:limit]))
    return shown + (", ..." if len(names) > limit else "")
