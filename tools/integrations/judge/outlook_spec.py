"""The judge's actions on metric series: make one of scores, forecast a crossing, burn rates, anomalies."""

from typing import Annotated, Literal

from pydantic import Field

from tools.core.arguments import Bound, FileAndColumn, ReadPath, Task
from tools.core.contract import Action, Args, Data

OutlookName = Literal["crossing", "crossed", "no_crossing", "not_forecastable"]
Unit = Literal["s", "rows"]
SERIES = "range JSON or CSV (time,value)"


class SeriesArgs(Args):
    scores: Annotated[ReadPath, Bound()] = Field(description="scores Parquet")
    measure: Annotated[str, Bound()] = Field(description="metric, loss, drift")
    task: Task = Field(description="task type")
    reference: Annotated[ReadPath, Bound()] = Field("", description="for drift")
    times: Annotated[FileAndColumn, Bound()] = Field("", description="file:column")


class ScoreSeries(Data):
    """A measure of scored rows over time, one reading per batch of neighbouring rows."""

    series_path: str  # Parquet: time (Unix seconds) or row, and value
    unit: Unit
    readings: int
    rows_per_reading: float
    span: float  # from the first reading to the last, in the unit
    overall: float  # on all rows together
    higher_is_better: bool
    message: str


class ForecastArgs(Args):
    series: Annotated[ReadPath, Bound()] = Field(description=SERIES)
    threshold: Annotated[float, Bound()] = Field(description="value to reach")
    horizon_s: Annotated[float, Bound()] = Field(3600.0, description="ahead")
    side: Annotated[Literal["above", "below"], Bound()] = Field("above", description="bad side")


class ThresholdForecast(Data):
    """When the level crosses the threshold. Times are the series' (Unix seconds, or rows); None: beyond 3 horizons."""

    unit: Unit
    outlook: OutlookName
    probability: float | None  # of crossing within the horizon; None where it cannot be forecast
    trend: float | None  # probability that the level, without season, moves towards the threshold until the horizon
    expected_at_s: float | None
    earliest_at_s: float | None  # 90 % interval of the first crossing
    latest_at_s: float | None
    expected_in_s: float | None  # after the last reading
    level: float
    slope_per_s: float | None
    season_s: float | None  # period of the repeating pattern that was taken into account
    changed_s_ago: float | None  # an abrupt change, if one forbids a forecast
    readings: int
    course_path: str  # JSON: the readings, and the level expected after them with its interval
    message: str


class BurnRateArgs(Args):
    series: Annotated[ReadPath, Bound()] = Field(description="error shares: " + SERIES)
    slo: Annotated[float, Bound("goal.slo")] = Field(description="e.g. 0.999")


class WindowBurn(Data):
    """A rule fires when both windows burn the error budget at `rate` or faster."""

    rate: float
    long_window_s: float
    short_window_s: float
    long_burn: float | None  # None: no reading in the window
    short_burn: float | None
    covered_s: float  # how much of the long window has readings
    severity: Literal["page", "ticket"]
    firing: bool


class BurnRates(Data):
    """The alerts of the SRE workbook (30-day budget) at the last reading."""

    severity: Literal["page", "ticket"] | None  # the worst that fires
    windows: list[WindowBurn]
    budget_gone_in_s: float | None  # a whole budget, at the burn of the fastest rule that fires
    message: str


class AnomalyArgs(Args):
    series: Annotated[ReadPath, Bound()] = Field(description=SERIES)


class SeriesAlarm(Data):
    """One reading that is unusual; it is information, and proves no harm."""

    at: float  # in the series' unit
    value: float  # of a counter: the increase
    score: float  # 1 - 1 / once_in
    once_in: float  # on quiet series one such reading in so many
    usual_low: float  # 90 % of the readings before
    usual_high: float


class SeriesAnomalies(Data):
    """Readings that are unusual against those before them, judged as they came."""

    unit: Unit
    unusual: bool | None  # whether one of the newest 30 readings is; None: too few to judge
    unusual_since: float | None  # its time
    readings: int
    judged: int
    alarms: list[SeriesAlarm]  # all, oldest first
    message: str


OUTLOOK_ACTIONS = (
    Action(
        name="score_series",
        summary="Scores as a series.",
        args=SeriesArgs,
        result=ScoreSeries,
        idempotent=True,
    ),
    Action(
        name="forecast_threshold",
        summary="When will a metric cross a threshold?",
        args=ForecastArgs,
        result=ThresholdForecast,
        idempotent=True,
    ),
    Action(
        name="burn_rate",
        summary="Is an SLO's error budget burning too fast?",
        args=BurnRateArgs,
        result=BurnRates,
        idempotent=True,
    ),
    Action(
        name="find_anomalies",
        summary="Is a metric unusual?",
        args=AnomalyArgs,
        result=SeriesAnomalies,
        idempotent=True,
    ),
)
