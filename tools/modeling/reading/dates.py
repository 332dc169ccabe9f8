"""Dates: one order of day, month and year for a column, over all files together; never row by row.

Each text is read in every order that it allows. A column is read when one order is left; where several are, it is
refused with an example of both.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from tools.core.errors import FixableError
from tools.modeling.reading.date_parts import Parts, take_apart
from tools.modeling.reading.records import skip_footer
from tools.modeling.reading.settings import ReadSettings

DATE_SHARE = 0.95  # of a column's texts; below, it is no column of dates
WORDS: dict[str, str] = {"ymd": "year first", "dmy": "day first", "mdy": "month first", "ydm": "year, day, month"}
ISO = r"^\s*\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)?(?:Z|[+-]\d{2}:?\d{2})?\s*$"
_ZONED = r"(?:Z|UTC|GMT|:\d{2}(?:[.,]\d+)?\s*[+-]\d{2}(?::?\d{2})?)\s*$"
# Smallest and largest epoch of each unit: 1973 to 2286.
_UNITS: dict[str, tuple[float, float]] = {"s": (1e8, 1e10), "ms": (1e11, 1e13), "us": (1e14, 1e16), "ns": (1e17, 1e19)}
_DAYS = (1.0, 109574.0)  # of a spreadsheet: 1900 to 2199
_UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


@dataclass(frozen=True)
class DateReading:
    """How the texts of a column become times without a zone (those with one become UTC)."""

    order: str  # an order, or a format
    zone: str | None  # of texts without one, where others have one
    why: str

    def read(self, texts: pd.Series) -> pd.Series:
        """Timestamps; what is no date in this order is NaT."""
        codes, uniques = pd.factorize(texts.astype(object), use_na_sentinel=True)
        if "%" in self.order or self.order == ISO_FORM:
            made = pd.to_datetime(pd.Series(uniques, dtype=object), format=self.order, errors="coerce", utc=True)
            times = made.dt.tz_localize(None).to_numpy("datetime64[ns]")
        else:
            times = self._read_unique([str(text) for text in uniques])
        times = np.append(times, np.datetime64("NaT", "ns"))
        return pd.Series(times[codes], index=texts.index, name=texts.name)

    def _read_unique(self, texts: Sequence[str]) -> np.ndarray:
        stamps: list[str | None] = []
        offsets = np.zeros(len(texts))
        naive = np.zeros(len(texts), dtype=bool)
        for place, text in enumerate(texts):
            parts = take_apart(text)
            date = parts.dates.get(self.order) if parts else None
            stamps.append(None if parts is None or date is None else "{:04}-{:02}-{:02}".format(*date) + parts.time)
            if parts is not None:
                offsets[place] = parts.offset_min or 0
                naive[place] = parts.offset_min is None
        times = pd.Series(pd.to_datetime(pd.Series(stamps, dtype=object), format="ISO8601", errors="coerce"))
        moved = times - pd.to_timedelta(offsets, unit="min")
        return to_utc(moved, naive, self.zone).to_numpy("datetime64[ns]")


def to_utc(times: pd.Series, naive: np.ndarray, zone: str | None) -> pd.Series:
    """Times without a zone as times of `zone`, in UTC."""
    if zone is None or not naive.any():
        return times
    here = times.dt.tz_localize(
        zone, ambiguous=cast(Any, np.zeros(len(times), dtype=bool)), nonexistent="shift_forward"
    )
    return times.where(~naive, here.dt.tz_convert("UTC").dt.tz_localize(None))


def decide(name: str, files: Mapping[str, pd.Series], settings: ReadSettings, *, clock: bool) -> DateReading | None:
    """How a column of texts is read as dates, in all files alike; None where it holds no dates.

    Args:
        files: file -> its texts, with nulls.
        clock: the column orders the rows, so every text must be a date.

    Raises:
        FixableError: two orders fit, or none fits all; the format that is stated does not fit; only a part carries a
            zone; a clock with texts that are no dates.
    """
    own = isinstance(settings.date_format, dict) and name in settings.date_format  # stated of this column
    if not own and (found := _iso(name, files, settings)) is not None:
        return found
    counted = {source: Counter(texts.dropna().astype(str).tolist()) for source, texts in files.items()}
    total = sum(counts.total() for counts in counted.values())
    if not total:
        return None
    apart = {source: {text: take_apart(text) for text in counts} for source, counts in counted.items()}
    stated = settings.date_format_of(name)
    if stated is not None and "%" in stated and (reading := _as_stated(name, files, stated, settings, clock)):
        return reading
    stated = None if stated is None or "%" in stated else stated
    dated = sum(counts[text] for source, counts in counted.items() for text in counts if apart[source][text])
    if dated < total and clock:
        _refuse_texts(name, files, lambda text: take_apart(text) is None)
    if dated < (DATE_SHARE * total if clock else total):
        return None
    every = [parts for found in apart.values() for parts in found.values() if parts is not None]
    if not clock and not stated and not any("/" in text or ":" in text for text in next(iter(apart.values()))):
        short = all(len(date) < 9 and not date[:4].isdigit() for found in apart.values() for date in found)
        if short and len(set[str](WORDS).intersection(*(parts.usual for parts in every))) > 1:
            return None  # 10-12-14 may as well be a size
    if stated and not own and not clock and not all(stated in parts.dates for parts in every):
        stated = None  # stated for dates in general; this column cannot be meant
    order, why = (stated, "as stated") if stated else _order(name, apart, counted, every)
    if stated:
        _refuse_unfit(name, files, stated)
    return DateReading(order, _zone(name, apart, counted, settings), why)


ISO_FORM = "ISO8601"


def _iso(name: str, files: Mapping[str, pd.Series], settings: ReadSettings) -> DateReading | None:
    """The quick way: every text is a date as ISO 8601 writes it, and there is such a day."""
    if not all(is_iso(texts) for texts in files.values()):
        return None
    for texts in files.values():
        if DateReading(ISO_FORM, None, "").read(texts).isna().sum() > texts.isna().sum():
            return None
    with_zone: dict[str, int] = {}
    without: dict[str, int] = {}
    for source, texts in files.items():
        zoned = int(is_zoned(texts.dropna()).sum())
        with_zone |= {source: zoned} if zoned else {}
        without |= {source: int(texts.notna().sum()) - zoned} if zoned < texts.notna().sum() else {}
    zone = zone_of_naive(name, with_zone, without, settings) if with_zone and without else None
    return DateReading("ymd" if zone else ISO_FORM, zone, "ISO 8601" + (", as UTC" if with_zone else ""))


def _order(
    name: str, apart: Mapping[str, Mapping[str, Parts | None]], counted: Mapping[str, Counter[str]], every: list[Parts]
) -> tuple[str, str]:
    usual = set[str](WORDS).intersection(*(parts.usual for parts in every))
    possible = set[str](WORDS).intersection(*(parts.dates for parts in every))
    fits = usual or possible
    if len(fits) == 1:
        order = fits.pop()
        if all(parts.dates.keys() == {order} for parts in every):
            return order, f"{WORDS[order]}, as it is written"
        for source, found in apart.items():
            for text, parts in found.items():
                if parts is not None and parts.dates.keys() == {order}:
                    return order, f"{WORDS[order]}: {text!r} of {source} can be nothing else"
        return order, f"{WORDS[order]}, as this form is written"
    if fits:
        text = next(
            (t for found in apart.values() for t, p in found.items() if p and len({p.dates[o] for o in fits}) > 1), ""
        )
        parts = take_apart(text)
        if not text or parts is None:  # day and month are equal everywhere
            return sorted(fits)[0], "all orders give the same dates"
        shown = " or ".join(
            f"{'{:04}-{:02}-{:02}'.format(*parts.dates[order])} ({order}, {WORDS[order]})" for order in sorted(fits)
        )
        raise FixableError(
            f"the dates of the column {name!r} can be read in {len(fits)} ways in every row: {text!r} is {shown}; "
            f"state data.read.date_format, for example {{{name}: {sorted(fits)[0]}}}"
        )
    raise FixableError(
        f"the column {name!r} writes dates in more than one way: {_forms(apart, counted)}; write them in one (over all "
        "files), or list the column under data.drop"
    )


def _forms(apart: Mapping[str, Mapping[str, Parts | None]], counted: Mapping[str, Counter[str]]) -> str:
    """Per file and set of orders, how many rows and an example."""
    shown: list[str] = []
    for source, found in apart.items():
        seen: Counter[tuple[str, ...]] = Counter()
        example: dict[tuple[str, ...], str] = {}
        for text, parts in found.items():
            if parts is not None:
                key = tuple(sorted(parts.usual or parts.dates))
                seen[key] += counted[source][text]
                example.setdefault(key, text)
        for key, count in seen.most_common():
            words = " or ".join(WORDS[order] for order in key)
            shown.append(f"{count} rows of {source} {words}, e.g. {example[key]!r}")
    return "; ".join(shown)


def _zone(
    name: str,
    apart: Mapping[str, Mapping[str, Parts | None]],
    counted: Mapping[str, Counter[str]],
    settings: ReadSettings,
) -> str | None:
    with_zone: dict[str, int] = {}
    without: dict[str, int] = {}
    for source, found in apart.items():
        for text, parts in found.items():
            if parts is not None:
                kind = without if parts.offset_min is None else with_zone
                kind[source] = kind.get(source, 0) + counted[source][text]
    if with_zone and without:
        return zone_of_naive(name, with_zone, without, settings)
    return None


def zone_of_naive(name: str, with_zone: Mapping[str, int], without: Mapping[str, int], settings: ReadSettings) -> str:
    """The stated zone of the times that carry none, where others carry one.

    Raises:
        FixableError: none is stated.
    """
    if settings.timezone is None:
        parts = [f"{n} rows of {s} carry a zone" for s, n in with_zone.items()]
        parts += [f"{n} rows of {s} carry none" for s, n in without.items()]
        raise FixableError(
            f"the times of the column {name!r} cannot be compared: {', '.join(parts)}; state data.read.timezone, the "
            "zone of those without (UTC, Europe/Berlin)"
        )
    return settings.timezone


def _as_stated(
    name: str, files: Mapping[str, pd.Series], stated: str, settings: ReadSettings, clock: bool
) -> DateReading | None:
    """The stated format; None where it was stated for dates in general, and this column is not of it."""
    reading = DateReading(stated, None, "as stated")
    for source, texts in files.items():
        wrong = reading.read(texts).isna() & texts.notna()
        if wrong.any():
            if not clock and not isinstance(settings.date_format, dict):
                return None
            _refuse(name, source, texts, wrong, f"are not of the format {stated!r} that data.read.date_format states")
    return reading


def _refuse_unfit(name: str, files: Mapping[str, pd.Series], stated: str) -> None:
    for source, texts in files.items():
        wrong = DateReading(stated, None, "").read(texts).isna() & texts.notna()
        if wrong.any():
            _refuse(name, source, texts, wrong, f"are no dates in the order {stated} that data.read.date_format states")


def _refuse_texts(name: str, files: Mapping[str, pd.Series], is_wrong: Any) -> None:
    for source, texts in files.items():
        wrong = texts.map(lambda text: isinstance(text, str) and is_wrong(text)).astype(bool)
        if wrong.any():
            _refuse(name, source, texts, wrong, "are no dates")


def _refuse(name: str, source: str, texts: pd.Series, wrong: pd.Series, what: str) -> None:
    rows = np.flatnonzero(wrong.to_numpy())
    examples = ", ".join(repr(value) for value in dict.fromkeys(texts.iloc[rows[:50]].tolist()))[:120]
    where = ", ".join(str(row + 1) for row in rows[:3]) + (", ..." if len(rows) > 3 else "")
    last = len(rows) < len(texts) and len(texts) - len(rows) <= rows[0] and len(rows) <= 10
    footer = f"; if they are a footer, {skip_footer(len(rows))}" if last else ""
    raise FixableError(
        f"time column {name!r} of {source}: {len(rows)} of {len(texts)} values {what}, e.g. {examples} (record {where})"
        f"{footer or '; correct them, state data.read.date_format, or name them under data.read.nulls'}"
    )


def read_days(name: str, numbers: pd.Series, source: str) -> tuple[pd.Series, str]:
    """A column of spreadsheet days (44927.5 is noon of 2023-01-01), as times to the second; with how it was read.

    Raises:
        FixableError: values that are no day from 1900 to 2199.
    """
    days = numbers.astype(np.float64)
    wrong = days.notna() & ~days.between(*_DAYS)
    if wrong.any():
        _refuse(name, source, numbers, wrong, "are no spreadsheet days, which data.read.date_format states (excel)")
    times = pd.Timestamp("1899-12-30") + pd.to_timedelta((days * 86400).round(), unit="s")
    return pd.Series(times, index=numbers.index, name=numbers.name).astype(
        "datetime64[ns]"
    ), "spreadsheet days, as stated"


def read_numbers(name: str, numbers: pd.Series, source: str) -> tuple[pd.Series, str] | None:
    """A column of numbers that orders the rows, as times; with how it was read. None: it is a number and no clock.

    Read are yyyymmdd (also with hhmm and hhmmss) and seconds to nanoseconds since 1970.

    Raises:
        FixableError: some values are in one unit and some in another.
    """
    values = numbers.dropna().to_numpy()
    if not len(values):
        return None
    low, high = float(np.min(values)), float(np.max(values))
    if np.all(np.mod(values.astype(np.float64), 1) == 0) and (found := _digits(numbers, low, high)) is not None:
        return found
    units = {unit for unit, (least, most) in _UNITS.items() for value in (low, high) if least <= abs(value) < most}
    if len(units) == 2 and all(any(a <= abs(v) < b for a, b in _UNITS.values()) for v in (low, high)):
        shown = " and ".join(_UNIT_WORDS[unit] for unit in _UNITS if unit in units)
        raise FixableError(
            f"time column {name!r} of {source} holds {shown} since 1970 in one column: {low:.0f} and {high:.0f}; write "
            "it in one unit"
        )
    if len(units) != 1 or not all(_UNITS[next(iter(units))][0] <= abs(v) for v in (low, high)):
        return None
    unit = units.pop()
    exact = numbers.astype("Int64") if pd.api.types.is_integer_dtype(numbers.dtype) else numbers
    times = pd.to_datetime(exact, unit=cast(Any, unit), errors="coerce")
    return pd.Series(times, index=numbers.index, name=numbers.name).astype(
        "datetime64[ns]"
    ), f"{_UNIT_WORDS[unit]} since 1970 (UTC)"


def _digits(numbers: pd.Series, low: float, high: float) -> tuple[pd.Series, str] | None:
    for digits, form, words in (
        (8, "%Y%m%d", "yyyymmdd"),
        (12, "%Y%m%d%H%M", "yyyymmddhhmm"),
        (14, "%Y%m%d%H%M%S", "yyyymmddhhmmss"),
    ):
        least = 10.0 ** (digits - 8)
        if not (19000101 * least <= low and high < 21010000 * least):
            continue
        text = numbers.astype("Int64").astype("string").astype(object).where(numbers.notna(), None)
        times = pd.to_datetime(text, format=form, errors="coerce")
        if times.notna().sum() == numbers.notna().sum():
            return times.rename(numbers.name), words
    return None


def is_iso(texts: pd.Series) -> bool:
    """Whether every text is a date as ISO 8601 writes it."""
    present = texts.dropna()
    return bool(len(present)) and bool(present.astype(str).str.match(ISO).all())


def is_zoned(texts: pd.Series) -> pd.Series:
    """Which ISO texts carry a zone."""
    return texts.astype(str).str.contains(_ZONED, regex=True)
