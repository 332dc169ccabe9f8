"""Architecture search: aging evolution beside random search, TPE and NSGA-II at equal evaluations.

Run: python bench/search.py [--quick] [--seeds 20] [--evaluations 100] [--data ../shared/data] [--cache FOLDER]

The search space is `tools.modeling.space.sample_architecture` with 2 or 3 levels of each number. Every config of it is
trained once per data set (300 rows; another 300 are the validation rows that a search sees, another 300 the test rows
that it does not) and looked up from then on: minutes for the first run, then seconds per search. Data sets: three that
scikit-learn bundles, three of ../shared/data where it is found. Log loss, for regression the mean absolute error.

- levels: a search chooses among the levels; the table is the whole truth.
- between: a search chooses any number; values between two levels are interpolated.

Regret: (best value so far - best of the table) / (median of the table - best of the table), averaged over seeds and
data sets: 0 is the best config there is, 1 an average one. All figures but the seconds are the same on every machine
with the same library versions. NSGA-II gets all families' parameters in every trial, because Optuna's draws at random
what not every trial has: in the conditional space it is random search.

The defaults of aging evolution (the spread start, the priors and the margin of its surrogate) were chosen on other
data: scikit-learn's wine, make_friedman1, make_friedman2 and a noisy make_classification, 59 to 200 rows each.
"""

import argparse
import itertools
import json
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import wilcoxon
from sklearn import datasets
from threadpoolctl import threadpool_limits

from tools.integrations.optuna.evolution import AgingEvolutionSampler
from tools.modeling.data import Task
from tools.modeling.metrics import METRICS, score
from tools.modeling.models import FAMILIES, Config, Dimension, default_config, dimensions
from tools.modeling.predictor import SklearnPredictor
from tools.modeling.space import sample_architecture
from tools.modeling.training import UnusableConfig, fit

Floats = NDArray[np.float64]

ROWS = 900
QUICK_ROWS = 120
LEVELS = {"iterations": 2, "trees": 2, "l2": 2, "epochs": 2}
OTHER_LEVELS = 3
# None of the tables used here has nulls or text: these choices make no difference.
ALIKE = ("impute", "encode")

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
        """Validation and test value (both to be minimized) of a config of the table; trained once. None: it fails."""
        key = json.dumps(config, sort_keys=True)
        if key not in self.known:
            self.known[key] = self._train(config)
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

    def between(self, config: Config) -> float | None:
        """Validation value of any config: multilinear between the nearest levels; None where one of those fails."""
        known = dimensions(config["family"], self.task)
        total = 0.0
        for corner in itertools.product(*(_neighbours(d, config["params"][d.name]) for d in known)):
            weight = math.prod(share for _, share in corner)
            if weight:
                params = {d.name: level for d, (level, _) in zip(known, corner, strict=True)}
                values = self.look_up({**config, "params": params})
                if values is None:
                    return None
                total += weight * values[0]
        return total

    def complete(self, limit: int | None) -> None:
        """Fill the table; with a limit, only so many configs, evenly spaced."""
        configs = list(every_config(self.task))
        configs = configs[:: max(1, len(configs) // limit) if limit else 1]
        for done, config in enumerate(configs):
            self.look_up(config)
            if sys.stderr.isatty() or done % 200 == 0:
                print(f"\r{self.name}: {done + 1} of {len(configs)} configs", end="", file=sys.stderr)
        print(file=sys.stderr)


def _levels(dimension: Dimension) -> list[Any]:
    """The values of a dimension in the table."""
    if dimension.kind == "choice":
        return [dimension.choices[0]] if dimension.name in ALIKE else list(dimension.choices)
    count = LEVELS.get(dimension.name, OTHER_LEVELS)
    return [_at(dimension, (k + 0.5) / count) for k in range(count)]


def _at(dimension: Dimension, share: float) -> float | int:
    low, high = dimension.low, dimension.high
    value = low * (high / low) ** share if dimension.log else low + (high - low) * share
    return round(value) if dimension.kind == "int" else round(value, 9)


def _neighbours(dimension: Dimension, value: Any) -> list[tuple[Any, float]]:
    """The levels on both sides of a value, and their shares in it."""
    levels = _levels(dimension)
    if dimension.kind == "choice":
        return [(value if value in levels else levels[0], 1.0)]
    scale = math.log if dimension.log else float
    place = float(np.interp(scale(value), [scale(level) for level in levels], np.arange(len(levels))))
    below = min(int(place), len(levels) - 2)
    return [(levels[below], below + 1 - place), (levels[below + 1], place - below)]


def every_config(task: Task) -> Iterator[Config]:
    """All configs of the table."""
    for family in FAMILIES:
        known = dimensions(family, task)
        for values in itertools.product(*map(_levels, known)):
            params = {d.name: value for d, value in zip(known, values, strict=True)}
            yield {"family": family, "window": "all", "params": params}


def load_problem(name: str, data: Path, cache: Path, rows: int = ROWS) -> Problem:
    """That many rows, evenly spaced over a stream (its order kept) or drawn from a bundled data set, in thirds."""
    if name in BUNDLED:
        load, task = BUNDLED[name]
        bunch = load(as_frame=True)
        order = np.random.default_rng(0).permutation(len(bunch.data))[:rows]
        features, labels = bunch.data.iloc[order], bunch.target.iloc[order]
    else:
        folder, file, target, drop, task = STREAMS[name]
        frame = pd.read_csv(data / folder / file)
        frame = frame.iloc[np.linspace(0, len(frame) - 1, rows).astype(int)]
        features, labels = frame.drop(columns=[target, *drop]), frame[target]
    cuts = [len(features) * k // 3 for k in range(4)]
    cache.mkdir(parents=True, exist_ok=True)
    parts = [slice(*cuts[k : k + 2]) for k in range(3)]
    problem = Problem(
        name,
        task,
        [features.iloc[part].reset_index(drop=True) for part in parts],
        [labels.iloc[part].reset_index(drop=True) for part in parts],
        cache / f"{name}-{rows}.jsonl",
    )
    if problem.store.exists():
        for line in problem.store.read_text(encoding="utf-8").splitlines():
            key, values = json.loads(line)
            problem.known[key] = None if values is None else (values[0], values[1])
    return problem


class Ask:
    """The suggest protocol over an Optuna trial; numbers by their levels, or any."""

    def __init__(self, trial: optuna.Trial, task: Task, levels: bool) -> None:
        self._trial = trial
        self._levels = {f"{f}.{d.name}": _levels(d) for f in FAMILIES for d in dimensions(f, task)} if levels else {}

    def float(self, name: str, low: float, high: float, *, log: bool) -> float:
        if name in self._levels:
            return self._levels[name][self._trial.suggest_int(name, 0, len(self._levels[name]) - 1)]
        return self._trial.suggest_float(name, low, high, log=log)

    def int(self, name: str, low: int, high: int, *, log: bool) -> int:
        if name in self._levels:
            return self._levels[name][self._trial.suggest_int(name, 0, len(self._levels[name]) - 1)]
        return self._trial.suggest_int(name, low, high, log=log)

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name.partition(".")[2] in ALIKE:
            return choices[0]
        return self._trial.suggest_categorical(name, list(choices))


class OneFamily:
    """The suggest protocol with the family already chosen."""

    def __init__(self, ask: Ask, family: str) -> None:
        self.float, self.int = ask.float, ask.int
        self._ask, self._family = ask, family

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._family if name == "family" else self._ask.categorical(name, choices)


@dataclass(frozen=True)
class Method:
    """A sampler under comparison; `flat`: it is asked for every family's parameters in every trial."""

    make: Callable[[int], optuna.samplers.BaseSampler]
    flat: bool = False

    def config(self, ask: Ask, task: Task) -> Config:
        if not self.flat:
            return sample_architecture(ask, task, windows=["all"])
        family = ask.categorical("family", list(FAMILIES))
        return {f: sample_architecture(OneFamily(ask, f), task, windows=["all"]) for f in FAMILIES}[family]


OURS = "aging evolution"
METHODS: dict[str, Method] = {
    OURS: Method(lambda seed: AgingEvolutionSampler(seed=seed)),
    "random": Method(lambda seed: optuna.samplers.RandomSampler(seed=seed)),
    "TPE": Method(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "TPE, multivariate": Method(lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)),
    "NSGA-II": Method(lambda seed: optuna.samplers.NSGAIISampler(seed=seed), flat=True),
    "NSGA-II, 20": Method(lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20), flat=True),
}


def search(method: Method, problem: Problem, seed: int, evaluations: int, levels: bool) -> tuple[Floats, float]:
    """Best validation value after each evaluation, and the test value of the last best (NaN between levels)."""
    study = optuna.create_study(sampler=method.make(seed))
    curve = np.full(evaluations, math.inf)
    test = math.nan
    for k in range(evaluations):
        trial = study.ask()
        config = method.config(Ask(trial, problem.task, levels), problem.task)
        values = problem.look_up(config) if levels else None
        value = values[0] if values else None if levels else problem.between(config)
        before = curve[k - 1] if k else math.inf
        curve[k] = before if value is None else min(before, value)
        if value is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, value)
        if values and values[0] < before:
            test = values[1]
    return curve, test


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: the chance of any false rejection stays below the level."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for k, name in enumerate(sorted(p_values, key=lambda n: p_values[n])):
        highest = max(highest, min(1.0, (len(p_values) - k) * p_values[name]))
        adjusted[name] = highest
    return adjusted


def compare(problems: Sequence[Problem], seeds: int, evaluations: int, levels: bool) -> None:
    """Run every search and print the curves, the tests and, over levels, the winner's curse."""
    points = [k for k in (10, 20, 30, 50, 75, 100, 150, 200) if k < evaluations] + [evaluations]
    regret: dict[str, Floats] = {}
    curse: list[str] = []
    for name, method in METHODS.items():
        rows: list[Floats] = []
        for problem in problems:
            table = np.array([values[0] for values in problem.known.values() if values])
            low, scale = float(table.min()), float(np.median(table) - table.min())
            runs = [search(method, problem, seed, evaluations, levels) for seed in range(seeds)]
            rows += [(curve - low) / scale for curve, _ in runs]
            if name == OURS and levels:
                start = problem.look_up(on_levels(default_config(problem.task), problem.task))
                if start:
                    found = np.mean([[curve[-1], test] for curve, test in runs], axis=0)
                    curse.append(
                        f"  {problem.name:14s} {start[0]:9.4f} {found[0]:9.4f} {start[1]:9.4f} {found[1]:9.4f} "
                        f"{(start[1] - found[1]) / (start[0] - found[0]):8.0%}"
                    )
        regret[name] = np.array(rows)[:, [k - 1 for k in points]]
        print(f"  {name:18s} {' '.join(f'{value:7.4f}' for value in regret[name].mean(axis=0))}", flush=True)
    print(f"  {'evaluations':18s} {' '.join(f'{k:7d}' for k in points)}")
    print(f"\n  {OURS} against the others, {len(regret[OURS])} pairs of data set and seed, Wilcoxon, Holm-adjusted p:")
    for k in range(len(points)):
        if points[k] not in (20, 50, evaluations):
            continue
        gaps = {name: values[:, k] - regret[OURS][:, k] for name, values in regret.items() if name != OURS}
        adjusted = holm({name: cast(Any, wilcoxon(gap)).pvalue if gap.any() else 1.0 for name, gap in gaps.items()})
        cells = (
            f"{'better' if gaps[name].mean() > 0 else 'worse'} than {name} (p {adjusted[name]:.2g})" for name in gaps
        )
        print(f"  after {points[k]:3d}: {'; '.join(cells)}")
    if curse:
        print(
            f"\n  The winner of {evaluations} on rows no trial saw (mean over seeds; the last column: how much of the"
        )
        print("  gain over the default config on the validation rows is left on the test rows)")
        print(f"  {'':14s} {'default':>9s} {'winner':>9s} {'default':>9s} {'winner':>9s}")
        print(f"  {'':14s} {'valid.':>9s} {'valid.':>9s} {'test':>9s} {'test':>9s} {'kept':>8s}")
        print("\n".join(curse))


def on_levels(config: Config, task: Task) -> Config:
    """The config of the table that is nearest."""
    nearest = {
        d.name: max(_neighbours(d, config["params"][d.name]), key=lambda n: n[1])[0]
        for d in dimensions(config["family"], task)
    }
    return {**config, "params": nearest}


def main() -> None:
    """Print the tables."""
    beside = Path(os.environ.get("MLOPS_DATA") or Path(__file__).parents[2] / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--data", type=Path, default=beside)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "mlops_crew_bench_search")
    parser.add_argument("--quick", action="store_true", help="one bundled data set, 1 seed, 22 evaluations")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    names = ["diabetes"] if options.quick else [*BUNDLED, *(n for n in STREAMS if (options.data / n).is_dir())]
    problems = [
        load_problem(name, options.data, options.cache, QUICK_ROWS if options.quick else ROWS) for name in names
    ]
    for problem in problems:
        problem.complete(20 if options.quick else None)
    seeds, evaluations = (1, 22) if options.quick else (options.seeds, options.evaluations)
    configs = ", ".join(f"{p.name} ({p.metric}, {len(p.known)} configs)" for p in problems)
    print(f"{configs}; {seeds} seeds")
    for levels in (True,) if options.quick else (True, False):
        print(f"\nRegret, {'levels' if levels else 'between'}")
        compare(problems, seeds, evaluations, levels)
    print(f"\n{time.perf_counter() - started:.0f} s, table in {options.cache}")


if __name__ == "__main__":
    main()
