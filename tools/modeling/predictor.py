"""What models say about rows, and our own estimators as models; those of others are `tools.modeling.opened_model`'s."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tools.modeling.data import as_text, positive_label


@dataclass(frozen=True)
class Predictions:
    """What a model says about n rows.

    Args:
        values: shape (n,): labels of a classification, numbers of a regression.
        probabilities: shape (n, k), columns in the order of `classes`; None for regressions and models without them.
        classes: the k labels; None without probabilities.
    """

    values: np.ndarray
    probabilities: np.ndarray | None = None
    classes: np.ndarray | None = None

    def of(self, rows: np.ndarray) -> "Predictions":
        """The predictions of some rows, by index or mask."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return Predictions(self.values[rows], probabilities, self.classes)

    @property
    def positive_probability(self) -> np.ndarray | None:
        """Probability of `positive_label(classes)`, shape (n,); None unless there are two classes."""
        if self.probabilities is None or self.classes is None or len(self.classes) != 2:
            return None
        positive = as_text([positive_label(self.classes)])[0]
        column = as_text(self.classes).tolist().index(positive)
        return self.probabilities[:, column]


class SklearnPredictor:
    """A fitted scikit-learn style estimator that takes a DataFrame."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def predict(self, frame: pd.DataFrame) -> Predictions:
        """Labels are the most probable class where there are probabilities."""
        if not hasattr(self.estimator, "predict_proba"):
            return Predictions(np.asarray(self.estimator.predict(frame)))
        probabilities = np.asarray(self.estimator.predict_proba(frame), dtype="float64")
        classes = np.asarray(self.estimator.classes_)
        return Predictions(classes[probabilities.argmax(axis=1)], probabilities, classes)
