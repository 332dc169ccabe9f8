"""Splits tables into the slices of a run. Pure: tables in, tables out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.core.errors import FixableError
from tools.integrations.dvc.spec import StageDataArgs

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any
Series = Any

MIN_ROWS = 100  # of reference and of current each; below, a holdout slice has under 20 rows and decides nothing
CURRENT_SHARES = (("train", 0.6), ("holdout", 0.2), ("live", 0.2))


def order_by_time(frame: Frame, column: str, source: str) -> Frame:
    """The rows in time order (stable: rows of equal time keep their order); the column is times or numbers.

    Raises:
        FixableError: there is no such column, or it has nulls; says in which records.
    """
    import numpy as np

    if column not in frame.columns:
        shown = ", ".join(map(str, frame.columns))
        raise FixableError(f"{source} has no column {column!r} (time_column); its columns: {shown}")
    missing = np.flatnonzero(frame[column].isna().to_numpy())
    if len(missing):
        where = ", ".join(str(row + 1) for row in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise FixableError(
            f"time column {column!r} of {source} is empty in {len(missing)} rows (record {where}); fill or drop them"
        )
    return frame.sort_values(column, kind="stable").reset_index(drop=True)


def check_clock(frames: list[Frame], column: str) -> None:
    """Raise `FixableError` unless the time column holds times: a setting of the goal is stated in them."""
    import pandas as pd

    for frame in frames:
        if not pd.api.types.is_datetime64_any_dtype(frame[column]):
            raise FixableError(
                f"the time column {column!r} holds plain numbers, e.g. {frame[column].iloc[0]!r}, and is no clock, but "
                "the goal states a time (watch.horizon); state it in rows (5000 rows), or give a column of dates, "
                "yyyymmdd or seconds since 1970; days of a spreadsheet are read with "
                f"data.read.date_format: {{{column}: excel}}"
            )


def split_source(frame: Frame, reference_share: float) -> tuple[Frame, Frame]:
    """The first `reference_share` of the rows and the rest."""
    cut = round(len(frame) * reference_share)
    return frame.iloc[:cut].reset_index(drop=True), frame.iloc[cut:].reset_index(drop=True)


def read_targets(frames: list[Frame], names: Sequence[str], args: StageDataArgs) -> list[str]:
    """Give each label one spelling in all files (in place); returns what was changed, in words."""
    from tools.modeling.labels import read_labels

    if args.task is None:
        return []
    columns = {name: frame[args.target] for name, frame in zip(names, frames, strict=True)}
    read, notes = read_labels(columns, args.task, args.meanings)
    for frame, column in zip(frames, read.values(), strict=True):
        if column is not frame[args.target]:
            frame[args.target] = column
    return notes


def labelled_apart(frame: Frame, target: str) -> tuple[Frame, Frame]:
    """The rows with a label, and those without (null or blank) less the label's column; each in the order it was.

    Raises:
        FixableError: too few have a label.
    """
    import pandas as pd

    from tools.modeling.data import as_text

    labels = frame[target]
    # A blank text is as good as a null; numbers cannot be blank, and reading millions of them as text is slow.
    has = labels.notna() if pd.api.types.is_numeric_dtype(labels) else pd.Series(as_text(labels) != "", frame.index)
    if has.sum() < MIN_ROWS:
        raise FixableError(
            f"current has {int(has.sum())} rows with a label ({target}) and {int((~has).sum())} without; at least "
            f"{MIN_ROWS} with one are needed"
        )
    return frame[has].reset_index(drop=True), frame[~has].drop(columns=target).reset_index(drop=True)


def slices(reference: Frame, current: Frame, baseline_share: float) -> dict[str, Frame]:
    """The slices of a run by name, in row order: see `StagedData`.

    Raises:
        FixableError: too few rows.
    """
    for label, frame in (("reference", reference), ("current", current)):
        if len(frame) < MIN_ROWS:
            raise FixableError(f"{label} has {len(frame)} rows; at least {MIN_ROWS} are needed")
    cut = round(len(reference) * baseline_share)
    made = {"reference": reference.iloc[:cut], "reference_holdout": reference.iloc[cut:]}
    start, share_end = 0, 0.0
    for label, share in CURRENT_SHARES:
        share_end += share
        end = round(len(current) * min(share_end, 1.0))
        made[label] = current.iloc[start:end]
        start = end
    made["reference_all"], made["current_all"] = reference, current
    return {label: frame.reset_index(drop=True) for label, frame in made.items()}
