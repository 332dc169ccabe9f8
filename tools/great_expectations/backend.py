"""Runs suites in an ephemeral GX context and reads the verdict out of its results."""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError, NoDataError
from tools.great_expectations.spec import (
    Finding,
    QuarantinedRows,
    QuarantineRowsArgs,
    ValidateArgs,
    ValidationReport,
)

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any

MAX_FINDINGS = 25  # of each severity in a result; the rest is counted in the message
MAX_EXAMPLES = 3
MAX_EXAMPLE_CHARS = 60


class GreatExpectationsBackend(Backend):
    """Needs no store: the suite is a JSON file, the context lives for one call."""

    def health(self, ctx: CallContext) -> str:
        import importlib.metadata

        return f"Great Expectations {importlib.metadata.version('great-expectations')}, ephemeral context"

    def validate(self, args: ValidateArgs, ctx: CallContext) -> ValidationReport:
        from tools.great_expectations.profile import plain
        from tools.modeling.data import read_table, require_columns

        raw = read_table(ctx.path(args.data))
        frame = plain(raw)
        reference = plain(read_table(ctx.path(args.reference))) if args.reference else frame
        require_columns(reference, [args.target], args.reference or args.data)
        ctx.progress(0, 2, "building the suite")
        own = _read_suite(ctx.path(args.suite)) if args.suite else None
        if not args.labelled:  # as if there were no label
            reference, frame = (table.drop(columns=args.target, errors="ignore") for table in (reference, frame))
        configs = own or _suite_from_reference(reference, frame, args)
        if not args.labelled:
            configs = [config for config in configs if args.target not in _columns_of(config)]
        ctx.progress(1, 2, f"checking {len(configs)} expectations")
        suite_json, results = _run(frame, configs)

        stem = Path(args.data).name.split(".")[0]
        folder = ctx.workspace / "data_checks"
        folder.mkdir(parents=True, exist_ok=True)
        suite_path = folder / f"{stem}_suite.json"
        _write_json(suite_path, suite_json)

        critical, warnings, bad = _findings(results, frame)
        bad_path = folder / f"{stem}_bad_rows.parquet"
        if bad:
            _write_bad_rows(bad, bad_path)
        else:
            bad_path.unlink(missing_ok=True)
        return ValidationReport(
            passed=not critical,
            critical=critical[:MAX_FINDINGS],
            warnings=warnings[:MAX_FINDINGS],
            rows=len(frame),
            columns=frame.shape[1],
            expectations=len(results),
            bad_rows=len(bad),
            bad_rows_path=ctx.show(bad_path) if bad else None,
            suite_path=ctx.show(suite_path),
            message=_message(args.data, len(frame), critical, warnings, len(bad)),
        )

    def quarantine_rows(self, args: QuarantineRowsArgs, ctx: CallContext) -> QuarantinedRows:
        from tools.modeling.data import read_table, require_columns, write_table

        frame: Frame = read_table(ctx.path(args.data))
        bad = read_table(ctx.path(args.bad_rows_path))
        require_columns(bad, ["row", "reason"], args.bad_rows_path)
        rows = bad["row"]
        if not rows.between(0, len(frame) - 1).all():
            raise FixableError(
                f"{args.bad_rows_path} names row {int(rows.max())}, but {args.data} has {len(frame)} rows; "
                "give the file that was validated"
            )
        is_bad = frame.index.isin(rows)
        if is_bad.all():
            raise NoDataError(f"every row of {args.data} is bad; nothing would be kept", tried=args.bad_rows_path)
        folder = ctx.workspace / "data_checks"
        stem = Path(args.data).name.split(".")[0]
        kept, quarantined = folder / f"{stem}_kept.parquet", folder / f"{stem}_quarantined.parquet"
        folder.mkdir(parents=True, exist_ok=True)
        reasons = bad.drop_duplicates("row").set_index("row")["reason"]
        write_table(frame[~is_bad].reset_index(drop=True), kept)
        write_table(
            frame[is_bad].assign(quarantine_reason=reasons.reindex(frame.index[is_bad])).reset_index(drop=True),
            quarantined,
        )
        return QuarantinedRows(
            kept=ctx.show(kept),
            quarantined=ctx.show(quarantined),
            kept_rows=int((~is_bad).sum()),
            quarantined_rows=int(is_bad.sum()),
            message=f"Set {int(is_bad.sum())} of {len(frame)} rows aside.",
        )


def _suite_from_reference(reference: Frame, frame: Frame, args: ValidateArgs) -> list[dict[str, Any]]:
    from tools.great_expectations.profile import filler_columns, profile
    from tools.great_expectations.suite import build_suite, target_classes

    current = profile(frame)
    before = current if reference is frame else profile(reference)
    fillers = filler_columns(frame, current, args.target)
    configs = build_suite(before, current, args.target, args.task, args.max_null_share, fillers)
    if args.task != "regression" and args.labelled:
        classes = [_native(value) for value in reference[args.target].dropna().unique()]
        if classes:
            configs.append(target_classes(args.target, classes))
    return configs


def _columns_of(config: dict[str, Any]) -> set[Any]:
    """Every column that an expectation names."""
    kwargs = config["kwargs"]
    single = {kwargs.get(key) for key in ("column", "column_A", "column_B")}
    return single | {name for key in ("column_list", "column_set") for name in kwargs.get(key) or ()}


def _read_suite(path: Path) -> list[dict[str, Any]]:
    """Expectation configurations of a suite that GX saved as JSON."""
    if not path.is_file():
        raise FixableError(f"suite: {path} is missing; expected a GX suite saved as JSON")
    try:
        content = json.loads(path.read_text())
        configs = content["expectations"]
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise FixableError(f"suite: {path} is no GX suite JSON with a list `expectations`: {error!r}") from error
    if not configs:
        raise FixableError(f"suite: {path} holds no expectation")
    return [{key: value for key, value in config.items() if key != "id"} for config in configs]


def _run(frame: Frame, configs: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The suite as JSON, and GX's result of each expectation.

    Raises:
        FixableError: GX does not know an expectation, or refuses its arguments.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies use deprecated modules
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from great_expectations.exceptions.exceptions import GreatExpectationsError

        logging.getLogger("great_expectations").setLevel(logging.CRITICAL + 1)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        definition = context.data_sources.add_pandas("files").add_dataframe_asset("file")
        batch = definition.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": frame})
        try:
            suite = gx.ExpectationSuite(name="data_checks", expectations=configs)
        except (GreatExpectationsError, ValueError, TypeError) as error:
            raise FixableError(f"suite: Great Expectations refuses it: {' '.join(str(error).split())[:300]}") from error
        if len(suite.expectations) < len(configs):
            known = {expectation.expectation_type for expectation in suite.expectations}
            refused = sorted({str(config.get("type")) for config in configs} - known)
            raise FixableError(f"suite: Great Expectations refuses {', '.join(refused) or 'some expectations'}")
        outcome = batch.validate(suite, result_format={"result_format": "COMPLETE"})
        return suite.to_json_dict(), [result.to_json_dict() for result in outcome.results]


def _findings(results: list[dict[str, Any]], frame: Frame) -> tuple[list[Finding], list[Finding], dict[int, str]]:
    """Critical findings, warnings, and row -> reason of the bad rows."""
    critical: list[Finding] = []
    warnings: list[Finding] = []
    bad: dict[int, str] = {}
    failed = [result for result in results if not result["success"]]
    missing = {_column(r) for r in failed if r["expectation_config"]["type"] == "expect_column_to_exist"}
    empty = {name for name in frame.columns if frame[name].isna().all()}
    duplicates = None
    seen_critical: set[tuple[str, str | None]] = set()
    for result in sorted(failed, key=lambda item: item["expectation_config"].get("severity") != "critical"):
        config = result["expectation_config"]
        kind, column = config["type"], _column(result)
        needed = {column, *(config["kwargs"].get("column_list") or [])}
        if needed & missing and kind != "expect_column_to_exist":
            continue  # follows from the missing column
        if column in empty and not (kind == "expect_column_values_to_not_be_null" and _is_critical(config)):
            continue  # follows from the empty column
        if kind == "expect_table_columns_to_match_set" and not _extra_columns(config, frame):
            continue  # only columns are missing, which is reported per column
        if not _is_critical(config) and (kind, column) in seen_critical:
            continue  # the stricter form of a critical finding
        meta = config.get("meta") or {}
        finding = _finding(result, meta, frame)
        if _is_critical(config):
            if (kind, column) in seen_critical and column in empty:
                continue
            seen_critical.add((kind, column))
            critical.append(finding)
            if meta.get("rows"):
                rows = result["result"].get("unexpected_index_list") or []
                if kind == "expect_compound_columns_to_be_unique":  # the first of equal rows is good
                    duplicates = frame.duplicated() if duplicates is None else duplicates
                    rows = [row for row in rows if duplicates.iat[row]]
                reason = f"{column}: {finding.reason}" if column else finding.reason
                for row in rows:
                    bad.setdefault(int(row), reason)
        else:
            warnings.append(finding)
    return critical, warnings, bad


def _is_critical(config: dict[str, Any]) -> bool:
    return config.get("severity", "critical") == "critical"


def _column(result: dict[str, Any]) -> str | None:
    return result["expectation_config"]["kwargs"].get("column")


def _extra_columns(config: dict[str, Any], frame: Frame) -> list[str]:
    known = set(config["kwargs"].get("column_set") or [])
    return [name for name in frame.columns if name not in known]


def _finding(result: dict[str, Any], meta: dict[str, Any], frame: Frame) -> Finding:
    config, outcome = result["expectation_config"], result["result"]
    column, kind = _column(result), config["type"]
    rows = outcome.get("unexpected_index_list")
    if column in frame.columns and rows:
        examples = [_shown(value) for value in frame[column].iloc[rows].drop_duplicates()[: MAX_EXAMPLES + 1]]
    else:
        examples = [_shown(value) for value in outcome.get("partial_unexpected_list") or []]
    reason = str(meta.get("reason") or "the expectation is not met")
    if result.get("exception_info", {}).get("raised_exception") or (not outcome and kind != "expect_column_to_exist"):
        exception = _exception_text(result.get("exception_info") or {})
        reason = f"could not be checked: {exception}"
    elif kind == "expect_column_to_exist":
        reason = f"the column is missing; columns here: {', '.join(map(str, frame.columns[:20]))}"
    elif kind == "expect_table_columns_to_match_set":
        examples = _extra_columns(config, frame)
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
    return " ".join(str(text).split())[:200]


def _shown(value: object) -> str:
    text = json.dumps(value, default=str) if isinstance(value, dict) else str(value) if value != "" else "''"
    text = repr(value) if isinstance(value, str) and not value.strip() else text
    return text if len(text) <= MAX_EXAMPLE_CHARS else text[: MAX_EXAMPLE_CHARS - 1] + "…"


def _native(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _message(data: str, rows: int, critical: list[Finding], warnings: list[Finding], bad: int) -> str:
    notes = f"{len(warnings)} warning{'s' if len(warnings) != 1 else ''}"
    if not critical:
        return f"{data}: {rows} rows passed the data checks, {notes}."
    first = critical[0]
    more = f" and {len(critical) - 1} more" if len(critical) > 1 else ""
    where = f"{first.column}: " if first.column else ""
    count = f" ({first.unexpected_count} rows)" if first.unexpected_count else ""
    return f"{data} failed the data checks: {where}{first.reason}{count}{more}; {bad} bad rows, {notes}."


def _write_bad_rows(bad: dict[int, str], path: Path) -> None:
    import pandas as pd

    from tools.modeling.data import write_table

    rows = sorted(bad)
    write_table(pd.DataFrame({"row": rows, "reason": [bad[row] for row in rows]}), path)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content, indent=1))
    os.replace(temporary, path)
