"""Training a config and scoring it on the newest rows it has not seen.

Validation is ordered in time: the tail of the last file, never a random part, because the model will be used on rows
that come after the ones it was trained on. The very newest rows are held back even from validation (a nested holdout):
the best of many trials looks better on the rows that chose it than it is, and those rows show by how much.
"""

import math
import pickle
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from tools.core.errors import FixableError
from tools.modeling.data import Task, check_target, check_task, load_parts, unify
from tools.modeling.metrics import get_metric, score
from tools.modeling.models import Config, build, complete_config
from tools.modeling.predictor import SklearnPredictor
from tools.modeling.windows import windowed

MIN_TRAIN_ROWS = 20
MIN_VALIDATION_ROWS = 10
NESTED_SHARE = 0.15
LATENCY_CALLS = 11
SAMPLE_ROWS = 100


class UnusableConfig(ValueError):
    """This config cannot be trained on this data; another one may. The message says why."""


@dataclass(frozen=True)
class TrialScore:
    """What one config achieved.

    Args:
        value: the metric on the validation rows.
        fit_s: seconds of training.
        latency_ms: median milliseconds to predict one row.
        size_bytes: of the pickled pipeline.
    """

    value: float
    fit_s: float
    latency_ms: float
    size_bytes: int


@dataclass(frozen=True)
class Split:
    """Rows for training, newer rows for validation, and the newest for one last look; made once, used by every trial.

    Args:
        older, older_y: all files but the last, joined; None where there is one file.
        recent, recent_y: the last file without its tail.
        validation, validation_y: the tail of the last file, before the nested rows.
        nested, nested_y: the newest rows, seen by no trial; None where the last file has too few rows.
    """

    task: Task
    older: pd.DataFrame | None
    older_y: pd.Series | None
    recent: pd.DataFrame
    recent_y: pd.Series
    validation: pd.DataFrame
    validation_y: pd.Series
    nested: pd.DataFrame | None = None
    nested_y: pd.Series | None = None

    @property
    def windows(self) -> tuple[str, ...]:
        """The training windows that differ."""
        return ("all",) if self.older is None else ("all", "recent")

    def training_rows(self, window: str) -> tuple[pd.DataFrame, pd.Series, NDArray[np.float64] | None]:
        """Features, target and weights (None: all the same) of a window, oldest row first.

        Raises:
            UnusableConfig: all rows of the window are held back.
        """
        parts = [part for part in (self.older, self.recent) if part is not None]
        labels = [part for part in (self.older_y, self.recent_y) if part is not None]
        X, y = pd.concat(parts, ignore_index=True), pd.concat(labels, ignore_index=True)
        held = len(self.validation) + (0 if self.nested is None else len(self.nested))
        rows = windowed(X, y, window, len(self.recent) + held, held)
        if not len(rows[0]):
            raise UnusableConfig(
                f"the window {window} lies within the {held} newest rows, which are held back to validate"
            )
        return rows


def load_split(
    paths: Sequence[Path],
    target: str,
    drop: Sequence[str],
    task: str,
    validation_share: float = 0.25,
    nested_share: float = NESTED_SHARE,
) -> Split:
    """Read the files (oldest first) and cut the nested and the validation rows off the end of the last.

    Raises:
        FixableError: a file, a column or the target cannot be used, or there are too few rows.
    """
    known = check_task(task)
    parts, labels = load_parts(paths, target, drop, known)
    joined = unify(labels)
    # Every part gets the labels' common type, so that 1 of one file is not "1" of another.
    last = len(labels[-1])
    older_y, newest_y = joined.iloc[: len(joined) - last], joined.iloc[len(joined) - last :].reset_index(drop=True)
    checked = max(MIN_VALIDATION_ROWS, round(last * validation_share))
    held = max(MIN_VALIDATION_ROWS, round(last * nested_share)) if nested_share else 0
    if last - held - checked < MIN_TRAIN_ROWS:
        held = 0
    end = last - held
    cut = end - checked
    if cut < MIN_TRAIN_ROWS:
        raise FixableError(
            f"{paths[-1]} has {last} labelled rows; at least {MIN_TRAIN_ROWS + MIN_VALIDATION_ROWS} are needed to "
            "train and validate"
        )
    newest = parts[-1]
    return Split(
        task=known,
        older=pd.concat(parts[:-1], ignore_index=True) if len(parts) > 1 else None,
        older_y=older_y if len(parts) > 1 else None,
        recent=newest.iloc[:cut],
        recent_y=newest_y.iloc[:cut],
        validation=newest.iloc[cut:end].reset_index(drop=True),
        validation_y=newest_y.iloc[cut:end].reset_index(drop=True),
        nested=newest.iloc[end:].reset_index(drop=True) if held else None,
        nested_y=newest_y.iloc[end:].reset_index(drop=True) if held else None,
    )


def score_config(config: Mapping[str, Any], split: Split, metric: str, seed: int) -> TrialScore:
    """Train on a config's window and score it on the validation rows.

    Raises:
        UnusableConfig: the config cannot be trained here.
        FixableError: the metric or the config is invalid, or the validation rows hold one class.
    """
    wanted = get_metric(metric, split.task)
    X, y, weights = split.training_rows(str(config.get("window", "all")))
    started = time.perf_counter()
    model = fit(config, X, y, split.task, seed, weights)
    fit_s = time.perf_counter() - started
    predictor = SklearnPredictor(model)
    with threadpool_limits(1):
        try:
            value = score(wanted, split.validation_y, predictor.predict(split.validation), split.task)
        except ValueError as error:  # diverged: infinite or NaN predictions
            raise UnusableConfig(f"its predictions cannot be scored: {error}") from error
        laps: list[float] = []
        for k in range(LATENCY_CALLS):
            row = split.validation.iloc[[k % len(split.validation)]]
            started = time.perf_counter()
            predictor.predict(row)
            laps.append(time.perf_counter() - started)
    if not math.isfinite(value):
        raise UnusableConfig(f"its {metric} is {value}")
    return TrialScore(float(value), fit_s, 1000.0 * median(laps), len(pickle.dumps(model)))


def score_nested(config: Mapping[str, Any], split: Split, metric: str, seed: int) -> float | None:
    """The same model as in `score_config`, scored on the nested rows; None where there are none, or they cannot tell
    (one class only, infinite predictions)."""
    if split.nested is None or split.nested_y is None:
        return None
    X, y, weights = split.training_rows(str(config.get("window", "all")))
    try:
        predictor = SklearnPredictor(fit(config, X, y, split.task, seed, weights))
        with threadpool_limits(1):
            value = score(get_metric(metric, split.task), split.nested_y, predictor.predict(split.nested), split.task)
    except (FixableError, ValueError):  # UnusableConfig is a ValueError
        return None
    return float(value) if math.isfinite(value) else None


def evaluate_config(
    config: Mapping[str, Any] | str,
    paths: Sequence[Path],
    target: str,
    drop: Sequence[str],
    task: str,
    metric: str,
    seed: int = 0,
    validation_share: float = 0.25,
) -> TrialScore:
    """`load_split`, without nested rows (one config is not a search), and `score_config` in one."""
    split = load_split(paths, target, drop, task, validation_share, nested_share=0.0)
    return score_config(complete_config(config, split.task), split, metric, seed)


def fit_config(
    config: Mapping[str, Any] | str, paths: Sequence[Path], target: str, drop: Sequence[str], task: str, seed: int = 0
) -> tuple[Pipeline, pd.DataFrame]:
    """The model of a config trained on every labelled row of its window, and up to 100 of its rows as a sample.

    Args:
        paths: files in time order; see `tools.modeling.windows` for what a window takes of them.

    Raises:
        FixableError: the config, a file, a column or the target cannot be used.
    """
    known = check_task(task)
    full: Config = complete_config(config, known)
    used = list(paths[-1:] if full["window"] == "recent" else paths)
    parts, labels = load_parts(used, target, drop, known)
    X, y, weights = windowed(pd.concat(parts, ignore_index=True), unify(labels), full["window"], len(parts[-1]))
    try:
        model = fit(full, X, y, known, seed, weights)
    except UnusableConfig as error:
        raise FixableError(f"cannot train {full['family']} on {len(X)} rows: {error}") from error
    return model, X.tail(SAMPLE_ROWS).reset_index(drop=True)


def fit(
    config: Mapping[str, Any],
    X: pd.DataFrame,
    y: pd.Series,
    task: Task,
    seed: int,
    weights: NDArray[np.float64] | None = None,
) -> Pipeline:
    """The fitted pipeline of a config. One thread, so that the same seed gives the same model everywhere.

    Args:
        weights: of the rows; None: all count the same.

    Raises:
        UnusableConfig: the library refuses the combination of config and rows.
    """
    try:
        check_target(y, task, f"training window {config.get('window', 'all')!r}")
    except FixableError as error:
        raise UnusableConfig(error.message) from error
    model = build(config, task, X, seed)
    # Iteration limits are part of the search space and not worth a warning each; divergence shows in the score.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            weighted = {} if weights is None else {"model__sample_weight": weights}
            return model.fit(X, y.to_numpy(), **weighted)
        except (ValueError, ArithmeticError) as error:
            raise UnusableConfig(" ".join(str(error).split())[:200]) from error
