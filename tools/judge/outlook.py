"""The judge's actions on metric series; the part of its backend that looks ahead."""

import hashlib
import math

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.judge.outlook_spec import (
    Anomalies,
    AnomalyArgs,
    BurnRateArgs,
    BurnRates,
    ForecastArgs,
    ThresholdForecast,
    WindowBurn,
)

MAX_ALARMS = 20


class OutlookBackend(Backend):
    """Forecasts, burn rates and anomaly scores of series files."""

    def forecast_threshold(self, args: ForecastArgs, ctx: CallContext) -> ThresholdForecast:
        from tools.judge.forecast import forecast_crossing
        from tools.modeling.series import read_series

        if not math.isfinite(args.threshold):
            raise FixableError(f"threshold must be a finite number; got {args.threshold}")
        series = read_series(ctx.path(args.series))
        try:
            found = forecast_crossing(series.times, series.values, args.threshold, args.horizon_s, side=args.side)
        except ValueError as error:
            raise FixableError(str(error)) from error
        now = float(series.times[-1])
        expected, earliest, latest = (
            None if ahead is None else now + ahead for ahead in (found.expected_s, *found.interval_s)
        )
        return ThresholdForecast(
            outlook=found.outlook,
            probability=_finite(found.probability),
            expected_at_s=expected,
            earliest_at_s=earliest,
            latest_at_s=latest,
            expected_in_s=found.expected_s,
            level=found.current_level,
            slope_per_s=_finite(found.slope_per_s),
            season_s=found.season_s,
            changed_s_ago=found.change_s,
            readings=len(series.values),
            message=found.reason,
        )

    def burn_rate(self, args: BurnRateArgs, ctx: CallContext) -> BurnRates:
        from tools.judge.burn_rate import burn_rates
        from tools.judge.forecast import said
        from tools.modeling.series import read_series

        series = read_series(ctx.path(args.series))
        try:
            found = burn_rates(series.times, series.values, args.slo, series.requests)
        except ValueError as error:
            raise FixableError(str(error)) from error
        windows = [
            WindowBurn(
                rate=burn.rule.rate,
                long_window_s=burn.rule.long_s,
                short_window_s=burn.rule.short_s,
                long_burn=burn.long_burn,
                short_burn=burn.short_burn,
                covered_s=burn.covered_s,
                severity=burn.rule.severity,
                firing=burn.firing,
            )
            for burn in found.burns
        ]
        told = "; ".join(
            f"{_burn(burn.long_burn)} over {said(burn.rule.long_s)} and {_burn(burn.short_burn)} over "
            f"{said(burn.rule.short_s)} (limit {burn.rule.rate:g})"
            for burn in found.burns
        )
        gone = found.exhausted_in_s
        verdict = "No burn-rate alert" if found.severity is None else f"Burn-rate alert ({found.severity})"
        verdict += f"; the 30-day budget lasts {said(gone)} at this rate" if gone is not None else ""
        return BurnRates(
            severity=found.severity,
            windows=windows,
            budget_gone_in_s=gone,
            message=f"{verdict}. Burn: {told}.",
        )

    def score_anomalies(self, args: AnomalyArgs, ctx: CallContext) -> Anomalies:
        from tools.judge.anomaly import LEARNING, score_series
        from tools.judge.forecast import said
        from tools.modeling.series import read_series, write_columns

        series = read_series(ctx.path(args.series))
        try:
            scores, alarms = score_series(series.times, series.values, args.alarm_at)
        except ValueError as error:
            raise FixableError(str(error)) from error
        digest = hashlib.sha256(args.model_dump_json().encode()).hexdigest()[:12]
        path = ctx.workspace / f"anomaly_scores_{digest}.parquet"
        write_columns(path, time=series.times, value=series.values, score=scores, alarm=alarms)
        times = [float(t) for t in series.times[alarms]]
        ago = float(series.times[-1]) - times[-1] if times else None
        count = len(scores)
        told = f"{len(times)} alarms in {count} readings"
        told += f", the last one {said(ago)} before the end" if ago is not None else ""
        told += f"; too few readings to judge any (it learns from {LEARNING})" if not scores.any() else ""
        return Anomalies(
            readings=count,
            alarms=len(times),
            alarm_times_s=times[-MAX_ALARMS:],
            last_score=float(scores[-1]),
            last_alarm_s_ago=ago,
            scores_path=ctx.show(path),
            message=told + ".",
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _burn(value: float | None) -> str:
    return "no data" if value is None else f"{value:.3g}"
