"""Reads score and evidence files, asks the pure functions, and writes a canary's course for plots."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tools.core.contract import CallContext
from tools.core.errors import FixableError
from tools.core.files import write_json
from tools.integrations.judge.ab_actions import AbTestBackend
from tools.integrations.judge.judged import answered, scored
from tools.integrations.judge.outlook_actions import OutlookBackend, write_score_series
from tools.integrations.judge.outlook_spec import ScoreSeries, SeriesArgs
from tools.integrations.judge.spec import (
    CanaryJudgeArgs,
    CanaryPlan,
    CanaryVerdict,
    CheckResult,
    CompareArgs,
    DriftArgs,
    DriftJudgement,
    ModelComparison,
    PerformanceArgs,
    PerformanceEstimate,
    PlanArgs,
    ProbationArgs,
    ProbationVerdict,
    ProxyResult,
    RetrainingArgs,
    RetrainingDecision,
    RetrainingPlan,
    RetrainingPlanArgs,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from tools.judge.canary.checks import Check
    from tools.judge.canary.proxies import Holdout, Proxy
    from tools.judge.canary.quality import Evidence
    from tools.judge.canary.verdict import Judgement
    from tools.judge.estimates import Scores, Task

MAX_E_VALUE = 1e12  # what is shown; larger says nothing more


class JudgeBackend(OutlookBackend, AbTestBackend):
    """The judge's actions on files."""

    def health(self, ctx: CallContext) -> str:
        import scipy

        return f"statistics on scipy {scipy.__version__}"

    def decide_retraining(self, args: RetrainingArgs, ctx: CallContext) -> RetrainingDecision:
        from tools.judge.champion.retrain import decide

        task = _check(args)
        reference = _read_scores(ctx.path(args.reference_scores), task)
        current = _read_scores(ctx.path(args.current_scores), task)
        try:
            decision = decide(
                reference,
                current,
                args.metric,
                task,
                alpha=args.alpha,
                min_metric=args.min_metric,
                drift_share=args.drift_share,
            )
        except ValueError as error:
            raise FixableError(str(error)) from error
        verdict = "Retrain" if decision.act else "Do not retrain"
        return RetrainingDecision(
            act=decision.act,
            urgency=decision.urgency,
            reference_value=decision.reference_value,
            current_value=decision.current_value,
            loss_increase=decision.loss_increase,
            loss_increase_low=decision.interval[0],
            loss_increase_high=decision.interval[1],
            p_value=decision.p_value,
            breached_minimum=decision.breached_minimum,
            reference_rows=len(reference),
            current_rows=len(current),
            reasons=decision.reasons,
            message=f"{verdict}: {decision.reasons[0]}",
        )

    def plan_retraining(self, args: RetrainingPlanArgs, ctx: CallContext) -> RetrainingPlan:
        from tools.judge.champion.retrain_plan import plan_retraining
        from tools.modeling.data import check_task

        task = check_task(args.task)
        reference = _read_scores(ctx.path(args.reference_scores), task)
        current = _read_scores(ctx.path(args.current_scores), task)
        try:
            plan = plan_retraining(
                reference, current, task, cost=args.cost, horizon=args.horizon, train_rows=args.train_rows
            )
        except ValueError as error:
            raise FixableError(str(error)) from error
        verdict = "Retraining pays" if plan.pays else "Retraining does not pay"
        if plan.pays and not plan.enough_rows:
            verdict = "Retraining would pay, but too few new rows are there"
        return RetrainingPlan(
            pays=plan.pays,
            enough_rows=plan.enough_rows,
            window=plan.window,
            savings=plan.savings,
            savings_low=plan.interval[0],
            savings_high=plan.interval[1],
            probability=plan.probability,
            course=plan.course,
            change_row=plan.change_row,
            new_rows=plan.new_rows,
            reasons=plan.reasons,
            message=f"{verdict}: {plan.reasons[0]}",
        )

    def compare_models(self, args: CompareArgs, ctx: CallContext) -> ModelComparison:
        from tools.judge.champion.compare import compare

        task = _check(args)
        if args.min_effect < 0:
            raise FixableError(f"min_effect must be 0 or more; got {args.min_effect:g}")
        champion = _read_scores(ctx.path(args.champion_scores), task)
        challenger = _read_scores(ctx.path(args.challenger_scores), task)
        digests = [scored(ctx.path(path)) for path in (args.champion_scores, args.challenger_scores)]
        if digests[0].rows != digests[1].rows:
            raise FixableError("the two files of scores are not of the same rows; score both models on one file")
        try:
            found = compare(champion, challenger, args.metric, task, args.alpha, args.min_effect)
        except ValueError as error:
            raise FixableError(str(error)) from error
        low, high = found.interval
        reason = (
            f"{args.metric} {found.challenger_value:.4f} against the champion's {found.champion_value:.4f} on "
            f"{len(champion)} rows: better by {found.difference:.4f} (interval {low:.4f} to {high:.4f}, "
            f"p = {found.p_value:.2g}, {found.method})"
        )
        return ModelComparison(
            better=found.better,
            champion_value=found.champion_value,
            challenger_value=found.challenger_value,
            difference=found.difference,
            difference_low=low,
            difference_high=high,
            p_value=found.p_value,
            rows=len(champion),
            champion_digest=digests[0].model,
            challenger_digest=digests[1].model,
            rows_digest=digests[0].rows,
            method=found.method,
            reason=reason,
            message=f"{'The challenger is better' if found.better else 'The champion stays'}: {reason}.",
        )

    def judge_canary(self, args: CanaryJudgeArgs, ctx: CallContext) -> CanaryVerdict:
        from tools.judge.canary.quality import Rules
        from tools.judge.canary.verdict import judge

        task = _check(args)
        _check_range("tolerance", args.tolerance, -1e-12, 1)
        _check_range("max_latency_ms", args.max_latency_ms, 0, float("inf"))
        _check_range("max_error_rate", args.max_error_rate, 0, 1)
        _check_range("min_label_share", args.min_label_share, 0, 1 + 1e-12)
        evidence = _read_evidence(ctx.path(args.evidence), task)
        judged = answered(ctx.path(args.evidence))
        rules = Rules(
            args.metric,
            task,
            args.alpha,
            args.tolerance,
            args.max_latency_ms,
            args.max_error_rate,
            args.min_requests,
            args.label_delay,
            args.min_label_share,
        )
        try:
            found = judge(evidence, rules, _read_holdout(args, task, ctx))
        except ValueError as error:
            raise FixableError(str(error)) from error
        low, high = found.interval or (None, None)
        return CanaryVerdict(
            verdict=found.verdict,
            reasons=found.reasons,
            requests=found.requests,
            labelled=found.labelled,
            mature=found.mature,
            label_share=found.label_share,
            held=found.held,
            served_by_challenger=found.served_by_challenger,
            measure=found.measure,
            champion_value=found.champion_value,
            challenger_value=found.challenger_value,
            difference=found.difference,
            difference_low=low,
            difference_high=high,
            disagreement=found.disagreement,
            checks=_checks(found.checks),
            proxies=_proxies(found.proxies),
            champion_digest=judged.champion,
            challenger_digest=judged.challenger,
            evidence_digest=judged.evidence,
            trajectory_path=_write_trajectory(found, args, ctx),
            message=f"{found.verdict.capitalize()} after {found.requests} requests: {found.reasons[0]}",
        )

    def judge_probation(self, args: ProbationArgs, ctx: CallContext) -> ProbationVerdict:
        from tools.judge.canary.probation import judge_probation
        from tools.judge.canary.quality import Rules

        task = _check(args)
        evidence = _read_evidence(ctx.path(args.evidence), task)
        judged = answered(ctx.path(args.evidence))
        if args.start > len(evidence):
            raise FixableError(f"start is {args.start}, but {args.evidence} has {len(evidence)} requests")
        rules = Rules(
            args.metric, task, args.alpha, args.tolerance, args.max_latency_ms, args.max_error_rate,
            label_delay=args.label_delay,
        )  # fmt: skip
        try:
            found = judge_probation(evidence.since(args.start), rules)
        except ValueError as error:
            raise FixableError(str(error)) from error
        return ProbationVerdict(
            verdict=found.verdict,
            reasons=found.reasons,
            requests=found.requests,
            labelled=found.labelled,
            champion_digest=judged.challenger,
            evidence_digest=judged.evidence,
            label_share=found.label_share,
            measure=found.measure,
            former_value=found.former_value,
            champion_value=found.champion_value,
            checks=_checks(found.checks),
            message=f"{found.verdict.capitalize()}: {found.reasons[0]}",
        )

    def plan_canary(self, args: PlanArgs, ctx: CallContext) -> CanaryPlan:
        from tools.judge.canary.checks import SHARES
        from tools.judge.sequential import requests_needed

        for name, value in (("loss", args.loss), ("alpha", args.alpha)):
            _check_range(name, value, 0, 1)
        if args.loss > args.disagreement:
            raise FixableError(
                f"a loss of {args.loss} needs at least that much disagreement; got disagreement {args.disagreement}"
            )
        needed = requests_needed(args.loss, args.disagreement, args.alpha * SHARES["quality"])
        return CanaryPlan(
            labelled_requests=needed,
            message=f"A loss of {args.loss:.1%} is found within about {needed} labelled requests with even odds.",
        )

    def score_series(self, args: SeriesArgs, ctx: CallContext) -> ScoreSeries:
        from tools.modeling.data import check_task

        task = check_task(args.task)
        reference = _read_scores(ctx.path(args.reference), task) if args.reference else None
        return write_score_series(args, _read_scores(ctx.path(args.scores), task), reference, ctx)

    def judge_drift(self, args: DriftArgs, ctx: CallContext) -> DriftJudgement:
        from tools.integrations.judge.drift_actions import judge_tables
        from tools.modeling.column_counts import count_files, read_counts, read_importance

        _check_range("alpha", args.alpha, 0, 0.5)
        _check_range("min_effect", args.min_effect, -1e-12, 1)
        importance = read_importance(ctx.path(args.importance)) if args.importance else None
        reference = ctx.path(args.reference)
        if args.current:
            tables = count_files(reference, ctx.path(args.current), args.exclude)
        else:
            tables = read_counts(reference)
        answer, details = judge_tables(tables, importance, args)
        return answer.model_copy(update={"details_path": _write_details("drift", details, args, ctx)})

    def estimate_performance(self, args: PerformanceArgs, ctx: CallContext) -> PerformanceEstimate:
        from tools.integrations.judge.drift_actions import estimate_scores

        task = _check(args)
        reference = _read_scores(ctx.path(args.reference_scores), task)
        current, labelled = _read_unlabelled(ctx.path(args.current_scores), task, reference.positive)
        return estimate_scores(reference, current, labelled, task, args)


def _check(args: RetrainingArgs | CompareArgs | CanaryJudgeArgs | ProbationArgs | PerformanceArgs) -> "Task":
    """The task, once task, metric and level are known to be valid.

    Raises:
        FixableError: one is not; names the valid ones.
    """
    from tools.judge.estimates import METRICS_OF
    from tools.modeling.data import check_task

    task = check_task(args.task)
    if args.metric not in METRICS_OF[task]:
        valid = ", ".join(METRICS_OF[task])
        raise FixableError(f"metric {args.metric!r} cannot be judged for {task}; valid metrics: {valid}")
    if not isinstance(args, PerformanceArgs):
        _check_range("alpha", args.alpha, 0, 0.5)
    return task


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low < value < high:
        raise FixableError(f"{name} must be between {low:g} and {high:g}; got {value:g}")


def _read_scores(path: Path, task: "Task") -> "Scores":
    """Scored rows with a label, in order.

    Raises:
        FixableError: missing, empty or foreign file; no labelled row.
    """
    from tools.judge.estimates import Scores, positive_class
    from tools.modeling.data import as_text, read_table, require_columns

    frame = read_table(path)
    require_columns(frame, ["y_true", "prediction", "loss"], path)
    frame = frame.dropna(subset=["y_true", "loss"])
    if frame.empty:
        raise FixableError(f"{path} has no row with both a label (y_true) and a loss")
    loss = _numbers(frame, "loss", path)
    if task == "regression":
        return Scores(_numbers(frame, "y_true", path), _numbers(frame, "prediction", path), loss)
    y_true, prediction = as_text(frame["y_true"]), as_text(frame["prediction"])
    probability = positive = None
    if task == "binary":
        classes = sorted({*y_true, *prediction})
        if len(classes) > 2:
            raise FixableError(f"{path} has the labels {', '.join(classes[:5])}: not a binary task")
        if "probability" in frame.columns and not bool(frame["probability"].isna().any()):
            probability = _numbers(frame, "probability", path)
            positive = positive_class(y_true, prediction, probability)
        else:
            positive = classes[-1]
    return Scores(y_true, prediction, loss, probability, positive)


def _read_unlabelled(path: Path, task: "Task", positive: str | None) -> "tuple[Scores, NDArray[np.bool_]]":
    """Scored rows in order, and which of them have a label; the loss is NaN and the label null where they have not.

    Raises:
        FixableError: missing, empty or foreign file.
    """
    import numpy as np

    from tools.judge.estimates import Scores
    from tools.modeling.data import as_text, read_table, require_columns

    frame = read_table(path)
    require_columns(frame, ["prediction"], path)
    for name in ("y_true", "loss"):
        if name not in frame.columns:
            frame[name] = np.nan
    labelled = (frame["y_true"].notna() & frame["loss"].notna()).to_numpy()
    loss = _numbers(frame, "loss", path)
    if task == "regression":
        return Scores(_numbers(frame, "y_true", path), _numbers(frame, "prediction", path), loss), labelled
    probability = None
    if task == "binary" and "probability" in frame.columns and not bool(frame["probability"].isna().any()):
        probability = _numbers(frame, "probability", path)
    return Scores(as_text(frame["y_true"]), as_text(frame["prediction"]), loss, probability, positive), labelled


def _numbers(frame: "pd.DataFrame", column: str, path: Path) -> Any:
    import pandas as pd

    try:
        return cast(pd.Series, pd.to_numeric(frame[column])).astype("float64").to_numpy()
    except (ValueError, TypeError) as error:
        raise FixableError(f"{path}: the column {column!r} must be numeric: {error}") from error


def _read_evidence(path: Path, task: "Task") -> "Evidence":
    """Evidence of a canary, one row per request in order.

    Raises:
        FixableError: missing, empty or foreign file; an unknown variant in `served_by`.
    """
    import numpy as np

    from tools.judge.canary.quality import Evidence
    from tools.judge.estimates import positive_class
    from tools.modeling.data import as_text, read_table, require_columns

    frame = read_table(path)
    pairs = [
        f"{who}_{what}" for who in ("champion", "challenger") for what in ("error", "loss", "status", "latency_ms")
    ]
    require_columns(frame, ["served_by", "y_true", *pairs], path)
    served_by = frame["served_by"].astype(str)
    unknown = sorted(set(served_by) - {"champion", "challenger"})
    if unknown:
        raise FixableError(f"{path}: served_by is {unknown[0]!r}; valid: champion, challenger")
    columns = {name: _numbers(frame, name, path) for name in pairs}
    labelled = frame["y_true"].notna().to_numpy()
    for name in ("champion_error", "challenger_error", "champion_loss", "challenger_loss"):
        columns[name] = np.where(labelled, columns[name], np.nan)
    positive = y_true = None
    if task == "regression":
        y_true = _numbers(frame, "y_true", path)
    scores = ("champion_probability", "challenger_probability")
    if task == "binary" and set(scores) <= set(frame.columns):
        columns |= {name: _numbers(frame, name, path) for name in scores}
        known = labelled & np.isfinite(columns["champion_probability"])
        labels = as_text(frame["y_true"])
        if known.any():
            predicted = as_text(frame["champion_prediction"]) if "champion_prediction" in frame.columns else labels
            name = positive_class(labels[known], predicted[known], columns["champion_probability"][known])
            positive = np.where(labelled, (labels == name).astype(float), np.nan)
        else:
            positive = np.full(len(frame), np.nan)
    for who in ("champion", "challenger"):
        if f"{who}_prediction" in frame.columns:
            said = f"{who}_prediction"
            columns[said] = _numbers(frame, said, path) if task == "regression" else as_text(frame[said])
    for name in ("labelled_after", "label_batch"):
        if name in frame.columns:
            columns[name] = _numbers(frame, name, path)
    segment = frame["segment"].astype(str).to_numpy() if "segment" in frame.columns else None
    return Evidence(
        served_by_challenger=(served_by == "challenger").to_numpy(),
        positive=positive,
        y_true=y_true,
        segment=segment,
        **columns,
    )


def _read_holdout(args: CanaryJudgeArgs, task: "Task", ctx: CallContext) -> "Holdout | None":
    """Both models' holdout scores; None where none are given.

    Raises:
        FixableError: only one is given, or a file is unusable.
    """
    from tools.judge.canary.proxies import Holdout

    if not args.champion_holdout and not args.challenger_holdout:
        return None
    if not args.champion_holdout or not args.challenger_holdout:
        raise FixableError("give both champion_holdout and challenger_holdout, or neither")
    champion = _read_scores(ctx.path(args.champion_holdout), task)
    challenger = _read_scores(ctx.path(args.challenger_holdout), task)
    try:
        return Holdout(champion, challenger)
    except ValueError as error:
        raise FixableError(str(error)) from error


def _proxies(found: "list[Proxy]") -> list[ProxyResult]:
    import numpy as np

    return [
        ProxyResult(
            name=proxy.name,
            alarm=proxy.raised_after is not None,
            raised_after=proxy.raised_after,
            e_value=float(min(np.exp(min(proxy.log_e.max(initial=0.0), 60.0)), MAX_E_VALUE)),
            alarm_at=float(np.exp(proxy.threshold)),
            expected=proxy.expected,
            observed=proxy.observed,
            unit=proxy.unit,
        )
        for proxy in found
    ]


def _checks(found: "list[Check]") -> list[CheckResult]:
    import numpy as np

    return [
        CheckResult(
            name=check.name,
            harm_proven=bool(check.crossed[-1]),
            passed=bool(check.passed[-1]),
            e_value=float(min(np.exp(min(check.log_e.max(), 60.0)), MAX_E_VALUE)),
            rollback_at=float(np.exp(check.threshold)),
            champion_value=check.champion_value,
            challenger_value=check.challenger_value,
            unit=check.unit,
        )
        for check in found
    ]


def _write_trajectory(found: "Judgement", args: CanaryJudgeArgs, ctx: CallContext) -> str:
    """The course over the looks, as JSON."""
    content = {
        "measure": found.measure,
        "alpha": args.alpha,
        "rollback_at_log_e": {c.name: round(c.threshold, 4) for c in found.checks},
        "looks": found.trajectory,
    }
    return _write_details(f"canary_trajectory_{found.requests}", content, args, ctx)


def _write_details(name: str, content: dict[str, Any], args: CanaryJudgeArgs | DriftArgs, ctx: CallContext) -> str:
    """Write JSON into the run's folder; its name depends on the question only, so repeating it overwrites it."""
    question = hashlib.sha256(args.model_dump_json().encode()).hexdigest()[:8]
    path = ctx.workspace / f"{name}_{question}.json"
    write_json(path, content)
    return ctx.show(path)
