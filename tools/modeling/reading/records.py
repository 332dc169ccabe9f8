"""Text to records: which separator, which line names the columns, and that every record has as many fields as it names.

Nothing is repaired: a file that could mean two things, or whose lines do not fit its header, is refused with the lines
and the setting that helps.
"""

import contextlib
import csv
import itertools
from collections import Counter, deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.core.errors import FixableError
from tools.modeling.reading.settings import SEPARATORS, ReadSettings
from tools.modeling.reading.text import open_text, stem

BATCH_RECORDS = 1 << 15
HEAD_LINES = 200
SHOWN = 3
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "space"}
csv.field_size_limit(1 << 24)  # a long text is one field; a quote that never closes still ends


@dataclass
class Layout:
    """What a file turned out to be; the counts are complete when its records have been read."""

    separator: str
    encoding: str
    names: list[str]
    header_line: int | None  # from 1; None: the names were stated
    records: int = 0
    lines: int = 0
    blank_lines: int = 0
    empty_records: int = 0  # separators and nothing else
    repeated_headers: int = 0
    inner_breaks: int = 0  # line breaks inside quotes
    footer: int = 0
    notes: list[str] = field(default_factory=list[str])

    @property
    def separator_name(self) -> str:
        return _NAMES.get(self.separator, repr(self.separator))


Row = list[str]


@contextlib.contextmanager
def open_records(path: Path, settings: ReadSettings) -> Generator[tuple[Layout, Iterator[list[Row]]]]:
    """The layout of a CSV file, and its records in batches of rows that are all as wide as the header.

    Raises:
        FixableError: see the module; also while the records are read.
    """
    with open_text(path, settings) as (lines, encoding):
        reading = _Reading(path, settings, lines, encoding)
        yield reading.layout, reading.batches()


class _Reading:
    def __init__(self, path: Path, settings: ReadSettings, lines: Iterator[str], encoding: str) -> None:
        self.path, self.settings = path, settings
        first = 1
        for _ in range(settings.skip_rows):
            next(lines, None)
            first += 1
        head = list(itertools.islice(lines, HEAD_LINES))
        notes = [f"{settings.skip_rows} lines before the header were skipped"] if settings.skip_rows else []
        stated = settings.separator
        if head and head[0].lower().startswith("sep=") and len(head[0].rstrip("\r\n")) in (4, 5):
            mark = head.pop(0).rstrip("\r\n")[4:] or "\t"
            first += 1
            stated = stated or mark
            notes.append(f"the first line states the separator: {_NAMES.get(mark, mark)}")
        if not any(line.strip() for line in head):
            raise FixableError(f"cannot read {path}: the file is empty: it has no line of column names")
        if why := _stands_for(head[0]):
            raise FixableError(f"cannot read {path}: {why}")
        separator = stated or self._separator(head)
        self.dialect: dict[str, Any] = {
            "delimiter": separator,
            "quotechar": settings.quote or None,
            "quoting": csv.QUOTE_MINIMAL if settings.quote else csv.QUOTE_NONE,
            "escapechar": settings.escape or None,
            "doublequote": True,
            "strict": True,
            "skipinitialspace": False,
        }
        sample = self._sample(head)
        if _spaced(sample):
            self.dialect["skipinitialspace"] = True
            notes.append("a space follows every separator and belongs to no value")
        self.offset = first - 1  # lines before those that the reader counts
        self.reader = csv.reader(itertools.chain(head, lines), **self.dialect)
        self.complete = 0  # lines up to the end of the last whole record
        header_line, names = None, settings.names
        self.header: Row = []
        if names is None:
            self.header = next((row for row in self._rows() if any(row)), [])
            header_line = self.offset + self.reader.line_num
            names = [name if name.strip() else f"Unnamed: {place}" for place, name in enumerate(self.header)]
            self._check_preamble(sample, header_line)
        refuse_doubles(names, path, "the header")
        self.first_name = self.header[0] if self.header else None
        self.layout = Layout(separator, encoding, names, header_line, notes=notes)

    def batches(self) -> Iterator[list[Row]]:
        layout, width, footer = self.layout, len(self.layout.names), self.settings.skip_footer
        wrong = _Wrong(self.path, layout)
        held: deque[Row] = deque()
        batch: list[Row] = []
        before = self.reader.line_num
        for row in self._rows():
            start, before = before + 1, self.reader.line_num
            self.complete = before
            odd = len(row) != width or not row[0] or row[0] == self.first_name
            if odd and self._passed_over(row, width):
                continue
            if before > start:
                self._check_swallowed(row, start)
            if footer:
                held.append(row)
                if len(held) <= footer:
                    continue
                row = held.popleft()
            layout.records += 1
            if len(row) != width:
                wrong.note(row, self.offset + start, layout.records)
                batch = []  # what remains is only counted
            elif not wrong.found:
                batch.append(row)
                if len(batch) == BATCH_RECORDS:
                    yield batch
                    batch = []
        layout.footer, layout.lines = len(held), self.offset + self.reader.line_num
        wrong.refuse()
        if batch:
            yield batch
        self._notes()

    def _passed_over(self, row: Row, width: int) -> bool:
        """Whether a line holds nothing: blank, separators alone, or the header once more."""
        layout = self.layout
        if not row or (width > 1 and len(row) == 1 and not row[0].strip()):
            layout.blank_lines += 1
        elif width > 1 and len(row) == width and not any(row):
            layout.empty_records += 1
        elif width > 1 and row == self.header:
            layout.repeated_headers += 1
        else:
            return False
        return True

    def _notes(self) -> None:
        layout = self.layout
        for count, words in (
            (layout.blank_lines, "blank lines were passed over"),
            (layout.empty_records, "records of separators and nothing else were passed over"),
            (layout.repeated_headers, "repeated headers were passed over"),
            (layout.inner_breaks, "line breaks stand inside quotes"),
            (layout.footer, "records at the end were skipped, as stated"),
        ):
            if count:
                layout.notes.append(f"{count} {words}")

    def _rows(self) -> Iterator[Row]:
        try:
            yield from self.reader
        except csv.Error as error:
            raise FixableError(self._bad_quotes(str(error))) from error

    def _bad_quotes(self, error: str) -> str:
        line = self.offset + self.complete + 1
        help_ = "repair the quotes, or state data.read.quote: '' if quotes are part of the text"
        if "end of data" in error or "field larger" in error:
            return f"cannot read {self.path}: a quote that opens in the record of line {line} is never closed; {help_}"
        if "expected after" in error:
            return (
                f"cannot read {self.path}: in the record of line {line} text follows a closing quote (quotes inside a "
                f"quoted field are doubled, or state data.read.escape); {help_}"
            )
        return f"cannot read {self.path}: line {line}: {error}; {help_}"

    def _check_swallowed(self, row: Row, start: int) -> None:
        """A quoted field over several lines is text with line breaks, unless these lines look like records."""
        width = len(self.layout.names)
        for value in row:
            inner = value.splitlines()[1:] if "\n" in value or "\r" in value else []
            self.layout.inner_breaks += len(inner)
            alike = sum(line.count(self.layout.separator) == width - 1 for line in inner)
            if alike and not self.settings.multiline and (width > 2 or alike > 1):
                raise FixableError(
                    f"cannot read {self.path}: a quote that opens in line {self.offset + start} swallows "
                    f"{len(inner)} lines that look like records ({inner[0][:60]!r}); repair the quotes, or "
                    "state data.read.multiline: true if the field really holds them, or data.read.quote: '' if "
                    "quotes are text"
                )

    def _separator(self, head: list[str]) -> str:
        """The one separator by which the first lines have the same number of fields, at least two."""
        if stem(self.path).endswith(".tsv"):
            return "\t"
        widths = {one: self._widths(head, one) for one in SEPARATORS}
        named = {one: found[0] for one, found in widths.items() if found and found[0] > 1}
        even = [one for one in named if len(set(widths[one])) == 1]
        if len(even) == 1:
            return even[0]
        if len(even) > 1:
            shown = ", ".join(f"{_NAMES[one]} ({named[one]} columns)" for one in even)
            raise FixableError(f"cannot read {self.path}: it can be separated by {shown}; state data.read.separator")
        if named:
            return max(named, key=lambda one: named[one])
        # The first line may not be the header: what most lines are separated by is then still told.
        common = {one: Counter(found).most_common(1)[0] for one, found in widths.items() if found}
        best = max(common, key=lambda one: (common[one][0] > 1, common[one][1], common[one][0]), default=",")
        return best if common and common[best][0] > 1 else ","

    def _widths(self, head: list[str], separator: str) -> list[int]:
        quote = self.settings.quote
        reader = csv.reader(head, delimiter=separator, quotechar=quote or None,
                            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE)  # fmt: skip
        try:
            rows = [row for row in reader if any(field.strip() for field in row)]
        except csv.Error:
            return []
        if len(head) == HEAD_LINES and len(rows) > 1:
            rows = rows[:-1]  # may be cut
        return [len(row) for row in rows]

    def _sample(self, head: list[str]) -> list[Row]:
        lenient: dict[str, Any] = {**self.dialect, "strict": False}
        try:
            return [row for row in csv.reader(head, **lenient) if any(row)]
        except csv.Error:
            return []

    def _check_preamble(self, sample: list[Row], header_line: int) -> None:
        """Lines before the header are fewer fields wide than all that follow."""
        width = len(self.header)
        if len(sample) < 3 or not sample[1:]:
            return
        usual = Counter(map(len, sample)).most_common(1)[0][0]
        place = next((place for place, row in enumerate(sample[:-1]) if len(row) == usual), 0)
        if place and width < usual and usual - width > 1:
            skipped = self.settings.skip_rows + place
            raise FixableError(
                f"cannot read {self.path}: line {header_line} ({self.layout_text(self.header)}) is no header: it has "
                f"{width} field{'s' * (width != 1)}, the lines below have {usual}; state data.read.skip_rows: "
                f"{skipped} to begin at {self.layout_text(sample[place])}"
            )

    def layout_text(self, row: Row) -> str:
        return repr(self.dialect["delimiter"].join(row)[:60])


@dataclass
class _Wrong:
    """Records that are wider or narrower than the header."""

    path: Path
    layout: Layout
    widths: Counter[int] = field(default_factory=Counter[int])
    lines: list[int] = field(default_factory=list[int])
    first: Row = field(default_factory=list[str])
    first_record: int = 0
    last_empty: bool = True
    found: int = 0

    def note(self, row: Row, line: int, record: int) -> None:
        if not self.first:
            self.first, self.first_record = row, record
        self.found += 1
        self.widths[len(row)] += 1
        if len(self.lines) < SHOWN:
            self.lines.append(line)
        self.last_empty = self.last_empty and not row[-1]

    def refuse(self) -> None:
        if not self.found:
            return
        width, total = len(self.layout.names), self.layout.records
        seen = ", ".join(str(one) for one, _ in self.widths.most_common(SHOWN))
        where = ", ".join(map(str, self.lines)) + (", ..." if self.found > len(self.lines) else "")
        text = self.layout.separator.join(self.first)[:80]
        raise FixableError(
            f"cannot read {self.path}: the header names {width} columns, but {self.found} of {total} records have "
            f"{seen} fields (line {where}: {text!r}); {self._help(width, total)}"
        )

    def _help(self, width: int, total: int) -> str:
        every = self.found == total and len(self.widths) == 1
        wide = next(iter(self.widths))
        header = "" if self.layout.header_line is None else f" and data.read.skip_rows: {self.layout.header_line}"
        if every and wide == width + 1 and self.last_empty:
            return (
                "each line ends with a separator and the header does not: give the header one too, or state "
                f"data.read.names ({wide} names){header}"
            )
        if every:
            return f"give the header {wide} names, or state data.read.names ({wide} names){header}"
        if self.first_record == total - self.found + 1 and self.found <= 10 and max(self.widths) < width:
            return f"if they are a footer, {skip_footer(self.found)}"
        return (
            f"quote the fields that hold a {self.layout.separator_name}, repair these lines, or state "
            "data.read.separator if it is another one"
        )


def _stands_for(first: str) -> str:
    """What a file is that stands where the data should be, by its first line; empty where it is none."""
    start = first.lstrip("\ufeff \t").lower()
    if start.startswith("version https://git-lfs.github.com/spec/"):
        return "it is a pointer of Git LFS, not the data; fetch the data with: git lfs pull"
    if start.startswith(("<!doctype html", "<html", "<?xml")):
        return "it is a page of HTML or XML, not a table: perhaps what a server answered instead of the file"
    return ""


def skip_footer(records: int) -> str:
    """The setting that passes over records at the end."""
    return f"state data.read.skip_footer: {records} (data.read.current.skip_footer for the current file alone)"


def _spaced(sample: list[Row]) -> bool:
    """Whether a space follows every separator, in the header and below."""
    wide = [row for row in sample if len(row) > 1]
    return len(wide) > 1 and all(value.startswith(" ") for row in wide for value in row[1:])


def refuse_doubles(names: list[str], path: Path, what: str) -> None:
    """Raise `FixableError` where two columns have one name."""
    double = next((name for name, count in Counter(names).items() if count > 1), None)
    if double is not None:
        places = [str(place + 1) for place, name in enumerate(names) if name == double]
        raise FixableError(
            f"cannot read {path}: {what} names {double!r} {len(places)} times (columns {', '.join(places)}); which "
            "one is meant cannot be told: rename or remove all but one (in a CSV file data.read.names with "
            "data.read.skip_rows gives new names)"
        )
