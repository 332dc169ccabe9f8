"""Models as predictors, whatever flavour they were logged with."""

import pickle
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from tools.core.errors import FinalError
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

    @property
    def positive_probability(self) -> np.ndarray | None:
        """Probability of `positive_label(classes)`, shape (n,); None unless there are two classes."""
        if self.probabilities is None or self.classes is None or len(self.classes) != 2:
            return None
        positive = as_text([positive_label(self.classes)])[0]
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


def load_predictor(model_uri: str, tracking_uri: str, registry_uri: str | None = None) -> Predictor:
    """Load a logged or registered model: the scikit-learn flavour first, pyfunc otherwise.

    Sets MLflow's tracking and registry addresses for this process.

    Raises:
        FinalError: the model does not exist or cannot be loaded; says why.
    """
    import mlflow
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.models import get_model_info

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(registry_uri or tracking_uri)
    try:
        flavors = get_model_info(model_uri).flavors
        if "sklearn" in flavors:
            from mlflow.sklearn import load_model

            return SklearnPredictor(load_model(model_uri))
        model = mlflow.pyfunc.load_model(model_uri)
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
        text = " ".join(str(error).split())[:300]
        raise FinalError(f"cannot load the model {model_uri}: {type(error).__name__}: {text}") from error
    return PyfuncPredictor(model)
