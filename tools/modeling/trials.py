"""The trials file: what a search (Optuna, Hyperopt, Ray) writes and the trackers (MLflow, W&B) log. JSON, one study."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tools.core.errors import FixableError
from tools.core.files import write_json
from tools.core.names import Name


class Trial(BaseModel):
    """One trial. `value` is None unless the trial completed; `config` is a model configuration.

    Args:
        latency_ms, latency_ms_p95: median and 95th percentile of predicting one row.
        fairness_gap: None unless the search was asked for it.
        violations: constraint -> how far beyond its bound, as a share of the bound; above 0 breaks it.
    """

    model_config = ConfigDict(extra="allow")

    number: int
    value: float | None = None
    state: str = "complete"
    config: dict[str, Any] = Field(default_factory=dict)
    duration_s: float | None = None
    latency_ms: float | None = None
    latency_ms_p95: float | None = None
    size_bytes: float | None = None
    block_values: list[float | None] = Field(default_factory=list[float | None])  # see `score_blocks`
    fairness_gap: float | None = None
    violations: dict[str, float] = Field(default_factory=dict[str, float])

    @property
    def feasible(self) -> bool:
        """Whether it completed and keeps to every constraint."""
        return self.value is not None and all(share <= 0 for share in self.violations.values())


class Trials(BaseModel):
    """One study; `best` is the number of the best trial that keeps to the constraints (where none does the one nearest
    to them), None when none completed; `pareto` those on the front of value, latency, size and fairness gap, best value
    first."""

    model_config = ConfigDict(extra="allow")

    study: Name
    metric: str
    direction: Literal["maximize", "minimize"]
    seed: int | None = None
    engine: str = ""
    trials: list[Trial]
    best: int | None = None
    pareto: list[int] = Field(default_factory=list[int])

    def best_trial(self) -> Trial | None:
        """The trial that `best` names."""
        return next((trial for trial in self.trials if trial.number == self.best), None)


def read_trials(path: Path) -> Trials:
    """Read a trials file.

    Raises:
        FixableError: missing, empty, not JSON, or without the needed fields; names the first wrong one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FixableError(f"no trials file at {path}; pass the trials_path that a search returned") from error
    try:
        trials = Trials.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise FixableError(
            f"{path} is not a trials file: {where}: {first['msg']}; valid: JSON with study, metric, direction, trials"
        ) from error
    if not trials.trials:
        raise FixableError(f"{path} holds no trials; run the search again")
    return trials


def write_trials(trials: Trials, path: Path) -> Path:
    """Write a trials file atomically. NaN and infinite values become null."""
    write_json(path, json.loads(trials.model_dump_json()), indent=1)
    return path


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots: `{"params": {"depth": 3}}` becomes `{"params.depth": 3}`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
