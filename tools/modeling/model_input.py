"""What a model takes: the columns it knows, in its order, as the types that its signature or its library wants.

MLflow's own check of a signature is not used: it refuses whole numbers where the signature has fractions and the other
way round, which is all that a null does to a column of whole numbers, and tells a person the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd

from tools.modeling.data import as_text

WHOLE, FRACTIONS = ("integer", "long"), ("float", "double")
_NUMPY = {"integer": "int32", "long": "int64", "float": "float32", "double": "float64"}


@dataclass(frozen=True)
class ModelInput:
    """The columns that a model was trained on.

    Args:
        names: in its order; empty: it does not say.
        types: column -> the type that its signature has for it (`long`, `double`, `string`, ...).
        categories: column -> the values that it was trained on, for columns that its library wants as categories; None
            where the library keeps them itself.
    """

    names: tuple[str, ...] = ()
    types: dict[str, str] = field(default_factory=dict[str, str])
    categories: dict[str, list[Any] | None] = field(default_factory=dict[str, "list[Any] | None"])

    def missing(self, frame: pd.DataFrame) -> list[str]:
        """The columns that it was trained on and that are not there."""
        return [name for name in self.names if name not in frame.columns]

    def taken(self, frame: pd.DataFrame, drop: Sequence[str]) -> pd.DataFrame:
        """The columns that the model takes; where it does not say which, all but those in `drop`."""
        known = [name for name in self.names if name in frame.columns]
        if known:
            return frame.loc[:, known] if list(frame.columns) != known else frame
        return frame.drop(columns=[name for name in drop if name in frame.columns]) if drop else frame

    def parts(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """Positions of the rows that are to be asked for together, each part of shape (rows,).

        A whole number beside a null is kept as a fraction, in the whole column: those rows go apart, so that what a
        model answers for a row does not depend on the rows that it is asked for together with.
        """
        whole = [name for name, kind in self.types.items() if kind in WHOLE and name in frame.columns]
        with_null = frame[whole].isna().to_numpy().any(axis=1) if whole else np.zeros(len(frame), dtype=bool)
        if not with_null.any() or with_null.all():
            return [np.arange(len(frame))]
        return [np.flatnonzero(~with_null), np.flatnonzero(with_null)]

    def typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of one part, as the signature and the library want them."""
        changed: dict[str, Any] = {}
        for name, kind in self.types.items():
            if name in frame.columns:
                changed[name] = _as(kind, cast(pd.Series, frame[name]))
        for name, values in self.categories.items():
            if name in frame.columns:
                column = frame[name]
                changed[name] = column.astype("category") if values is None else pd.Categorical(column, values)
        return frame.assign(**changed) if changed else frame


def _as(kind: str, column: pd.Series) -> Any:
    """A column as a type of a signature, where that changes no value; else as it is."""
    if kind in (*WHOLE, *FRACTIONS):
        numbers = cast(pd.Series, pd.to_numeric(column, errors="coerce"))
        if (numbers.isna() & column.notna()).any():
            return column
        values = numbers.to_numpy(dtype="float64", na_value=np.nan)
        if kind in FRACTIONS:
            return values.astype(_NUMPY[kind])
        if np.isnan(values).any() or (values % 1 != 0).any():
            return values
        bounds = np.iinfo(_NUMPY[kind])
        fits = values.size == 0 or (bounds.min <= values.min() and values.max() <= bounds.max)
        return numbers.astype(_NUMPY[kind]) if fits else column
    if kind == "boolean":
        told = {"true": True, "false": False, "1": True, "0": False}
        found = [told.get(str(text).casefold()) for text in as_text(column)]
        return np.array(found, dtype=bool) if None not in found else column
    if kind == "string" and (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
        return pd.Series(as_text(column), index=column.index, dtype=object).where(column.notna(), None)
    if kind == "datetime":
        times = pd.to_datetime(column, errors="coerce")
        return times if times.isna().equals(column.isna()) else column
    return column
