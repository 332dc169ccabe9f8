"""The judge's actions on A/B tests; the part of its backend that reads their files."""

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.core.files import write_text
from tools.integrations.judge.ab_spec import AbGuardrail, AbJudgeArgs, AbPlan, AbPlanArgs, AbSegment, AbVerdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tools.judge.ab.verdict import Design, Effect, Judged, Units

SHOWN = 20  # segments in the answer, the largest first
GUARDRAIL = "guardrail_"  # prefix of their columns in the units file
MIN_HISTORY = 30


class AbTestBackend(Backend):
    """Plans and verdicts of A/B tests."""

    def plan_ab_test(self, args: AbPlanArgs, ctx: CallContext) -> AbPlan:
        from tools.judge.ab.plan import plan, rate_variance, smallest_mde

        share = args.percent / 100.0
        mean = smallest = None
        if (args.history is None) == (args.variance is None):
            raise FixableError("give either history (with outcome) or variance, so that the noise of a unit is known")
        rate, fixed = None, float(args.variance or 0.0)
        if args.history is not None:
            values = _history(args, ctx)
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
        from tools.judge.ab.verdict import judge

        design = _design(args, ctx)
        units = _units(args, ctx)
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


def _history(args: AbPlanArgs, ctx: CallContext) -> "NDArray[np.float64]":
    """Past outcomes, one a unit where the unit column is named.

    Without it each row is taken for a unit: the mean of several outcomes varies less, so this errs to the safe side.
    """
    import numpy as np

    from tools.modeling.data import read_table, require_columns

    path = ctx.path(args.history or "")
    frame = read_table(path)
    require_columns(frame, [args.outcome, *([args.unit] if args.unit else [])], path)
    column = frame[args.outcome]
    if column.dtype.kind not in "iufb":
        raise FixableError(f"{path}: the outcome {args.outcome!r} must be numeric, it is {column.dtype}")
    known = frame.loc[column.notna(), :]
    values = np.asarray(known[args.outcome], dtype="float64")
    if args.unit:
        values = np.asarray(known.groupby(args.unit)[args.outcome].mean(), dtype="float64")
    if len(values) < MIN_HISTORY:
        raise FixableError(
            f"{path}: {len(values)} past outcomes; at least {MIN_HISTORY} are needed to know their noise"
        )
    return values


def _design(args: AbJudgeArgs, ctx: CallContext) -> "Design":
    from tools.judge.ab.verdict import Design

    path = ctx.path(args.design)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["definition"]
        return Design(
            share=float(content["percent"]) / 100.0,
            mde=float(content["mde"]),
            alpha=float(content["alpha"]),
            minimize=bool(content["minimize"]),
            upper=content["upper"],
            variance=content["variance"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FixableError(
            f"{args.design} is not the test JSON that the ab_test integration wrote: {type(error).__name__}: {error}"
        ) from error


def _units(args: AbJudgeArgs, ctx: CallContext) -> "Units":
    import numpy as np

    from tools.judge.ab.verdict import Units
    from tools.modeling.data import read_table, require_columns

    path = ctx.path(args.units)
    frame = read_table(path)
    require_columns(frame, ["variant", "outcome"], path)
    unknown = sorted(set(frame["variant"].astype(str)) - {"champion", "challenger", "mixed"})
    if unknown:
        raise FixableError(f"{path}: variant is {unknown[0]!r}; valid: champion, challenger, mixed")
    mixed = (frame["variant"] == "mixed").to_numpy()
    kept = frame.loc[~mixed, :]

    def numbers(name: str) -> Any:
        return np.asarray(kept[name], dtype="float64")

    return Units(
        challenger=(kept["variant"] == "challenger").to_numpy(),
        value=numbers("outcome"),
        segment=kept["segment"].astype(str).to_numpy(dtype=object) if "segment" in kept.columns else None,
        covariate=numbers("covariate") if "covariate" in kept.columns else None,
        guardrails={
            str(name).removeprefix(GUARDRAIL): numbers(str(name))
            for name in kept.columns
            if str(name).startswith(GUARDRAIL)
        },
        mixed=int(np.sum(mixed)),
    )


def _answer(found: "Judged") -> AbVerdict:
    effect = found.effect
    words = found.verdict.replace("_", " ").capitalize()
    warned = "".join(f" Warning: {warning}." for warning in found.warnings)
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
        message=f"{words} after {effect.units} units: {'; '.join(found.reasons)}.{warned}",
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
