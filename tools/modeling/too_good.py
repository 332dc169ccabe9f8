"""A model that makes no error on rows it has not seen: so good that a column, or the choice of the rows, tells it."""

from typing import Any

import numpy as np
from sklearn.metrics import r2_score, roc_auc_score

from tools.modeling.accepted import how_to_accept
from tools.modeling.labels import Kind, as_text, positive_label
from tools.modeling.predictor import Predictions

MIN_ROWS = 20  # that are not of the most frequent class; fewer may be right by chance
ORDERED = 0.9999  # AUC
EXPLAINED = 0.9999  # r2


def too_good(task: Kind, y_true: Any, predictions: Predictions) -> str:
    """Why these predictions cannot be believed, as a sentence; empty where they can."""
    truth = np.asarray(y_true)
    said = _of_numbers(truth, predictions) if task == "regression" else _of_labels(task, truth, predictions)
    if not said:
        return ""
    return (
        f"It is too good to be true: {said}. Look for a column that is known only once the target is, and name it "
        f"under `data.drop`; where the target can be told so well, state {how_to_accept('perfect_score')}."
    )


def _of_labels(task: Kind, truth: np.ndarray, predictions: Predictions) -> str:
    texts, said = as_text(truth), as_text(predictions.values)
    _, counts = np.unique(texts.astype(str), return_counts=True)
    if len(texts) - counts.max(initial=0) < MIN_ROWS:
        return ""
    wrong = int(np.sum(texts != said))
    if not wrong:
        return f"not one of {len(texts)} rows is predicted wrong"
    score = predictions.positive_probability if task == "binary" and len(counts) == 2 else None
    if score is None or predictions.classes is None:
        return ""
    positive = as_text([positive_label(predictions.classes, predictions.positive)])[0]
    auc = float(roc_auc_score(texts == positive, score)) if positive in texts else 0.0
    return f"the AUC is {auc:.5f} on {len(texts)} rows" if auc >= ORDERED else ""


def _of_numbers(truth: np.ndarray, predictions: Predictions) -> str:
    values, said = truth.astype("float64"), predictions.values.astype("float64")
    if len(values) < MIN_ROWS or not np.isfinite(said).all() or np.std(values) == 0:
        return ""
    explained = float(r2_score(values, said))
    return f"r2 is {explained:.6f} on {len(values)} rows" if explained >= EXPLAINED else ""
