"""One text as a date: in every order of day, month and year that it allows."""

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

YEARS = (1678, 2261)  # what a timestamp in nanoseconds holds
Order = Literal["ymd", "dmy", "mdy", "ydm"]
_NAMES = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_MONTHS = {**_NAMES, **{name[:3]: number for name, number in _NAMES.items()}, "sept": 9}
_PART = r"\d{1,4}|[A-Za-z]{3,9}"
_TIME = (
    r"(?P<h>\d{1,2}):(?P<mi>\d{2})(?::(?P<s>\d{2})(?:[.,](?P<f>\d{1,9}))?)?\s*(?P<ap>[AaPp]\.?[Mm]\.?)?"
    r"\s*(?P<z>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
)
_DATE = (
    rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\.?,?\s+)?(?P<a>{_PART})(?P<s1>[-/.]|\.?,?\s+)(?P<b>{_PART})"
    rf"(?P<s2>[-/.]|\.?,?\s+)(?P<c>\d{{1,4}})"
)
_TEXT = re.compile(rf"{_DATE}(?:(?:T|,?\s+){_TIME})?", re.IGNORECASE)
_TIME_FIRST = re.compile(rf"{_TIME},?\s+{_DATE}", re.IGNORECASE)
_COMPACT = re.compile(r"(?P<a>\d{4})(?P<b>\d{2})(?P<c>\d{2})(?:[T ]?(?P<h>\d{2})(?P<mi>\d{2})(?P<s>\d{2})?)?(?P<z>Z)?")


@dataclass(frozen=True)
class Parts:
    """One text, taken apart: the values of its date by order, and the rest."""

    dates: dict[str, tuple[int, int, int]]  # order -> year, month, day
    usual: frozenset[str]  # the orders that people mean by this form
    time: str  # "T12:30:00"
    offset_min: int | None  # None: no zone


def take_apart(text: str) -> Parts | None:
    """A text as a date in every order that it allows; None: it is none."""
    text = text.strip()
    found = _TEXT.fullmatch(text) or _TIME_FIRST.fullmatch(text) or _COMPACT.fullmatch(text)
    if found is None:
        return None
    part = found.groupdict()
    time = _time(part)
    if time is None:
        return None
    a, b, c = part["a"], part["b"], part["c"]
    separators = (part.get("s1", "-"), part.get("s2", "-"))
    if a.isdigit() and b.isdigit() and separators[0] != separators[1]:
        return None
    usual, possible = _orders(a, b, c, str(separators[0]))
    dates = {order: date for order in possible if (date := _date(order, a, b, c)) is not None}
    if not dates:
        return None
    return Parts(dates, frozenset(usual) & dates.keys(), time, _offset(part.get("z")))


def _orders(a: str, b: str, c: str, separator: str) -> tuple[set[str], set[str]]:
    """The orders that a form usually means, and all that it could."""
    if not a.isdigit():
        return {"mdy"}, {"mdy"}
    if not b.isdigit():
        return ({"ymd"}, {"ymd"}) if len(a) == 4 else ({"dmy"}, {"dmy"} if len(c) == 4 else {"dmy", "ymd"})
    if len(a) == 4:
        return {"ymd"}, {"ymd", "ydm"}
    if len(c) == 4:
        return ({"dmy"} if separator == "." else {"dmy", "mdy"}), {"dmy", "mdy"}
    if len(a) > 2 or len(c) > 2:
        return set(), set()
    return ({"dmy"} if separator == "." else {"dmy", "mdy", "ymd"}), {"dmy", "mdy", "ymd"}


def _date(order: str, a: str, b: str, c: str) -> tuple[int, int, int] | None:
    given = dict(zip(order, (a, b, c), strict=True))
    if not given["y"].isdigit() or not given["d"].isdigit() or len(given["y"]) not in (2, 4) or len(given["d"]) > 2:
        return None
    year, day = int(given["y"]), int(given["d"])
    month = int(given["m"]) if given["m"].isdigit() else _MONTHS.get(given["m"].lower(), 0)
    if len(given["y"]) == 2:
        year += 1900 if year > 68 else 2000
    fits = YEARS[0] <= year <= YEARS[1] and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]
    return (year, month, day) if fits else None


def _time(part: Mapping[str, str | None]) -> str | None:
    """The time of day as ISO text, "" for none; None: there is no such time."""
    if not part["h"]:
        return ""
    hour, minute, second = int(part["h"]), int(part["mi"] or 0), int(part.get("s") or 0)
    half = (part.get("ap") or "").lower().replace(".", "")
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "pm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    fraction = f".{part['f']}" if part.get("f") else ""
    return f"T{hour:02}:{minute:02}:{second:02}{fraction}"


def _offset(zone: str | None) -> int | None:
    if not zone:
        return None
    if zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return -minutes if zone[0] == "-" else minutes
