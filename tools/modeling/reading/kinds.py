"""Texts to typed columns: what every value of a column is, counted batch by batch, so that a file of any size has the
same types however it is read."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc

from tools.modeling.reading.numbers import MAYBE_AMOUNT, PLAIN_DIFFERS, AmountReading, Amounts
from tools.modeling.reading.settings import ReadSettings

INTEGER = r"^\s*[+-]?\d+\s*$"
NUMBER = r"^\s*[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|(?i:inf|infinity))\s*$"
CODE = r"^\s*[+-]?0\d"  # digits after a leading zero: a code, not a quantity
EXACT = 2**53  # whole numbers above it are no floats
TRUTH = r"^\s*(?i:true|false)\s*$"
EXAMPLES = 3
Kind = Literal["integer", "number", "boolean", "text", "empty"]
compute = cast(Any, pc)  # pyarrow has no annotations


@dataclass
class ColumnTexts:
    """What the texts of one column of one file are. Counts are rows."""

    rows: int = 0
    nulls: int = 0
    soft_nulls: Counter[str] = field(default_factory=Counter[str])  # null if the rest are numbers
    integers: int = 0
    numbers: int = 0  # the integers among them
    truths: int = 0
    codes: int = 0
    largest: int = 0  # of the integers, by size
    amounts: Amounts = field(default_factory=Amounts)  # texts that are no plain numbers
    plain: Amounts = field(default_factory=Amounts)  # plain numbers, seen the same way
    others: Counter[str] = field(default_factory=Counter[str])  # a few texts that are no numbers
    examples: list[str] = field(default_factory=list[str])

    @property
    def present(self) -> int:
        return self.rows - self.nulls

    def __add__(self, other: "ColumnTexts") -> "ColumnTexts":
        """The counts of two files."""
        return ColumnTexts(
            self.rows + other.rows,
            self.nulls + other.nulls,
            self.soft_nulls + other.soft_nulls,
            self.integers + other.integers,
            self.numbers + other.numbers,
            self.truths + other.truths,
            self.codes + other.codes,
            max(self.largest, other.largest),
            self.amounts + other.amounts,
            self.plain + other.plain,
            self.others + other.others,
            (self.examples + other.examples)[:EXAMPLES],
        )

    def add(self, texts: pa.Array, settings: ReadSettings) -> None:
        """Count a batch of texts."""
        self.rows += len(texts)
        null = compute.is_in(texts, value_set=pa.array(sorted(settings.null_texts)))
        null = compute.or_(null, compute.is_null(texts))
        self.nulls += _count(null)
        present = texts.filter(compute.invert(null))
        if not len(present):
            return
        if len(self.examples) < EXAMPLES:
            fresh = dict.fromkeys([*self.examples, *present.slice(0, 50).to_pylist()])
            self.examples = list(fresh)[:EXAMPLES]
        is_number = compute.match_substring_regex(present, NUMBER)
        numbers = present.filter(is_number)
        self.numbers += len(numbers)
        if len(numbers):
            whole = numbers.filter(compute.match_substring_regex(numbers, INTEGER))
            self.integers += len(whole)
            self.codes += _count(compute.match_substring_regex(whole, CODE))
            self._note_largest(whole)
            self._add_plain(numbers.filter(compute.invert(compute.match_substring_regex(numbers, INTEGER))), len(whole))
        if len(numbers) < len(present):
            self._add_others(present.filter(compute.invert(is_number)), settings)

    def _add_others(self, others: pa.Array, settings: ReadSettings) -> None:
        soft = compute.is_in(others, value_set=pa.array(sorted(settings.null_among_numbers)))
        for text, count in _counted(others.filter(soft)):
            self.soft_nulls[text] += count
        others = others.filter(compute.invert(soft))
        truths = compute.match_substring_regex(others, TRUTH)
        self.truths += _count(truths)
        others = others.filter(compute.invert(truths))
        is_maybe = compute.match_substring_regex(others, MAYBE_AMOUNT)
        strange = others.filter(compute.invert(is_maybe)).slice(0, EXAMPLES).to_pylist()
        for text, count in _counted(others.filter(is_maybe)):
            if not self.amounts.add(text, count):
                strange.append(text)
        if len(self.others) < EXAMPLES:
            self.others.update(strange[:EXAMPLES])

    def _add_plain(self, fractions: pa.Array, whole: int) -> None:
        differs = compute.match_substring_regex(fractions, PLAIN_DIFFERS)
        count = _count(differs)
        self.plain.either += whole
        self.plain.differ += count
        self.plain.marks[""] += whole + len(fractions)
        if len(fractions) > count:
            self.plain.only["."] += len(fractions) - count
            self.plain.example.setdefault(".", fractions.filter(compute.invert(differs))[0].as_py())
        if count:
            self.plain.example.setdefault("differ", fractions.filter(differs)[0].as_py())

    def _note_largest(self, whole: pa.Array) -> None:
        longest = compute.max(compute.utf8_length(whole)).as_py() if len(whole) else None
        if longest is not None and longest > 15:
            wide = whole.filter(compute.greater(compute.utf8_length(whole), 15)).to_pylist()
            self.largest = max(self.largest, *(abs(int(text)) for text in wide))

    def kind(self) -> tuple[Kind, str]:
        """What the column is, and why where it is not plain."""
        if not self.present:
            return "empty", "no value"
        soft = self.soft_nulls.total()
        if self.numbers and self.numbers + soft == self.present:
            if self.integers < self.numbers:
                return "number", ""
            if self.codes:
                return "text", f"{self.codes} begin with a zero: codes, kept as written"
            if self.largest >= 2**63 or (self.largest > EXACT and (self.nulls or soft)):
                return "text", "whole numbers too large to be exact as numbers: kept as written"
            return "integer", ""
        if self.truths and self.truths == self.present:
            return "boolean", ""
        return "text", ""


def convert(texts: pa.Array, kind: Kind, settings: ReadSettings, reading: AmountReading | None = None) -> pa.Array:
    """A batch of texts as the kind of its column; with a reading, text that is a number written for people becomes one.

    Text that a reading does not read is left as it is, among the numbers as plain text: what remains for the checks.
    """
    null_texts = settings.null_texts if kind in ("text", "boolean") and not reading else settings.null_among_numbers
    null = compute.is_in(texts, value_set=pa.array(sorted(null_texts)))
    present = compute.if_else(null, pa.scalar(None, pa.string()), texts)
    if reading is not None:
        return _amounts(present, reading)
    if kind == "empty":
        return pa.nulls(len(texts), pa.float64())
    if kind == "text":
        return present
    trimmed = compute.utf8_trim_whitespace(present)
    if kind == "boolean":
        return compute.equal(compute.utf8_lower(trimmed), "true")
    trimmed = compute.replace_substring_regex(trimmed, r"^\+", "")
    return compute.cast(trimmed, pa.int64() if kind == "integer" else pa.float64())


def _amounts(texts: pa.Array, reading: AmountReading) -> pa.Array:
    encoded = texts.dictionary_encode()
    found = [reading.value(text) for text in encoded.dictionary.to_pylist()]
    if all(value is not None for value in found):
        return pa.array(found, pa.float64()).take(encoded.indices)
    plain = [
        text if value is None else repr(value)
        for text, value in zip(encoded.dictionary.to_pylist(), found, strict=True)
    ]
    return pa.array(plain, pa.string()).take(encoded.indices)


def _counted(texts: pa.Array) -> list[tuple[str, int]]:
    counted = compute.value_counts(texts)
    return list(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _count(mask: pa.Array) -> int:
    return int(compute.sum(mask).as_py() or 0)
