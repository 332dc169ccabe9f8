"""Splits tables into the slices of a run. Pure: tables in, tables out."""

from __future__ import annotations

from typing import Any

from tools.core.errors import FixableError

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any
Series = Any

MIN_ROWS = 100  # of reference and of current each; below, a holdout slice has under 20 rows and decides nothing
CURRENT_SHARES = (("train", 0.6), ("holdout", 0.2), ("live", 0.2))


def order_by_time(frame: Frame, column: str, source: str) -> Frame:
    """The rows in time order (stable: rows of equal time keep their order), the time column parsed.

    A numeric time column stays a number; text becomes a timestamp.

    Raises:
        FixableError: the column holds nulls or text that is no date; quotes some.
    """
    import pandas as pd

    if column not in frame.columns:
        raise FixableError(f"{source} has no column {column!r} (time_column); its columns: {', '.join(frame.columns)}")
    times = frame[column]
    if not pd.api.types.is_numeric_dtype(times) and not pd.api.types.is_datetime64_any_dtype(times):
        parsed = _parse(times)
        bad = times[parsed.isna() & times.notna()]
        if len(bad):
            examples = ", ".join(repr(value) for value in bad.unique()[:3])
            raise FixableError(
                f"time column {column!r} of {source}: {len(bad)} of {len(times)} values are no dates, e.g. {examples}"
            )
        frame = frame.assign(**{column: parsed})
    missing = int(frame[column].isna().sum())
    if missing:
        raise FixableError(f"time column {column!r} of {source} is empty in {missing} rows; fill or drop them")
    return frame.sort_values(column, kind="stable").reset_index(drop=True)


def _parse(times: Series) -> Series:
    """Times without a zone (those with one become UTC): the format that reads every value, else value by value."""
    import pandas as pd

    from tools.modeling.columns import TIME_FORMATS

    def read(form: str) -> Series:
        return pd.to_datetime(times.astype(object), format=form, errors="coerce", utc=True).dt.tz_localize(None)

    tried = (read(form) for form in TIME_FORMATS)
    whole = (parsed for parsed in tried if parsed.notna().sum() == times.notna().sum())
    found = next(whole, None)
    return read("mixed") if found is None else found


def split_source(frame: Frame, reference_share: float) -> tuple[Frame, Frame]:
    """The first `reference_share` of the rows and the rest."""
    cut = round(len(frame) * reference_share)
    return frame.iloc[:cut].reset_index(drop=True), frame.iloc[cut:].reset_index(drop=True)


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
