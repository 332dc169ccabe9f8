"""The goal of a run, as `config/goal.yaml` states it: data, target, metric, constraints, budget, how to train."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MINIMIZED_METRICS = frozenset({"mae", "rmse", "mape", "log_loss"})
_OF_CLASSES = ("accuracy", "balanced_accuracy", "f1", "roc_auc", "log_loss")
# The metrics of each kind of model, as `tools.modeling.metrics` defines them.
METRICS: dict[str, tuple[str, ...]] = {
    "binary": (*_OF_CLASSES, "average_precision"),
    "multiclass": _OF_CLASSES,
    "regression": ("mae", "rmse", "r2", "mape"),
}


class Section(BaseModel):
    """Base of the goal's sections: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(Section):
    """Where the data is: `reference` and `current` (CSV or Parquet), or one `source` split in time order.

    `on_bad_rows`: `stop` ends the run when rows fail critical checks; `quarantine` sets them aside and goes on.
    """

    reference: str = ""
    current: str = ""
    source: str = ""
    time_column: str = ""
    reference_share: float = Field(default=0.5, gt=0.05, lt=0.95)
    baseline_share: float = Field(default=0.8, ge=0.5, le=0.95)
    drop: list[str] = Field(default_factory=list[str])
    on_bad_rows: Literal["stop", "quarantine"] = "stop"
    max_null_share: float = Field(default=0.05, ge=0, lt=1)
    suite: str = ""

    @model_validator(mode="after")
    def _one_form(self) -> "DataSection":
        pair = bool(self.reference) and bool(self.current)
        if bool(self.reference) != bool(self.current):
            raise ValueError("give both reference and current, or source")
        if pair == bool(self.source):
            raise ValueError("give either reference and current, or source")
        return self


class Constraints(Section):
    """What a challenger must keep to. None: no bound. `max_latency_ms` is the 95th percentile of one prediction."""

    max_latency_ms: float | None = Field(default=None, gt=0)
    max_size_mib: float | None = Field(default=None, gt=0)
    min_metric: float | None = None


class Budget(Section):
    """What a run may spend: trials of each search, and minutes of each search."""

    search_trials: int = Field(default=20, ge=1)
    tuning_trials: int = Field(default=15, ge=1)
    minutes: float = Field(default=10, gt=0)


class TrainSection(Section):
    """How to train: `builtin`, `module:function`, or `command: ...`. `space` is what a search may vary of your own
    trainer: `{name: {type: float|int, low, high, log}}` or `{name: {type: categorical, choices}}`."""

    trainer: str = "builtin"
    space: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    tuner: Literal["auto", "hyperopt", "ray"] = "auto"

    @field_validator("trainer")
    @classmethod
    def _known_form(cls, value: str) -> str:
        if value == "builtin" or value.startswith("command:"):
            return value
        module, _, function = value.partition(":")
        if module and function and all(part.isidentifier() for part in (*module.split("."), function)):
            return value
        raise ValueError("must be builtin, module:function, or 'command: ...'")

    @property
    def builtin(self) -> bool:
        return self.trainer == "builtin"


class SyntheticSection(Section):
    """Synthetic rows for training, made only when `rows` is above 0."""

    rows: int = Field(default=0, ge=0)
    balance: bool = False


class CanarySection(Section):
    """The canary: its share of traffic, how many requests between two looks, and what the judge accepts."""

    percent: float = Field(default=5.0, gt=0, le=50)
    batch_requests: int = Field(default=200, ge=20)
    max_requests: int = Field(default=2000, ge=20)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    tolerance: float | None = Field(default=None, ge=0)
    max_error_rate: float | None = Field(default=None, ge=0, le=1)


class ABTestSection(Section):
    """An A/B test between the canary and the release; absent: none.

    `unit`: the column that is routed by and counted once, for example a customer's id. `outcome`: `error` (1 for a
    wrong or missing answer), `loss`, or a column of the live data; empty: error, or loss for regression. `direction`
    and `upper` (its largest value; the smallest is 0) belong to a column. `mde`: the smallest difference that matters.
    `on_underpowered`: what to do when the live rows cannot reach the power: `stop` starts no test and keeps the
    champion, `run` goes on and may end without a verdict.
    """

    unit: str = Field(min_length=1)
    percent: float = Field(default=50.0, gt=0, le=50)
    outcome: str = ""
    direction: Literal["maximize", "minimize"] | None = None
    upper: float | None = Field(default=None, gt=0)
    segment: str = ""
    guardrails: list[str] = Field(default_factory=lambda: ["failed"])
    mde: float = Field(gt=0)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    power: float = Field(default=0.8, gt=0, lt=0.97)
    batch_requests: int = Field(default=500, ge=20)
    max_requests: int = Field(default=100_000, ge=20)
    max_days: float | None = Field(default=None, gt=0)
    on_underpowered: Literal["stop", "run"] = "stop"

    @model_validator(mode="after")
    def _direction_of_a_column(self) -> "ABTestSection":
        if self.of_answers and (self.direction == "maximize" or self.upper is not None):
            raise ValueError("direction and upper belong to an outcome that is a column; error and loss are minimized")
        if not self.of_answers and self.direction is None:
            raise ValueError(f"the outcome {self.outcome!r} is a column: say its direction, maximize or minimize")
        return self

    @property
    def of_answers(self) -> bool:
        """Whether the outcome is measured on the answers, not read from a column."""
        return self.outcome in ("", "error", "loss")


class Goal(Section):
    """One goal. `model` is the registered model's name (default: `name`); `metric` sets its own direction, which
    `direction`, when given, must match."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    description: str = ""
    task: Literal["binary", "multiclass", "regression"]
    target: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    direction: Literal["maximize", "minimize"] | None = None
    model: str = ""
    data: DataSection
    constraints: Constraints = Constraints()
    budget: Budget = Budget()
    train: TrainSection = TrainSection()
    synthetic: SyntheticSection = SyntheticSection()
    canary: CanarySection = CanarySection()
    ab_test: ABTestSection | None = None

    @model_validator(mode="after")
    def _metric_fits(self) -> "Goal":
        if self.metric not in METRICS[self.task]:
            raise ValueError(
                f"metric {self.metric!r} is not one of a {self.task} model; valid: {', '.join(METRICS[self.task])}"
            )
        if self.ab_test and self.ab_test.outcome == "error" and self.task == "regression":
            raise ValueError("ab_test.outcome error is of classes; valid for regression: loss, or a column")
        own = "minimize" if self.minimize else "maximize"
        if self.direction not in (None, own):
            raise ValueError(f"direction {self.direction} does not fit the metric {self.metric}: it is to {own}")
        return self

    @property
    def minimize(self) -> bool:
        """Whether a smaller value of the metric is better."""
        return self.metric in MINIMIZED_METRICS

    @property
    def registered_model(self) -> str:
        return self.model or self.name

    def placeholders(self) -> dict[str, str]:
        """What a task's description may name in braces."""
        data = self.data.source or f"{self.data.reference} (reference) and {self.data.current} (current)"
        return {
            "name": self.name,
            "goal": self.description or self.name,
            "task": self.task,
            "target": self.target,
            "metric": self.metric,
            "model": self.registered_model,
            "data": data,
            "drop": ", ".join(self.data.drop) or "nothing",
            "on_bad_rows": self.data.on_bad_rows,
            "synthetic": str(self.synthetic.rows),
            "search_trials": str(self.budget.search_trials),
            "tuning_trials": str(self.budget.tuning_trials),
            "canary_percent": f"{self.canary.percent:g}",
            "ab_percent": f"{self.ab_test.percent:g}" if self.ab_test else "0",
            "ab_unit": self.ab_test.unit if self.ab_test else "no unit",
        }
