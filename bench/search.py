"""Architecture search: aging evolution beside random search, TPE and NSGA-II at equal evaluations.

Run: python bench/search.py [--quick] [--seeds 20] [--evaluations 100] [--data ../shared/data] [--cache FOLDER]
"""

import argparse
import itertools
import json
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import datasets
from threadpoolctl import threadpool_limits

from tools.modeling.data import Task
from tools.modeling.metrics import METRICS, score
from tools.modeling.models import FAMILIES, Config, Dimension, dimensions
from tools.modeling.predictor import SklearnPredictor
from tools.modeling.training import UnusableConfig, fit

Floats = NDArray[np.float64]

ROWS = 900
LEVELS = {"iterations": 2, "trees": 2, "l2": 2, "epochs": 2}
OTHER_LEVELS = 3

# name: folder, file, target, columns left out, task
STREAMS: dict[str, tuple[str, str, str, list[str], Task]] = {
    "elec2": ("elec2", "elec2.csv.gz", "class", ["date", "nswprice"], "binary"),
    "noaa_weather": ("noaa_weather", "noaa_weather.csv.gz", "rain", [], "binary"),
    "bike_hourly": (
        "bike_hourly", "bike_hourly_clean.csv.gz", "cnt", ["instant", "dteday", "casual", "registered"], "regression",
    ),
}  # fmt: skip
BUNDLED: dict[str, tuple[Callable[..., Any], Task]] = {
    "breast_cancer": (datasets.load_breast_cancer, "binary"),
    "digits": (datasets.load_digits, "multiclass"),
    "diabetes": (datasets.load_diabetes, "regression"),
}


@dataclass
class Problem:
    """Data cut into thirds (train, validation, test), and the table of what every config achieved on them."""

    name: str
    task: Task
    X: list[pd.DataFrame]
    y: list[pd.Series]
    store: Path
    known: dict[str, tuple[float, float] | None] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        return "mae" if self.task == "regression" else "log_loss"

    def look_up(self, config: Config) -> tuple[float, float] | None:
        """Validation and test value (both are to be minimized) of the nearest config of the table; trained once."""
        near = snap(config, self.task)
        key = json.dumps(near, sort_keys=True)
        if key not in self.known:
            self.known[key] = self._train(near)
            with self.store.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps([key, self.known[key]]) + "\n")
        return self.known[key]

    def _train(self, config: Config) -> tuple[float, float] | None:
        try:
            predictor = SklearnPredictor(fit(config, self.X[0], self.y[0], self.task, seed=0))
            with threadpool_limits(1), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = [
                    float(score(METRICS[self.metric], self.y[k], predictor.predict(self.X[k]), self.task))
                    for k in (1, 2)
                ]
        except (UnusableConfig, ValueError):
            return None
        return (values[0], values[1]) if all(map(math.isfinite, values)) else None

    def complete(self) -> None:
        """Fill the table."""
        configs = list(every_config(self.task))
        for done, config in enumerate(configs):
            self.look_up(config)
            if sys.stderr.isatty() or done % 200 == 0:
                print(f"\r{self.name}: {done + 1} of {len(configs)} configs", end="", file=sys.stderr)
        print(file=sys.stderr)


def _levels(dimension: Dimension) -> list[Any]:
    """The values of a dimension in the table."""
    if dimension.kind == "choice":
        # No bundled or shared table used here has nulls or text: these choices make no difference.
        return [dimension.choices[0]] if dimension.name in ("impute", "encode") else list(dimension.choices)
    count = LEVELS.get(dimension.name, OTHER_LEVELS)
    return [_at(dimension, (k + 0.5) / count) for k in range(count)]


def _at(dimension: Dimension, share: float) -> float | int:
    low, high = dimension.low, dimension.high
    value = low * (high / low) ** share if dimension.log else low + (high - low) * share
    return round(value) if dimension.kind == "int" else round(value, 9)


def snap(config: Config, task: Task) -> Config:
    """The nearest config of the table."""
    params: dict[str, Any] = {}
    for dimension in dimensions(config["family"], task):
        levels, value = _levels(dimension), config["params"][dimension.name]
        if dimension.kind == "choice":
            params[dimension.name] = value if value in levels else levels[0]
        else:
            scale = math.log if dimension.log else float
            params[dimension.name] = min(levels, key=lambda level: abs(scale(level) - scale(value)))  # noqa: B023
    return {"family": config["family"], "window": "all", "params": params}


def every_config(task: Task) -> Iterator[Config]:
    """All configs of the table."""
    for family in FAMILIES:
        known = dimensions(family, task)
        for values in itertools.product(*map(_levels, known)):
            params = {d.name: value for d, value in zip(known, values, strict=True)}
            yield {"family": family, "window": "all", "params": params}


def load_problem(name: str, data: Path | None, cache: Path) -> Problem:
    """900 rows, evenly spaced over a stream (its order kept) or drawn from a bundled data set, in thirds."""
    if name in BUNDLED:
        load, task = BUNDLED[name]
        bunch = load(as_frame=True)
        order = np.random.default_rng(0).permutation(len(bunch.data))[:ROWS]
        X, y = bunch.data.iloc[order], bunch.target.iloc[order]
    else:
        assert data is not None
        folder, file, target, drop, task = STREAMS[name]
        frame = pd.read_csv(data / folder / file)
        frame = frame.iloc[np.linspace(0, len(frame) - 1, ROWS).astype(int)]
        X, y = frame.drop(columns=[target, *drop]), frame[target]
    cuts = [len(X) * k // 3 for k in range(4)]
    cache.mkdir(parents=True, exist_ok=True)
    parts = [slice(*cuts[k : k + 2]) for k in range(3)]
    problem = Problem(
        name,
        task,
        [X.iloc[part].reset_index(drop=True) for part in parts],
        [y.iloc[part].reset_index(drop=True) for part in parts],
        cache / f"{name}.jsonl",
    )
    if problem.store.exists():
        for line in problem.store.read_text(encoding="utf-8").splitlines():
            key, values = json.loads(line)
            problem.known[key] = None if values is None else (values[0], values[1])
    return problem
