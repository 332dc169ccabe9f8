"""What the judge can do: decide on retraining, compare two models, judge a canary, plan one.

Ranges and the task are checked by the backend: in the schema they would cost every agent tokens on every request.
"""

from typing import Annotated, Literal

from pydantic import Field

from tools.core.arguments import Bound, Free, Metric, ReadPath, Seed, Task
from tools.core.contract import Action, Args, Data, Integration
from tools.integrations.judge.ab_spec import AB_ACTIONS
from tools.integrations.judge.outlook_spec import OUTLOOK_ACTIONS
from tools.modeling.search import Index

VerdictName = Literal["promote", "rollback", "wait"]
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


class CanaryJudgeArgs(Args):
    evidence: Annotated[ReadPath, Bound()] = Field(description="evidence")
    metric: Metric = Field(description="metric")
    task: Task = Field(description="task")
    alpha: Annotated[float, Bound("goal.canary.alpha")] = Field(0.05, description="level")
    tolerance: Annotated[float | None, Bound("goal.canary.tolerance")] = Field(None, description="accepted loss")
    max_latency_ms: Annotated[float | None, Bound("goal.max_latency_ms")] = Field(None, description="p95 limit")
    max_error_rate: Annotated[float | None, Bound("goal.canary.max_error_rate")] = Field(None, description="limit")
    min_requests: Annotated[int, Bound()] = Field(100, description="labelled")
    # Factories keep the defaults out of the schema, which a model pays for on each request.
    label_delay: Annotated[Index, Bound("goal.canary.label_delay")] = Field(
        default_factory=lambda: 0, description="in requests"
    )
    min_label_share: Annotated[float, Bound("goal.canary.min_label_share")] = Field(
        default_factory=lambda: 0.9, description="labelled"
    )
    champion_holdout: Annotated[ReadPath, Bound()] = Field(default_factory=str, description="its scores")
    challenger_holdout: Annotated[ReadPath, Bound()] = Field(default_factory=str, description="its scores")


class ProbationArgs(Args):
    evidence: Annotated[ReadPath, Bound()] = Field(description="evidence Parquet")
    metric: Metric = Field(description="goal's metric")
    task: Task = Field(description="task type")
    start: Annotated[int, Bound()] = Field(0, ge=0, description="first request not judged yet")
    alpha: Annotated[float, Bound("goal.canary.alpha")] = Field(0.05, description="false alarm rate")
    tolerance: Annotated[float | None, Bound("goal.canary.tolerance")] = Field(
        None, description="accepted quality loss"
    )
    max_latency_ms: Annotated[float | None, Bound("goal.max_latency_ms")] = Field(None, description="p95 limit")
    max_error_rate: Annotated[float | None, Bound("goal.canary.max_error_rate")] = Field(
        None, description="failure limit"
    )
    label_delay: Annotated[int, Bound("goal.canary.label_delay")] = Field(0, ge=0, description="requests until labels")


class CheckResult(Data):
    """One test of harm. Rollback when `e_value` reaches `rollback_at`, at any look."""

    name: str
    harm_proven: bool
    passed: bool  # promotion may pass this check
    e_value: float
    rollback_at: float
    champion_value: float | None
    challenger_value: float | None
    unit: str


class ProxyResult(Data):
    """A sign without labels, against what the holdout led to expect. It may hold a promotion, nothing else."""

    name: str
    alarm: bool
    raised_after: int | None  # requests
    e_value: float
    alarm_at: float
    expected: float
    observed: float | None
    unit: str


class CanaryVerdict(Data):
    """The verdict and its evidence. `difference` is champion's minus challenger's loss: positive is better."""

    verdict: VerdictName
    reasons: list[str]
    requests: int
    labelled: int  # requests whose label counts: they are older than the labels' delay
    mature: int  # requests older than the labels' delay
    label_share: float | None  # labelled share of them
    held: bool  # a proxy's alarm holds the promotion until the labels decide
    served_by_challenger: int
    measure: str
    champion_value: float | None
    challenger_value: float | None
    difference: float | None
    difference_low: float | None  # confidence sequence at level 1 - alpha, valid at every look
    difference_high: float | None
    disagreement: float | None  # share of labelled requests on which the two models' losses differ
    checks: list[CheckResult]
    proxies: list[ProxyResult]
    champion_digest: str | None  # SHA-256 over the files of the models that answered
    challenger_digest: str | None
    evidence_digest: str  # SHA-256 of the evidence file as it was judged
    trajectory_path: str | None  # JSON: the e-values, interval and verdict at up to 60 looks
    message: str


class ProbationVerdict(Data):
    """What the requests say that were not judged before the promotion. `restore`: harm is proven.

    `confirmed`: quality is proven again to be within the tolerance. `open`: neither, with the labels there are.
    """

    verdict: Literal["restore", "confirmed", "open"]
    reasons: list[str]
    requests: int
    labelled: int
    champion_digest: str | None  # of the new champion
    evidence_digest: str
    label_share: float | None
    measure: str
    former_value: float | None
    champion_value: float | None
    checks: list[CheckResult]
    message: str


class PlanArgs(Args):
    loss: Annotated[float, Free("a plan decides nothing")] = Field(description="loss of accuracy to find")
    disagreement: Annotated[float, Free("a plan decides nothing")] = Field(
        0.1, description="share where one model errs"
    )
    alpha: Annotated[float, Free("a plan decides nothing")] = Field(0.05, description="false rollback rate")


class CanaryPlan(Data):
    labelled_requests: int  # to find the loss with even odds
    message: str


class DriftArgs(Args):
    """Two files; or without `current`, the counts of two data sets that another tool made."""

    reference: Annotated[ReadPath, Bound()] = Field(description="older")
    current: Annotated[ReadPath, Bound()] = Field("", description="newer")
    importance: Annotated[ReadPath | None, Bound()] = Field(None, description="JSON by column")
    exclude: Annotated[list[str], Bound()] = Field(default_factory=list[str], description="skip")
    alpha: Annotated[float, Bound()] = Field(0.01, description="false alarm rate")
    min_effect: Annotated[float, Bound()] = Field(0.05, description="share of rows")


class MovedColumn(Data):
    """A column that drifted. `effect`: share of rows that moved; `adjusted_p`: with all columns taken into account."""

    column: str
    effect: float
    adjusted_p: float
    importance: float | None  # share of all columns' importance
    change: str  # what changed, in a few words


class DriftJudgement(Data):
    """One decision on the data set. `harm`: effect weighted by importance; the largest effect where none is given."""

    drifted: bool
    severity: Literal["none", "low", "moderate", "high"]
    harm: float
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


SPEC = Integration(
    name="judge",
    title="Judge",
    summary="Decides on retraining, comparison and canaries from scores and evidence.",
    actions=(
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
            name="compare_models",
            summary="Paired test: is the challenger better?",
            args=CompareArgs,
            result=ModelComparison,
            idempotent=True,
        ),
        Action(
            name="judge_canary",
            summary="Promote, rollback or wait.",
            args=CanaryJudgeArgs,
            result=CanaryVerdict,
            idempotent=True,
        ),
        Action(
            name="judge_probation",
            summary="After a promotion: keep or restore?",
            args=ProbationArgs,
            result=ProbationVerdict,
            idempotent=True,
        ),
        Action(
            name="plan_canary",
            summary="Labelled requests needed to find a loss.",
            args=PlanArgs,
            result=CanaryPlan,
            idempotent=True,
        ),
        Action(
            name="judge_drift",
            summary="Did the data drift?",
            args=DriftArgs,
            result=DriftJudgement,
            idempotent=True,
            timeout_s=600,
        ),
        Action(
            name="estimate_performance",
            summary="Metric without labels.",
            args=PerformanceArgs,
            result=PerformanceEstimate,
            idempotent=True,
        ),
        *OUTLOOK_ACTIONS,
        *AB_ACTIONS,
    ),
    backend="tools.integrations.judge.backend:JudgeBackend",
    requires=("numpy", "scipy", "pandas"),
    imports=("scipy",),
)
