"""The answers of `judge_drift` and `estimate_performance` from counts and scores; the backend reads the files."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tools.core.errors import FixableError
from tools.integrations.judge.spec import DriftArgs, DriftJudgement, MovedColumn, PerformanceArgs, PerformanceEstimate
from tools.judge.champion.performance import estimate_performance
from tools.judge.drift.verdict import Counts, judge
from tools.judge.estimates import Scores, Task

MIN_ROWS = 50  # of each file; the tests of drift are asymptotic
LEVEL = 0.05  # of an estimate's interval
CONTRADICTED = 0.01  # below this p-value labels contradict the scores: as rare a false alarm as that of drift
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


def judge_tables(
    tables: Tables, importance: Mapping[str, float] | None, args: DriftArgs
) -> tuple[DriftJudgement, dict[str, Any]]:
    """The answer with an empty `details_path`, and what belongs into that file.

    Raises:
        FixableError: too few rows, or importance for none of the columns.
    """
    if min(tables.reference_rows, tables.current_rows) < MIN_ROWS:
        raise FixableError(
            f"{tables.reference_rows} reference and {tables.current_rows} current rows; drift needs at least "
            f"{MIN_ROWS} of each"
        )
    columns: list[Counts] = tables.columns
    try:
        found = judge(columns, alpha=args.alpha, min_effect=args.min_effect, importance=importance)
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


def estimate_scores(
    reference: Scores, current: Scores, labelled: NDArray[np.bool_], task: Task, args: PerformanceArgs
) -> PerformanceEstimate:
    """The answer.

    Raises:
        FixableError: too few rows, or a metric that the scores cannot give.
    """
    try:
        found = estimate_performance(reference, current, labelled, args.metric, task, alpha=LEVEL, seed=args.seed)
    except ValueError as error:
        raise FixableError(str(error)) from error
    count = int(labelled.sum())
    trusted = None if found.unexplained_p is None else found.unexplained_p >= CONTRADICTED
    which = "rows without a label" if count < len(current) else "rows"
    message = (
        f"Estimated {args.metric} {found.value:.4f} ({found.low:.4f} to {found.high:.4f}) on {found.rows} {which}; "
        f"it was {found.reference_value:.4f}."
    )
    if found.actual is not None and found.unexplained_p is not None:
        verb = "go with the scores as before" if trusted else "do not go with the scores any more"
        message += f" The {count} labels give {found.actual:.4f} and {verb} (p = {found.unexplained_p:.2g})"
        message += "." if trusted else ": the estimate cannot be trusted."
    return PerformanceEstimate(
        reference_value=found.reference_value,
        estimated_value=found.value,
        estimated_low=found.low,
        estimated_high=found.high,
        actual_value=found.actual,
        actual_low=found.actual_low,
        actual_high=found.actual_high,
        unexplained_p=found.unexplained_p,
        trusted=trusted,
        rows=found.rows,
        labelled_rows=count,
        method=found.method,
        message=message,
    )
