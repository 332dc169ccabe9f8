"""What the results of expectations say about a file, in words: findings, and which rows are bad. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tools.core.errors import shorten
from tools.integrations.great_expectations.spec import Finding

MAX_EXAMPLES = 3
EXAMPLES = MAX_EXAMPLES + 1  # that a result should hold, since nulls are not shown
MAX_EXAMPLE_CHARS = 60


@dataclass(frozen=True)
class Checked:
    """What was found out about a file.

    Args:
        columns: of the file.
        empty: those that are null in every row.
        results: GX's result of each expectation, or one of its form. A failed one with `meta.rows` names its rows in
            `unexpected_index_list` (of whole-row duplicates those after the first), its values in
            `partial_unexpected_list`.
    """

    suite: dict[str, Any]
    results: list[dict[str, Any]]
    rows: int
    columns: list[str]
    empty: set[str]


BadRows = list[tuple[Sequence[int], str]]
"""Rows, and the reason why they are bad; a row may occur several times, the first reason counts."""


def findings(checked: Checked) -> tuple[list[Finding], list[Finding], BadRows]:
    """Critical findings, warnings, and the bad rows."""
    critical: list[Finding] = []
    warnings: list[Finding] = []
    bad: BadRows = []
    failed = [result for result in checked.results if not result["success"]]
    missing = {_column(r) for r in failed if r["expectation_config"]["type"] == "expect_column_to_exist"}
    seen_critical: set[tuple[str, str | None]] = set()
    for result in sorted(failed, key=lambda item: item["expectation_config"].get("severity") != "critical"):
        config = result["expectation_config"]
        kind, column = config["type"], _column(result)
        needed = {column, *(config["kwargs"].get("column_list") or [])}
        if needed & missing and kind != "expect_column_to_exist":
            continue  # follows from the missing column
        if column in checked.empty and not (kind == "expect_column_values_to_not_be_null" and _is_critical(config)):
            continue  # follows from the empty column
        if kind == "expect_table_columns_to_match_set" and not _extra_columns(config, checked.columns):
            continue  # only columns are missing, which is reported per column
        if not _is_critical(config) and (kind, column) in seen_critical:
            continue  # the stricter form of a critical finding
        meta = config.get("meta") or {}
        finding = _finding(result, meta, checked.columns)
        if _is_critical(config):
            if (kind, column) in seen_critical and column in checked.empty:
                continue
            seen_critical.add((kind, column))
            critical.append(finding)
            if meta.get("rows"):
                rows = result["result"].get("unexpected_index_list")
                if rows is not None and len(rows):
                    bad.append((rows, f"{column}: {finding.reason}" if column else finding.reason))
        else:
            warnings.append(finding)
    return critical, warnings, bad


def _is_critical(config: dict[str, Any]) -> bool:
    return config.get("severity", "critical") == "critical"


def _column(result: dict[str, Any]) -> str | None:
    return result["expectation_config"]["kwargs"].get("column")


def _extra_columns(config: dict[str, Any], columns: list[str]) -> list[str]:
    known = set(config["kwargs"].get("column_set") or [])
    return [name for name in columns if name not in known]


def _finding(result: dict[str, Any], meta: dict[str, Any], columns: list[str]) -> Finding:
    config, outcome = result["expectation_config"], result["result"]
    column, kind = _column(result), config["type"]
    examples = [_shown(value) for value in outcome.get("partial_unexpected_list") or []]
    reason = str(meta.get("reason") or "the expectation is not met")
    if result.get("exception_info", {}).get("raised_exception") or (not outcome and kind != "expect_column_to_exist"):
        exception = _exception_text(result.get("exception_info") or {})
        reason = f"could not be checked: {exception}"
    elif kind == "expect_column_to_exist":
        reason = f"the column is missing; columns here: {', '.join(columns[:20])}"
    elif kind == "expect_table_columns_to_match_set":
        examples = _extra_columns(config, columns)
    elif kind == "expect_column_values_to_be_in_type_list":
        held = outcome.get("observed_value") or "text"
        reason = f"the type changed: {reason}, {_TYPE_NAMES.get(held, held)} here"
    elif not examples and outcome.get("observed_value") is not None:
        examples = [_shown(outcome["observed_value"])]
    count, percent = outcome.get("unexpected_count"), outcome.get("unexpected_percent")
    return Finding(
        column=column,
        expectation=kind,
        unexpected_count=int(count) if count is not None else None,
        unexpected_percent=round(float(percent), 4) if percent is not None else None,
        examples=[example for example in examples if example not in ("None", "nan")][:MAX_EXAMPLES],
        reason=reason,
    )


_TYPE_NAMES = {"datetime64": "times", "bool_": "true and false", "bool": "true and false"} | {
    f"{kind}{bits}": "numbers" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)
}


def _exception_text(info: dict[str, Any]) -> str:
    """GX nests exceptions by metric; the first message says it."""
    nested = [value for value in info.values() if isinstance(value, dict)]
    text = (
        info.get("exception_message") or next((v.get("exception_message") for v in nested), None) or "no reason given"
    )
    return shorten(" ".join(str(text).split()), 200)


def _shown(value: object) -> str:
    text = json.dumps(value, default=str) if isinstance(value, dict) else str(value) if value != "" else "''"
    text = repr(value) if isinstance(value, str) and not value.strip() else text
    return shorten(text, MAX_EXAMPLE_CHARS)


def message(data: str, rows: int, found: tuple[list[Finding], list[Finding]], bad: int) -> str:
    """The outcome in a sentence."""
    critical, warnings = found
    notes = f"{len(warnings)} warning{'s' if len(warnings) != 1 else ''}"
    if not critical:
        return f"{data}: {rows} rows passed the data checks, {notes}."
    first = critical[0]
    more = f" and {len(critical) - 1} more" if len(critical) > 1 else ""
    where = f"{first.column}: " if first.column else ""
    told = not first.unexpected_count or f"{first.unexpected_count} " in first.reason
    count = "" if told else f" ({first.unexpected_count} rows)"
    return f"{data} failed the data checks: {where}{first.reason}{count}{more}; {bad} bad rows, {notes}."


def bad_rows_table(bad: BadRows) -> pd.DataFrame:
    """Columns `row` (increasing) and `reason`."""
    reasons = list(dict.fromkeys(reason for _, reason in bad))
    parts = [
        pd.DataFrame(
            {"row": np.asarray(rows, dtype=np.int64), "reason": pd.Categorical([reason], reasons).repeat(len(rows))}
        )
        for rows, reason in bad
    ]
    return pd.concat(parts).drop_duplicates("row").sort_values("row", ignore_index=True).astype({"reason": str})
