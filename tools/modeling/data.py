"""Tables in and out, and the checks a target must pass before anything is trained on it."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pandas as pd

from tools.core.errors import FixableError
from tools.core.files import replacing
from tools.modeling.labels import as_text as as_text
from tools.modeling.labels import positive_label as positive_label
from tools.modeling.labels import read_labels
from tools.modeling.reading.parquet import read_parquet
from tools.modeling.reading.settings import DEFAULT, ReadSettings
from tools.modeling.reading.table import read_csv
from tools.modeling.reading.text import KINDS, PARQUET_ENDS, is_text

Task = Literal["binary", "multiclass", "regression"]
TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
MAX_CLASSES = 200
# What a file of scores says of itself, in the attributes of its table.
MODEL_DIGEST = "model_digest"
ROWS_DIGEST = "rows_digest"
POSITIVE = "positive"  # the class that a binary metric is of


def check_task(task: str) -> Task:
    """The task, if there is one of that name.

    Raises:
        FixableError: names the valid tasks.
    """
    if task not in TASKS:
        raise FixableError(f"unknown task {task!r}; valid tasks: {', '.join(TASKS)}")
    return task


def read_table(path: Path, *, may_be_empty: bool = False, settings: ReadSettings = DEFAULT) -> pd.DataFrame:
    """A CSV (also packed) or Parquet file as a DataFrame; with at least one row unless it may be empty.

    Nothing is guessed (`tools.modeling.reading`): what leaves a doubt is refused with the setting that helps.

    Raises:
        FixableError: missing, empty, unreadable, doubtful, or of another kind; says which kinds are valid.
    """
    check_file(path)
    frame = read_csv(path, settings) if is_text(path) else read_parquet(path)[0]
    if frame.empty and not may_be_empty:
        raise FixableError(f"cannot use {path}: it has {frame.shape[1]} columns and no rows")
    return frame


def check_file(path: Path) -> None:
    """Raise `FixableError` unless the path is that of a file with content, of a kind that can be read."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "missing"
        raise FixableError(f"cannot read {path}: it is {what}; expected a file ({KINDS})")
    if path.stat().st_size == 0:
        raise FixableError(f"cannot read {path}: the file is empty")
    if not is_text(path) and not path.name.lower().endswith(PARQUET_ENDS):
        raise FixableError(f"cannot read {path}: unknown kind of file; valid kinds: {KINDS}")


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write Parquet, whole or not at all.

    Raises:
        OSError: the disk is full or the folder is not writable; nothing is left behind.
    """
    with replacing(path) as draft:
        frame.to_parquet(draft, index=False)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_columns(frame: pd.DataFrame, names: Iterable[str], source: object) -> None:
    """Raise `FixableError` naming the columns that are not there, and those that are."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        known = ", ".join(map(str, frame.columns[:40]))
        raise FixableError(f"{source} has no column {', '.join(map(repr, missing))}; columns: {known}")


def clean_target(target: pd.Series, task: Task, source: object) -> pd.Series:
    """The target with one type: numbers (float64) for regression; integers, booleans or text as labels otherwise.

    Nulls stay null, and infinite numbers become null; nothing is dropped.

    Raises:
        FixableError: a regression target that is not numeric.
    """
    if task == "regression":
        numbers = cast(pd.Series, pd.to_numeric(target, errors="coerce")).astype("float64")
        wrong = numbers.isna() & target.notna() & (as_text(target) != "")
        if wrong.any():
            example = target.to_numpy()[wrong.to_numpy()][0]
            raise FixableError(
                f"{source}: the target {target.name!r} of a regression must be numeric; "
                f"{int(wrong.sum())} values are not, for example {example!r}"
            )
        return numbers.replace([np.inf, -np.inf], np.nan)
    present = target.dropna()
    if pd.api.types.is_bool_dtype(present):
        return target.astype(object)
    if pd.api.types.is_numeric_dtype(present):
        numbers = target.astype("float64")
        whole = bool(np.all(numbers.dropna().to_numpy() % 1 == 0))
        return numbers.astype("Int64").astype(object) if whole else numbers
    texts = pd.Series(as_text(target), index=target.index, name=target.name, dtype=object)
    return texts.where(texts != "", None)


def check_target(target: pd.Series, task: Task, source: object) -> None:
    """Raise `FixableError` unless a model of this task can be trained on the target.

    Refused: all null; one class (or one value); more than two classes in a binary task; more than 200 classes.
    """
    name = target.name
    present = target.dropna()
    if present.empty:
        raise FixableError(f"{source}: the target {name!r} is null in all {len(target)} rows")
    count = present.nunique()
    if count == 1:
        raise FixableError(
            f"{source}: the target {name!r} has one value only ({present.iloc[0]!r}); at least two are needed"
        )
    if task == "binary" and count > 2:
        shown = ", ".join(map(repr, present.unique()[:5]))
        raise FixableError(
            f"{source}: the target {name!r} of a binary task has {count} values ({shown}, ...); "
            "use task multiclass or regression"
        )
    if task == "multiclass" and count > MAX_CLASSES:
        raise FixableError(
            f"{source}: the target {name!r} has {count} values, at most {MAX_CLASSES} classes are supported; "
            "use task regression for a numeric target"
        )


def load_xy(
    paths: Sequence[Path], target: str, drop: Sequence[str] = (), task: Task = "binary"
) -> tuple[pd.DataFrame, pd.Series]:
    """The files in the order given as one feature table and its target (same fresh index).

    Rows without a label are left out (labels may arrive later than rows).

    Raises:
        FixableError: a file, a column or the target cannot be used.
    """
    frame, labels = load_parts(paths, target, drop, task)
    return pd.concat(frame, ignore_index=True), unify(labels)


def load_asked(paths: Sequence[Path], target: str, drop: Sequence[str], task: Task) -> tuple[pd.DataFrame, pd.Series]:
    """As `load_xy`, with the columns of `drop` kept in the table: a model of others may have been trained on them.

    Raises:
        FixableError: a file, a column or the target cannot be used, or there is no column beside them.
    """
    if target in drop:
        raise FixableError(f"the target {target!r} cannot be in the drop list")
    rows, truth = load_xy(paths, target, (), task)
    require_columns(rows, drop, paths[0])
    if rows.shape[1] == len(set(drop)):
        raise FixableError(f"{paths[0]}: no feature column is left beside the target {target!r}")
    return rows, truth


def load_parts(
    paths: Sequence[Path], target: str, drop: Sequence[str], task: Task
) -> tuple[list[pd.DataFrame], list[pd.Series]]:
    """As `load_xy`, one feature table and one target per file; the checks are made over all files together."""
    if not paths:
        raise FixableError("no data file given; give at least one path")
    if target in drop:
        raise FixableError(f"the target {target!r} cannot be in the drop list")
    features: list[pd.DataFrame] = []
    labels: list[pd.Series] = []
    frames = [read_table(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        require_columns(frame, [target, *drop], path)
    targets = {str(at): cast(pd.Series, frame[target]) for at, frame in enumerate(frames)}
    read = read_labels(targets, task)[0].values()
    for path, frame, column in zip(paths, frames, read, strict=True):
        label = clean_target(column, task, path)
        if label.isna().all():
            raise FixableError(f"{path}: the target {target!r} is null in all {len(label)} rows")
        kept = label.notna()
        features.append(frame.loc[kept].drop(columns=[target, *drop]).reset_index(drop=True))
        labels.append(label.loc[kept].reset_index(drop=True))
    source = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    check_target(unify(labels), task, source)
    if not features[-1].shape[1]:
        raise FixableError(f"{source}: no feature column is left beside the target {target!r}")
    return features, labels


def unify(labels: Sequence[pd.Series]) -> pd.Series:
    """Targets of several files as one, with one type: labels that are numbers here and text there become text."""
    joined = pd.concat(labels, ignore_index=True)
    if joined.dtype == object:
        kinds = {type(value) for value in joined.unique()}
        if len(kinds) > 1:
            return pd.Series(as_text(joined), name=joined.name, dtype=object)
        return joined.infer_objects()
    return joined
