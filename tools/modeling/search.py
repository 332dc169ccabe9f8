"""Arguments and result that the search tools (Optuna, Hyperopt, Ray Tune) share. Imports nothing but pydantic.

Bounds are validators, not schema keywords: a model pays for each keyword on each request, and a wrong value is answered
with what is valid anyway.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

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


class SearchArgs(Args):
    """A search over model configs, on the built-in trainer."""

    paths: list[str] = Field(description="training files, oldest first")
    target: str = Field(description="target column")
    task: str = Field(description="binary, multiclass or regression")
    metric: str = Field(description="e.g. roc_auc, mae")
    drop: list[str] = Field(default_factory=list, description="columns left out")
    trials: Count = Limited("trials", "most trials", 20)
    minutes: Duration = Limited("minutes", "time budget", 10.0)
    seed: Index = Field(0, description="random seed")


class TuneArgs(SearchArgs):
    """A search that starts from one config."""

    config: Json = Field(description="start: model config, JSON")


class ParetoPoint(Data):
    """A trial that no other beats in value, latency (in steps of 25 %) and size together."""

    trial: int
    family: str
    value: float
    latency_ms: float
    size_bytes: int


class SearchResult(Data):
    """What a search found. Values are those of the validation rows (a quarter of the last file, before its newest).

    Args:
        start_value: of the config that the search started from; None when it could not be trained.
        nested_value, nested_start_value: the best config and the start, trained as in the search, on the newest rows,
            which no trial saw; None when there are too few rows, or they have one class only.
        pareto: best value first, at most 8; the trials file names all.
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
    pareto: list[ParetoPoint] = Field(default_factory=list[ParetoPoint])
    completed: int
    failed: int
    stopped_by: Literal["trials", "minutes"]
    trials_path: str
    message: str
