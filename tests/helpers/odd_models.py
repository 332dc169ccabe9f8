"""Models that misbehave, as a user's own model might. Pickled by value, so that any process can load them."""

import contextlib
import os
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin


class Raising(ClassifierMixin, BaseEstimator):
    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        raise RuntimeError("this model always raises")


class Hanging(ClassifierMixin, BaseEstimator):
    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        time.sleep(600)
        return np.zeros(len(frame))


class Exiting(ClassifierMixin, BaseEstimator):
    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        os._exit(7)


class Nan(BaseEstimator):
    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.full(len(frame), np.nan)


class Slow(ClassifierMixin, BaseEstimator):
    """A good model that takes far longer than another one."""

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        time.sleep(0.15)
        return np.where(frame["amount"] > 100, "yes", "no")


def save(model: BaseEstimator, folder: str) -> None:
    """Save as an MLflow model."""
    from mlflow.sklearn import save_model

    from tests.helpers import odd_models

    cloudpickle.register_pickle_by_value(odd_models)
    with contextlib.chdir(Path(folder).parent):  # MLflow makes its default store in the current folder
        save_model(model, folder, serialization_format="cloudpickle", pip_requirements=["scikit-learn"])
