"""Two tables as counts per column over common cells: what a drift test needs.

Numbers are counted in cells between quantiles of both tables together, categories by value; nulls have a cell of their
own. `column_scan` makes the same counts of large files, `count_files` of any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tools.core.errors import FixableError
from tools.modeling.columns import infer_schema, to_number
from tools.modeling.data import as_text

Floats = NDArray[np.float64]
Kind = Literal["number", "category"]
CELLS = 100  # per numeric column of a frame, where the distance is computed exactly beside
NULL = "(null)"
SHOWN_COLUMNS = 8


@dataclass(frozen=True)
class ColumnCounts:
    """One column of two tables.

    Args:
        cells: a category, or the upper end of a cell of numbers; "(null)" comes first where there are nulls.
        reference: rows per cell; shape (cells,).
        current: the same of the other table.
        distance: largest difference of the two distribution functions (numbers only; nulls count as lowest value).
        distance_error: the true distance is between `distance` and `distance + distance_error`.
        inflation: per table, how many times larger the variance of a mean is than it would be if rows were
            independent draws; at least 1.
    """

    name: str
    kind: Kind
    cells: list[str]
    reference: Floats
    current: Floats
    distance: float | None = None
    distance_error: float = 0.0
    inflation: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class PairedCounts:
    """All columns of two tables that can be compared, and why the others cannot."""

    columns: list[ColumnCounts]
    skipped: dict[str, str]
    reference_rows: int
    current_rows: int


def count_frames(reference: pd.DataFrame, current: pd.DataFrame, exclude: Sequence[str] = ()) -> PairedCounts:
    """Two frames as counts, with exact distances.

    Raises:
        FixableError: no column can be compared.
    """
    kinds, skipped = choose_columns(reference, current, exclude)
    refuse_nothing(kinds, skipped)
    columns = []
    for name, kind in kinds.items():
        before, now = cast(pd.Series, reference[name]), cast(pd.Series, current[name])
        if kind == "number":
            columns.append(count_numbers(name, to_number(before).to_numpy(), to_number(now).to_numpy()))
        else:
            columns.append(count_categories(name, as_text(before), as_text(now)))
    return PairedCounts(columns, skipped, len(reference), len(current))


def count_numbers(name: str, reference: Floats, current: Floats) -> ColumnCounts:
    """Two samples of numbers (NaN is null) in the order of their rows."""
    before, now = (np.where(np.isnan(values), -np.inf, values) for values in (reference, current))
    pooled = np.sort(np.concatenate([before, now]))
    ends = np.unique(pooled[np.linspace(0, len(pooled) - 1, CELLS + 1).astype(np.int64)])
    codes = np.searchsorted(ends, before), np.searchsorted(ends, now)
    ordered = np.sort(before), np.sort(now)
    cdf = [np.searchsorted(values, pooled, side="right") / len(values) for values in ordered]
    return ColumnCounts(
        name,
        "number",
        [NULL if end == -np.inf else f"{end:.6g}" for end in ends],
        np.bincount(codes[0], minlength=len(ends)).astype(np.float64),
        np.bincount(codes[1], minlength=len(ends)).astype(np.float64),
        distance=float(np.abs(cdf[0] - cdf[1]).max()),
        inflation=(inflation(codes[0][:, None]), inflation(codes[1][:, None])),
    )


def count_categories(name: str, reference: NDArray[Any], current: NDArray[Any]) -> ColumnCounts:
    """Two samples of texts ("" is null) in the order of their rows; cells by falling frequency."""
    codes, values = pd.factorize(np.concatenate([reference, current]))
    total = np.bincount(codes, minlength=len(values))
    order = np.argsort(-total, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    codes = rank[codes]
    before, now = codes[: len(reference)], codes[len(reference) :]
    common = np.arange(min(len(order), 20))
    return ColumnCounts(
        name,
        "category",
        [str(values[i]) or NULL for i in order],
        np.bincount(before, minlength=len(order)).astype(np.float64),
        np.bincount(now, minlength=len(order)).astype(np.float64),
        inflation=(inflation(before[:, None] == common), inflation(now[:, None] == common)),
    )


def inflation(scores: NDArray[Any]) -> float:
    """How many times larger the variance of the rows' mean is than for independent rows; 1 to about sqrt(n).

    Rows of a stream resemble their neighbours. The larger of two measures: about sqrt(n) batch means (Glynn and Whitt
    1991), and (1 + r) / (1 - r) from the correlation r of neighbours, which is steadier and sees further. In a shuffled
    file both are 1 up to noise. Dependence that lasts longer than about sqrt(n) rows is beyond both.

    Args:
        scores: shape (n, k), rows in order; the variances of the k scores are added.
    """
    values = np.asarray(scores, dtype=np.float64)
    size = int(np.sqrt(len(values)))
    values = values - values.mean(axis=0)
    variance = float((values**2).mean(axis=0).sum())
    if size < 10 or variance == 0:
        return 1.0
    batches = values[: len(values) // size * size].reshape(-1, size, values.shape[1]).mean(axis=1)
    by_batches = float(batches.var(axis=0, ddof=1).sum()) * size / variance
    neighbours = min(float((values[1:] * values[:-1]).mean(axis=0).sum()) / variance, 1 - 1 / size)
    return float(np.clip(max(by_batches, (1 + neighbours) / (1 - neighbours)), 1.0, size))


def choose_columns(
    reference: pd.DataFrame, current: pd.DataFrame, exclude: Sequence[str]
) -> tuple[dict[str, Kind], dict[str, str]]:
    """Column -> kind for what can be compared, and column -> why for what cannot."""
    schema = infer_schema(reference)
    kinds: dict[str, Kind] = {}
    skipped: dict[str, str] = {}
    for name in map(str, reference.columns):
        kind = schema.get(name)
        if name in exclude:
            skipped[name] = "excluded"
        elif name not in current.columns:
            skipped[name] = "missing in current"
        elif kind is None:
            skipped[name] = "empty, or a different text in every row"
        elif kind.startswith("time:"):
            skipped[name] = "a time"
        elif kind == "number" and _counts_rows(reference[name]) and _counts_rows(current[name]):
            skipped[name] = "counts the rows"
        else:
            kinds[name] = "number" if kind == "number" else "category"
    skipped.update({str(name): "missing in reference" for name in current.columns if name not in reference.columns})
    return kinds, skipped


def refuse_nothing(kinds: Mapping[str, Kind], skipped: Mapping[str, str]) -> None:
    """Raise `FixableError` where no column can be compared."""
    if not kinds:
        named = ", ".join(f"{name} ({why})" for name, why in list(skipped.items())[:SHOWN_COLUMNS])
        more = f" and {len(skipped) - SHOWN_COLUMNS} more" if len(skipped) > SHOWN_COLUMNS else ""
        raise FixableError(f"no column can be compared; left out: {named or 'nothing'}{more}")


def _counts_rows(column: Any) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column.dtype) and column.is_monotonic_increasing and column.is_unique)
