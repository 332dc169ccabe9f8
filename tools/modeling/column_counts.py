"""Two tables as counts per column over common cells: what a drift test needs, from frames or from large Parquet files.

Numbers are counted in cells between quantiles of both files together, categories by value; nulls have a cell of their
own. Files are scanned once, batch by batch, so memory does not grow with the number of rows.
"""

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tools.core.errors import FixableError
from tools.modeling.columns import infer_schema, to_number
from tools.modeling.data import as_text, read_table

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Floats = NDArray[np.float64]
Kind = Literal["number", "category"]
CELLS = 100  # per numeric column of a frame, where the distance is computed exactly beside
SCAN_CELLS = 2000  # per numeric column of a scanned file: the distance is known to about one cell's share of rows
SCAN_ROWS = 500_000  # Parquet files with more rows in total are scanned instead of loaded
BATCH_ROWS = 1 << 17
SAMPLE_BATCHES = 8  # per scanned file, spread over it, to place the cells and to measure the dependence between rows
MAX_CATEGORIES = 20_000
NULL = "(null)"


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


def count_files(reference: Path, current: Path, exclude: Sequence[str] = ()) -> PairedCounts:
    """Two CSV or Parquet files as counts; large Parquet files are scanned in bounded memory.

    Raises:
        FixableError: a file cannot be read, or no column can be compared.
    """
    if all(path.suffix in (".parquet", ".pq") and path.is_file() for path in (reference, current)):
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            files = pq.ParquetFile(reference), pq.ParquetFile(current)
        except (pa.ArrowException, OSError):
            pass  # read_table says what is wrong with it
        else:
            if sum(file.metadata.num_rows for file in files) > SCAN_ROWS:
                return scan(files[0], files[1], exclude)
    return count_frames(read_table(reference), read_table(current), exclude)


def count_frames(reference: pd.DataFrame, current: pd.DataFrame, exclude: Sequence[str] = ()) -> PairedCounts:
    """Two frames as counts, with exact distances.

    Raises:
        FixableError: no column can be compared.
    """
    kinds, skipped = _choose(reference, current, exclude)
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


def _choose(
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
    if not kinds:
        raise FixableError(f"no column can be compared; left out: {skipped}")
    return kinds, skipped


def _counts_rows(column: Any) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column.dtype) and column.is_monotonic_increasing and column.is_unique)


def scan(reference: "pq.ParquetFile", current: "pq.ParquetFile", exclude: Sequence[str] = ()) -> PairedCounts:
    """Two large Parquet files as counts: each row is read once, memory holds a few batches.

    Raises:
        FixableError: no column can be compared.
    """
    samples = _sample(reference), _sample(current)
    heads = [pd.concat(parts, ignore_index=True) for parts in samples]
    kinds, skipped = _choose(heads[0], heads[1], exclude)
    names = list(kinds)
    ends = {name: _ends(heads, name) for name, kind in kinds.items() if kind == "number"}
    with ThreadPoolExecutor(2) as pool:  # sorting releases the interpreter's lock
        found = [_count_batches(file, names, kinds, ends, pool) for file in (reference, current)]
    columns: list[ColumnCounts] = []
    for name in names:
        # Dependence is measured on the longest stretch at hand of consecutive rows.
        grown = [_sample_inflation(parts[len(parts) // 2][name], kinds[name]) for parts in samples]
        pair = grown[0], grown[1]
        if kinds[name] == "number":
            columns.append(_scanned_numbers(name, ends[name], found[0][name], found[1][name], pair))
        elif max(len(counts[name]) for counts in found) > MAX_CATEGORIES:
            skipped[name] = f"more than {MAX_CATEGORIES} different texts"
        else:
            columns.append(_scanned_categories(name, found[0][name], found[1][name], pair))
    return PairedCounts(columns, skipped, reference.metadata.num_rows, current.metadata.num_rows)


def _sample(file: "pq.ParquetFile") -> list[pd.DataFrame]:
    """The first batch of a few row groups spread over the file."""
    groups = np.unique(np.linspace(0, file.num_row_groups - 1, SAMPLE_BATCHES).astype(int))
    rows = BATCH_ROWS // 4
    return [next(file.iter_batches(batch_size=rows, row_groups=[int(group)])).to_pandas() for group in groups]


def _ends(heads: list[pd.DataFrame], name: str) -> Floats:
    """Upper ends of the cells, from a sample. A value that fills a cell has it to itself, so ties cost no accuracy."""
    values = np.concatenate([to_number(cast(pd.Series, head[name])).to_numpy() for head in heads])
    values = np.sort(values[~np.isnan(values)])
    if not len(values):
        return np.array([0.0])
    picked = values[np.linspace(0, len(values) - 1, SCAN_CELLS + 1).astype(np.int64)]
    ends, repeats = np.unique(picked, return_counts=True)
    return np.unique(np.concatenate([ends, np.nextafter(ends[repeats > 1], -np.inf)]))


def _count_batches(
    file: "pq.ParquetFile", names: list[str], kinds: dict[str, Kind], ends: dict[str, Floats], pool: ThreadPoolExecutor
) -> dict[str, Any]:
    """Per column: running counts (nulls first) of a numeric one, a Counter of a category."""
    totals: dict[str, Any] = {
        name: np.zeros(len(ends[name]) + 2) if kinds[name] == "number" else Counter() for name in names
    }
    # One row group at a time: over a whole file, pyarrow reads ahead without bound.
    groups = (
        file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=names)
        for group in range(file.num_row_groups)
    )
    for batch in itertools.chain.from_iterable(groups):

        def count(name: str, batch: Any = batch) -> None:
            column = batch.column(name)
            if kinds[name] == "number":
                totals[name] += _number_counts(column, ends[name])
            else:
                for pair in column.value_counts().to_pylist():
                    totals[name]["" if pair["values"] is None else str(pair["values"]).strip()] += pair["counts"]

        list(pool.map(count, names))
    return totals


def _number_counts(column: Any, ends: Floats) -> Floats:
    import pyarrow.types as types

    if types.is_floating(column.type) or types.is_integer(column.type):
        values = column.to_numpy(zero_copy_only=False).astype(np.float64)  # nulls become NaN
    else:
        values = to_number(column.to_pandas()).to_numpy().copy()
    values.sort()  # NaN last; sorting and then looking up the ends is several times faster than binning each row
    at_most = np.searchsorted(values, [*ends, np.inf], side="right")
    return np.diff(at_most, prepend=0, append=len(values)).astype(np.float64)[[-1, *range(len(ends) + 1)]]


def _scanned_numbers(
    name: str, ends: Floats, reference: Floats, current: Floats, grown: tuple[float, float]
) -> ColumnCounts:
    low = [np.concatenate([[0.0], np.cumsum(counts) / counts.sum()]) for counts in (reference, current)]
    gap = np.abs(low[0] - low[1]).max()
    # Inside a cell each function stays between its values at the two ends, which bounds what the ends cannot see.
    single = np.concatenate([[True], np.diff(ends, prepend=-np.inf) <= np.spacing(np.abs(ends)) * 1.5, [False]])
    inside = np.maximum(low[0][1:] - low[1][:-1], low[1][1:] - low[0][:-1])[~single]
    bound = max(float(inside.max()), gap) if len(inside) else gap
    return ColumnCounts(
        name,
        "number",
        [NULL, *(f"{end:.6g}" for end in ends), "above"],
        reference,
        current,
        distance=float(gap),
        distance_error=float(bound - gap),
        inflation=grown,
    )


def _scanned_categories(
    name: str, reference: Counter[str], current: Counter[str], grown: tuple[float, float]
) -> ColumnCounts:
    cells = [value for value, _ in (reference + current).most_common()]
    return ColumnCounts(
        name,
        "category",
        [cell or NULL for cell in cells],
        np.array([reference[cell] for cell in cells], dtype=np.float64),
        np.array([current[cell] for cell in cells], dtype=np.float64),
        inflation=grown,
    )


def _sample_inflation(column: Any, kind: Kind) -> float:
    if kind == "number":
        return inflation(to_number(column).fillna(-np.inf).rank().to_numpy()[:, None])
    codes, values = pd.factorize(column)
    common = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(values)))[:20]
    return inflation(codes[:, None] == common)


def read_importance(path: Path) -> dict[str, float]:
    """Column -> importance for a model, from a JSON object.

    Raises:
        FixableError: not such a file.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FixableError(f'cannot read {path}: {error}; expected JSON like {{"age": 0.12}}') from error
    numbers = isinstance(content, dict) and all(
        isinstance(value, int | float) and np.isfinite(value) for value in content.values()
    )
    if not content or not numbers:
        raise FixableError(f'{path} must hold one finite number per column, like {{"age": 0.12}}')
    return {str(name): float(value) for name, value in content.items()}
