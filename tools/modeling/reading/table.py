"""CSV files as tables: in memory, or as a Parquet file in memory that does not grow with the rows. One way of reading,
so the two agree."""

import contextlib
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tools.core.errors import FixableError
from tools.modeling.reading import numbers
from tools.modeling.reading.kinds import ColumnTexts, Kind, convert
from tools.modeling.reading.numbers import AmountReading, Way
from tools.modeling.reading.records import Layout, open_records
from tools.modeling.reading.settings import ReadSettings

UNREADABLE_SHARE = 0.5  # of a column that looks like numbers and is not read as such: worth a word


@dataclass
class Texts:
    """The texts of a CSV file, still without types: batches of string columns, and what was counted of each column.

    `batches` may be asked for again.
    """

    path: Path
    layout: Layout
    columns: dict[str, ColumnTexts]
    batches: Callable[[], Iterator[pa.RecordBatch]]


@dataclass
class Decision:
    """What a column's texts become, and why where that is not plain."""

    kind: Kind
    why: str = ""
    amounts: AmountReading | None = None
    warning: str = ""


@dataclass
class Columns:
    """The decisions about the columns of one file."""

    of: dict[str, Decision] = field(default_factory=dict[str, Decision])

    def notes(self) -> dict[str, str]:
        """Column -> why it was read as it was, for those that were not plain."""
        return {name: decision.why for name, decision in self.of.items() if decision.why}

    def warnings(self) -> list[str]:
        """What a person should know before they go on."""
        return [decision.warning for decision in self.of.values() if decision.warning]


def read_texts(path: Path, settings: ReadSettings) -> Texts:
    """All records of a file, held in memory.

    Raises:
        FixableError: see `records`.
    """
    held: list[pa.RecordBatch] = []
    layout, columns = _scan(path, settings, held.append)
    return Texts(path, layout, columns, lambda: iter(held))


@contextlib.contextmanager
def spool_texts(path: Path, settings: ReadSettings) -> Generator[Texts]:
    """As `read_texts`, held in a temporary file."""
    with tempfile.TemporaryDirectory(prefix="texts-") as folder:
        spool = Path(folder) / "texts.parquet"
        writer: list[pq.ParquetWriter] = []

        def write(batch: pa.RecordBatch) -> None:
            if not writer:
                writer.append(pq.ParquetWriter(spool, batch.schema, compression="lz4"))
            writer[0].write_batch(batch)

        try:
            layout, columns = _scan(path, settings, write)
        finally:
            for one in writer:
                one.close()
        yield Texts(path, layout, columns, lambda: pq.ParquetFile(spool).iter_batches() if writer else iter(()))


def _scan(
    path: Path, settings: ReadSettings, keep: Callable[[pa.RecordBatch], Any]
) -> tuple[Layout, dict[str, ColumnTexts]]:
    kept = 0
    with open_records(path, settings) as (layout, batches):
        columns = {name: ColumnTexts() for name in layout.names}
        for rows in batches:
            arrays = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
            for name, array in zip(layout.names, arrays, strict=True):
                columns[name].add(array, settings)
            keep(pa.RecordBatch.from_arrays(arrays, names=layout.names))
            kept += len(rows)
    if kept != layout.records:
        raise FixableError(f"cannot read {path}: {layout.records} records were counted, {kept} were read")
    return layout, columns


def decide_columns(
    texts: Texts,
    settings: ReadSettings,
    together: Mapping[str, ColumnTexts] | None = None,
    source: str = "",
    leave: frozenset[str] = frozenset(),
) -> Columns:
    """What each column of a file is.

    Args:
        together: the counts of the columns over all files that are read alike; None: of this file alone.
        source: the files, for messages; empty: this one.
        leave: columns whose numbers nobody will use: they stay as they are written rather than be refused.

    Raises:
        FixableError: a column of numbers that can be read in two ways.
    """
    counts = together or texts.columns
    source = source or str(texts.path)
    evidence = _evidence(counts)
    comma = settings.decimal == "," or settings.thousands == "."
    decided = Columns()
    for name, column in texts.columns.items():
        kind, why = column.kind()
        decision = decided.of[name] = Decision(kind, why)
        if name in leave:
            continue
        both = counts.get(name, column)
        if kind == "number" and not comma and _doubtful(both, evidence, name, texts.layout, settings):
            raise FixableError(numbers.ambiguous(name, both.plain.example["differ"], source))
        if (kind == "text" and not why) or (kind == "number" and comma) or _written(both):
            _decide_amounts(name, both, column, decision, settings, evidence, source)
    return decided


def _written(column: ColumnTexts) -> bool:
    """Whether a column is, over all files, one of numbers written for people."""
    share = column.present - column.soft_nulls.total()
    return bool(column.amounts.readable) and (column.amounts + column.plain).readable >= numbers.READABLE_SHARE * share


def _decide_amounts(
    name: str,
    both: ColumnTexts,
    column: ColumnTexts,
    decision: Decision,
    settings: ReadSettings,
    evidence: Mapping[Way, str],
    source: str,
) -> None:
    amounts = both.amounts + both.plain
    if not column.present or (not both.amounts.readable and decision.kind != "number"):
        return
    present = both.present - both.soft_nulls.total()
    others = {way: of for way, of in evidence.items() if of != name}
    reading = numbers.decide(name, amounts, present, settings, others, source)
    if reading is not None:
        decision.amounts, decision.kind = reading, "number"
        unit = f" in {reading.mark}" if reading.mark else ""
        decision.why = f"numbers{unit}: {reading.why}"
        left = present - amounts.readable
        if left:
            decision.kind = "text"
            shown = ", ".join(repr(text) for text in list(both.others)[:2])
            decision.warning = f"{name}: {left} values are no numbers among numbers ({shown})"
    elif both.amounts.readable and amounts.readable >= UNREADABLE_SHARE * present:
        shown = ", ".join(repr(text) for text in list(both.others)[:2])
        decision.warning = (
            f"{name}: {amounts.readable} of {present} values look like numbers and are kept as text, for the others "
            f"are none ({shown}); name these under data.read.nulls if they mean no value"
        )


def amounts_of_texts(
    name: str,
    together: Mapping[str, ColumnTexts],
    column: ColumnTexts,
    decision: Decision,
    settings: ReadSettings,
    source: str,
) -> None:
    """Decide about a column of texts that no CSV file holds.

    Raises:
        FixableError: its numbers can be read in two ways.
    """
    _decide_amounts(name, together[name], column, decision, settings, _evidence(together), source)


def _evidence(columns: Mapping[str, ColumnTexts]) -> dict[Way, str]:
    """Decimal sign -> a column whose texts can be read with it alone."""
    found: dict[Way, str] = {}
    for name, column in columns.items():
        both = column.amounts + column.plain
        if len(both.only) == 1 and both.readable >= numbers.READABLE_SHARE * max(column.present, 1):
            found.setdefault(next(iter(both.only)), name)
    return found


def _doubtful(
    column: ColumnTexts, evidence: Mapping[Way, str], name: str, layout: Layout, settings: ReadSettings
) -> bool:
    """Plain numbers such as 1.234 in a file whose other columns have a decimal comma."""
    if settings.decimal or settings.thousands or "," not in evidence or "." in evidence:
        return False
    return bool(column.plain.differ) and not column.plain.only


def build(texts: Texts, decided: Columns, settings: ReadSettings) -> Iterator[pa.RecordBatch]:
    """The batches with their types."""
    schema: pa.Schema | None = None
    for batch in texts.batches():
        arrays = [
            convert(batch.column(name), decided.of[name].kind, settings, decided.of[name].amounts)
            for name in texts.layout.names
        ]
        made = pa.RecordBatch.from_arrays(arrays, names=texts.layout.names)
        schema = schema or _schema(made.schema, decided)
        yield made.cast(schema)


def _schema(found: pa.Schema, decided: Columns) -> pa.Schema:
    """A column of numbers of which some remain text is text in every batch."""
    types: dict[str, Any] = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "empty": pa.float64(),
    }
    return pa.schema([(name, types.get(decided.of[name].kind, pa.string())) for name in found.names])


def to_frame(texts: Texts, decided: Columns, settings: ReadSettings) -> pd.DataFrame:
    """The file as a DataFrame: int64, float64 (nulls are NaN), bool, or text (nulls are None)."""
    batches = list(build(texts, decided, settings))
    if not batches:
        return pd.DataFrame({name: pd.Series(dtype="object") for name in texts.layout.names})
    return pa.Table.from_batches(batches).to_pandas()


def read_csv(path: Path, settings: ReadSettings) -> pd.DataFrame:
    """One CSV file, decided by itself.

    Raises:
        FixableError: it cannot be read without guessing.
    """
    texts = read_texts(path, settings)
    return to_frame(texts, decide_columns(texts, settings), settings)


def csv_to_parquet(path: Path, target: Path, settings: ReadSettings) -> None:
    """One CSV file of any size as Parquet, with the types of `read_csv`.

    Raises:
        FixableError: it cannot be read without guessing.
    """
    with spool_texts(path, settings) as texts:
        decided = decide_columns(texts, settings)
        writer: pq.ParquetWriter | None = None
        for batch in build(texts, decided, settings):
            writer = writer or pq.ParquetWriter(target, batch.schema, compression="lz4")
            writer.write_batch(batch)
        if writer is None:
            pq.write_table(pa.table({name: pa.array([], pa.string()) for name in texts.layout.names}), target)
        else:
            writer.close()
