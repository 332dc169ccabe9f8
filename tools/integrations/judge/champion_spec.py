"""The judge's actions on a champion: is it still good, does retraining pay, is a challenger better."""

from typing import Annotated, Literal

from pydantic import Field

from tools.core.arguments import Bound, Metric, ReadPath, Seed, Task
from tools.core.contract import Action, Args, Data

UrgencyName = Literal["none", "watch", "soon", "now"]


class RetrainingArgs(Args):
    reference_scores: Annotated[ReadPath, Bound()] = Field(description="champion's scores before")
    current_scores: Annotated[ReadPath, Bound()] = Field(description="its scores now")
    metric: Metric = Field(description="goal's metric")
    task: Task = Field(description="task type")
    min_metric: Annotated[float | None, Bound("goal.min_metric")] = Field(None, description="goal's minimum")
    drift_share: Annotated[float | None, Bound()] = Field(None, description="share of drifted columns")
    alpha: Annotated[float, Bound()] = Field(0.01, description="false alarm rate")


class RetrainingDecision(Data):
    """Whether to act, and the numbers. Losses per row: log loss, or absolute error for regression."""

    act: bool
    urgency: UrgencyName
    reference_value: float
    current_value: float
    loss_increase: float
    loss_increase_low: float  # two-sided interval at level 1 - alpha
    loss_increase_high: float
    p_value: float  # adjusted for the number of tests
    breached_minimum: bool
    reference_rows: int
    current_rows: int
    reasons: list[str]
    message: str


class RetrainingPlanArgs(Args):
    reference_scores: Annotated[ReadPath, Bound()] = Field(description="champion's scores before")
    current_scores: Annotated[ReadPath, Bound()] = Field(description="its scores now")
    task: Task = Field(description="task type")
    cost: Annotated[float, Bound("goal.retrain.cost")] = Field(
        description="of retraining, in rows answered without a model"
    )
    horizon: Annotated[int | None, Bound("goal.retrain.horizon")] = Field(
        None, description="rows ahead; none: as many as now"
    )
    train_rows: Annotated[int | None, Bound()] = Field(None, description="first current rows, for training")


class RetrainingPlan(Data):
    """Whether retraining pays. Savings are in rows answered without a model, like the cost."""

    pays: bool
    enough_rows: bool  # since the change, to learn it from
    window: str  # what to train on: all, recent, weighted or newest:N
    savings: float  # forecast over the horizon, the most a retraining can win
    savings_low: float  # 90 % interval
    savings_high: float
    probability: float  # that the savings are above the cost
    course: Literal["none", "sudden", "gradual", "before"]
    change_row: int | None  # of the current rows, from 0; None where there is no sudden change
    new_rows: int  # to train on, since the change
    probe: list[str] = Field(default_factory=list[str])  # windows to try a new model on; none: too few new rows
    reasons: list[str]
    message: str


class GainArgs(Args):
    reference_scores: Annotated[ReadPath, Bound()] = Field(description="champion's scores before")
    current_scores: Annotated[ReadPath, Bound()] = Field(description="its scores now")
    probe_scores: Annotated[ReadPath, Bound()] = Field(description="quick models' scores of the newest rows")
    metric: Metric = Field(description="goal's metric")
    task: Task = Field(description="task type")
    cost: Annotated[float, Bound("goal.retrain.cost")] = Field(
        description="of retraining, in rows answered without a model"
    )
    min_gain: Annotated[float, Bound("goal.retrain.min_gain")] = Field(description="share of reference_rows to win")
    reference_rows: Annotated[int, Bound()] = Field(description="rows that are there from before")
    horizon: Annotated[int | None, Bound("goal.retrain.horizon")] = Field(
        None, description="rows ahead; none: as many as now"
    )


class RetrainingGain(Data):
    """What a new model would win over the champion. Gains are positive where it is better; intervals hold them with
    probability 0.98; savings and what is needed are in rows answered without a model."""

    wins: bool
    window: str | None  # to train on; None where nothing could be tested
    gain: float  # of the loss per row
    gain_low: float
    gain_high: float
    p_value: float  # one-sided, against no gain
    metric_gain: float
    metric_gain_low: float
    metric_gain_high: float
    savings: float
    needed: float
    rows: int  # compared on
    reasons: list[str]
    message: str


class CompareArgs(Args):
    champion_scores: Annotated[ReadPath, Bound()] = Field(description="scores Parquet")
    challenger_scores: Annotated[ReadPath, Bound()] = Field(description="same rows")
    metric: Metric = Field(description="goal's metric")
    task: Task = Field(description="task type")
    alpha: Annotated[float, Bound()] = Field(0.05, description="two-sided level")
    min_effect: Annotated[float, Bound()] = Field(0.0, description="smallest gain that counts")


class ModelComparison(Data):
    """A paired comparison. `difference` and its interval are positive where the challenger is better."""

    better: bool
    champion_value: float
    challenger_value: float
    difference: float
    difference_low: float  # two-sided interval at level 1 - alpha
    difference_high: float
    p_value: float
    rows: int
    champion_digest: str | None  # SHA-256 over the files of the models that were scored
    challenger_digest: str | None
    rows_digest: str | None  # SHA-256 of the file of the rows
    method: str
    reason: str
    message: str


class PerformanceArgs(Args):
    reference_scores: Annotated[ReadPath, Bound()] = Field(description="labelled")
    current_scores: Annotated[ReadPath, Bound()] = Field(description="newer")
    metric: Metric = Field(description="metric")
    task: Task = Field(description="task")
    seed: Seed = Field(0, description="seed")


class PerformanceEstimate(Data):
    """The metric on the current rows without a label (on all of them when all have one), with its interval at 95 %.

    `unexplained_p` is small when the labels that are there do not go with the scores as before: a change of concept,
    after which the estimate cannot be trusted.
    """

    reference_value: float
    estimated_value: float
    estimated_low: float
    estimated_high: float
    actual_value: float | None  # on the labelled rows; None with fewer than 30
    actual_low: float | None
    actual_high: float | None
    unexplained_p: float | None
    trusted: bool | None  # False: the labels contradict the estimate; None: fewer than 30 labels
    rows: int  # that the estimate is of
    labelled_rows: int
    method: str
    message: str


CHAMPION_ACTIONS = (
    Action(
        name="decide_retraining",
        summary="Test whether the champion got worse.",
        args=RetrainingArgs,
        result=RetrainingDecision,
        idempotent=True,
    ),
    Action(
        name="plan_retraining",
        summary="Does retraining pay, on which rows?",
        args=RetrainingPlanArgs,
        result=RetrainingPlan,
        idempotent=True,
    ),
    Action(
        name="weigh_gain",
        summary="Would a new model win enough?",
        args=GainArgs,
        result=RetrainingGain,
        idempotent=True,
    ),
    Action(
        name="compare_models",
        summary="Paired test: is the challenger better?",
        args=CompareArgs,
        result=ModelComparison,
        idempotent=True,
    ),
    Action(
        name="estimate_performance",
        summary="Metric without labels.",
        args=PerformanceArgs,
        result=PerformanceEstimate,
        idempotent=True,
    ),
)
