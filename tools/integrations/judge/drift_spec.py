"""The judge's action on data: did it drift."""

from typing import Annotated, Literal

from pydantic import Field

from tools.core.arguments import Bound, ReadPath
from tools.core.contract import Action, Args, Data


class DriftArgs(Args):
    """Two files; or without `current`, the counts of two data sets that another tool made."""

    # Factories keep the defaults out of the schema, which a model pays for on each request.
    reference: Annotated[ReadPath, Bound()] = Field(description="older")
    current: Annotated[ReadPath, Bound()] = Field(default_factory=str, description="newer")
    importance: Annotated[ReadPath | None, Bound()] = Field(None, description="JSON")
    scores: Annotated[list[ReadPath], Bound()] = Field(default_factory=list[str], description="before, now")
    exclude: Annotated[list[str], Bound()] = Field(default_factory=list[str], description="skip")
    alpha: Annotated[float, Bound()] = Field(default_factory=lambda: 0.01, description="level")
    min_effect: Annotated[float, Bound()] = Field(default_factory=lambda: 0.05, description="of rows")


class MovedColumn(Data):
    """A column that drifted. `effect`: share of rows that moved; `adjusted_p`: with all columns taken into account."""

    column: str
    effect: float
    adjusted_p: float
    importance: float | None  # share of all columns' importance
    change: str  # what changed, in a few words


class DriftJudgement(Data):
    """One decision on the data set. `harm`: effect weighted by importance; the largest effect where none is given.

    `severity` is by the champion's loss where labels settle it, else by `harm`; the message says which.
    """

    drifted: bool
    severity: Literal["none", "low", "moderate", "high"]
    harm: float
    loss_rise: float | None = None  # of the champion's loss per row, as a share of what it was; None: not known
    p_value: float  # of "nothing changed in any column"
    false_alarm_probability: float  # per check, at most
    checks_between_false_alarms: float  # expected, at least
    moved: list[MovedColumn]  # at most ten, the worst first
    share_drifted: float  # of the columns compared
    columns: int
    skipped: int
    reference_rows: int
    current_rows: int
    details_path: str  # JSON: every column's test, and why others were skipped
    message: str


DRIFT_ACTIONS = (
    Action(
        name="judge_drift",
        summary="Did the data drift?",
        args=DriftArgs,
        result=DriftJudgement,
        idempotent=True,
        timeout_s=600,
    ),
)
