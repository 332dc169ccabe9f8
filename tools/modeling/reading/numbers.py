"""Numbers as people write them: 1,234.50, 12,34, $1,234, 52 %, (1 200).

Each text is read both ways, with a decimal point and with a decimal comma. A column is read when its texts leave one
way; where both fit and differ, it is refused.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tools.core.errors import FixableError
from tools.modeling.reading.settings import ReadSettings

READABLE_SHARE = 0.95  # of a column's texts; the others are left for the checks to find
_MARK = r"US\$|R\$|[$€£¥₹]|USD|EUR|GBP|CHF|JPY|INR|SEK|NOK|DKK|PLN|CAD|AUD|kr\.?|zł|Fr\.?"
_MINUS = "\u2212"
_GAP = "[ \u00a0\u202f]?"
_GROUP = "['\u2019 \u00a0\u202f]"
_AMOUNT = re.compile(
    rf"(?P<open>\()?{_GAP}(?P<sign>[+\-\u2212])?{_GAP}(?P<mark>{_MARK})?{_GAP}(?P<sign2>[+\-\u2212])?"
    rf"(?P<number>\d[\d.,'\u2019 \u00a0\u202f]*?|[.,]\d+){_GAP}(?P<end>%|{_MARK})?{_GAP}(?P<close>\))?"
)
# RE2's form of it, to pass over columns of other texts quickly.
_SPACED = "\u2019 \u00a0\u202f"
MAYBE_AMOUNT = rf"^\s*[(+\-{_MINUS}]*\s*(?:{_MARK})?\s*[+\-{_MINUS}]?[\d.,][\d.,'{_SPACED}]*(?:%|{_MARK})?\s*\)?\s*$"


def _pattern(decimal: str, group: str) -> re.Pattern[str]:
    mark = re.escape(decimal)
    return re.compile(rf"(?:[1-9]\d{{0,2}}(?P<g>{group})\d{{3}}(?:(?P=g)\d{{3}})*|\d+)?(?:{mark}(?P<f>\d*))?")


_READ = {
    ".": _pattern(".", rf"(?:,|{_GROUP})"),
    ",": _pattern(",", rf"(?:\.|{_GROUP})"),
}
_EXPONENT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)[eE][+-]?\d+")
# A plain number that a decimal comma would read otherwise: the point groups its digits.
PLAIN_DIFFERS = r"^\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*$"
Way = str
"""The decimal sign: "." or ","."""


@dataclass
class Amounts:
    """What the texts of a column are, seen as numbers written for people; counts add up over batches and files."""

    only: Counter[Way] = field(default_factory=Counter[Way])  # read one way only
    either: int = 0  # both ways, with the same value
    differ: int = 0  # both ways, with another value
    marks: Counter[str] = field(default_factory=Counter[str])
    example: dict[str, str] = field(default_factory=dict[str, str])  # way, or "differ" -> a text

    @property
    def readable(self) -> int:
        return self.only.total() + self.either + self.differ

    def add(self, text: str, count: int) -> bool:
        """Count one text; whether it is a number."""
        found = {way: value for way in _READ if (value := read_amount(text, way)) is not None}
        if not found:
            return False
        values = [value for value, _ in found.values()]
        self.marks[next(iter(found.values()))[1]] += count
        if len(found) == 1:
            way = next(iter(found))
            self.only[way] += count
            self.example.setdefault(way, text)
        elif values[0] == values[1]:
            self.either += count
        else:
            self.differ += count
            self.example.setdefault("differ", text)
        return True

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            self.only + other.only,
            self.either + other.either,
            self.differ + other.differ,
            self.marks + other.marks,
            {**other.example, **self.example},
        )


def read_amount(text: str, way: Way, thousands: str | None = None) -> tuple[float, str] | None:
    """The number and its mark ("", "%", "$"); None if it is no number written this way.

    Args:
        way: the decimal sign.
        thousands: the only sign that may group digits, "" for none; None: any that is not the decimal sign.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if (
        found is None
        or bool(found["open"]) != bool(found["close"])
        or (found["mark"] and found["end"] not in (None, "%"))
    ):
        return None
    number = found["number"].rstrip()
    parts = _READ[way].fullmatch(number)
    if parts is None or not any(sign.isdigit() for sign in number):
        return None
    group = parts["g"]
    if group and thousands is not None and _plain_group(group) != thousands:
        return None
    if parts["f"] == "" and len(number) > 1 and number[-1] == way and group is None and way == ",":
        return None  # "12," is no number that anybody writes
    digits = number.replace(group, "") if group else number
    value = float(digits.replace(way, "."))
    negative = found["open"] or any(found[sign] in ("-", "\u2212") for sign in ("sign", "sign2"))
    return -value if negative else value, found["mark"] or found["end"] or ""


def _plain_group(group: str) -> str:
    return "'" if group in "'\u2019" else group if group in ",." else " "


@dataclass(frozen=True)
class AmountReading:
    """How the texts of a column become numbers.

    Args:
        way: the decimal sign.
        why: in words, for the person who reads how a file was understood.
    """

    way: Way
    thousands: str | None
    mark: str
    why: str

    def value(self, text: str | None) -> float | None:
        """The number that a text is, None for none."""
        found = None if text is None else read_amount(text, self.way, self.thousands)
        if found is None and text is not None and self.way == "." and _EXPONENT.fullmatch(text.strip()):
            return float(text)
        return None if found is None else found[0]


def decide(
    name: str, amounts: Amounts, present: int, settings: ReadSettings, evidence: Mapping[Way, str], source: str
) -> AmountReading | None:
    """How a column of texts is read as numbers; None where it is none.

    Args:
        present: texts that are not null.
        evidence: decimal sign -> a column that proves it.
        source: the files, for messages.

    Raises:
        FixableError: both ways fit and differ, or the column holds two ways or two units.
    """
    if not present or amounts.readable < READABLE_SHARE * present:
        return None
    units = [mark for mark in amounts.marks if mark]
    if len(units) > 1 or (units == ["%"] and amounts.marks[""]):
        shown = ", ".join(f"{mark or 'no unit'} in {count}" for mark, count in amounts.marks.most_common())
        raise FixableError(
            f"{source}: the column {name!r} holds numbers of several units ({shown}); write them in one, or list the "
            "column under data.drop"
        )
    unit = units[0] if units else ""
    if settings.decimal or settings.thousands:
        way = settings.decimal or ("," if settings.thousands == "." else ".")
        return AmountReading(way, settings.thousands, unit, f"decimal {way!r} as stated")
    if len(amounts.only) > 1:
        raise FixableError(
            f"{source}: the column {name!r} writes numbers in two ways: {amounts.example['.']!r} has a decimal point, "
            f"{amounts.example[',']!r} a decimal comma; write them in one, or list the column under data.drop"
        )
    if amounts.only:
        way = next(iter(amounts.only))
        return AmountReading(
            way, None, unit, f"{amounts.example[way]!r} can only be read with the decimal sign {way!r}"
        )
    if not amounts.differ:
        return AmountReading(".", None, unit, "digits with a unit or grouped by spaces")
    example = amounts.example["differ"]
    if len(evidence) == 1:
        way, column = next(iter(evidence.items()))
        return AmountReading(way, None, unit, f"the column {column!r} of the same file has the decimal sign {way!r}")
    raise FixableError(ambiguous(name, example, source))


def ambiguous(name: str, example: str, source: str) -> str:
    """The sentence that refuses a column whose numbers fit both ways."""
    ways = {way: read_amount(example, way) for way in _READ}
    point, comma = (f"{found[0]:g}" if found else "?" for found in (ways["."], ways[","]))
    return (
        f"{source}: the column {name!r} can be read in two ways: {example!r} is {point} with a decimal point and "
        f"{comma} with a decimal comma; state data.read.decimal ('.' or ',') and data.read.thousands, or list the "
        "column under data.drop"
    )
