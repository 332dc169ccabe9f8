"""Columns that tell the label: too good to be true, because what is known of a row only once its label is known will be
missing, or different, when the model is asked.

Each column by itself predicts the label of rows that it was not fitted on (two folds of alternating stretches of rows).
One that leaves hardly an error tells it. One that leaves few is a doubt only where all others together do far worse:
in a problem that is easy for many columns, a single good one is nothing odd.
"""

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from tools.modeling.accepted import how_to_accept
from tools.modeling.columns import to_number
from tools.modeling.doubts import Doubt
from tools.modeling.labels import Kind, as_numbers, as_text, is_blank

MAX_ROWS, LEAST_ROWS = 20_000, 2_000  # of a file, evenly spread; of a wide one fewer
MAX_CELLS = 1_000_000
REST_ROWS = 4_000  # for the model on all other columns
MIN_ROWS, MIN_OF_CLASS = 60, 10
STRETCHES = 20
LEAVES = 64
# Of the errors that guessing makes (the most frequent class, the mean), the share that is left.
TELLS, NEARLY = 0.005, 0.1
AUC_TELLS, AUC_NEARLY = 0.0005, 0.025  # of 1 - AUC, two classes
FIT_TELLS, FIT_NEARLY = 1e-6, 0.02  # of 1 - r2, regressions
TWIN = 0.4  # how much stricter these are where several columns are near
WORSE = 4.0  # times as many errors of all other columns together
SHARED_SHARE = 0.01  # of the current rows; fewer are said when the files are read

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Left:
    """What a prediction leaves of the errors: `of_rank` is 1 - AUC (two classes; else as `share`)."""

    share: float
    of_rank: float

    def least(self, tells: float, rank: float) -> bool:
        return self.share <= tells or self.of_rank <= rank

    def is_far_below(self, other: "Left") -> bool:
        return WORSE * self.share <= other.share or WORSE * self.of_rank <= other.of_rank


def find_leaks(
    reference: pd.DataFrame | None, current: pd.DataFrame, target: str, task: Kind, drop: Collection[str]
) -> list[Doubt]:
    """The columns that tell the label, in either file.

    Args:
        drop: columns that no model sees.
    """
    words: dict[str, str] = {}
    where: dict[str, list[str]] = {}
    for name, frame in (("the reference", reference), ("the current data", current)):
        kept = None if frame is None or target not in frame.columns else _labelled(frame, target, task)
        if kept is None:
            continue
        rows, truth = kept
        features = rows.drop(columns=[target, *(column for column in drop if column in rows.columns)])
        for column, told in _leaks_of(features, truth, task).items():
            words.setdefault(column, told)
            where.setdefault(column, []).append(name)
    return [Doubt("leak", column, _reason(column, told, " and ".join(where[column]))) for column, told in words.items()]


def _reason(column: str, words: str, name: str) -> str:
    return (
        f"it {words} in {name}: too good to be true. If it is known only once the label is, name it under `data.drop`; "
        f"if it is known before, state {how_to_accept('leak', column)}"
    )


def _labelled(frame: pd.DataFrame, target: str, task: Kind) -> tuple[pd.DataFrame, NDArray[Any]] | None:
    """At most so many rows with a label, and their labels as numbers; None where they can show nothing."""
    column = cast(pd.Series, frame[target])
    at = np.flatnonzero(np.isfinite(as_numbers(column)) if task == "regression" else ~is_blank(column))
    most = int(np.clip(MAX_CELLS // frame.shape[1], LEAST_ROWS, MAX_ROWS))
    if len(at) > most:
        at = at[np.linspace(0, len(at) - 1, most).astype(int)]
    if len(at) < MIN_ROWS:
        return None
    if task == "regression":
        truth: NDArray[Any] = as_numbers(column.iloc[at])
        return (frame.iloc[at], truth) if truth.std() > 0 else None
    truth = np.unique(as_text(column.iloc[at]).astype(str), return_inverse=True)[1]
    counts = np.bincount(truth)
    return (frame.iloc[at], truth) if len(counts) > 1 and len(at) - counts.max() >= MIN_OF_CLASS else None


def _leaks_of(features: pd.DataFrame, truth: NDArray[Any], task: Kind) -> dict[str, str]:
    """Column -> how well it tells the label, in words."""
    limits = (TELLS, AUC_TELLS, NEARLY, AUC_NEARLY)
    if task == "regression":
        limits = (FIT_TELLS, FIT_TELLS, FIT_NEARLY, FIT_NEARLY)
    folds = _folds(len(truth))
    left = {str(name): _left_by(cast(pd.Series, features[name]), truth, task, folds) for name in features.columns}
    told = {name: "tells the target by itself" for name, one in left.items() if one.least(*limits[:2])}
    near = {name: one for name, one in left.items() if name not in told and one.least(*limits[2:])}
    features = features.drop(columns=list(told))
    for name, one in near.items():
        rest = _left_by_rest(features.drop(columns=[name]), truth, task)
        twins = task != "regression" and len(near) > 1 and one.least(limits[2] * TWIN, limits[3] * TWIN)
        if twins and not one.is_far_below(rest):
            # Two such columns stand in for each other: what does the table know without either? (The values before
            # a number always do, which is no leak.)
            rest = _left_by_rest(features.drop(columns=list(near)), truth, task)
        if one.is_far_below(rest):
            told[name] = f"nearly tells the target ({_in_words(one, rest, task)})"
    return told


def _in_words(left: Left, rest: Left, task: Kind) -> str:
    if task == "regression":
        return f"it explains {1 - left.share:.1%} of its variance, all other columns together {1 - rest.share:.1%}"
    if left.of_rank != left.share:
        return f"AUC {1 - left.of_rank:.3f} by itself, {1 - rest.of_rank:.3f} by all other columns together"
    return f"it leaves {left.share:.1%} of the errors of guessing, all other columns together {rest.share:.1%}"


def _folds(rows: int) -> NDArray[np.bool_]:
    """Which rows are in the first of two folds: every other stretch of consecutive rows."""
    return (np.arange(rows) * STRETCHES // rows) % 2 == 0


def _left_by(column: pd.Series, truth: NDArray[Any], task: Kind, first: NDArray[np.bool_]) -> Left:
    """What one column leaves."""
    values = _values(column)
    if values is None:
        return Left(1.0, 1.0)
    if task == "regression":
        return _left_of_numbers(values, truth)
    classes = int(truth.max()) + 1
    chances = np.zeros((len(truth), classes))
    for fitted in (first, ~first):
        if isinstance(values, pd.Series):
            chances[~fitted] = _by_category(values, truth, fitted, classes)
        else:
            chances[~fitted] = _by_tree(values, truth, fitted, classes)
    return _left_of(chances, truth)


def _values(column: pd.Series) -> Floats | pd.Series | None:
    """A column as numbers, shape (n, k) with NaN, or as categories; None: nothing is in it."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        times = pd.Series(pd.to_datetime(column, utc=True))
        epoch = times.astype("int64").to_numpy(dtype="float64", copy=True)
        epoch[times.isna().to_numpy()] = np.nan
        parts = times.dt
        return np.column_stack(
            [epoch, *(np.asarray(p, dtype="float64") for p in (parts.hour, parts.weekday, parts.day))]
        )
    present = column.dropna()
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.infer_dtype(present) == "boolean":
        return to_number(column).to_numpy(dtype="float64").reshape(-1, 1)
    texts = pd.Series(as_text(column))
    return texts if texts.nunique() > 1 else None


def _by_category(values: pd.Series, truth: NDArray[Any], fitted: NDArray[np.bool_], classes: int) -> Floats:
    """The share of each class among the fitted rows of the same category; of all fitted rows for a new category."""
    codes, _ = pd.factorize(values)
    counts = np.zeros((int(codes.max()) + 1, classes))
    np.add.at(counts, (codes[fitted], truth[fitted]), 1.0)
    overall = counts.sum(axis=0) / counts.sum()
    shares = (counts + overall) / (counts.sum(axis=1, keepdims=True) + 1.0)
    return shares[codes[~fitted]]


def _by_tree(values: Floats, truth: NDArray[Any], fitted: NDArray[np.bool_], classes: int) -> Floats:
    tree: Any = DecisionTreeClassifier(max_leaf_nodes=LEAVES, min_samples_leaf=5, random_state=0)
    tree.fit(values[fitted], truth[fitted])
    chances = np.zeros((int((~fitted).sum()), classes))
    chances[:, tree.classes_] = tree.predict_proba(values[~fitted])
    return chances


def _left_of(chances: Floats, truth: NDArray[Any]) -> Left:
    counts = np.bincount(truth)
    share = float(np.mean(chances.argmax(axis=1) != truth)) / (1 - counts.max() / len(truth))
    if len(counts) != 2:
        return Left(share, share)
    return Left(share, 1 - float(roc_auc_score(truth == 1, chances[:, 1])))


def _left_of_numbers(values: Floats | pd.Series, truth: Floats) -> Left:
    """What is left of the variance by a straight line, or of that of the ranks; of categories by their means."""
    if isinstance(values, pd.Series):
        means = pd.Series(truth).groupby(values.to_numpy()).transform("mean").to_numpy()
        groups = values.nunique()
        if groups > 0.2 * len(truth):  # a mean of one row is that row
            return Left(1.0, 1.0)
        left = float(np.var(truth - means) / np.var(truth))
        return Left(left, left)
    column = values[:, 0]
    both = np.isfinite(column)
    if both.mean() < 0.5 or np.std(column[both]) == 0 or np.std(truth[both]) == 0:
        return Left(1.0, 1.0)
    line = float(np.corrcoef(column[both], truth[both])[0, 1]) ** 2
    ranks = [pd.Series(part).rank().to_numpy() for part in (column[both], truth[both])]
    by_rank = float(np.corrcoef(ranks[0], ranks[1])[0, 1]) ** 2
    left = 1 - max(line, by_rank)
    return Left(left, left)


def _left_by_rest(features: pd.DataFrame, truth: NDArray[Any], task: Kind) -> Left:
    """What all of these columns together leave."""
    at = np.linspace(0, len(truth) - 1, min(len(truth), REST_ROWS)).astype(int)
    truth, first = truth[at], _folds(len(at))
    made: list[Floats] = []
    for name in features.columns:
        values = _values(cast(pd.Series, features[name].iloc[at]))
        if isinstance(values, pd.Series):
            codes, uniques = pd.factorize(values, sort=True)
            made.append((codes if len(uniques) <= 250 else np.zeros(len(at))).astype("float64").reshape(-1, 1))
        elif values is not None:
            made.append(values)
    if not made:
        return Left(1.0, 1.0)
    table = np.column_stack(made)
    settings: dict[str, Any] = {"max_iter": 60, "early_stopping": False, "random_state": 0}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if task == "regression":
            said = np.zeros(len(at))
            for fitted in (first, ~first):
                regressor: Any = HistGradientBoostingRegressor(**settings).fit(table[fitted], truth[fitted])
                said[~fitted] = regressor.predict(table[~fitted])
            least = min(float(np.mean((one - truth) ** 2)) for one in (said, _by_line(table, truth, first)))
            return Left(least / float(np.var(truth)), least / float(np.var(truth)))
        chances = np.zeros((len(at), int(truth.max()) + 1))
        for fitted in (first, ~first):
            classifier: Any = HistGradientBoostingClassifier(**settings).fit(table[fitted], truth[fitted])
            part = np.zeros((int((~fitted).sum()), chances.shape[1]))
            part[:, classifier.classes_] = classifier.predict_proba(table[~fitted])
            chances[~fitted] = part
        return _left_of(chances, truth)


def _by_line(table: Floats, truth: Floats, first: NDArray[np.bool_]) -> Floats:
    """What a linear model says: it goes on where values lead beyond those of a tree."""
    filled = np.where(np.isfinite(table), table, np.nanmean(np.where(np.isfinite(table), table, np.nan), axis=0))
    filled = np.nan_to_num(filled - filled.mean(axis=0))
    filled = np.column_stack([filled / np.maximum(filled.std(axis=0), 1e-12), np.ones(len(truth))])
    said = np.zeros(len(truth))
    for fitted in (first, ~first):
        weights = np.linalg.lstsq(filled[fitted], truth[fitted], rcond=None)[0]
        said[~fitted] = filled[~fitted] @ weights
    return said


def shared_rows_doubt(shared: int, rows: int) -> list[Doubt]:
    """Rows of the current data that are in the reference, as a doubt; none where they are few."""
    if shared < SHARED_SHARE * rows:
        return []
    return [
        Doubt(
            "shared_rows",
            None,
            f"{shared} of the {rows} current rows are also in the reference, value by value: a model would be judged "
            f"by rows that it has learned; take them out of one file, or state {how_to_accept('shared_rows')}",
            rows=shared,
        )
    ]
