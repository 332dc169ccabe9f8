"""Metric series in and out: what `prometheus.query_range` wrote, or a table with time (or row) and value."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tools.core.errors import FixableError, NoDataError
from tools.modeling.data import read_table, require_columns, write_table

Floats = NDArray[np.float64]

UNIX_S = (1e8, 1e10)  # 1973 to 2286


@dataclass(frozen=True)
class Series:
    """Seconds (Unix, or since any start), values, and requests per reading where the table has that column.

    A series without a clock counts in rows: `unit` says which.
    """

    times: Floats
    values: Floats
    requests: Floats | None = None
    unit: Literal["s", "rows"] = "s"
    left_out: int = 0  # readings of the file without a finite value or time


def read_series(path: Path) -> Series:
    """The one series of a file, in order of time; non-finite values are left out.

    Raises:
        FixableError: missing, empty or foreign file; more than one series; a column that is no number or time.
        NoDataError: no finite value in it.
    """
    series = _from_json(path) if path.suffix == ".json" else _from_table(path)
    known = np.isfinite(series.times) & np.isfinite(series.values)
    if not known.any():
        raise NoDataError(f"{path.name} holds no finite value", tried=f"{len(series.values)} readings of {path}")
    order = np.flatnonzero(known)[np.argsort(series.times[known], kind="stable")]
    requests = None if series.requests is None else series.requests[order]
    return Series(series.times[order], series.values[order], requests, series.unit, len(known) - len(order))


def read_times(path: Path, column: str) -> Floats | None:
    """Seconds of each row of a table, shape (rows,).

    None for a numeric column that cannot be Unix seconds: it orders the rows, but is no clock.

    Raises:
        FixableError: missing, empty or foreign file; no such column, or no times in it.
    """
    frame = read_table(path)
    require_columns(frame, [column], path)
    times = _seconds(cast(pd.Series, frame[column]), path)
    numeric = pd.api.types.is_numeric_dtype(frame[column])
    return None if numeric and not UNIX_S[0] <= float(np.nanmedian(times)) <= UNIX_S[1] else times


def write_columns(path: Path, **columns: NDArray[Any]) -> None:
    """Columns of equal length as a Parquet file, written atomically."""
    write_table(pd.DataFrame(columns), path)


def _from_json(path: Path) -> Series:
    try:
        content: Any = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise FixableError(f"no such file: {path}") from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise FixableError(f"{path} cannot be read as JSON: {error}") from error
    found: Any = cast("dict[str, Any]", content).get("series") if isinstance(content, dict) else None
    if not isinstance(found, list) or not found:
        raise FixableError(
            f'{path} has no "series"; valid: a file of prometheus.query_range, or a table with time and value'
        )
    if len(found) > 1:
        labels = "; ".join(json.dumps(one.get("labels")) for one in found[:3])
        raise FixableError(
            f"{path} holds {len(found)} series ({labels}); narrow the PromQL down to one, for example with sum()"
        )
    try:
        points = [(float(t), np.nan if v is None else float(v)) for t, v in found[0]["points"]]
    except (KeyError, TypeError, ValueError) as error:
        raise FixableError(f"{path}: points must be pairs of Unix seconds and a number: {error!r}") from error
    pairs = np.array(points, dtype=np.float64).reshape(-1, 2)
    return Series(pairs[:, 0], pairs[:, 1])


def _from_table(path: Path) -> Series:
    frame = read_table(path)
    in_rows = "row" in frame.columns and "time" not in frame.columns
    require_columns(frame, ["row" if in_rows else "time", "value"], path)
    requests = _numbers(frame, "requests", path) if "requests" in frame.columns else None
    times = _numbers(frame, "row", path) if in_rows else _seconds(cast(pd.Series, frame["time"]), path)
    return Series(times, _numbers(frame, "value", path), requests, "rows" if in_rows else "s")


def _numbers(frame: pd.DataFrame, column: str, path: Path) -> Floats:
    try:
        return cast(pd.Series, pd.to_numeric(frame[column])).to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        raise FixableError(f"{path}: the column {column!r} must be numeric: {error}") from error


def _seconds(column: pd.Series, path: Path) -> Floats:
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(np.float64)
    try:
        stamps = pd.to_datetime(column, utc=True)
    except (ValueError, TypeError) as error:
        raise FixableError(
            f"{path}: the column {column.name!r} must hold Unix seconds or date-times: {error}"
        ) from error
    start = pd.Timestamp(0, tz="UTC")
    return ((stamps - start) / pd.Timedelta(seconds=1)).to_numpy(np.float64)
