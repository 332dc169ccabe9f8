"""The judge's actions on A/B tests: plan one, judge one."""

from typing import Annotated, Literal

from pydantic import Field

from tools.core.arguments import Bound, ReadPath
from tools.core.contract import Action, Args, Data

AbVerdictName = Literal["challenger_wins", "champion_wins", "no_relevant_gain", "keep_running", "invalid"]


class AbPlanArgs(Args):
    mde: Annotated[float, Bound()] = Field(description="smallest difference that matters")
    percent: Annotated[float, Bound()] = Field(50.0, description="challenger's share")
    history: Annotated[ReadPath | None, Bound()] = Field(None, description="CSV/Parquet")
    outcome: Annotated[str, Bound()] = Field("outcome", description="its column")
    unit: Annotated[str | None, Bound()] = Field(None, description="its unit column")
    variance: Annotated[float | None, Bound()] = Field(None, description="without history")
    alpha: Annotated[float, Bound()] = Field(0.05, description="two-sided")
    power: Annotated[float, Bound()] = Field(0.8, description="at the mde")
    units_per_day: Annotated[float | None, Bound()] = Field(None, description="new units")
    available: Annotated[int | None, Bound()] = Field(None, description="units there are")
    max_days: Annotated[float | None, Bound()] = Field(None, description="limit")


class AbPlan(Data):
    """What a sequential test needs. Units are totals over both variants where they do not say otherwise."""

    feasible: bool  # with the units and days there are
    units: int  # an effect of the mde is found with the asked power
    champion_units: int
    challenger_units: int
    typical_units: int  # half of the tests with such an effect end earlier
    typical_units_if_equal: int  # half of the tests with no effect end earlier
    fixed_units: int  # what a test looked at once would need
    smallest_mde: float | None  # what the available units can find with this power; None: nobody said how many
    days: int | None  # whole weeks
    mean: float | None  # of the history's outcomes
    variance: float  # of one unit's outcome
    plan_path: str  # JSON, which defines the test
    message: str


class AbJudgeArgs(Args):
    units: Annotated[ReadPath, Bound()] = Field(description="units Parquet of the ab_test integration")
    design: Annotated[ReadPath, Bound()] = Field(description="its test JSON")


class AbSegment(Data):
    """One segment, at a level corrected for their number. Differences are positive where the challenger is better."""

    name: str
    units: int
    champion_value: float | None
    challenger_value: float | None
    difference: float | None
    low: float | None
    high: float | None
    harmed: bool
    better: bool


class AbGuardrail(Data):
    name: str
    champion_value: float | None
    challenger_value: float | None
    e_value: float
    harmed_at: float
    harmed: bool


class AbVerdict(Data):
    """The verdict. `low` and `high` hold at every look; None: nothing is known yet."""

    verdict: AbVerdictName
    reasons: list[str]
    warnings: list[str]
    units: int
    champion_units: int
    challenger_units: int
    decided_at_units: int | None
    champion_value: float | None
    challenger_value: float | None
    difference: float | None  # positive where the challenger is better
    low: float | None
    high: float | None
    ratio_e_value: float  # sample ratio mismatch from 1,000 on
    harmed_segments: list[str]
    segments: list[AbSegment]
    guardrails: list[AbGuardrail]
    message: str


AB_ACTIONS = (
    Action(
        name="plan_ab_test",
        summary="Units and days an A/B test needs.",
        args=AbPlanArgs,
        result=AbPlan,
        idempotent=True,
    ),
    Action(
        name="judge_ab_test",
        summary="Sequential verdict of an A/B test, per segment.",
        args=AbJudgeArgs,
        result=AbVerdict,
        idempotent=True,
    ),
)
