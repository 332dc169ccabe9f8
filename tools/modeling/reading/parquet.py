"""Parquet files as tables of numbers, texts, truths and times: the rest is converted, or refused by name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tools.core.errors import FixableError, shorten
from tools.modeling.reading.kinds import EXACT
from tools.modeling.reading.records import refuse_doubles
from tools.modeling.reading.text import KINDS

INDEX_NAME = "__index_level_"
types = cast(Any, pa.types)  # pyarrow has no annotations


@dataclass
class ParquetFacts:
    """What was done to a Parquet file's columns."""

    notes: dict[str, str] = field(default_factory=dict[str, str])  # column -> how it was read
    left_out: dict[str, str] = field(default_factory=dict[str, str])  # column -> why


def read_parquet(path: Path, drop: Sequence[str] = (), *, strict: bool = False) -> tuple[pd.DataFrame, ParquetFacts]:
    """The file's columns, those of its index among them (last).

    Args:
        drop: columns that nobody will use; what cannot be used of them is left out.
        strict: whether lists, structs and bytes are refused; otherwise they are kept as they are.

    Raises:
        FixableError: two columns have one name; a column that a model cannot read.
    """
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise FixableError(f"cannot read {path}: it is no Parquet file, or cut off; valid kinds: {KINDS}") from error
    refuse_doubles(list(schema.names), path, "the file")
    facts = ParquetFacts()
    try:
        frame = _flat_index(pd.read_parquet(path), facts)
    except (pa.ArrowException, OSError) as error:
        text = shorten(" ".join(str(error).split()), 200)
        raise FixableError(f"cannot read {path}: the Parquet file is damaged or of an unknown form: {text}") from error
    for name in frame.columns:
        at = schema.get_field_index(str(name))
        if at >= 0:
            kind = schema.field(at).type
            if strict and (reason := nested(kind)):
                if name not in drop and _bytes_to_text(frame, name, kind, facts):
                    continue
                if name not in drop:
                    raise FixableError(
                        f"cannot use {path}: the column {name!r} holds {reason}, which no model here reads; make "
                        "columns of numbers or texts of it, or list it under data.drop"
                    )
                facts.left_out[str(name)] = f"it holds {reason}"
                continue
            _convert(frame, str(name), kind, path, facts)
    if facts.left_out:
        frame = frame.drop(columns=[name for name in facts.left_out if name in frame.columns])
    return frame, facts


def physical_columns(schema: Any) -> list[str]:
    """The columns of a file that is scanned rather than loaded: all but row numbers without a name."""
    return [field.name for field in schema if not (field.name.startswith(INDEX_NAME) and types.is_integer(field.type))]


def nested(kind: Any) -> str:
    """What a type holds that is neither number, text, truth nor time, in words; empty for the usable ones."""
    if types.is_nested(kind):
        return f"lists or structs ({kind})"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return "bytes"
    return f"values of the type {kind}" if types.is_interval(kind) else ""


def _flat_index(frame: pd.DataFrame, facts: ParquetFacts) -> pd.DataFrame:
    """Index levels as columns; row numbers without a name are left out."""
    attributes = frame.attrs
    for level in range(frame.index.nlevels):
        values = frame.index.get_level_values(level)
        if values.name is None and pd.api.types.is_integer_dtype(values.dtype):
            if not isinstance(frame.index, pd.RangeIndex):
                facts.left_out["(the unnamed index)"] = "row numbers that were saved with the table"
            continue
        if isinstance(frame.index, pd.RangeIndex):
            facts.left_out[str(values.name)] = "row numbers that were saved with the table"
            continue
        name = str(values.name) if values.name is not None else "index"
        while name in frame.columns:
            name = f"{name}_index"
        frame = frame.assign(**{name: np.asarray(values) if values.dtype == object else values.to_series().array})
        facts.notes[name] = "it was the table's index"
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.start != 0 or frame.index.step != 1:
        frame = frame.reset_index(drop=True)
    frame.index.name = None
    frame.attrs = attributes
    return frame


def _convert(frame: pd.DataFrame, name: str, kind: Any, path: Path, facts: ParquetFacts) -> None:
    column = frame[name]
    if types.is_decimal(kind):
        frame[name] = column.astype("float64")
        facts.notes[name] = f"{kind}, read as a number"
    elif types.is_duration(kind):
        frame[name] = column.dt.total_seconds()
        facts.notes[name] = "durations, in seconds"
    elif types.is_time(kind):
        frame[name] = column.map(_second_of_day, na_action="ignore").astype("float64")
        facts.notes[name] = "times of day, in seconds since midnight"
    elif types.is_date(kind):
        times = pd.to_datetime(column.astype(object), errors="coerce")
        lost = int((times.isna() & column.notna()).sum())
        frame[name] = column.map(str, na_action="ignore") if lost else times
    elif types.is_integer(kind) and column.dtype.kind == "f" and np.nanmax(np.abs(column), initial=0.0) > EXACT:
        texts = pq.read_table(path, columns=[name]).column(name).cast(pa.string())
        frame[name] = texts.to_pandas().to_numpy()
        facts.notes[name] = "whole numbers too large to be exact beside nulls: kept as text"
    elif types.is_float16(kind):
        frame[name] = column.astype("float64")


def _second_of_day(value: Any) -> float:
    return value.hour * 3600.0 + value.minute * 60.0 + value.second + value.microsecond / 1e6


def _bytes_to_text(frame: pd.DataFrame, name: str, kind: Any, facts: ParquetFacts) -> bool:
    """Bytes that are text (as some writers store it) become text."""
    if nested(kind) != "bytes":
        return False
    try:
        texts = frame[name].map(lambda value: bytes(value).decode("utf-8"), na_action="ignore")
    except UnicodeDecodeError:
        return False
    if not all(text.isprintable() for text in texts.dropna()):
        return False
    frame[name] = texts
    facts.notes[name] = "bytes that are UTF-8 text, read as text"
    return True
