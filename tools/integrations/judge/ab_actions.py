"""The judge's actions on A/B tests: plan one, judge one."""

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.core.files import write_text
from tools.integrations.judge.ab_spec import AbGuardrail, AbJudgeArgs, AbPlan, AbPlanArgs, AbSegment, AbVerdict

if TYPE_CHECKING:
    from tools.judge.ab.verdict import Effect, Judged

SHOWN = 20  # segments in the answer, the largest first


class AbActions(Backend):
    """Plans and verdicts of A/B tests."""

    def plan_ab_test(self, args: AbPlanArgs, ctx: CallContext) -> AbPlan:
        from tools.integrations.judge.readers import read_history
        from tools.judge.ab.plan import plan, rate_variance, smallest_mde

        share = args.percent / 100.0
        mean = smallest = None
        if (args.history is None) == (args.variance is None):
            raise FixableError("give either history (with outcome) or variance, so that the noise of a unit is known")
        rate, fixed = None, float(args.variance or 0.0)
        if args.history is not None:
            values = read_history(args, ctx)
            mean, fixed = float(values.mean()), float(values.var(ddof=1))
            rate = mean if bool(((values == 0) | (values == 1)).all()) else None

        def variance_at(mde: float) -> float:
            return fixed if rate is None else rate_variance(rate, mde, share)

        try:
            variance = variance_at(args.mde)
            found = plan(variance, args.mde, share, args.alpha, args.power, args.units_per_day)
            if args.available is not None:
                smallest = smallest_mde(args.available, share, args.alpha, args.power, variance_at)
        except ValueError as error:
            raise FixableError(str(error)) from error
        problems: list[str] = []
        if args.available is not None and args.available < found.units:
            problems.append(
                f"there are only {args.available} units, which can find a difference of {smallest:.3g} or more"
            )
        if found.days is not None and args.max_days is not None and found.days > args.max_days:
            problems.append(f"it must end within {args.max_days:g} days")
        takes = "" if found.days is None else f", {found.days} days at {args.units_per_day:g} new units a day"
        needed = (
            f"A difference of {args.mde:g} is found with {args.power:.0%} power within {found.units} units "
            f"({found.challenger_units} of them the challenger's{takes}), half of the time within {found.typical_units}"
        )
        planned = {
            "mde": args.mde,
            "percent": args.percent,
            "alpha": args.alpha,
            "power": args.power,
            "variance": variance,
            "units": found.units,
            "days": found.days,
        }
        return AbPlan(
            feasible=not problems,
            units=found.units,
            champion_units=found.champion_units,
            challenger_units=found.challenger_units,
            typical_units=found.typical_units,
            typical_units_if_equal=found.typical_units_if_equal,
            fixed_units=found.fixed_units,
            smallest_mde=smallest,
            days=found.days,
            mean=mean,
            variance=variance,
            plan_path=_write_plan(planned, ctx),
            message=f"{needed}." if not problems else f"{needed}; not feasible: {' and '.join(problems)}.",
        )

    def judge_ab_test(self, args: AbJudgeArgs, ctx: CallContext) -> AbVerdict:
        from tools.integrations.judge.readers import read_design, read_units
        from tools.judge.ab.verdict import judge

        design = read_design(args, ctx)
        units = read_units(args, ctx)
        try:
            found = judge(units, design)
        except ValueError as error:
            raise FixableError(f"{args.units}: {error}") from error
        return _answer(found)


def _write_plan(planned: dict[str, Any], ctx: CallContext) -> str:
    """The plan as JSON in the run's folder; equal plans have the same file."""
    text = json.dumps(planned)
    path = ctx.workspace / f"ab_plan_{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    write_text(path, text)
    return ctx.show(path)


def _answer(found: "Judged") -> AbVerdict:
    from tools.judge.ab.words import in_short

    effect = found.effect
    return AbVerdict(
        verdict=found.verdict,
        reasons=found.reasons,
        warnings=found.warnings,
        units=effect.units,
        champion_units=found.champion_units,
        challenger_units=found.challenger_units,
        decided_at_units=found.decided_at,
        champion_value=effect.champion_value,
        challenger_value=effect.challenger_value,
        difference=effect.difference,
        low=_finite(effect.low),
        high=_finite(effect.high),
        ratio_e_value=found.ratio_e_value,
        harmed_segments=[segment.name for segment in found.segments if segment.harmed],
        segments=[
            AbSegment(
                name=segment.name,
                harmed=segment.harmed,
                better=segment.better,
                **_numbers(segment.effect),
            )
            for segment in found.segments[:SHOWN]
        ],
        guardrails=[
            AbGuardrail(
                name=g.name,
                champion_value=g.champion_value,
                challenger_value=g.challenger_value,
                e_value=g.e_value,
                harmed_at=g.harmed_at,
                harmed=g.harmed,
            )
            for g in found.guardrails
        ],
        message=in_short(found),
    )


def _numbers(effect: "Effect") -> dict[str, Any]:
    return {
        "units": effect.units,
        "champion_value": effect.champion_value,
        "challenger_value": effect.challenger_value,
        "difference": effect.difference,
        "low": _finite(effect.low),
        "high": _finite(effect.high),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
