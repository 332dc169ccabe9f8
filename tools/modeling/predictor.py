"""Models as predictors, whatever flavour they were logged with."""

import pickle
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from tools.core.errors import FinalError
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


class Predictor(Protocol):
    """Anything that predicts raw rows. Implementations may be called from several threads at once."""

    def predict(self, frame: pd.DataFrame) -> Predictions:
        """Predict each row of a raw table."""
        ...


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


class PyfuncPredictor:
    """An MLflow model of any other flavour: labels or numbers, no probabilities."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, frame: pd.DataFrame) -> Predictions:
        """The first column of what the model returns.

        Raises:
            FinalError: it does not return one value a row.
        """
        raw = self.model.predict(frame)
        values = raw.iloc[:, 0].to_numpy() if isinstance(raw, pd.DataFrame) else np.asarray(raw)
        if values.shape != (len(frame),):
            raise FinalError(f"the model returned shape {values.shape} for {len(frame)} rows; expected one value a row")
        return Predictions(values)


def open_predictor(folder: Path) -> Predictor:
    """A model from its files, which must stay where they are.

    Runs code of the model's author: to be called in a process that `tools.core.isolation` confined.

    Raises:
        FinalError: it cannot be loaded; says why.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's first import warns of its own type hints
        import mlflow.pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    path = str(folder)
    try:
        if "sklearn" in Model.load(path).flavors:
            from mlflow.sklearn import load_model

            return SklearnPredictor(load_model(path))
        return PyfuncPredictor(mlflow.pyfunc.load_model(path))
    except (
        MlflowException,
        OSError,
        ImportError,
        AttributeError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        raise FinalError(_why(error)) from error


def _why(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"it needs the module {error.name}, which is not installed here"
    if isinstance(error, PermissionError):
        return f"it tried to open a file or a connection that models may not ({error.filename or 'unnamed'})"
    return " ".join(str(error).split())[:300] or f"its files cannot be read ({type(error).__name__})"
