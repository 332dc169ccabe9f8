"""The judge's actions on a champion: is it still good, does retraining pay, is a challenger better."""

from typing import TYPE_CHECKING

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.integrations.judge.champion_spec import (
    CompareArgs,
    GainArgs,
    ModelComparison,
    PerformanceArgs,
    PerformanceEstimate,
    RetrainingArgs,
    RetrainingDecision,
    RetrainingGain,
    RetrainingPlan,
    RetrainingPlanArgs,
)
from tools.integrations.judge.judged import scored

if TYPE_CHECKING:
    from tools.judge.champion.performance import Performance

LEVEL = 0.05  # of an estimate's interval
CONTRADICTED = 0.01  # below this p-value labels contradict the scores: as rare a false alarm as that of drift


class ChampionActions(Backend):
    """Retraining, comparison, and the metric without labels."""

    def decide_retraining(self, args: RetrainingArgs, ctx: CallContext) -> RetrainingDecision:
        from tools.integrations.judge.checks import check_task_and_metric
        from tools.integrations.judge.readers import read_scores
        from tools.judge.champion.retrain import decide

        task = check_task_and_metric(args)
        reference = read_scores(ctx.path(args.reference_scores), task)
        current = read_scores(ctx.path(args.current_scores), task)
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
        from tools.integrations.judge.readers import read_scores
        from tools.judge.champion.retrain_gain import windows_to_probe
        from tools.judge.champion.retrain_plan import plan_retraining
        from tools.modeling.data import check_task

        task = check_task(args.task)
        reference = read_scores(ctx.path(args.reference_scores), task)
        current = read_scores(ctx.path(args.current_scores), task)
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
            probe=windows_to_probe(plan.window, min(args.train_rows or len(current), len(current))),
            reasons=plan.reasons,
            message=f"{verdict}: {plan.reasons[0]}",
        )

    def weigh_gain(self, args: GainArgs, ctx: CallContext) -> RetrainingGain:
        from tools.integrations.judge.checks import check_task_and_metric
        from tools.integrations.judge.readers import read_probes, read_scores
        from tools.judge.champion.retrain_gain import needed_gain, weigh_gain

        task = check_task_and_metric(args)
        reference = read_scores(ctx.path(args.reference_scores), task)
        current = read_scores(ctx.path(args.current_scores), task)
        probes = read_probes(ctx.path(args.probe_scores), task)
        newest = current.newest(max(len(probe) for probe in probes.values()))
        try:
            found = weigh_gain(
                reference,
                newest,
                probes,
                args.metric,
                task,
                needed=needed_gain(args.cost, args.min_gain, args.reference_rows),
                horizon=args.horizon or len(current),
            )
        except ValueError as error:
            raise FixableError(str(error)) from error
        return RetrainingGain(
            wins=found.wins,
            window=found.window,
            gain=found.gain,
            gain_low=found.interval[0],
            gain_high=found.interval[1],
            p_value=found.p_value,
            metric_gain=found.metric_gain,
            metric_gain_low=found.metric_interval[0],
            metric_gain_high=found.metric_interval[1],
            savings=found.savings,
            needed=found.needed,
            rows=found.rows,
            reasons=found.reasons,
            message=found.reasons[0],
        )

    def compare_models(self, args: CompareArgs, ctx: CallContext) -> ModelComparison:
        from tools.integrations.judge.checks import check_task_and_metric
        from tools.integrations.judge.readers import read_scores
        from tools.judge.champion.compare import compare

        task = check_task_and_metric(args)
        if args.min_effect < 0:
            raise FixableError(f"min_effect must be 0 or more; got {args.min_effect:g}")
        champion = read_scores(ctx.path(args.champion_scores), task)
        challenger = read_scores(ctx.path(args.challenger_scores), task)
        digests = [scored(ctx.path(path)) for path in (args.champion_scores, args.challenger_scores)]
        if digests[0].rows != digests[1].rows:
            raise FixableError("the two files of scores are not of the same rows; score both models on one file")
        try:
            found = compare(champion, challenger, args.metric, task, args.alpha, args.min_effect)
        except ValueError as error:
            raise FixableError(str(error)) from error
        low, high = found.interval
        reason = found.in_words(args.metric, len(champion), args.min_effect)
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

    def estimate_performance(self, args: PerformanceArgs, ctx: CallContext) -> PerformanceEstimate:
        from tools.integrations.judge.checks import check_task_and_metric
        from tools.integrations.judge.readers import read_scores, read_unlabelled
        from tools.judge.champion.performance import estimate_performance

        task = check_task_and_metric(args)
        reference = read_scores(ctx.path(args.reference_scores), task)
        current, labelled = read_unlabelled(ctx.path(args.current_scores), task, reference.positive)
        try:
            found = estimate_performance(reference, current, labelled, args.metric, task, alpha=LEVEL, seed=args.seed)
        except ValueError as error:
            raise FixableError(str(error)) from error
        count = int(labelled.sum())
        trusted = None if found.unexplained_p is None else found.unexplained_p >= CONTRADICTED
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
            message=estimate_words(found, args.metric, count, len(current)),
        )


def estimate_words(found: "Performance", metric: str, labelled: int, rows: int) -> str:
    """The estimate, beside what the metric was and what the labels say that are there.

    Args:
        labelled, rows: of the current rows, how many have a label, and how many there are.
    """
    from tools.judge.estimates import p_words

    which = "rows without a label" if labelled < rows else "rows"
    told = (
        f"Estimated {metric} {found.value:.4f} ({found.low:.4f} to {found.high:.4f}) on {found.rows} {which}; "
        f"it was {found.reference_value:.4f}."
    )
    if found.actual is None or found.unexplained_p is None:
        return told
    p = p_words(found.unexplained_p)
    told += f" The {labelled} labels that are there give {found.actual:.4f}"
    if found.unexplained_p >= CONTRADICTED:
        return f"{told}; no change in how they go with the scores is proven ({p})."
    return f"{told} and do not go with the scores as before ({p}): the estimate cannot be trusted."
