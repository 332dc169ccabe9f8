"""The judge's actions on metric series; the part of its backend that looks ahead."""

import hashlib
import math
from typing import TYPE_CHECKING

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.core.files import write_json
from tools.integrations.judge.outlook_spec import (
    Anomalies,
    AnomalyArgs,
    BurnRateArgs,
    BurnRates,
    ForecastArgs,
    ScoreSeries,
    SeriesArgs,
    ThresholdForecast,
    WindowBurn,
)

if TYPE_CHECKING:
    from tools.judge.estimates import Scores
    from tools.judge.outlook.forecast import Forecast
    from tools.modeling.series import Series

MAX_ALARMS = 20


class OutlookBackend(Backend):
    """Forecasts, burn rates and anomaly scores of series files."""

    def forecast_threshold(self, args: ForecastArgs, ctx: CallContext) -> ThresholdForecast:
        from tools.judge.outlook.forecast import forecast_crossing
        from tools.modeling.series import read_series

        if not math.isfinite(args.threshold):
            raise FixableError(f"threshold must be a finite number; got {args.threshold}")
        series = read_series(ctx.path(args.series))
        try:
            found = forecast_crossing(
                series.times, series.values, args.threshold, args.horizon_s, side=args.side, unit=series.unit
            )
        except ValueError as error:
            raise FixableError(str(error)) from error
        now = float(series.times[-1])
        expected, earliest, latest = (
            None if ahead is None else now + ahead for ahead in (found.expected_s, *found.interval_s)
        )
        return ThresholdForecast(
            unit=series.unit,
            outlook=found.outlook,
            probability=_finite(found.probability),
            trend=_finite(found.trend),
            expected_at_s=expected,
            earliest_at_s=earliest,
            latest_at_s=latest,
            expected_in_s=found.expected_s,
            level=found.current_level,
            slope_per_s=_finite(found.slope_per_s),
            season_s=found.season_s,
            changed_s_ago=found.change_s,
            readings=len(series.values),
            course_path=_write_course(series, found, args, ctx),
            message=found.reason,
        )

    def burn_rate(self, args: BurnRateArgs, ctx: CallContext) -> BurnRates:
        from tools.judge.outlook.burn_rate import burn_rates
        from tools.judge.outlook.forecast import said
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
        from tools.judge.outlook.anomaly import LEARNING, score_series
        from tools.judge.outlook.forecast import said
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


def write_score_series(args: SeriesArgs, scores: "Scores", reference: "Scores | None", ctx: CallContext) -> ScoreSeries:
    """The measure over time, as a file; `scores` are the labelled rows of `args.scores`.

    Raises:
        FixableError: the measure does not fit, or the times are of another file.
    """
    import numpy as np

    from tools.judge.outlook.course import course
    from tools.modeling.data import check_task, read_table, require_columns
    from tools.modeling.series import read_times, write_columns

    try:
        found = course(args.measure, check_task(args.task), scores, reference)
    except ValueError as error:
        raise FixableError(f"{error}; valid measures: a metric of the task, loss, drift") from error
    path = ctx.path(args.scores)
    frame = read_table(path)
    require_columns(frame, ["row"], path)
    labelled = frame[["y_true", "loss"]].notna().all(axis=1)
    rows = np.asarray(frame["row"][labelled])[found.last]  # positions in the scored file
    times = None
    if args.times:
        file, _, column = args.times.rpartition(":")
        times = read_times(ctx.path(file), column)
        if times is not None and len(times) <= rows[-1]:
            raise FixableError(f"{file} has {len(times)} rows, the scores reach row {rows[-1]}: of another file")
    at = rows.astype("float64") if times is None else times[rows]
    digest = hashlib.sha256(args.model_dump_json().encode()).hexdigest()[:12]
    path = ctx.workspace / f"series_{args.measure}_{digest}.parquet"
    write_columns(path, **{"row" if times is None else "time": at}, value=found.values)
    size = len(scores) / len(rows)
    return ScoreSeries(
        series_path=ctx.show(path),
        unit="rows" if times is None else "s",
        readings=len(rows),
        rows_per_reading=size,
        span=float(at[-1] - at[0]),
        overall=found.overall,
        higher_is_better=found.higher_is_better,
        message=f"{args.measure} over {len(rows)} batches of about {size:.0f} rows; {found.overall:.4g} on all.",
    )


def _write_course(series: "Series", found: "Forecast", args: ForecastArgs, ctx: CallContext) -> str:
    """The readings and the expected course, as JSON for plots."""
    import numpy as np

    now, ahead = float(series.times[-1]), []
    if found.fan is not None:
        fan = found.fan
        ahead = np.stack([now + np.array(fan.ahead_s), fan.low, fan.middle, fan.high], axis=1).tolist()
    content = {
        "unit": series.unit,
        "threshold": args.threshold,
        "side": args.side,
        "readings": np.stack([series.times, series.values], axis=1).tolist(),
        "ahead": ahead,  # time, low, median, high
    }
    digest = hashlib.sha256(args.model_dump_json().encode()).hexdigest()[:12]
    path = ctx.workspace / f"forecast_{digest}.json"
    write_json(path, content)
    return ctx.show(path)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _burn(value: float | None) -> str:
    return "no data" if value is None else f"{value:.3g}"
