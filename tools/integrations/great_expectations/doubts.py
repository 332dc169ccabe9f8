"""What no expectation can ask: a target that is wrong, a column that tells it, rows of the reference in the file; as
results in the form of GX's own, so that they are findings like all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.integrations.great_expectations.spec import ValidateArgs
from tools.modeling.doubts import Doubt

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any


def doubts_of(reference: Frame | None, frame: Frame, shared: int, rows: int, args: ValidateArgs) -> list[Doubt]:
    """What is doubtful about a file beside the reference.

    Args:
        reference: None where the file is checked for itself.
        frame: the file, or a sample of a large one; its target is looked at in full by `target_doubts`.
        shared: rows of the file that are in the reference.
        rows: of the file.
    """
    from tools.modeling.leaks import find_leaks, shared_rows_doubt

    found = shared_rows_doubt(shared, rows) if reference is not None else []
    if args.labelled:
        found += find_leaks(reference, frame, args.target, args.task, args.drop)
    return found


def target_doubts(reference: Any | None, target: Any, args: ValidateArgs) -> list[Doubt]:
    """What is wrong with the target of both files, given as columns."""
    from tools.modeling.target_checks import check_target

    return check_target(reference, target, args.task, args.metric, args.positive) if args.labelled else []


def as_results(doubts: Sequence[Doubt], args: ValidateArgs) -> list[dict[str, Any]]:
    """The doubts as failed expectations; those that the goal accepts are warnings."""
    return [_result(doubt, args) for doubt in doubts]


def _result(doubt: Doubt, args: ValidateArgs) -> dict[str, Any]:
    accepted = doubt.is_accepted(args.accept)
    reason = f"{doubt.reason} (accepted by the goal)" if accepted else doubt.reason
    outcome: dict[str, Any] = {"unexpected_count": doubt.rows or None, "partial_unexpected_list": list(doubt.examples)}
    if doubt.at is not None:
        outcome["unexpected_index_list"] = doubt.at
    return {
        "success": False,
        "expectation_config": {
            "type": doubt.kind,
            "kwargs": {"column": doubt.column} if doubt.column is not None else {},
            "severity": "critical" if doubt.critical and not accepted else "warning",
            "meta": {"reason": reason, "rows": doubt.at is not None},
        },
        "result": outcome,
    }
