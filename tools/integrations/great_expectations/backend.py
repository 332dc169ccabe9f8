"""Has files checked, by GX in memory or by a scan of large ones, and reads the verdict out of the results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError, NoDataError
from tools.core.files import write_json
from tools.integrations.great_expectations.spec import (
    QuarantinedRows,
    QuarantineRowsArgs,
    ValidateArgs,
    ValidationReport,
)

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any

MAX_FINDINGS = 25  # of each severity in a result; the rest is counted in the message
LARGE = "The file is large: all rows were scanned by Polars, not by Great Expectations."


class GreatExpectationsBackend(Backend):
    """Needs no store: the suite is a JSON file, the context lives for one call."""

    def health(self, ctx: CallContext) -> str:
        import importlib.metadata

        return f"Great Expectations {importlib.metadata.version('great-expectations')}, ephemeral context"

    def validate(self, args: ValidateArgs, ctx: CallContext) -> ValidationReport:
        from tools.integrations.great_expectations.findings import bad_rows_table, findings, message
        from tools.modeling.data import write_table
        from tools.modeling.large_files import is_large

        data, reference = ctx.path(args.data), ctx.path(args.reference) if args.reference else None
        own = _read_suite(ctx.path(args.suite)) if args.suite else None
        large = is_large(data) or (reference is not None and is_large(reference))
        ctx.progress(0, 1, f"checking {args.data}")
        if large:
            from tools.integrations.great_expectations.large_checks import check_large as check
        else:
            from tools.integrations.great_expectations.gx_checks import check_loaded as check
        checked = check(data, reference, own, args)

        stem = Path(args.data).name.split(".")[0]
        folder = ctx.workspace / "data_checks"
        folder.mkdir(parents=True, exist_ok=True)
        suite_path = folder / f"{stem}_suite.json"
        write_json(suite_path, checked.suite, indent=1)

        critical, warnings, bad = findings(checked)
        bad_path, bad_rows = folder / f"{stem}_bad_rows.parquet", 0
        if bad:
            table = bad_rows_table(bad)
            bad_rows = len(table)
            write_table(table, bad_path)
        else:
            bad_path.unlink(missing_ok=True)
        said = message(args.data, checked.rows, (critical, warnings), bad_rows)
        return ValidationReport(
            passed=not critical,
            critical=critical[:MAX_FINDINGS],
            warnings=warnings[:MAX_FINDINGS],
            rows=checked.rows,
            columns=len(checked.columns),
            expectations=len(checked.results),
            bad_rows=bad_rows,
            bad_rows_path=ctx.show(bad_path) if bad else None,
            suite_path=ctx.show(suite_path),
            message=f"{said} {LARGE}" if large else said,
        )

    def quarantine_rows(self, args: QuarantineRowsArgs, ctx: CallContext) -> QuarantinedRows:
        from tools.modeling.data import read_table, require_columns, write_table
        from tools.modeling.large_files import is_large, split_rows

        data = ctx.path(args.data)
        bad = read_table(ctx.path(args.bad_rows_path))
        require_columns(bad, ["row", "reason"], args.bad_rows_path)
        bad = bad.drop_duplicates("row")
        self._check_labels(data, bad, args)
        folder = ctx.workspace / "data_checks"
        folder.mkdir(parents=True, exist_ok=True)
        stem = Path(args.data).name.split(".")[0]
        kept, quarantined = folder / f"{stem}_kept.parquet", folder / f"{stem}_quarantined.parquet"
        if is_large(data):
            rows = split_rows(data, bad, kept, quarantined, _check_bad_rows(args))
        else:
            frame: Frame = read_table(data)
            rows = len(frame)
            _check_bad_rows(args)(bad["row"], rows)
            is_bad = frame.index.isin(bad["row"])
            reasons = bad.set_index("row")["reason"].reindex(frame.index[is_bad])
            write_table(frame[~is_bad].reset_index(drop=True), kept)
            write_table(frame[is_bad].assign(quarantine_reason=reasons).reset_index(drop=True), quarantined)
        return QuarantinedRows(
            kept=ctx.show(kept),
            quarantined=ctx.show(quarantined),
            kept_rows=rows - len(bad),
            quarantined_rows=len(bad),
            message=f"Set {len(bad)} of {rows} rows aside.",
        )

    def _check_labels(self, data: Path, bad: Any, args: QuarantineRowsArgs) -> None:
        """Raise `FixableError` where the rest would say something else of the label than the whole file does."""
        from tools.modeling.accepted import how_to_accept, is_accepted
        from tools.modeling.large_files import column_of
        from tools.modeling.target_rest import check_rest

        if not args.target or args.task is None or is_accepted(args.accept, "biased_quarantine"):
            return
        target = column_of(data, args.target)
        rows = bad["row"].to_numpy()
        if target is None or not len(rows) or rows.min() < 0 or rows.max() >= len(target) or len(rows) == len(target):
            return
        faulty = bad["reason"].astype(str).str.startswith(f"{args.target}: ").to_numpy()
        wrong = check_rest(target, rows, faulty, args.task, args.max_null_share)
        if wrong:
            raise FixableError(
                f"{args.data}: the {len(rows)} bad rows are not set aside: {wrong}. Mend them, or state "
                f"{how_to_accept('biased_quarantine')}"
            )


def _check_bad_rows(args: QuarantineRowsArgs) -> Callable[[Any, int], None]:
    """A function of bad rows and number of rows that raises unless some rows would be kept."""

    def check(bad: Any, rows: int) -> None:
        if not bad.between(0, rows - 1).all():
            raise FixableError(
                f"{args.bad_rows_path} names row {int(bad.max())}, but {args.data} has {rows} rows; "
                "give the file that was validated"
            )
        if len(bad) == rows:
            raise NoDataError(f"every row of {args.data} is bad; nothing would be kept", tried=args.bad_rows_path)

    return check


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
