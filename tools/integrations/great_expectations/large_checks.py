"""Evaluates expectations on a file that is too large to load, by Polars, with the meaning that GX gives them in pandas.

All unexpected values are counted in one streamed scan; rows and examples are read for failed expectations only.
Results have the form of GX's own.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tools.core.errors import FixableError, shorten
from tools.integrations.great_expectations.doubts import as_results, doubts_of, target_doubts
from tools.integrations.great_expectations.findings import EXAMPLES, Checked
from tools.integrations.great_expectations.large_profile import (
    PlainTable,
    duplicated,
    filler_columns,
    plain,
    profile,
    row_hashes,
    share_allows,
)
from tools.integrations.great_expectations.spec import ValidateArgs
from tools.integrations.great_expectations.suite import (
    WHOLE_NUMBER,
    Config,
    build_suite,
    target_classes,
    without_column,
)
from tools.modeling.doubts import Doubt
from tools.modeling.labels import as_text, match
from tools.modeling.large_files import LargeTable, open_large
from tools.modeling.leaks import MAX_ROWS
from tools.modeling.reading.compare import SHARED_SHARE

Result = dict[str, Any]


@dataclass(frozen=True)
class Counted:
    """An expectation about each value: which rows it looks at, and which of these are unexpected."""

    considered: pl.Expr
    unexpected: pl.Expr


def check_large(data: Path, reference: Path | None, own: list[Config] | None, args: ValidateArgs) -> Checked:
    """The file against its own suite, or the one built from the reference; as `gx_checks.check_loaded`.

    Raises:
        FixableError: a file cannot be read, or has values or expectations that cannot be checked this way.
    """
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(open_large(data))
            earlier = opened.enter_context(open_large(reference)) if reference else None
            table = plain(file)
            before = plain(earlier) if earlier is not None else table
            if args.target not in before.dtypes:
                columns = ", ".join(list(before.dtypes)[:40])
                raise FixableError(f"{args.reference or args.data} has no column {args.target!r}; columns: {columns}")
            doubts = _doubts(table, file, before, earlier, args)
            if not args.labelled:  # as if there were no label
                same = before is table
                table = table.without(args.target)
                before = table if same else before.without(args.target)
            configs = own or _suite_from_reference(before, table, args)
            if not args.labelled:
                configs = without_column(configs, args.target)
            results = check(table, configs)
            nulls = table.facts([pl.col(name).null_count() for name in table.dtypes])
        except pl.exceptions.PolarsError as error:
            text = shorten(" ".join(str(error).split()), 200)
            raise FixableError(f"cannot check {args.data}: {type(error).__name__}: {text}") from error
    empty = {name for name, count in nulls.items() if count == table.rows}
    suite = {"name": "data_checks", "expectations": configs}
    return Checked(suite, [*results, *as_results(doubts, args)], table.rows, list(table.dtypes), empty)


def _doubts(
    table: PlainTable, file: LargeTable, before: PlainTable, earlier: LargeTable | None, args: ValidateArgs
) -> list[Doubt]:
    """The target is looked at in full, the columns in a sample of the rows, shared rows by the hashes of all."""
    found: list[Doubt] = []
    if args.target in table.dtypes:
        columns = [_column(one, args.target) for one in ([table] if earlier is None else [before, table])]
        found = target_doubts(None if earlier is None else columns[0], columns[-1], args)
    shared = 0 if earlier is None else _shared(before, table)
    sampled = None if earlier is None else earlier.sample(MAX_ROWS, 0)
    return found + doubts_of(sampled, file.sample(MAX_ROWS, 0), shared, table.rows, args)


def _column(table: PlainTable, name: str) -> Any:
    return table.lazy.select(name).collect(engine="streaming").to_series().to_pandas()


def _shared(before: PlainTable, table: PlainTable) -> int:
    """Rows of the table that are in the one before; 0 where so many are repeated by chance."""
    names = [name for name in table.dtypes if before.dtypes.get(name) == table.dtypes[name]]
    if not names:
        return 0
    earlier, now = row_hashes(before, names), row_hashes(table, names)
    by_chance = max(float(duplicated(one).mean()) / 2 for one in (earlier, now))
    shared = int(np.isin(now, np.unique(earlier)).sum())
    return shared if shared / len(now) > 2 * by_chance + SHARED_SHARE else 0


def _suite_from_reference(before: PlainTable, table: PlainTable, args: ValidateArgs) -> list[Config]:
    current = profile(table)
    reference = current if before is table else profile(before)
    fillers = filler_columns(table, current, args.target)
    configs = build_suite(reference, current, args.target, args.task, args.max_null_share, fillers)
    if args.task != "regression" and args.labelled:
        classes, here = (_classes(one, args.target) for one in (before, table))
        texts = [str(text) for text in as_text(classes)]
        # Other spellings of a class are that class: training reads them so too.
        classes += [label for label in here if label not in classes and match(as_text([label]), texts)]
        if classes:
            configs.append(target_classes(args.target, classes))
    return configs


def _classes(table: PlainTable, target: str) -> list[Any]:
    if target not in table.dtypes:
        return []
    return table.lazy.select(pl.col(target).drop_nulls().unique()).collect(engine="streaming").to_series().to_list()


def check(table: PlainTable, configs: list[Config]) -> list[Result]:
    """One result per expectation.

    Raises:
        FixableError: an expectation that needs the loaded table; names those that do not.
    """
    unknown = sorted({config["type"] for config in configs} - {*_VALUES, *_WHOLE})
    if unknown:
        valid = ", ".join(sorted([*_VALUES, *_WHOLE]))
        raise FixableError(
            f"suite: a file of {table.rows} rows cannot be checked for {', '.join(unknown)}; can: {valid}"
        )
    counted = {i: _counted(table, config) for i, config in enumerate(configs) if config["type"] in _VALUES}
    seen = table.facts(
        [
            expression.sum().alias(f"{i} {part}")
            for i, found in counted.items()
            if found is not None
            for part, expression in (("of", found.considered), ("bad", found.unexpected))
        ]
    )
    results: list[Result] = []
    for i, config in enumerate(configs):
        if i not in counted:
            results.append(_WHOLE[config["type"]](table, config))
        elif (found := counted[i]) is None:
            results.append(
                _failed(
                    config, f"the file has no column {config['kwargs']['column']} of a type that this can be asked of"
                )
            )
        else:
            results.append(_of_values(table, config, found, int(seen[f"{i} of"]), int(seen[f"{i} bad"])))
    return results


def _result(config: Config, success: bool, **found: Any) -> Result:
    return {"success": success, "expectation_config": config, "result": found}


def _failed(config: Config, why: str) -> Result:
    return {
        "success": False,
        "expectation_config": config,
        "result": {},
        "exception_info": {"raised_exception": True, "exception_message": why},
    }


def _of_values(table: PlainTable, config: Config, found: Counted, of: int, bad: int) -> Result:
    success = share_allows(config["kwargs"].get("mostly", 1.0), bad, of)
    outcome: Result = {"unexpected_count": bad, "unexpected_percent": bad / of * 100 if of else None}
    if not success:
        column = config["kwargs"]["column"]
        at = table.lazy.with_row_index("\nrow").filter(found.unexpected)
        outcome["partial_unexpected_list"] = _examples(at.select(column))
        if (config.get("meta") or {}).get("rows"):
            outcome["unexpected_index_list"] = _rows(at)
    return _result(config, success, **outcome)


def _examples(lazy: pl.LazyFrame) -> list[Any]:
    """The first different values of the only column."""
    values = lazy.unique(maintain_order=True).head(EXAMPLES).collect(engine="streaming")
    return values.to_series().to_list()


def _rows(lazy: pl.LazyFrame) -> Any:
    return lazy.select("\nrow").collect(engine="streaming").to_series().to_numpy()


def _counted(table: PlainTable, config: Config) -> Counted | None:
    """None: the column is missing, or has a type that the expectation cannot be asked of."""
    kwargs = config["kwargs"]
    name = kwargs["column"]
    if name not in table.dtypes:
        return None
    unexpected = _VALUES[config["type"]](table, name, kwargs)
    if unexpected is None:
        return None
    present = pl.col(name).is_not_null()
    if config["type"] != "expect_column_values_to_not_be_null":
        return Counted(present, present & unexpected.fill_null(False))
    condition = kwargs.get("row_condition")
    asked = present | ~present if condition is None else _condition(condition)
    return Counted(asked, asked & ~present)


def _condition(condition: Any) -> pl.Expr:
    """Which rows are asked."""
    if isinstance(condition, dict) and condition.get("type") == "nullity":
        column = pl.col(condition["column"]["name"])
        return column.is_null() if condition["is_null"] else column.is_not_null()
    raise FixableError(f"suite: the row_condition {condition!r} cannot be checked on a file of this size")


def _between(table: PlainTable, name: str, kwargs: dict[str, Any]) -> pl.Expr | None:
    if table.kind(name) != "number":
        return None
    column, low, high = pl.col(name), kwargs.get("min_value"), kwargs.get("max_value")
    outside = pl.lit(False)
    if low is not None:
        outside = outside | ((column <= low) if kwargs.get("strict_min") else (column < low))
    if high is not None:
        outside = outside | ((column >= high) if kwargs.get("strict_max") else (column > high))
    return outside


def _in_set(table: PlainTable, name: str, kwargs: dict[str, Any]) -> pl.Expr:
    values, column = kwargs["value_set"], pl.col(name)
    if table.kind(name) == "number":
        numbers = [float(value) for value in values if isinstance(value, bool | int | float)]
        return ~column.cast(pl.Float64).is_in(numbers)
    texts = [value for value in values if isinstance(value, str)]
    return ~column.cast(pl.String).is_in(texts)


def _regex(table: PlainTable, name: str, kwargs: dict[str, Any]) -> pl.Expr:
    column = pl.col(name)
    if kwargs["regex"] == WHOLE_NUMBER and table.kind(name) == "number":
        values = column.cast(pl.Float64)
        return ~(values.is_finite() & (values == values.floor()))
    return ~column.cast(pl.String).str.contains(kwargs["regex"])


def _null(table: PlainTable, name: str, kwargs: dict[str, Any]) -> pl.Expr:
    return pl.col(name).is_null()


def _exists(table: PlainTable, config: Config) -> Result:
    return _result(config, config["kwargs"]["column"] in table.dtypes)


def _type_list(table: PlainTable, config: Config) -> Result:
    name, types = config["kwargs"]["column"], config["kwargs"]["type_list"]
    if name not in table.dtypes:
        return _failed(config, f"there is no column {name}")
    dtype = table.dtypes[name]
    if table.kind(name) != "text":
        held = "datetime64[ns]" if table.kind(name) == "time" else "bool" if dtype == pl.Boolean else str(dtype).lower()
        return _result(config, held in types, observed_value=held.removesuffix("[ns]"))
    wrong = 0 if "str" in types else table.facts([pl.col(name).count().alias("n")])["n"]
    outcome: Result = {"unexpected_count": wrong, "unexpected_percent": 100.0 if wrong else 0.0}
    if wrong:
        outcome["partial_unexpected_list"] = _examples(table.lazy.select(name).drop_nulls())
    return _result(config, not wrong, **outcome)


def _unique_count(table: PlainTable, config: Config) -> Result:
    name, low, high = (config["kwargs"].get(key) for key in ("column", "min_value", "max_value"))
    if name not in table.dtypes:
        return _failed(config, f"there is no column {name}")
    values = pl.col(name).drop_nulls()
    if high is None and low is not None and low <= 2:  # whether it varies is seen without a set of all values
        ends = table.facts([values.min().alias("least"), values.max().alias("most")])
        count = 0 if ends["least"] is None else 1 if ends["least"] == ends["most"] else 2
    else:
        count = int(table.facts([values.n_unique().alias("n")])["n"])
    success = (low is None or count >= low) and (high is None or count <= high)
    return _result(config, success, observed_value=count)


def _column_set(table: PlainTable, config: Config) -> Result:
    expected, here = set(config["kwargs"]["column_set"]), set(table.dtypes)
    exact = config["kwargs"].get("exact_match", True)
    return _result(config, here == expected if exact else expected <= here, observed_value=sorted(here))


def _compound(table: PlainTable, config: Config) -> Result:
    columns = config["kwargs"]["column_list"]
    missing = [name for name in columns if name not in table.dtypes]
    if missing:
        return _failed(config, f"there is no column {', '.join(missing)}")
    hashes = row_hashes(table, columns)
    bad = int(duplicated(hashes).sum())
    success = share_allows(config["kwargs"].get("mostly", 1.0), bad, len(hashes))
    outcome: Result = {"unexpected_count": bad, "unexpected_percent": bad / max(len(hashes), 1) * 100}
    if not success:
        seen = pl.Series(hashes)
        outcome["unexpected_index_list"] = np.flatnonzero(~seen.is_first_distinct().to_numpy())
        rows = table.lazy.with_row_index("\nrow").select("\nrow", *columns)
        shown = pl.LazyFrame({"\nrow": np.flatnonzero(seen.is_duplicated().to_numpy())[:EXAMPLES].astype(np.uint32)})
        examples = rows.join(shown, on="\nrow", how="semi", maintain_order="left").drop("\nrow")
        outcome["partial_unexpected_list"] = [
            {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
            for row in examples.collect(engine="streaming").to_dicts()
        ]
    return _result(config, success, **outcome)


_VALUES: dict[str, Callable[[PlainTable, str, dict[str, Any]], pl.Expr | None]] = {
    "expect_column_values_to_not_be_null": _null,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_match_regex": _regex,
}
_WHOLE: dict[str, Callable[[PlainTable, Config], Result]] = {
    "expect_column_to_exist": _exists,
    "expect_column_values_to_be_in_type_list": _type_list,
    "expect_column_unique_value_count_to_be_between": _unique_count,
    "expect_table_columns_to_match_set": _column_set,
    "expect_compound_columns_to_be_unique": _compound,
}
