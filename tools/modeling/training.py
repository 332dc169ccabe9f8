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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from tools.core.errors import FixableError, shorten
from tools.modeling.data import Task, check_target, check_task, load_parts, require_columns, unify
from tools.modeling.fairness import Audit, make_audit
from tools.modeling.labels import positive_label
from tools.modeling.metrics import get_metric, score, score_blocks
from tools.modeling.models import Config, build, complete_config
from tools.modeling.own_time import OwnTime
from tools.modeling.predictor import SklearnPredictor
from tools.modeling.search import Fairness
from tools.modeling.too_good import too_good
from tools.modeling.windows import windowed

MIN_TRAIN_ROWS = 20
MIN_VALIDATION_ROWS = 10
NESTED_SHARE = 0.15
LATENCY_CALLS = 11
# Near a bound, as many as the evaluation of a finished model measures.
BOUND_LATENCY_CALLS = 50
SAMPLE_ROWS = 100


class UnusableConfig(ValueError):
    """This config cannot be trained on this data; another one may. The message says why."""


@dataclass(frozen=True)
class TrialScore:
    """What one config achieved.

    Args:
        value: the metric on the validation rows.
        fit_s: seconds of training.
        latency_ms, latency_ms_p95: median and 95th percentile of the milliseconds to predict one row (`own_time`).
        size_bytes: of the pickled pipeline.
        block_values: the metric on blocks of the validation rows; see `score_blocks`.
        fairness_gap: between groups of the validation rows; None where it was not asked for, or cannot be computed.
        too_good: why the value cannot be believed; empty where it can.
    """

    value: float
    fit_s: float
    latency_ms: float
    latency_ms_p95: float
    size_bytes: int
    fairness_gap: float | None = None
    block_values: list[float | None] = field(default_factory=list[float | None])
    too_good: str = ""


@dataclass(frozen=True)
class NestedScore:
    """What one config is worth on the nested rows; None: they cannot tell."""

    value: float | None = None
    fairness_gap: float | None = None


@dataclass(frozen=True)
class Split:
    """Rows for training, newer rows for validation, and the newest for one last look; made once, used by every trial.

    Args:
        older, older_y: all files but the last, joined; None where there is one file.
        recent, recent_y: the last file without its tail.
        validation, validation_y: the tail of the last file, before the nested rows.
        nested, nested_y: the newest rows, seen by no trial; None where the last file has too few rows.
        audit, nested_audit: the groups of the validation and of the nested rows; None where no fairness is asked for.
        positive: the positive class of a binary task, where it is stated.
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
    audit: Audit | None = None
    nested_audit: Audit | None = None
    positive: str = ""

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
    fairness: Fairness | None = None,
    positive: str = "",
) -> Split:
    """Read the files (oldest first) and cut the nested and the validation rows off the end of the last.

    Args:
        fairness: the column is read even where it is in `drop`; it is a feature only where it is not.

    Raises:
        FixableError: a file, a column or the target cannot be used, or there are too few rows.
    """
    known = check_task(task)
    column = fairness.column if fairness else None
    if column == target:
        raise FixableError(f"the fairness column {column!r} is the target; name a column of groups")
    parts, labels = load_parts(paths, target, [name for name in drop if name != column], known)
    groups: pd.Series | None = None
    if column is not None:
        require_columns(parts[-1], [column], paths[-1])
        groups = cast(pd.Series, parts[-1][column])
        if column in drop:
            parts = [part.drop(columns=[column], errors="ignore") for part in parts]
            if not parts[-1].shape[1]:
                raise FixableError(f"{paths[-1]}: no feature column is left beside the target {target!r}")
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

    def audit_of(first: int, end: int) -> Audit | None:
        if fairness is None or groups is None or first == end:
            return None
        chosen = positive_label(joined, positive) if known == "binary" else None
        return make_audit(fairness.measure, groups.iloc[first:end], newest_y.iloc[first:end], known, chosen)

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
        audit=audit_of(cut, end),
        nested_audit=audit_of(end, last),
        positive=positive,
    )


def score_config(
    config: Mapping[str, Any], split: Split, metric: str, seed: int, max_latency_ms: float | None = None
) -> TrialScore:
    """Train on a config's window and score it on the validation rows.

    Args:
        max_latency_ms: the bound that the latency will be compared with: near it more predictions are measured.

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
            predictions = predictor.predict(split.validation)
            predictions = predictions.read_as(split.validation_y, split.task, split.positive)
            value = score(wanted, split.validation_y, predictions, split.task)
            blocks = score_blocks(wanted, split.validation_y, predictions, split.task)
        except ValueError as error:  # diverged: infinite or NaN predictions
            raise UnusableConfig(f"its predictions cannot be scored: {error}") from error
        laps = _latencies_ms(predictor, split.validation, max_latency_ms)
    if not math.isfinite(value):
        raise UnusableConfig(f"its {metric} is {value}")
    return TrialScore(
        value=float(value),
        fit_s=fit_s,
        latency_ms=float(np.median(laps)),
        latency_ms_p95=float(np.percentile(laps, 95)),
        size_bytes=len(pickle.dumps(model)),
        fairness_gap=split.audit.gap(predictions) if split.audit else None,
        block_values=blocks,
        too_good=too_good(split.task, split.validation_y, predictions),
    )


def _latencies_ms(predictor: SklearnPredictor, rows: pd.DataFrame, bound: float | None) -> list[float]:
    """Milliseconds of predicting one row. A percentile of few is their maximum: it decides only far from the bound."""
    laps: list[float] = []
    with OwnTime() as clock:
        for k in range(BOUND_LATENCY_CALLS):
            if k == LATENCY_CALLS and (bound is None or max(laps) < bound / 2 or min(laps) > bound):
                break
            row = rows.iloc[[k % len(rows)]]
            started = clock.now()
            predictor.predict(row)
            laps.append(1000.0 * (clock.now() - started))
    return laps


def score_nested(config: Mapping[str, Any], split: Split, metric: str, seed: int) -> NestedScore:
    """The same model as in `score_config`, scored on the nested rows. They cannot tell where there are none, or one
    class only, or the predictions are infinite."""
    if split.nested is None or split.nested_y is None:
        return NestedScore()
    X, y, weights = split.training_rows(str(config.get("window", "all")))
    try:
        predictor = SklearnPredictor(fit(config, X, y, split.task, seed, weights))
        with threadpool_limits(1):
            predictions = predictor.predict(split.nested).read_as(split.nested_y, split.task, split.positive)
            value = score(get_metric(metric, split.task), split.nested_y, predictions, split.task)
    except (FixableError, ValueError):  # UnusableConfig is a ValueError
        return NestedScore()
    gap = split.nested_audit.gap(predictions) if split.nested_audit else None
    return NestedScore(float(value) if math.isfinite(value) else None, gap)


def evaluate_config(
    config: Mapping[str, Any] | str,
    paths: Sequence[Path],
    target: str,
    drop: Sequence[str],
    task: str,
    metric: str,
    seed: int = 0,
    validation_share: float = 0.25,
    positive: str = "",
) -> TrialScore:
    """`load_split`, without nested rows (one config is not a search), and `score_config` in one."""
    split = load_split(paths, target, drop, task, validation_share, nested_share=0.0, positive=positive)
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
            raise UnusableConfig(shorten(" ".join(str(error).split()), 200)) from error
