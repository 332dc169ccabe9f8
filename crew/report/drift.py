"""What the report shows of drift: the judge's decision, Evidently's per column, and why the two disagree if they do."""

import math
from pathlib import Path
from typing import Any

from crew.report.collect import Call, RecordedRun
from crew.report.evidence import Facts, dicts, number_of, read_json, run_link


def drift(run: RecordedRun) -> Facts | None:
    """The judge's decision per file and column, and Evidently's; `strength` is a score in units of its threshold."""
    found, judged = run.named("evidently.detect_drift"), run.named("judge.judge_drift")
    if not found and not judged:
        return None
    call = found[-1] if found else None
    data: Facts = call.data if call else {}
    decisions = [_decision(run, one) for one in _latest(judged)]
    # Evidently looks at the labelled rows, which the first decision is about.
    columns = _columns(data, decisions[0] if decisions else None)
    profile = read_json(run, data.get("profile_path")).get("columns")
    weighed = run.named("mlflow.column_importance")
    return {
        "decisions": decisions,
        "importance_message": weighed[-1].message if weighed else "",
        "importance_call": weighed[-1].id if weighed else None,
        "call": call.id if call else None,
        "message": call.message if call else "",
        "columns": columns,
        "disagreements": [f"{c['column']}: {c['why']}" for c in columns if c["why"]],
        "dataset_drift": bool(data.get("dataset_drift")),
        "drifted_columns": data.get("drifted_columns"),
        "drift_share": data.get("drift_share"),
        "share_drifted": data.get("share_drifted"),
        "skipped": skipped if isinstance(skipped := data.get("skipped"), dict) else {},
        "rows": [data.get("reference_rows"), data.get("current_rows")],
        "histograms": profile if isinstance(profile, dict) else {},
        "evidently_report": run_link(run, data.get("report_path")),
    }


def _latest(calls: list[Call]) -> list[Call]:
    """The last judgement of each file, in the order the files came."""
    newest = {str(call.arguments.get("current")): call for call in calls}
    return list(newest.values())


def _decision(run: RecordedRun, call: Call) -> Facts:
    details = read_json(run, call.data.get("details_path"))
    return {
        "call": call.id,
        "file": Path(str(call.arguments.get("current", ""))).stem,
        "message": call.message,
        **{
            name: call.data.get(name)
            for name in (
                "drifted", "severity", "harm", "false_alarm_probability", "checks_between_false_alarms",
                "reference_rows", "current_rows",
            )
        },
        "alpha": number_of(details.get("alpha")),
        "min_effect": number_of(details.get("min_effect")),
        # Without its file, the columns that moved are known all the same.
        "columns": dicts(details.get("columns")) or [
            {**column, "name": column.get("column"), "drifted": True} for column in dicts(call.data.get("moved"))
        ],
    }  # fmt: skip


def _columns(report: Facts, decision: Facts | None) -> list[Facts]:
    """One row per column of either, the judge's order first; a part that one of the two lacks is None."""
    judged = {str(column.get("name")): column for column in decision["columns"]} if decision else {}
    seen = {str(column["column"]): column for column in dicts(report.get("columns")) if column.get("column")}
    rows: list[Facts] = []
    for name in [*judged, *(name for name in seen if name not in judged)]:
        ours, theirs = judged.get(name), seen.get(name)
        rows.append(
            {
                **{key: theirs.get(key) if theirs else None for key in ("method", "score", "threshold", "drifted")},
                "column": name,
                "strength": _strength(theirs) if theirs else None,
                "judge": ours,
                "why": _why_apart(ours, theirs, decision) if ours and theirs and decision else "",
            }
        )
    return rows


def _why_apart(ours: Facts, theirs: Facts, decision: Facts) -> str:
    """Why the judge and Evidently disagree on a column; empty where they agree or a number is missing."""
    from tools.judge.estimates import p_words  # brings scipy, which a report without drift needs not

    effect, p = number_of(ours.get("effect")), number_of(ours.get("adjusted_p"))
    if bool(ours.get("drifted")) == bool(theirs.get("drifted")) or effect is None or p is None:
        return ""
    test = f"{theirs.get('method')} {number_of(theirs.get('score')) or 0:.3g}"
    if ours.get("drifted"):
        return (
            f"drift by the judge: {effect:.0%} of the rows moved, which chance does not explain ({p_words(p)}); "
            f"{test} is not beyond Evidently's fixed threshold {number_of(theirs.get('threshold')) or 0:.3g}"
        )
    alpha, least = decision["alpha"], decision["min_effect"]
    if alpha is not None and p > alpha:
        why = (
            f"by the judge chance may explain it ({p_words(p)}, with all columns and the dependence between rows taken "
            "into account)"
        )
    else:
        bound = f", and less than {least:.0%} does not count" if least is not None else ""
        why = f"by the judge it is proven, but only {effect:.1%} of the rows moved{bound}"
    return f"drift by Evidently ({test}, beyond its threshold); {why}"


def _strength(column: Facts) -> float | None:
    """How far a score is beyond its threshold, as a factor. Of a p-value, which drifts by being small, the factor
    between the logarithms."""
    score, threshold = number_of(column.get("score")), number_of(column.get("threshold"))
    if score is None or not threshold or threshold <= 0:
        return None
    if "p_value" not in str(column.get("method")):
        return score / threshold
    return math.log(max(score, 1e-12)) / math.log(threshold) if threshold < 1 else None


def estimated(run: RecordedRun) -> Facts | None:
    """The metric on rows whose labels have not arrived, as the judge estimated it."""
    found = run.named("judge.estimate_performance")
    if not found:
        return None
    call: Any = found[-1]
    keys = (
        "reference_value", "estimated_value", "estimated_low", "estimated_high", "trusted", "unexplained_p", "rows",
        "labelled_rows", "method",
    )  # fmt: skip
    return {"call": call.id, "message": call.message, **{key: call.data.get(key) for key in keys}}
