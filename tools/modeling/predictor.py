"""Models as predictors, whatever flavour they were logged with."""

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
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


def fetch_model(model_uri: str, tracking_uri: str, registry_uri: str | None = None, folder: Path | None = None) -> Path:
    """The files of a saved, logged or registered model, on this machine.

    MLflow's process-wide addresses are neither read nor set: they are the user's where the process is a notebook, and
    setting them exports them to the environment, where they would read as a setting.

    Args:
        model_uri: a folder, `models:/m-ID`, `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/RUN_ID/NAME`, or
            any other address that MLflow can download from.
        registry_uri: the tracking address by default.
        folder: where to put them; by default they stay where they are if that is this machine, and are downloaded
            into a new temporary folder otherwise.

    Raises:
        FinalError: there is no such model, or it cannot be downloaded; says why.
    """
    import mlflow.artifacts
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    try:
        location = model_uri
        if model_uri.startswith("models:"):
            client = MlflowClient(tracking_uri, registry_uri or tracking_uri)
            # The ID of a logged model, or a registered one's name and version; MLflow leaves it untyped.
            found: tuple[Any, ...] = get_model_name_and_version(client, model_uri)
            if len(found) == 1:
                location = client.get_logged_model(found[0]).artifact_location
            else:
                location = client.get_model_version_download_uri(*found)
        return Path(
            mlflow.artifacts.download_artifacts(
                location, dst_path=None if folder is None else str(folder), tracking_uri=tracking_uri
            )
        )
    except (MlflowException, OSError) as error:
        raise _unloadable(model_uri, error, tried=registry_uri or tracking_uri) from error


def load_predictor(model_uri: str, tracking_uri: str, registry_uri: str | None = None) -> Predictor:
    """Load a saved, logged or registered model: the scikit-learn flavour first, pyfunc otherwise.

    Args: those of `fetch_model`.

    Raises:
        FinalError: the model does not exist or cannot be loaded; says why.
    """
    return open_predictor(fetch_model(model_uri, tracking_uri, registry_uri), model_uri)


def open_predictor(folder: Path, model_uri: str) -> Predictor:
    """A model from its files, which must stay where they are.

    Args:
        model_uri: what it is called in an error.

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
        raise _unloadable(model_uri, error) from error


def _unloadable(model_uri: str, error: Exception, tried: str | None = None) -> FinalError:
    text = " ".join(str(error).split())[:300]
    return FinalError(f"cannot load the model {model_uri}: {type(error).__name__}: {text}", tried=tried)
