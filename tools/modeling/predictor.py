"""What models say about rows, and our own estimators as models; those of others are `tools.modeling.opened_model`'s."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tools.modeling.labels import Kind, as_text, positive_label, spelled_as


@dataclass(frozen=True)
class Predictions:
    """What a model says about n rows.

    Args:
        values: shape (n,): labels of a classification, numbers of a regression.
        probabilities: shape (n, k), columns in the order of `classes`; None for regressions and models without them.
        classes: the k labels; None without probabilities.
        positive: the positive class of a binary task as text, where it is stated; empty: see `positive_label`.
    """

    values: np.ndarray
    probabilities: np.ndarray | None = None
    classes: np.ndarray | None = None
    positive: str = ""

    def of(self, rows: np.ndarray) -> "Predictions":
        """The predictions of some rows, by index or mask."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return replace(self, values=self.values[rows], probabilities=probabilities)

    def read_as(self, truth: Any, task: Kind, positive: str = "") -> "Predictions":
        """The same with its labels spelled as those of the truth are, and the positive class that is stated.

        A label that the truth does not have stays as the model writes it; numbers of a regression stay what they are.
        """
        if task == "regression":
            return self
        known = [str(text) for text in dict.fromkeys(as_text(truth).tolist()) if text]
        classes = None if self.classes is None else spelled_as(self.classes, known)
        values = self.values
        if classes is None:
            values = spelled_as(values, known)
        elif classes is not self.classes and self.classes is not None:
            # By class, so that a prediction of a class is spelled as the class even where the rows lack it.
            renamed = dict(zip(as_text(self.classes), as_text(classes), strict=True))
            values = np.array([renamed.get(text, text) for text in as_text(values)], dtype=object)
        return replace(self, values=values, classes=classes, positive=positive if task == "binary" else "")

    @property
    def positive_probability(self) -> np.ndarray | None:
        """Probability of the positive class, shape (n,); None unless there are two classes."""
        if self.probabilities is None or self.classes is None or len(self.classes) != 2:
            return None
        positive = as_text([positive_label(self.classes, self.positive)])[0]
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
