"""The judge's actions on a canary: how many requests it needs, is it safe, does its promotion hold."""

from typing import Annotated, Literal

from pydantic import Field

from tools.core.arguments import Bound, Free, Metric, ReadPath, Task
from tools.core.contract import Action, Args, Data
from tools.modeling.search import Index

VerdictName = Literal["promote", "rollback", "wait"]


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
    harm_ruled_out: bool = False  # what is missing, only more requests answered by the challenger can give
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


CANARY_ACTIONS = (
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
)
