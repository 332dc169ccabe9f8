"""Two large tables as counts per column: planned on samples, counted batch by batch, the counts added up.

Counts of batches add up exactly, in any order and on any machine, so the same three steps run over files in one
process (`scan`) and over the blocks of a cluster. Columns are read some at a time, so that memory holds a few batches
of a few columns, whatever the number of rows and of columns.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import polars as pl

from tools.modeling.column_counts import (
    NULL,
    ColumnCounts,
    Floats,
    Kind,
    PairedCounts,
    choose_columns,
    inflation,
    refuse_nothing,
)
from tools.modeling.columns import to_number
from tools.modeling.data import as_text
from tools.modeling.large_files import LargeTable, in_widths, open_large

SCAN_CELLS = 2000  # per column of numbers: the distance is known to about one cell's share of rows
SAMPLES, SAMPLE_ROWS = 5, 1 << 15  # stretches per table that place the cells and show how rows depend on each other
MAX_CATEGORIES = 20_000
COMMON_CATEGORIES = 20  # whose dependence between rows is measured
SORT_ROWS = 1 << 14  # so many numbers are sorted inside the processor's cache
THREADS = 2


@dataclass(frozen=True)
class CellPlan:
    """What to count, the same for every batch of both tables; small enough to be sent to every worker.

    Args:
        kinds: column -> kind.
        ends: column of numbers -> upper ends of its cells, increasing; a cell above the last follows.
        inflation: column -> see `ColumnCounts`.
        skipped: column -> why it is not counted.
    """

    kinds: dict[str, Kind] = field(default_factory=dict[str, Kind])
    ends: dict[str, Floats] = field(default_factory=dict[str, Floats])
    inflation: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    skipped: dict[str, str] = field(default_factory=dict[str, str])


Counts = dict[str, Floats | Counter[str] | None]
"""Column -> rows per cell (nulls first) of numbers, rows per text of a category (nulls are ""), or None for a column
with more than `MAX_CATEGORIES` texts."""


def scan(reference: Path, current: Path, exclude: Sequence[str] = ()) -> PairedCounts:
    """Two large files as counts.

    Raises:
        FixableError: a file cannot be read, or no column can be compared.
    """
    with open_large(reference) as before, open_large(current) as now, ThreadPoolExecutor(THREADS) as pool:
        plan = plan_scan(before, now, exclude)
        counted = [count_table(table, plan, pool) for table in (before, now)]
        return pair_counts(plan, counted[0], counted[1], before.rows, now.rows)


def plan_scan(reference: LargeTable, current: LargeTable, exclude: Sequence[str] = ()) -> CellPlan:
    """Columns, cells and dependence, from stretches of consecutive rows of both tables.

    Raises:
        FixableError: no column can be compared.
    """
    plan = CellPlan()
    names = [*reference.columns, *(name for name in current.columns if name not in reference.columns)]
    for columns in in_widths(names):
        samples = [_stretches(table, columns) for table in (reference, current)]
        part = _plan_columns(samples[0], samples[1], exclude)
        for whole, more in zip(vars(plan).values(), vars(part).values(), strict=True):
            whole.update(more)
    refuse_nothing(plan.kinds, plan.skipped)
    return plan


def _stretches(table: LargeTable, columns: Sequence[str]) -> list[pd.DataFrame]:
    """Stretches of those of the columns that the table has."""
    here = [name for name in columns if name in table.columns]
    return [stretch.to_pandas() for stretch in table.stretches(SAMPLES, SAMPLE_ROWS, here)]


def _plan_columns(reference: list[pd.DataFrame], current: list[pd.DataFrame], exclude: Sequence[str]) -> CellPlan:
    samples = reference, current
    heads = [pd.concat(parts, ignore_index=True) for parts in samples]
    kinds, skipped = choose_columns(heads[0], heads[1], exclude)
    ends = {name: _ends(heads, name) for name, kind in kinds.items() if kind == "number"}
    grown: dict[str, tuple[float, float]] = {}
    for name, kind in kinds.items():
        before, now = (_inflation(cast(pd.Series, parts[len(parts) // 2][name]), kind) for parts in samples)
        grown[name] = before, now
    return CellPlan(kinds, ends, grown, skipped)


def count_table(table: LargeTable, plan: CellPlan, pool: ThreadPoolExecutor) -> Counts:
    """All rows of a table; the pool's threads share the columns of a batch."""
    total: Counts = {}
    for names in in_widths(list(plan.kinds)):
        part: Counts = {}
        for batch in table.batches(names):
            found = pool.map(lambda name, batch=batch: count_column(batch[name], plan, name), names)
            part = add_counts(part, dict(zip(names, found, strict=True)))
        total |= part
    return total


def count_batch(batch: pl.DataFrame, plan: CellPlan) -> Counts:
    """The rows of one batch."""
    return {name: count_column(batch[name], plan, name) for name in plan.kinds}


def add_counts(total: Counts, more: Counts) -> Counts:
    """The sum; an empty dict is zero. Commutative and associative: counts are whole numbers below 2**53.

    `total` may be changed.
    """
    if not total:
        return more
    for name, counts in more.items():
        here = total[name]
        if isinstance(here, Counter) and isinstance(counts, Counter):
            here.update(counts)
            total[name] = here if len(here) <= MAX_CATEGORIES else None
        elif isinstance(here, np.ndarray) and isinstance(counts, np.ndarray):
            total[name] = here + counts
        else:
            total[name] = None
    return total


def pair_counts(
    plan: CellPlan, reference: Counts, current: Counts, reference_rows: int, current_rows: int
) -> PairedCounts:
    """The counts of both tables side by side, with the distances they give."""
    columns: list[ColumnCounts] = []
    skipped = dict(plan.skipped)
    for name in plan.kinds:
        before, now = reference[name], current[name]
        if isinstance(before, np.ndarray) and isinstance(now, np.ndarray):
            columns.append(_numbers(name, plan.ends[name], before, now, plan.inflation[name]))
        elif isinstance(before, Counter) and isinstance(now, Counter):
            columns.append(_categories(name, before, now, plan.inflation[name]))
        else:
            skipped[name] = f"more than {MAX_CATEGORIES} different texts"
    return PairedCounts(columns, skipped, reference_rows, current_rows)


def _ends(heads: list[pd.DataFrame], name: str) -> Floats:
    """Upper ends of the cells, from a sample. A value that fills a cell has it to itself, so ties cost no accuracy."""
    values = np.concatenate([to_number(cast(pd.Series, head[name])).to_numpy() for head in heads])
    values = np.sort(values[~np.isnan(values)])
    if not len(values):
        return np.array([0.0])
    picked = values[np.linspace(0, len(values) - 1, SCAN_CELLS + 1).astype(np.int64)]
    ends, repeats = np.unique(picked, return_counts=True)
    return np.unique(np.concatenate([ends, np.nextafter(ends[repeats > 1], -np.inf)]))


def _inflation(column: pd.Series, kind: Kind) -> float:
    if kind == "number":
        return inflation(to_number(column).fillna(-np.inf).rank().to_numpy()[:, None])
    codes, values = pd.factorize(column)
    common = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(values)))[:COMMON_CATEGORIES]
    return inflation(codes[:, None] == common)


def count_column(column: pl.Series, plan: CellPlan, name: str) -> Floats | Counter[str] | None:
    """Rows of one column of a batch."""
    return _count_numbers(column, plan.ends[name]) if plan.kinds[name] == "number" else _count_texts(column)


def _count_numbers(column: pl.Series, ends: Floats) -> Floats:
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        values = column.cast(pl.Float64).to_numpy(writable=True)  # nulls become NaN
    else:
        values = to_number(column.to_pandas()).to_numpy().copy()
    marks = np.concatenate([[-np.inf], ends, [np.finfo(np.float64).max]])
    at_most = np.zeros(len(marks), dtype=np.int64)
    for start in range(0, len(values), SORT_ROWS):
        part = values[start : start + SORT_ROWS]
        part.sort()  # NaN last; sorting and then looking up the ends is several times faster than binning each row
        at_most += np.searchsorted(part, marks, side="right")
    infinite_or_null = at_most[0] + len(values) - at_most[-1]
    return np.concatenate([[infinite_or_null], np.diff(at_most)]).astype(np.float64)


def _count_texts(column: pl.Series) -> Counter[str] | None:
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    counted = column.value_counts(name="rows")
    found: Counter[str] = Counter()
    rows: Iterable[int] = counted["rows"].to_list()
    for text, count in zip(as_text(counted[column.name].to_list()), rows, strict=True):
        found[str(text)] += count
    return found if len(found) <= MAX_CATEGORIES else None


def _numbers(name: str, ends: Floats, reference: Floats, current: Floats, grown: tuple[float, float]) -> ColumnCounts:
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


def _categories(name: str, reference: Counter[str], current: Counter[str], grown: tuple[float, float]) -> ColumnCounts:
    cells = [value for value, _ in (reference + current).most_common()]
    return ColumnCounts(
        name,
        "category",
        [cell or NULL for cell in cells],
        np.array([reference[cell] for cell in cells], dtype=np.float64),
        np.array([current[cell] for cell in cells], dtype=np.float64),
        inflation=grown,
    )
