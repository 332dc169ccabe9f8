"""The judge's actions on series: make one of scores, forecast a crossing, burn rates, anomalies."""

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.integrations.judge.details import details_path, write_details
from tools.integrations.judge.outlook_spec import (
    AnomalyArgs,
    BurnRateArgs,
    BurnRates,
    ForecastArgs,
    ScoreSeries,
    SeriesAlarm,
    SeriesAnomalies,
    SeriesArgs,
    ThresholdForecast,
    WindowBurn,
)

if TYPE_CHECKING:
    from tools.judge.estimates import Scores
    from tools.judge.outlook.anomaly import Alarm, Anomalies
    from tools.judge.outlook.burn_rate import Burn, BurnReport
    from tools.judge.outlook.forecast import Forecast
    from tools.modeling.series import Series

RECENT = 30  # newest readings in which an alarm is still news


class OutlookActions(Backend):
    """Series of scores, and looks ahead from a series."""

    def score_series(self, args: SeriesArgs, ctx: CallContext) -> ScoreSeries:
        from tools.integrations.judge.readers import read_scores
        from tools.modeling.data import check_task

        task = check_task(args.task)
        reference = read_scores(ctx.path(args.reference), task) if args.reference else None
        return _write_score_series(args, read_scores(ctx.path(args.scores), task), reference, ctx)

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
        return BurnRates(
            severity=found.severity,
            windows=windows,
            budget_gone_in_s=found.exhausted_in_s,
            message=burn_words(found),
        )

    def find_anomalies(self, args: AnomalyArgs, ctx: CallContext) -> SeriesAnomalies:
        from tools.judge.outlook.anomaly import find_anomalies
        from tools.modeling.series import read_series

        series = read_series(ctx.path(args.series))
        found = find_anomalies(series.times, series.values)
        size = len(series.values)
        recent = [alarm for alarm in found.alarms if alarm.position >= size - RECENT]
        newest = recent[-1] if recent else None
        return SeriesAnomalies(
            unit=series.unit,
            unusual=newest is not None if found.judged else None,
            unusual_since=None if newest is None else float(series.times[newest.position]),
            readings=size,
            judged=found.judged,
            alarms=[
                SeriesAlarm(
                    at=float(series.times[alarm.position]),
                    value=alarm.value,
                    score=alarm.score,
                    once_in=alarm.once_in,
                    usual_low=alarm.usual[0],
                    usual_high=alarm.usual[1],
                )
                for alarm in found.alarms
            ],
            message=_anomaly_message(series, found, newest),
        )


def _anomaly_message(series: "Series", found: "Anomalies", newest: "Alarm | None") -> str:
    remarks = list(found.remarks)
    if series.left_out:
        remarks.append(f"{series.left_out} of its readings are missing or infinite and left out")
    if not found.judged:
        told = ""  # a remark says why
    elif newest is not None:
        low, high = newest.usual
        since = _moment(series, newest.position)
        told = (
            f"unusual since {since}: {newest.value:.4g} where {low:.4g} to {high:.4g} is usual"
            f" (score {newest.score:.4f}: once in {newest.once_in:,.0f} points)"
        )
    else:
        told = f"as usual over the newest {min(RECENT, found.judged)} points"
        if found.alarms:
            told += f"; last unusual at {_moment(series, found.alarms[-1].position)}"
    return f"{'; '.join([told, *remarks] if told else remarks)}."


def _moment(series: "Series", position: int) -> str:
    """A reading's time for people: the clock's where the series has one, with the date where the day is another."""
    from tools.modeling.series import UNIX_S

    at, last = float(series.times[position]), float(series.times[-1])
    if series.unit == "rows":
        return f"row {at:.0f}"
    if not UNIX_S[0] <= at <= UNIX_S[1]:
        return f"{at:g} s"
    when = datetime.fromtimestamp(at, UTC)
    same_day = when.date() == datetime.fromtimestamp(last, UTC).date()
    return f"{when:%H:%M} UTC" if same_day else f"{when:%Y-%m-%d %H:%M} UTC"


def _write_score_series(
    args: SeriesArgs, scores: "Scores", reference: "Scores | None", ctx: CallContext
) -> ScoreSeries:
    """The measure over time, as a file; `scores` are the labelled rows of `args.scores`.

    Raises:
        FixableError: the measure does not fit, or the times are of another file.
    """
    from tools.integrations.judge.readers import read_clock, read_labelled_positions
    from tools.judge.outlook.course import course
    from tools.modeling.data import check_task
    from tools.modeling.series import write_columns

    try:
        found = course(args.measure, check_task(args.task), scores, reference)
    except ValueError as error:
        raise FixableError(f"{error}; valid measures: a metric of the task, loss, drift") from error
    rows = read_labelled_positions(ctx.path(args.scores))[found.last]
    times = read_clock(args.times, ctx, int(rows[-1])) if args.times else None
    at = rows.astype("float64") if times is None else times[rows]
    path = details_path(f"series_{args.measure}", args, ctx, suffix="parquet")
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
    return write_details("forecast", content, args, ctx)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def burn_words(found: "BurnReport") -> str:
    """The alert, when a whole budget is gone at its rate, and how fast each window burns."""
    from tools.judge.outlook.forecast import said

    covered, longest = max((burn.covered_s, burn.rule.long_s) for burn in found.burns)
    told = "; ".join(_window_words(burn, found.slo) for burn in found.burns)
    if not covered:
        told += "; there is one reading only"
    elif said(covered) != said(longest):
        told += f"; the readings reach back {said(covered)} only"
    if found.severity is None:
        return f"No burn-rate alert. Burn: {told}."
    alert = f"Burn-rate alert ({found.severity})"
    if found.fastest is not None and found.exhausted_in_s is not None:
        window = f"last {said(found.fastest.covered_s)}" if covered else "one reading there is"
        alert += f": at the rate of the {window} a whole 30-day budget lasts {said(found.exhausted_in_s)}"
    return f"{alert}. Burn: {told}."


def _window_words(burn: "Burn", slo: float) -> str:
    """How fast a rule's two windows burn, and where its limit is."""
    from tools.judge.outlook.forecast import said

    limit = f"limit {burn.rule.rate:g}"
    if burn.rule.rate * (1 - slo) > 1:
        limit += f", which no burn reaches at an objective of {slo:g}"
    if burn.long_burn is None:
        return f"no data over {said(burn.rule.long_s)} ({limit})"
    return (
        f"{_burn(burn.long_burn)} over {said(burn.rule.long_s)} and {_burn(burn.short_burn)} over "
        f"{said(burn.rule.short_s)} ({limit})"
    )


def _burn(value: float | None) -> str:
    if value is None:
        return "no data"
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"
