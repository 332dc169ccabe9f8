"""Builds a Great Expectations suite from profiles. Pure: profiles in, expectation configurations out.

What is critical says that the file is broken, whatever its distribution; what a changed world does to a sound file
(new ranges, new categories, a column that became constant) is a warning: judging it is the drift detector's part.
Each configuration carries `meta.reason`, the plain sentence shown for it, and `meta.rows`: whether its unexpected rows
are bad rows that may be quarantined.
"""

from typing import Any

from tools.integrations.great_expectations.profile import (
    MOSTLY_WHOLE_SHARE,
    NUMBER_LIKE_SHARE,
    ColumnProfile,
    TableProfile,
)

NUMBER_TYPES = [
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
]
TIME_TYPES = ["datetime64[ns]"]
TEXT_TYPES = ["str"]
SOME_VALUE = 1e-9  # `mostly`: one value that is not null is enough
DUPLICATE_SHARE = 0.2  # more whole-row duplicates than in the reference: the file was joined or loaded twice
MANY_FRACTIONS = 0.01  # share of a column that was whole, from which its fractions are no single interpolated values
RANGE_FACTOR = 1.0  # far outside: further beyond the reference's range than the range is wide
SHOWN_CLASSES = 8
WHOLE_NUMBER = r"^-?\d+(?:\.0*)?(?:e\+?\d+)?$"
NUMBER = r"^\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*$"
NOT_BLANK = r"\S"

Config = dict[str, Any]


def build_suite(
    reference: TableProfile, current: TableProfile, target: str, task: str, max_null_share: float, fillers: list[str]
) -> list[Config]:
    """The expectations for a file that should look like the reference.

    Args:
        reference: profile of the reference.
        current: profile of the file, for flaws that show in the file alone.
        fillers: columns null together in filler rows of the file (`profile.filler_columns`).
    """
    suite: list[Config] = []
    for column in reference.columns.values():
        suite.append(_expect("column_to_exist", column.name, "critical", "the reference has this column"))
        suite += _nulls(column, max_null_share) if column.name != target else []
        suite += _type(column)
        if column.name != target:
            suite += _values(column)
    for column in current.columns.values():
        if column.name != target:
            suite += _whole_numbers(column, reference.columns.get(column.name), bool(fillers))
        if column.name not in reference.columns and column.kind == "empty":
            suite.append(_null("critical", column.name, SOME_VALUE, "the column is empty in every row"))
    suite += _target(target, task)
    suite += _table(reference)
    if fillers:
        suite.append(_filler_rows(fillers))
    return suite


def _expect(kind: str, column: str | None, severity: str, reason: str, rows: bool = False, **kwargs: Any) -> Config:
    return {
        "type": f"expect_{kind}",
        "kwargs": {**({"column": column} if column else {}), **kwargs},
        "severity": severity,
        "meta": {"reason": reason, "rows": rows},
    }


def _null(severity: str, column: str, mostly: float, reason: str, rows: bool = False) -> Config:
    return _expect("column_values_to_not_be_null", column, severity, reason, rows, mostly=mostly)


def _nulls(column: ColumnProfile, max_null_share: float) -> list[Config]:
    name, share = column.name, column.null_share
    found = [_null("critical", name, SOME_VALUE, "the column is empty in every row")]
    if share == 0:
        reason = f"complete in the reference, more than {max_null_share:.0%} null here"
        found.append(_null("critical", name, 1 - max_null_share, reason, rows=True))
        found.append(_null("warning", name, 1.0, "complete in the reference, some nulls here"))
    elif share + max_null_share < 1:
        reason = f"{share:.1%} null in the reference, much more here"
        found.append(_null("warning", name, 1 - share - max_null_share, reason))
    return found


def _type(column: ColumnProfile) -> list[Config]:
    types = {"number": NUMBER_TYPES, "time": TIME_TYPES, "text": TEXT_TYPES}.get(column.kind)
    if types is None:
        return []
    reads_as_number = column.kind == "text" and (column.number_like_share or 0) >= NUMBER_LIKE_SHARE
    severity = "warning" if reads_as_number else "critical"
    reason = (
        f"the column holds {'numbers written as text' if reads_as_number else _PLURAL[column.kind]} in the reference"
    )
    return [_expect("column_values_to_be_in_type_list", column.name, severity, reason, type_list=types)]


_PLURAL = {"number": "numbers", "time": "times", "text": "text"}


def _values(column: ColumnProfile) -> list[Config]:
    """Warnings about values that the reference does not know."""
    found: list[Config] = []
    # Identifiers are left out: a counter leaves its old range by counting on.
    if column.low is not None and column.high is not None and column.high > column.low and not column.identifier:
        margin = RANGE_FACTOR * (column.high - column.low)
        found.append(
            _expect(
                "column_values_to_be_between",
                column.name,
                "warning",
                f"far outside the reference's range of {column.low:g} to {column.high:g}",
                min_value=column.low - margin,
                max_value=column.high + margin,
            )
        )
    if column.kind == "text":
        number_like = (column.number_like_share or 0) >= NUMBER_LIKE_SHARE
        if column.categories and not column.identifier and not number_like:
            reason = "categories that the reference does not have"
            found.append(
                _expect(
                    "column_values_to_be_in_set",
                    column.name,
                    "warning",
                    reason,
                    value_set=list(column.categories),
                )
            )
        if number_like:
            reason = "nearly all of the column reads as numbers, these values do not"
            found.append(_expect("column_values_to_match_regex", column.name, "warning", reason, regex=NUMBER))
        else:
            reason = "blank text where null is probably meant"
            found.append(_expect("column_values_to_match_regex", column.name, "warning", reason, regex=NOT_BLANK))
    if column.unique > 1:
        reason = "the column varies in the reference and is constant here"
        found.append(_expect("column_unique_value_count_to_be_between", column.name, "warning", reason, min_value=2))
    return found


def _whole_numbers(here: ColumnProfile, before: ColumnProfile | None, fillers: bool) -> list[Config]:
    """A column of whole numbers with a few fractions was averaged or shifted somewhere.

    Certain where the column counts rows, or was whole in the reference and more than single values are not; elsewhere
    (a price that is mostly round, a temperature interpolated here and there) it is a hint, unless the file holds filler
    rows besides.
    """
    whole = here.whole_share
    if whole is None or not MOSTLY_WHOLE_SHARE <= whole < 1:
        return []
    was_whole = before is not None and before.whole_share == 1 and 1 - whole >= MANY_FRACTIONS
    severity = "critical" if here.identifier or was_whole or fillers else "warning"
    reason = "whole numbers nearly everywhere, fractions in these rows"
    regex = WHOLE_NUMBER
    return [_expect("column_values_to_match_regex", here.name, severity, reason, severity == "critical", regex=regex)]


def _target(target: str, task: str) -> list[Config]:
    binary = task == "binary"
    found = [
        _null(
            "critical",
            target,
            1.0,
            "the target is missing in these rows (a class that is written as NULL: "
            "`data.read.nulls: []` keeps such words)",
            rows=True,
        ),
        _expect(
            "column_unique_value_count_to_be_between",
            target,
            "critical",
            "a binary target has exactly two values" if binary else "the target has one value only",
            min_value=2,
            max_value=2 if binary else None,
        ),
    ]
    if task == "regression":
        reason = "the target of a regression is numeric"
        found.append(_expect("column_values_to_be_in_type_list", target, "critical", reason, type_list=NUMBER_TYPES))
    return found


def target_classes(target: str, classes: list[Any]) -> Config:
    """Expect only the reference's classes."""
    known = ", ".join(repr(str(label)) for label in sorted(classes, key=str)[:SHOWN_CLASSES])
    reason = (
        f"classes that the reference does not have (it has {known}{', ...' if len(classes) > SHOWN_CLASSES else ''}); "
        "where they are other names of these, state which under `data.labels`"
    )
    return _expect("column_values_to_be_in_set", target, "critical", reason, rows=True, value_set=classes)


def _table(reference: TableProfile) -> list[Config]:
    names = list(reference.columns)
    found = [
        _expect(
            "table_columns_to_match_set",
            None,
            "warning",
            "columns that the reference does not have",
            column_set=names,
            exact_match=True,
        )
    ]
    allowed = reference.duplicate_share + DUPLICATE_SHARE
    if allowed < 1:
        reason = f"whole rows occur more than once ({reference.duplicate_share:.1%} of the rows in the reference)"
        found.append(
            _expect(
                "compound_columns_to_be_unique",
                None,
                "critical",
                reason,
                True,
                column_list=names,
                ignore_row_if="never",
                mostly=1 - allowed,
            )
        )
    if reference.duplicate_share == 0:
        reason = "whole rows occur more than once, none in the reference"
        found.append(
            _expect("compound_columns_to_be_unique", None, "warning", reason, column_list=names, ignore_row_if="never")
        )
    return found


def _filler_rows(columns: list[str]) -> Config:
    anchor, partner = columns[0], columns[1]
    reason = f"filler rows: empty at once in {', '.join(columns)}, which are complete in all other rows"
    return _expect(
        "column_values_to_not_be_null",
        partner,
        "critical",
        reason,
        rows=True,
        row_condition={"type": "nullity", "column": {"name": anchor}, "is_null": True},
    )


def without_column(configs: list[Config], column: str) -> list[Config]:
    """The expectations that do not name a column: for rows whose label has not arrived."""
    return [config for config in configs if column not in _columns_of(config)]


def _columns_of(config: Config) -> set[Any]:
    """Every column that an expectation names."""
    kwargs = config["kwargs"]
    single = {kwargs.get(key) for key in ("column", "column_A", "column_B")}
    return single | {name for key in ("column_list", "column_set") for name in kwargs.get(key) or ()}
