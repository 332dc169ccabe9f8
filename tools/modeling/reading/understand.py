"""Several files of one kind read alike: one decision for each column over all of them, and why, in words."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from tools.core.errors import FixableError
from tools.modeling.reading import dates
from tools.modeling.reading.date_parts import take_apart
from tools.modeling.reading.kinds import ColumnTexts, convert
from tools.modeling.reading.parquet import read_parquet
from tools.modeling.reading.settings import EXCEL, ReadSettings
from tools.modeling.reading.table import (
    Columns,
    Decision,
    Texts,
    amounts_of_texts,
    decide_columns,
    read_texts,
    to_frame,
)
from tools.modeling.reading.text import is_text

SHOWN = 20  # columns that are told in one line
SAMPLE = 50  # texts of a column that are looked at before all are
COUNTER_NAMES = ("Unnamed: ", "__index_level_")


@dataclass
class FileFacts:
    """How one file was understood. `columns`: column -> why it was read as it was, where that is not plain."""

    source: str
    kind: str  # "CSV" or "Parquet"
    records: int = 0
    separator: str = ""
    encoding: str = ""
    notes: list[str] = field(default_factory=list[str])
    columns: dict[str, str] = field(default_factory=dict[str, str])
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    warnings: list[str] = field(default_factory=list[str])
    texts: dict[str, ColumnTexts] = field(default_factory=dict[str, ColumnTexts], repr=False)

    def in_words(self) -> str:
        """The file in one line."""
        how = f"{self.separator}-separated CSV in {self.encoding}" if self.kind == "CSV" else self.kind
        more = "".join(f"; {note}" for note in self.notes)
        columns = "".join(f"; {name}: {why}" for name, why in list(self.columns.items())[:SHOWN])
        rest = len(self.columns) - SHOWN
        columns += f"; and {rest} columns more" if rest > 0 else ""
        return f"{self.source}: {self.records} records, {how}{more}{columns}"


@dataclass
class ReadFile:
    """A file's table and how it was understood."""

    frame: pd.DataFrame
    facts: FileFacts


def read_together(
    files: Mapping[str, Path],
    settings: ReadSettings,
    *,
    roles: Mapping[str, str] | None = None,
    clock: str = "",
    target: str = "",
    drop: Collection[str] = (),
) -> list[ReadFile]:
    """The files, each column read in one way over all of them.

    Args:
        files: what a person calls the file -> the file; each has content and a known kind.
        roles: file -> "reference" or "current", for settings that are of one of them.
        clock: the column that orders the rows; it becomes a time wherever it can be one.
        target: never taken for a date or a row number.
        drop: columns that nobody will use; nothing is refused because of them.

    Raises:
        FixableError: a file or a column that cannot be read without guessing.
    """
    unused = frozenset(drop) - {clock, target}
    found: list[ReadFile] = []
    csv: dict[str, Texts] = {}
    for source, path in files.items():
        if is_text(path):
            texts = csv[source] = read_texts(path, settings.of((roles or {}).get(source, "")))
            layout = texts.layout
            facts = FileFacts(source, "CSV", layout.records, layout.separator_name, layout.encoding, layout.notes)
            facts.texts = texts.columns
            found.append(ReadFile(pd.DataFrame(), facts))
        else:
            frame, seen = read_parquet(path, tuple(unused), strict=True)
            facts = FileFacts(source, "Parquet", len(frame), columns=seen.notes, left_out=seen.left_out)
            facts.texts = _texts_of(frame, settings)
            found.append(ReadFile(frame, facts))
    together = _add_up([one.facts.texts for one in found])
    sources = " and ".join(files)
    for one in found:
        if (texts := csv.get(one.facts.source)) is not None:
            decided = decide_columns(texts, settings, together, sources, unused)
            one.frame = to_frame(texts, decided, settings)
            one.facts.columns |= decided.notes()
            one.facts.warnings += decided.warnings()
        else:
            _read_amounts(one, together, settings, sources, unused)
    _same_codes(found)
    _leave_counters_out(found, {clock, target, *drop})
    for name in dict.fromkeys(str(name) for one in found for name in one.frame.columns):
        if name == clock:
            _read_clock(name, found, settings)
        elif name != target and name not in unused:
            _read_dates(name, found, settings)
    return found


def _texts_of(frame: pd.DataFrame, settings: ReadSettings) -> dict[str, ColumnTexts]:
    """What the texts of a typed table are: numbers written for people may be among them."""
    counted: dict[str, ColumnTexts] = {}
    for name in frame.columns:
        column = cast(pd.Series, frame[name])
        if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) == "string":
            counted[str(name)] = ColumnTexts()
            counted[str(name)].add(pa.array(column, pa.string(), from_pandas=True), settings)
    return counted


def _add_up(files: list[dict[str, ColumnTexts]]) -> dict[str, ColumnTexts]:
    total: dict[str, ColumnTexts] = {}
    for columns in files:
        for name, column in columns.items():
            total[name] = total[name] + column if name in total else column
    return total


def _read_amounts(
    one: ReadFile, together: Mapping[str, ColumnTexts], settings: ReadSettings, sources: str, unused: frozenset[str]
) -> None:
    """Texts of a Parquet file that are numbers written for people become numbers."""
    decided = Columns()
    for name, column in one.facts.texts.items():
        if name in unused or not together[name].amounts.readable:
            continue
        decision = decided.of[name] = Decision("text")
        amounts_of_texts(name, together, column, decision, settings, sources)
        if decision.amounts is not None:
            texts = pa.array(one.frame[name], pa.string(), from_pandas=True)
            one.frame[name] = convert(texts, decision.kind, settings, decision.amounts).to_pandas()
    one.facts.columns |= decided.notes()
    one.facts.warnings += decided.warnings()


def _same_codes(found: list[ReadFile]) -> None:
    """Digits that one file must keep as text (leading zeros, too large) are text in all."""
    for name in {name for one in found for name, why in one.facts.columns.items() if "as written" in why}:
        for one in found:
            if name in one.frame.columns and pd.api.types.is_numeric_dtype(one.frame[name]):
                column = cast(pd.Series, one.frame[name])
                if np.all(np.mod(column.dropna().to_numpy(dtype=np.float64), 1) == 0):
                    one.frame[name] = column.map(lambda value: str(int(value)), na_action="ignore").astype(object)
                    one.facts.columns[name] = "kept as written, as in the other file"


def _leave_counters_out(found: list[ReadFile], keep: Collection[str]) -> None:
    """Row numbers that a table was saved with: a column without a name, of whole numbers that all differ."""
    for name in dict.fromkeys(str(name) for one in found for name in one.frame.columns):
        if not name.startswith(COUNTER_NAMES) or name in keep:
            continue
        columns = [cast(pd.Series, one.frame[name]) for one in found if name in one.frame.columns]
        if all(pd.api.types.is_integer_dtype(column) and column.is_unique for column in columns):
            for one in found:
                if name in one.frame.columns:
                    one.frame = one.frame.drop(columns=[name])
                    one.facts.left_out[name] = "row numbers that were saved with the table, without a name"


def _read_dates(name: str, found: list[ReadFile], settings: ReadSettings) -> None:
    """A column of dates that are not written as ISO 8601 becomes times, in all files or in none."""
    files = {one.facts.source: cast(pd.Series, one.frame[name]) for one in found if name in one.frame.columns}
    texts = {source: column for source, column in files.items() if column.dtype == object}
    if isinstance(settings.date_format, dict) and settings.date_format.get(name) == EXCEL and not texts:
        for one in found:
            if one.facts.source in files:
                column = files[one.facts.source]
                one.frame[name], one.facts.columns[name] = dates.read_days(name, column, one.facts.source)
        return
    if not texts or len(texts) < sum(column.notna().any() for column in files.values()):
        return
    sample = [text for column in texts.values() for text in _sample(column)]
    dated = [text for text in sample if isinstance(text, str) and take_apart(text) is not None]
    stated = isinstance(settings.date_format, dict) and name in settings.date_format
    if not stated and (len(dated) < 0.5 * len(sample) or not dated or all(map(dates.is_iso, texts.values()))):
        return
    reading = dates.decide(name, texts, settings, clock=False)
    if reading is not None:
        for one in found:
            if one.facts.source in texts:
                one.frame[name] = reading.read(texts[one.facts.source])
                one.facts.columns[name] = f"dates: {reading.why}"


def _sample(column: pd.Series) -> list[Any]:
    present = column.dropna()
    if len(present) <= SAMPLE:
        return present.tolist()
    return present.iloc[np.linspace(0, len(present) - 1, SAMPLE).astype(int)].tolist()


def _read_clock(name: str, found: list[ReadFile], settings: ReadSettings) -> None:
    """The column that orders the rows becomes times without a zone, or stays a number in all files."""
    files = {one.facts.source: cast(pd.Series, one.frame[name]) for one in found if name in one.frame.columns}
    made: dict[str, pd.Series] = {}
    how: dict[str, str] = {}
    zoned = dict.fromkeys(files, 0)
    naive = dict.fromkeys(files, 0)
    texts: dict[str, pd.Series] = {}
    for source, column in files.items():
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            has_zone = isinstance(column.dtype, pd.DatetimeTZDtype)
            (zoned if has_zone else naive)[source] = int(column.notna().sum())
            made[source] = column.dt.tz_convert("UTC").dt.tz_localize(None) if has_zone else column
            how[source] = "times" + (", as UTC" if has_zone else "")
        elif pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
            stated = settings.date_format_of(name) == EXCEL
            read = dates.read_days if stated else dates.read_numbers
            if (times := read(name, column, source)) is not None:
                made[source], how[source] = times
        else:
            texts[source] = column.where(column.notna(), None).astype(object)
    if texts:
        texts = {s: c.where(~c.isin(settings.null_among_numbers), None).astype(object) for s, c in texts.items()}
        reading = dates.decide(name, texts, settings, clock=True)
        for source, column in texts.items():
            made[source] = column if reading is None else reading.read(column)
            how[source] = "no value" if reading is None else f"dates: {reading.why}"
            with_zone = int(dates.is_zoned(column.dropna()).sum())
            zoned[source], naive[source] = with_zone, int(column.notna().sum()) - with_zone
    if made and len(made) < len(files):
        rest = next(source for source in files if source not in made)
        raise FixableError(
            f"time column {name!r}: {next(iter(made))} holds {next(iter(how.values()))}, {rest} plain numbers, e.g. "
            f"{files[rest].iloc[0]!r}; write both in one way"
        )
    if not texts or len(texts) < len(files):
        _same_zone(name, made, zoned, naive, settings)
    if len({words.split(":")[0] for words in how.values()}) > 1:
        shown = ", ".join(f"{words} in {source}" for source, words in how.items())
        found[-1].facts.warnings.append(f"{name}: written in more than one way: {shown}")
    for one in found:
        if (times := made.get(one.facts.source)) is not None:
            one.frame[name] = times
            one.facts.columns[name] = how[one.facts.source]


def _same_zone(
    name: str, made: dict[str, pd.Series], zoned: dict[str, int], naive: dict[str, int], settings: ReadSettings
) -> None:
    """Times of one file with a zone and of another without are compared only where the latter's zone is stated."""
    with_zone = {source: count for source, count in zoned.items() if count}
    without = {source: count for source, count in naive.items() if count}
    if not with_zone or not without:
        return
    zone = dates.zone_of_naive(name, with_zone, without, settings)
    for source in without.keys() - with_zone.keys():
        made[source] = dates.to_utc(made[source], np.ones(len(made[source]), dtype=bool), zone)
