"""The two search spaces, written once over a small suggest protocol, and the adapters that need no search library.

- `sample_architecture`: family, training window and every parameter (Optuna).
- `sample_tuning`: the continuous hyperparameters of one config, its architecture kept (Hyperopt, Ray Tune).

Parameters are named `<family>.<parameter>`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from scipy.stats import qmc

from tools.modeling.data import Task
from tools.modeling.models import (
    FAMILIES,
    Config,
    Dimension,
    complete_config,
    dimensions,
)
from tools.modeling.windows import WINDOWS


class Suggest(Protocol):
    """How a search engine is asked for a value, by name."""

    def float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number between `low` and `high`, both inclusive."""
        ...

    def int(self, name: str, low: int, high: int, *, log: bool) -> int:
        """A whole number between `low` and `high`, both inclusive."""
        ...

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        ...


def sample_architecture(
    suggest: Suggest, task: Task, families: Sequence[str] = tuple(FAMILIES), windows: Sequence[str] = WINDOWS
) -> Config:
    """A whole config. Which parameters are asked for depends on the family that was suggested."""
    family = suggest.categorical("family", list(families))
    window = suggest.categorical("window", list(windows)) if len(windows) > 1 else windows[0]
    params = {d.name: _suggest(suggest, family, d) for d in dimensions(family, task)}
    return {"family": family, "window": window, "params": params}


def architecture_values(config: Config) -> dict[str, Any]:
    """The suggestions that make `sample_architecture` return this config."""
    named = {f"{config['family']}.{name}": value for name, value in config["params"].items()}
    return {"family": config["family"], "window": config["window"], **named}


def sample_tuning(suggest: Suggest, config: Mapping[str, Any], task: Task) -> Config:
    """The config with its continuous hyperparameters suggested anew; family, window and choices stay."""
    full = complete_config(config, task)
    for dimension in tuning_dimensions(full, task):
        full["params"][dimension.name] = _suggest(suggest, full["family"], dimension)
    return full


def tuning_dimensions(config: Mapping[str, Any], task: Task) -> list[Dimension]:
    """What `sample_tuning` asks for."""
    return [d for d in dimensions(config["family"], task) if d.kind != "choice"]


def _suggest(suggest: Suggest, family: str, dimension: Dimension) -> Any:
    name = f"{family}.{dimension.name}"
    match dimension.kind:
        case "float":
            return suggest.float(name, dimension.low, dimension.high, log=dimension.log)
        case "int":
            return suggest.int(name, int(dimension.low), int(dimension.high), log=dimension.log)
        case "choice":
            return suggest.categorical(name, list(dimension.choices))


class ChosenValues:
    """Suggests values that were chosen before, by name."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return min(max(float(self.values[name]), low), high)

    def int(self, name: str, low: int, high: int, *, log: bool) -> int:
        return min(max(round(self.values[name]), low), high)

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.values[name]


class _UnitPoint:
    """Suggests the values at one point of the unit cube, one coordinate per suggestion."""

    def __init__(self, point: Sequence[float]) -> None:
        self.rest = list(point)

    def float(self, name: str, low: float, high: float, *, log: bool) -> float:
        share = self.rest.pop(0)
        value = low * (high / low) ** share if log else low + (high - low) * share
        return float(min(max(value, low), high))

    def int(self, name: str, low: int, high: int, *, log: bool) -> int:
        share = self.rest.pop(0)
        # Half a step beyond both ends, so that the ends are as likely as what lies between.
        first, last = low - 0.5, high + 0.5
        value = first * (last / first) ** share if log else first + (last - first) * share
        return int(min(max(round(value), low), high))

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[min(int(self.rest.pop(0) * len(choices)), len(choices) - 1)]


def spread_tuning(config: Mapping[str, Any], task: Task, count: int, seed: int) -> list[Config]:
    """`count` configs of `sample_tuning`, spread evenly (a Latin hypercube), known before the first is tried.

    Source: McKay, Beckman, Conover 1979, as `scipy.stats.qmc.LatinHypercube`.
    """
    if count < 1:
        return []
    size = len(tuning_dimensions(complete_config(config, task), task))
    points = qmc.LatinHypercube(d=size, rng=np.random.default_rng(seed)).random(count)
    return [sample_tuning(_UnitPoint(point.tolist()), config, task) for point in points]
