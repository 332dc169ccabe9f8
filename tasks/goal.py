"""The goal of a run, as `config/goal.yaml` states it: data, target, metric, constraints, budget, how to train."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tools.modeling.accepted import check_accepted, is_accepted
from tools.modeling.output_settings import OutputSettings
from tools.modeling.reading.settings import ReadSettings

MINIMIZED_METRICS = frozenset({"mae", "rmse", "mape", "log_loss"})
_OF_CLASSES = ("accuracy", "balanced_accuracy", "f1", "log_loss")
# The metrics of each kind of model, as `tools.modeling.metrics` defines them and `tools.judge` can judge by.
METRICS: dict[str, tuple[str, ...]] = {
    "binary": (*_OF_CLASSES, "roc_auc", "average_precision"),
    "multiclass": _OF_CLASSES,
    "regression": ("mae", "rmse", "r2", "mape"),
}
# The fairness measures of each kind of model, as `tools.modeling.fairness` defines them.
FAIRNESS_MEASURES: dict[str, tuple[str, ...]] = {
    "binary": ("demographic_parity", "equal_opportunity", "equalized_odds", "error_rate"),
    "multiclass": ("error_rate",),
    "regression": ("mae",),
}


Objective = Literal["quality", "latency", "size", "fairness"]
BALANCED = "balanced"


def _label(value: Any) -> Any:
    """A label as text, however YAML read it: 1, true and 1.0 are labels too."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, bool | int | float) else value


class Section(BaseModel):
    """Base of the goal's sections: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(Section):
    """Where the data is: `reference` and `current` (CSV or Parquet), or one `source` split in time order.

    `on_bad_rows`: `stop` ends the run when rows fail critical checks; `quarantine` sets them aside and goes on.
    `roots`: further folders that calls may read data from and write restored versions into, besides those that hold the
    files named here.
    `unlabelled`: current rows without a label fail the checks (`reject`), or are kept apart and the champion's metric
    on them is estimated (`estimate`).
    `read`: how the files are to be read, where they leave a doubt.
    `labels`: label as it is written -> the label that it means, where spelling alone does not tell.
    `accept`: findings that would stop the run and are right here, as `tools.modeling.accepted` lists them.
    """

    reference: str = ""
    current: str = ""
    source: str = ""
    time_column: str = ""
    reference_share: float = Field(default=0.5, gt=0.05, lt=0.95)
    baseline_share: float = Field(default=0.8, ge=0.5, le=0.95)
    drop: list[str] = Field(default_factory=list[str])
    on_bad_rows: Literal["stop", "quarantine"] = "stop"
    unlabelled: Literal["reject", "estimate"] = "reject"
    max_null_share: float = Field(default=0.05, ge=0, lt=1)
    read: ReadSettings = ReadSettings()
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    accept: list[str] = Field(default_factory=list[str])
    suite: str = ""
    roots: list[str] = Field(default_factory=list[str])

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_as_text(cls, value: Any) -> Any:
        return {_label(k): _label(v) for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("accept")
    @classmethod
    def _can_be_accepted(cls, value: list[str]) -> list[str]:
        return check_accepted(value)

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


class FairnessSection(Section):
    """Which groups a model must treat alike, by which measure, and the largest difference between two of them. `column`
    may be one that `data.drop` keeps from the model. None: the gap is measured and reported, and bounds nothing."""

    column: str = Field(min_length=1)
    measure: str = "demographic_parity"
    max_gap: float | None = Field(default=None, gt=0)


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


class RetrainSection(Section):
    """What a retraining must pay for. `cost` is in rows answered without a model: 200 means that a retraining is worth
    it when it saves as much loss as having no model for 200 rows (only the usual share of each label, or the median).
    It is weighed against the loss forecast for the next `horizon_rows` rows (none: as many as the current data has).
    `min_gain`: where the champion is not proven worse, a new model must win at least that share of the reference rows
    over the same rows, in rows answered without a model, and the cost too."""

    cost: float = Field(default=50.0, ge=0)
    min_gain: float = Field(default=0.03, ge=0)
    horizon_rows: int | None = Field(default=None, ge=1)


class SyntheticSection(Section):
    """Synthetic rows for training, made only when `rows` is above 0."""

    rows: int = Field(default=0, ge=0)
    balance: bool = False


class CanarySection(Section):
    """The canary: its share of traffic, how many requests between two looks, and what the judge accepts.

    `percent`: the share it starts with. Once all harm is ruled out but what only requests that the challenger answers
    can rule out, it doubles at each look up to `max_percent`; one not above `percent` raises nothing.
    `at_deadline`: what is preferred when the requests are used up and the judge is not sure. None: a person is asked.
    `label_delay_requests`: a request's label is known once that many later ones were sent; 0 means at once. `labels`:
    your own table of request_id and label (CSV or Parquet), read before every look; empty: the simulation writes it.
    `min_label_share`: share of the requests that old which need a label before a promotion. `segment`: column whose
    groups are judged one by one. `probation_requests`: requests after a promotion that the former champion scores in
    the shadow, beside those that wait for their labels; None means one batch. `wait_for_labels_s`: seconds that the run
    waits, without a process, for `labels` to be newer where the requests are used up and the judge is not sure; each
    time that new labels decide nothing it waits again. 0: it does not wait.
    """

    percent: float = Field(default=5.0, gt=0, le=50)
    max_percent: float = Field(default=20.0, gt=0, le=50)
    batch_requests: int = Field(default=200, ge=20)
    max_requests: int = Field(default=2000, ge=20)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    tolerance: float | None = Field(default=None, ge=0)
    max_error_rate: float | None = Field(default=None, ge=0, le=1)
    at_deadline: Literal["keep_champion", "promote"] | None = None
    label_delay_requests: int = Field(default=0, ge=0)
    labels: str = ""
    min_label_share: float = Field(default=0.9, gt=0, le=1)
    segment: str = ""
    probation_requests: int | None = Field(default=None, ge=0)
    wait_for_labels_s: float = Field(default=0.0, ge=0, le=366 * 86400)

    def told_labels(self) -> str:
        """When labels come and from where, for a task's description."""
        if not self.label_delay_requests:
            return "known at once"
        where = self.labels or "labels_path"
        return f"known {self.label_delay_requests} requests later, record them from {where} before judging"

    @model_validator(mode="after")
    def _labels_need_a_delay(self) -> "CanarySection":
        if self.labels and not self.label_delay_requests:
            raise ValueError("labels needs label_delay_requests: after how many later requests a label is to be there")
        if self.wait_for_labels_s and not self.labels:
            raise ValueError("wait_for_labels_s needs labels: the table that is waited for")
        return self


_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class WatchSection(Section):
    """How the Sentinel looks ahead: it acts when quality is expected to become harmful within the horizon.

    `horizon` is a number with a unit: `7 d` (s, min, h, d, w) or, without a time column, `5000 rows`; empty: half the
    period of the current data. Harmful is below `constraints.min_metric`, or, where the goal has none, a loss per row
    that is by the share `max_loss_increase` above the reference's. `max_drift` is the share of rows whose prediction
    moved from which a warning is given; `max_memory_mib` bounds the serving process; `slo` is the share of requests
    that must succeed, for burn-rate alerts.
    """

    horizon: str = ""
    max_loss_increase: float = Field(default=0.25, gt=0)
    max_drift: float = Field(default=0.2, gt=0, le=1)
    max_memory_mib: float | None = Field(default=None, gt=0)
    slo: float = Field(default=0.99, gt=0, lt=1)

    @field_validator("horizon")
    @classmethod
    def _a_time(cls, value: str) -> str:
        number, unit = _split(value) if value else ("1", "s")
        if unit not in (*_UNITS_S, "rows") or not float(number or 0) > 0:
            raise ValueError(f"must be a number with a unit ({', '.join(_UNITS_S)}, rows), e.g. '7 d'; got {value!r}")
        return value

    @property
    def ahead(self) -> tuple[float, Literal["s", "rows"]] | None:
        """The horizon in seconds or in rows; None when it is left to the data."""
        if not self.horizon:
            return None
        number, unit = _split(self.horizon)
        return (float(number), "rows") if unit == "rows" else (float(number) * _UNITS_S[unit], "s")


def _split(value: str) -> tuple[str, str]:
    """A number and its unit; an empty number where there is none."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", value)
    return (found[1], found[2]) if found else ("", value)


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
    """One goal. `model` is the registered model's name (default: `name`), `champion` says which of its versions is in
    production, by number, alias or stage, where the registry does not, and `output` what its answers mean. `positive`
    is the class of a binary task that the metric is of (default: the last of the labels in sorted order: yes, 1, True).
    `metric` sets its own direction, which `direction`, when given, must match. `objectives`: what a challenger is
    chosen by; with more than `quality`, which is the metric, a trade-off is a person's choice unless `preference`
    states one of them, or `balanced`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    description: str = ""
    task: Literal["binary", "multiclass", "regression"]
    target: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    direction: Literal["maximize", "minimize"] | None = None
    model: str = ""
    positive: str = ""
    champion: str = ""
    output: OutputSettings = OutputSettings()
    data: DataSection
    constraints: Constraints = Constraints()
    fairness: FairnessSection | None = None
    budget: Budget = Budget()
    train: TrainSection = TrainSection()
    retrain: RetrainSection = RetrainSection()
    synthetic: SyntheticSection = SyntheticSection()
    canary: CanarySection = CanarySection()
    objectives: list[Objective] = Field(default_factory=lambda: list[Objective](["quality"]), min_length=1)
    preference: Literal["quality", "latency", "size", "fairness", "balanced"] | None = None
    watch: WatchSection = WatchSection()
    ab_test: ABTestSection | None = None

    @field_validator("positive", mode="before")
    @classmethod
    def _positive_as_text(cls, value: Any) -> Any:
        return _label(value)

    @model_validator(mode="after")
    def _positive_of_two(self) -> "Goal":
        if self.positive and self.task != "binary":
            raise ValueError(f"positive is the class that a binary task is about; the task is {self.task}")
        return self

    def accepts(self, kind: str) -> bool:
        """Whether the goal lets such a finding pass (`data.accept`)."""
        return is_accepted(self.data.accept, kind)

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

    @model_validator(mode="after")
    def _objectives_fit(self) -> "Goal":
        if "quality" not in self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives must hold quality, and each at most once; got {self.objectives}")
        if self.weighs and not self.train.builtin:
            raise ValueError("objectives but quality need the built-in trainer, whose trials are measured")
        if self.preference not in (None, BALANCED, *self.objectives):
            raise ValueError(f"preference {self.preference!r} is not one of the objectives: {self.objectives}")
        if "fairness" in self.objectives and self.fairness is None:
            raise ValueError("the objective fairness needs to know between which groups: state `fairness.column`")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """The data files that it names, as they are written."""
        data = self.data
        named = (data.reference, data.current, data.source, data.suite, self.canary.labels)
        return tuple(name for name in named if name)

    @property
    def weighs(self) -> bool:
        """Whether there is more than one objective to weigh."""
        return len(self.objectives) > 1

    @property
    def stated(self) -> dict[str, str]:
        """Topic of a question to people -> what this goal prefers; a topic it says nothing on is left out."""
        found = {"tradeoff": self.preference, "canary_deadline": self.canary.at_deadline}
        return {topic: preference for topic, preference in found.items() if preference is not None}

    @model_validator(mode="after")
    def _fairness_fits(self) -> "Goal":
        if self.fairness is None:
            return self
        if self.fairness.measure not in FAIRNESS_MEASURES[self.task]:
            raise ValueError(
                f"fairness.measure {self.fairness.measure!r} is not one of a {self.task} model; valid: "
                f"{', '.join(FAIRNESS_MEASURES[self.task])}"
            )
        if self.fairness.column == self.target:
            raise ValueError("fairness.column is the target; name a column of groups")
        return self

    @field_validator("champion", mode="before")
    @classmethod
    def _a_number_is_a_name(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @property
    def minimize(self) -> bool:
        """Whether a smaller value of the metric is better."""
        return self.metric in MINIMIZED_METRICS

    @property
    def registered_model(self) -> str:
        return self.model or self.name

    def bound(self, seed: int) -> dict[str, Any]:
        """What the goal binds in every call, by the names that the specs of the tools use."""
        canary, bounds = self.canary, self.constraints
        return {
            "goal.name": self.name,
            "goal.target": self.target,
            "goal.task": self.task,
            "goal.metric": self.metric,
            "goal.direction": "minimize" if self.minimize else "maximize",
            "goal.model": self.registered_model,
            "goal.champion": self.champion,
            "goal.output": self.output.stated(),
            "goal.drop": self.dropped,
            "goal.seed": seed,
            "goal.suite": self.data.suite or None,
            "goal.max_null_share": self.data.max_null_share,
            "goal.positive": self.positive,
            "goal.labels": self.data.labels,
            "goal.accept": self.data.accept,
            "goal.read": self.data.read.stated(),
            "goal.labels_read": self.data.read.of_labels(),
            "goal.needs_clock": self.needs_clock,
            "goal.min_metric": bounds.min_metric,
            "goal.max_latency_ms": bounds.max_latency_ms,
            "goal.minutes": self.budget.minutes,
            "goal.constraints": self.search_constraints or "",
            "goal.trainer": self.train.trainer,
            "goal.space": self.train.space,
            "goal.retrain.cost": self.retrain.cost,
            "goal.retrain.min_gain": self.retrain.min_gain,
            "goal.retrain.horizon": self.retrain.horizon_rows,
            "goal.synthetic.rows": self.synthetic.rows,
            "goal.synthetic.balance": self.synthetic.balance,
            "goal.canary.alpha": canary.alpha,
            "goal.canary.tolerance": canary.tolerance,
            "goal.canary.max_error_rate": canary.max_error_rate,
            "goal.canary.label_delay": canary.label_delay_requests,
            "goal.canary.min_label_share": canary.min_label_share,
            "goal.objectives": list(self.objectives),
            "goal.preference": self.preference or "",
            "goal.slo": self.watch.slo,
        }

    @property
    def needs_clock(self) -> bool:
        """Whether a setting is stated in times, so that the time column must hold them."""
        ahead = self.watch.ahead
        return bool(self.data.time_column) and ahead is not None and ahead[1] == "s"

    @property
    def dropped(self) -> list[str]:
        """Columns that no model may see: those the goal drops, and the time column, which only orders the rows."""
        clock = [self.data.time_column] if self.data.time_column else []
        return list(dict.fromkeys([*self.data.drop, *clock]))

    @property
    def search_constraints(self) -> dict[str, Any]:
        """What the trials of a search must keep to; empty where the goal states nothing."""
        bounds = self.constraints
        stated: dict[str, Any] = {"max_latency_ms": bounds.max_latency_ms, "max_size_mib": bounds.max_size_mib}
        if self.fairness is not None:
            stated["fairness"] = self.fairness.model_dump(exclude_none=True)
        return {name: value for name, value in stated.items() if value is not None}

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
            "retrain_cost": f"{self.retrain.cost:g}",
            "canary_percent": f"{self.canary.percent:g}",
            "canary_max_percent": f"{self.canary.max_percent:g}",
            "objectives": ", ".join(self.objectives),
            "labels": self.canary.told_labels(),
            "ab_percent": f"{self.ab_test.percent:g}" if self.ab_test else "0",
            "ab_unit": self.ab_test.unit if self.ab_test else "no unit",
        }
