"""Counts of two tables from files, and as a file: what one tool counted, another judges."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tools.core.errors import FixableError
from tools.core.files import write_json
from tools.modeling.column_counts import ColumnCounts, PairedCounts, count_frames
from tools.modeling.data import read_table
from tools.modeling.large_files import is_large

COUNTS_FORMAT = "column counts 1"


def count_files(reference: Path, current: Path, exclude: Sequence[str] = ()) -> PairedCounts:
    """Two CSV or Parquet files as counts; large ones are scanned in bounded memory (`tools.modeling.column_scan`).

    Raises:
        FixableError: a file cannot be read, or no column can be compared.
    """
    if is_large(reference) or is_large(current):
        from tools.modeling.column_scan import scan

        return scan(reference, current, exclude)
    return count_frames(read_table(reference), read_table(current), exclude)


def write_counts(tables: PairedCounts, path: Path) -> None:
    """Write the counts as JSON, whole or not at all."""
    columns = [{**vars(c), "reference": c.reference.tolist(), "current": c.current.tolist()} for c in tables.columns]
    write_json(path, {"format": COUNTS_FORMAT, **vars(tables), "columns": columns})


def read_counts(path: Path) -> PairedCounts:
    """The counts that `write_counts` wrote.

    Raises:
        FixableError: not such a file.
    """
    try:
        content = json.loads(path.read_text())
        if content.pop("format") != COUNTS_FORMAT:
            raise ValueError(f"its format is not {COUNTS_FORMAT!r}")
        columns: list[ColumnCounts] = []
        for column in content.pop("columns"):
            before, now = (np.array(column.pop(name), dtype=np.float64) for name in ("reference", "current"))
            grown = column.pop("inflation")
            pair = float(grown[0]), float(grown[1])
            columns.append(ColumnCounts(reference=before, current=now, inflation=pair, **column))
        return PairedCounts(columns, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FixableError(f"cannot read {path} as counts of columns (from ray count_columns): {error!r}") from error
