"""The judge's action on data: did it drift."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.integrations.judge.details import write_details
from tools.integrations.judge.drift_spec import DriftArgs, DriftJudgement, MovedColumn

if TYPE_CHECKING:
    from tools.judge.drift.counts import Counts
    from tools.judge.drift.harm import LossChange

MIN_ROWS = 50  # of each file; the tests of drift are asymptotic
SHOWN = 10  # columns in the answer; the file has all
EXPECTED = ("excluded", "a time", "counts the rows")  # reasons for leaving a column out that nobody need be told


class Tables(Protocol):
    """Two tables as counts; see `tools.modeling.column_counts.PairedCounts`."""

    @property
    def columns(self) -> list[Any]: ...
    @property
    def skipped(self) -> dict[str, str]: ...
    @property
    def reference_rows(self) -> int: ...
    @property
    def current_rows(self) -> int: ...


class DriftActions(Backend):
    """One decision on a data set."""

    def judge_drift(self, args: DriftArgs, ctx: CallContext) -> DriftJudgement:
        from tools.integrations.judge.checks import check_range
        from tools.integrations.judge.readers import read_importance, read_losses
        from tools.judge.drift.harm import loss_change
        from tools.modeling.count_files import count_files, read_counts

        check_range("alpha", args.alpha, 0, 0.5)
        check_range("min_effect", args.min_effect, -1e-12, 1)
        importance = read_importance(ctx.path(args.importance)) if args.importance else None
        if len(args.scores) not in (0, 2):
            raise FixableError(f"scores are those of the reference and of the current rows; got {len(args.scores)}")
        loss = loss_change(*(read_losses(ctx.path(path)) for path in args.scores)) if args.scores else None
        reference = ctx.path(args.reference)
        if args.current:
            tables = count_files(reference, ctx.path(args.current), args.exclude)
        else:
            tables = read_counts(reference)
        answer, details = _judge_tables(tables, importance, loss, args)
        return answer.model_copy(update={"details_path": write_details("drift", details, args, ctx)})


def _judge_tables(
    tables: Tables, importance: Mapping[str, float] | None, loss: "LossChange | None", args: DriftArgs
) -> tuple[DriftJudgement, dict[str, Any]]:
    """The answer with an empty `details_path`, and what belongs into that file.

    Raises:
        FixableError: too few rows, or no column to compare.
    """
    if min(tables.reference_rows, tables.current_rows) < MIN_ROWS:
        raise FixableError(
            f"{tables.reference_rows} reference and {tables.current_rows} current rows; drift needs at least "
            f"{MIN_ROWS} of each"
        )
    from tools.judge.drift.verdict import judge

    columns: list[Counts] = tables.columns
    try:
        found = judge(columns, alpha=args.alpha, min_effect=args.min_effect, importance=importance, loss=loss)
    except ValueError as error:
        raise FixableError(str(error)) from error
    moved = [
        MovedColumn(column=c.name, effect=c.effect, adjusted_p=c.adjusted_p, importance=c.importance, change=c.change)
        for c in found.columns
        if c.drifted
    ]
    answer = DriftJudgement(
        drifted=found.drifted,
        severity=found.severity,
        harm=found.harm,
        loss_rise=None if loss is None else loss.rise,
        p_value=found.p_value,
        false_alarm_probability=args.alpha,
        checks_between_false_alarms=1 / args.alpha,
        moved=moved[:SHOWN],
        share_drifted=len(moved) / len(found.columns),
        columns=len(found.columns),
        skipped=len(tables.skipped),
        reference_rows=tables.reference_rows,
        current_rows=tables.current_rows,
        details_path="",
        message=found.sentence + _left_out(tables.skipped),
    )
    details = {
        "alpha": args.alpha,
        "min_effect": args.min_effect,
        "columns": [asdict(column) for column in found.columns],
        "skipped": tables.skipped,
    }
    return answer, details


def _left_out(skipped: Mapping[str, str]) -> str:
    """Columns that could not be compared, as a sentence; a column that is gone is no drift, but must be said."""
    named = [f"{name} ({why})" for name, why in skipped.items() if why not in EXPECTED]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f" Not compared: {', '.join(named[:3])}{more}." if named else ""
