"""Arguments and result that the search tools (Optuna, Hyperopt, Ray Tune) share. Imports nothing but pydantic.

Bounds are validators, not schema keywords: a model pays for each keyword on each request, and a wrong value is answered
with what is valid anyway.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from tools.core.arguments import Bound, Drop, Metric, Positive, ReadPath, Target, Task
from tools.core.contract import Args, Data, Limited


def _at_least_one(value: int) -> int:
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _not_negative(value: int) -> int:
    if value < 0:
        raise ValueError("must be at least 0")
    return value


def _above_zero(value: float) -> float:
    if not value > 0:
        raise ValueError("must be above 0")
    return value


def _as_json(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


Count = Annotated[int, AfterValidator(_at_least_one)]
Index = Annotated[int, AfterValidator(_not_negative)]
Duration = Annotated[float, AfterValidator(_above_zero)]
Json = Annotated[str, BeforeValidator(_as_json)]
"""JSON text; an object is taken as well."""


class Fairness(BaseModel):
    """The groups whose treatment is compared on the validation rows, by one of `tools.modeling.fairness.MEASURES`.

    Args:
        column: holds the group of each row; it may be one that `drop` keeps from the model.
        max_gap: the largest difference allowed between two groups; None: it is recorded only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str = Field(min_length=1)
    measure: str = Field(min_length=1)
    max_gap: float | None = Field(default=None, gt=0)


class SearchConstraints(BaseModel):
    """What a trial must keep to; None: no bound. `max_latency_ms` is the 95th percentile of one prediction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_latency_ms: float | None = Field(default=None, gt=0)
    max_size_mib: float | None = Field(default=None, gt=0)
    fairness: Fairness | None = None


class SearchArgs(Args):
    """A search over model configs, on the built-in trainer."""

    paths: Annotated[list[ReadPath], Bound()] = Field(description="oldest first")
    target: Target = Field(description="label")
    task: Task = Field(description="task type")
    metric: Metric = Field(description="e.g. mae")
    drop: Drop = Field(default_factory=list, description="ignored")
    trials: Annotated[Count, Bound()] = Limited("trials", "most", 20)
    minutes: Annotated[Duration, Bound("goal.minutes")] = Limited("minutes", "budget", 10.0)
    seed: Annotated[Index, Bound("goal.seed")] = Field(default_factory=lambda: 0, description="random")
    # The whole form is in the error of a wrong one: a model pays for each word here.
    constraints: Annotated[Json, Bound("goal.constraints")] = Field(
        default_factory=str, description="JSON: max_latency_ms, max_size_mib, fairness"
    )
    positive: Positive = Field(default_factory=str, description="class")


class TuneArgs(SearchArgs):
    """A search that starts from one config."""

    config: Annotated[Json, Bound()] = Field(description="start: model config, JSON")


class ParetoPoint(Data):
    """A trial that no other beats in value, latency (in steps of 25 %), size and fairness gap together. Its config is
    that of the trial of this number in the trials file."""

    trial: int
    family: str
    value: float
    latency_ms: float
    size_bytes: int
    fairness_gap: float | None = None


class SearchResult(Data):
    """What a search found. Values are those of the validation rows (a quarter of the last file, before its newest).

    Args:
        start_value: of the config that the search started from; None when it could not be trained.
        nested_value, nested_start_value: the best config and the start, trained as in the search, on the newest rows,
            which no trial saw; None when there are too few rows, or they have one class only.
        feasible: whether the best keeps to the constraints. Where no trial does it is the one that is nearest to them.
        violations: constraint -> how far the best is beyond its bound, as a share of the bound; 0 or below keeps to it.
        fairness_gap, nested_fairness_gap: of the best, on the validation and on the nested rows; None where no
            fairness was asked for, or there are no two groups of 30 rows.
        pareto: best value first, at most 8; the trials file names all. Of the trials that keep to the constraints
            where there is one.
        stopped_by: which budget ended it.
    """

    study: str
    metric: str
    direction: Literal["maximize", "minimize"]
    best_value: float
    best_config: dict[str, Any]
    start_value: float | None
    nested_value: float | None = None
    nested_start_value: float | None = None
    feasible: bool = True
    violations: dict[str, float] = Field(default_factory=dict[str, float])
    fairness_gap: float | None = None
    nested_fairness_gap: float | None = None
    pareto: list[ParetoPoint] = Field(default_factory=list[ParetoPoint])
    completed: int
    failed: int
    stopped_by: Literal["trials", "minutes"]
    trials_path: str
    message: str
