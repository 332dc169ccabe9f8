"""How a user's files are to be read: the section `data.read` of a goal. Light: no table library."""

import codecs
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# Written by programs for "no value"; nobody's name for a category.
NULLS = (
    "", "NULL", "null", "NaN", "nan", "-NaN", "-nan", "<NA>", "#N/A", "#N/A N/A", "#NA",
    "1.#IND", "1.#QNAN", "-1.#IND", "-1.#QNAN", "\\N",
)  # fmt: skip
# May be a category's name, so it is null only where every other value is a number or a date.
NULLS_AMONG_NUMBERS = ("NA", "N/A", "n/a", "None", "none", "NaT", "na", "n.a.", "-", "--")
SEPARATORS = (",", ";", "\t", "|")
_WORDS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " "}
_THOUSANDS = {"space": " ", "apostrophe": "'", "none": ""}
ORDERS = ("dmy", "mdy", "ymd")
EXCEL = "excel"  # days since the end of 1899, as spreadsheets store dates


class ReadSettings(BaseModel):
    """What is stated about the files, so that it need not be found. None: it is found where the file leaves no doubt.

    `separator`: one character, or `comma`, `semicolon`, `tab`, `pipe`, `space`. `decimal`: `.` or `,`. `thousands`:
    what groups digits (`,`, `.`, `space`, `apostrophe`, `none`). `encoding`: as Python spells it. `quote`: the
    character around fields; empty: none. `escape`: the character that takes a quote its meaning, where quotes are not
    doubled. `nulls`: texts that mean "no value" in every column, besides the empty one; it replaces the default list.
    `date_format`: a format (`%d/%m/%Y %H:%M`) or an order (`dmy`, `mdy`, `ymd`) for every column of dates, or a mapping
    from column to one. `timezone`: of times that carry none, where others do. `skip_rows`, `skip_footer`: lines before
    the header, records at the end. `names`: the columns' names, where the file has no header. `multiline`: quoted
    fields may hold what looks like whole records. `reference`, `current`: the same settings for one of the two files,
    where it differs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    separator: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None
    quote: str = '"'
    escape: str = ""
    nulls: list[str] | None = None
    date_format: str | dict[str, str] | None = None
    timezone: str | None = None
    skip_rows: int = Field(default=0, ge=0)
    skip_footer: int = Field(default=0, ge=0)
    names: list[str] | None = None
    multiline: bool = False
    reference: "ReadSettings | None" = None
    current: "ReadSettings | None" = None

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        value = _WORDS.get(value, value) if value else value
        if value is not None and (len(value) != 1 or value in "\r\n\"'"):
            raise ValueError(f"must be one character, or {', '.join(w for w in _WORDS if w.isalpha())}; got {value!r}")
        return value

    @field_validator("quote", "escape")
    @classmethod
    def _at_most_one(cls, value: str) -> str:
        if len(value) > 1:
            raise ValueError(f"must be one character, or empty for none; got {value!r}")
        return value

    @field_validator("decimal")
    @classmethod
    def _point_or_comma(cls, value: str | None) -> str | None:
        if value not in (None, ".", ","):
            raise ValueError(f"must be '.' or ','; got {value!r}")
        return value

    @field_validator("thousands")
    @classmethod
    def _known_group(cls, value: str | None) -> str | None:
        value = _THOUSANDS.get(value, value) if value else value
        if value not in (None, "", ",", ".", " ", "'"):
            raise ValueError(f"must be ',', '.', space, apostrophe or none; got {value!r}")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            return None if value is None else codecs.lookup(value).name
        except LookupError:
            raise ValueError(f"no such encoding: {value!r}; often: utf-8, cp1252, latin-1, utf-16") from None

    @field_validator("date_format")
    @classmethod
    def _a_format_or_order(cls, value: Any) -> Any:
        for one in value.values() if isinstance(value, dict) else [value]:
            if one is not None and one not in (*ORDERS, EXCEL) and "%" not in one:
                raise ValueError(f"must be a format such as %d/%m/%Y, or {', '.join((*ORDERS, EXCEL))}; got {one!r}")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        from zoneinfo import ZoneInfo

        try:
            return None if value is None else ZoneInfo(value).key
        except (ValueError, OSError, KeyError):
            raise ValueError(f"no such time zone: {value!r}; for example Europe/Berlin, UTC") from None

    @model_validator(mode="after")
    def _differ(self) -> "ReadSettings":
        if self.decimal and self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")
        return self

    @model_validator(mode="after")
    def _one_level(self) -> "ReadSettings":
        for own in (self.reference, self.current):
            if own is not None and (own.reference or own.current):
                raise ValueError("reference and current hold settings, not files again")
        return self

    def of(self, file: str) -> "ReadSettings":
        """The settings of `reference` or `current` (any other name: of all files)."""
        own: ReadSettings | None = {"reference": self.reference, "current": self.current}.get(file)
        shared = {name: value for name, value in self.stated().items() if name not in ("reference", "current")}
        return ReadSettings.model_validate(shared | (own.stated() if own else {}))

    def of_labels(self) -> dict[str, Any]:
        """What a table of labels, which another program may write, shares with the data; as JSON."""
        shared = ("encoding", "nulls", "decimal", "thousands")
        return {name: value for name, value in self.stated().items() if name in shared}

    def stated(self) -> dict[str, Any]:
        """What departs from the defaults, as JSON."""
        return self.model_dump(exclude_defaults=True)

    @property
    def null_texts(self) -> frozenset[str]:
        """What means "no value" in every column."""
        return frozenset(NULLS if self.nulls is None else ("", *self.nulls))

    @property
    def null_among_numbers(self) -> frozenset[str]:
        """What means "no value" in a column of numbers or dates."""
        return self.null_texts | (frozenset(NULLS_AMONG_NUMBERS) if self.nulls is None else frozenset[str]())

    def date_format_of(self, column: str) -> str | None:
        """What is stated about the dates of a column."""
        return self.date_format.get(column) if isinstance(self.date_format, dict) else self.date_format


DEFAULT = ReadSettings()
