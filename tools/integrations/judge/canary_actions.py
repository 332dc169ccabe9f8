"""The judge's actions on a canary: how many requests it needs, is it safe, does its promotion hold."""

from typing import TYPE_CHECKING

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.integrations.judge.canary_spec import (
    CanaryJudgeArgs,
    CanaryPlan,
    CanaryVerdict,
    CheckResult,
    PlanArgs,
    ProbationArgs,
    ProbationVerdict,
    ProxyResult,
)
from tools.integrations.judge.details import write_details
from tools.integrations.judge.judged import answered

if TYPE_CHECKING:
    from tools.judge.canary.checks import Check
    from tools.judge.canary.proxies import Proxy
    from tools.judge.canary.verdict import Judgement

MAX_E_VALUE = 1e12  # what is shown; larger says nothing more


class CanaryActions(Backend):
    """Verdicts at every look, before and after a promotion."""

    def judge_canary(self, args: CanaryJudgeArgs, ctx: CallContext) -> CanaryVerdict:
        from tools.integrations.judge.checks import check_range, check_task_and_metric
        from tools.integrations.judge.readers import read_evidence, read_holdout
        from tools.judge.canary.quality import Rules
        from tools.judge.canary.verdict import judge

        task = check_task_and_metric(args)
        check_range("tolerance", args.tolerance, -1e-12, 1)
        check_range("max_latency_ms", args.max_latency_ms, 0, float("inf"))
        check_range("max_error_rate", args.max_error_rate, 0, 1)
        check_range("min_label_share", args.min_label_share, 0, 1 + 1e-12)
        evidence = read_evidence(ctx.path(args.evidence), task)
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
            found = judge(evidence, rules, read_holdout(args, task, ctx))
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
            harm_ruled_out=found.harm_ruled_out,
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
        from tools.integrations.judge.checks import check_task_and_metric
        from tools.integrations.judge.readers import read_evidence
        from tools.judge.canary.probation import judge_probation
        from tools.judge.canary.quality import Rules

        task = check_task_and_metric(args)
        evidence = read_evidence(ctx.path(args.evidence), task)
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
        from tools.integrations.judge.checks import check_range
        from tools.judge.canary.checks import SHARES
        from tools.judge.sequential import requests_needed

        for name, value in (("loss", args.loss), ("alpha", args.alpha)):
            check_range(name, value, 0, 1)
        if args.loss > args.disagreement:
            raise FixableError(
                f"a loss of {args.loss} needs at least that much disagreement; got disagreement {args.disagreement}"
            )
        needed = requests_needed(args.loss, args.disagreement, args.alpha * SHARES["quality"])
        return CanaryPlan(
            labelled_requests=needed,
            message=f"A loss of {args.loss:.1%} is found within about {needed} labelled requests with even odds.",
        )


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
    return write_details(f"canary_trajectory_{found.requests}", content, args, ctx)
