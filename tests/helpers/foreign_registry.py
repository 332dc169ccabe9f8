"""A registry as other tools fill it: real models of several libraries, logged, registered and named their way."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

FEATURES = ["amount", "visits", "plan"]


def rows(count: int, seed: int) -> pd.DataFrame:
    """A time, three features and a label, yes or no."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "ts": pd.date_range("2025-01-01", periods=count, freq="h").astype(str),
            "amount": random.normal(50, 15, count).round(2),
            "visits": random.poisson(4, count),
            "plan": random.choice(["basic", "plus", "premium"], count),
        }
    )
    odds = (table["amount"] - 50) / 7.5 + 0.8 * (table["plan"] == "premium") - 0.5
    return table.assign(churned=np.where(random.random(count) < 1 / (1 + np.exp(-odds)), "yes", "no"))


def pipeline(table: pd.DataFrame, *, encoded: bool) -> Any:
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["plan"]), remainder="passthrough")
    label = (table["churned"] == "yes").astype(int) if encoded else table["churned"]
    return make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(table[FEATURES], label)


@contextlib.contextmanager
def tracked(uri: str) -> Iterator[Any]:
    """MLflow's own functions, set to a store as a notebook in the store's folder would be (a database keeps the files
    of models in `mlruns` of the current folder); what was set before comes back."""
    import mlflow

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    place = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else Path.cwd()
    try:
        with warnings.catch_warnings(), contextlib.chdir(place):
            warnings.simplefilter("ignore")
            yield mlflow
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]
        os.environ.pop("MLFLOW_TRACKING_URI", None)


def _wrapped(model: Any, how: str) -> Any:
    import mlflow.pyfunc

    class Wrapped(mlflow.pyfunc.PythonModel):
        def __init__(self, model, how) -> None:  # type: ignore[no-untyped-def]
            self.model, self.how = model, how

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            chances = self.model.predict_proba(model_input)
            if self.how == "column":
                return chances[:, 1]
            if self.how == "array":
                return chances
            if self.how == "frame":
                return pd.DataFrame({"score": chances[:, 1], "label": self.model.predict(model_input)})
            return self.model.predict(model_input)

    return Wrapped(model, how)


def log(mlflow: Any, kind: str, table: pd.DataFrame) -> tuple[str, np.ndarray]:
    """Log a model of a kind in a run of its own; its address, and the probability of yes that it gives each row."""
    from mlflow.models import infer_signature

    X, yes = table[FEATURES], (table["churned"] == "yes").astype(int)
    typed = X.assign(plan=X["plan"].astype("category"))
    named: dict[str, Any] = {"name": "model", "pip_requirements": ["scikit-learn"]}
    mlflow.set_experiment("team")
    with mlflow.start_run():
        if kind == "xgboost":
            import mlflow.xgboost
            import xgboost

            made: Any = xgboost.XGBClassifier(n_estimators=20, max_depth=3, enable_categorical=True).fit(typed, yes)
            info = mlflow.xgboost.log_model(made, **named)
            return info.model_uri, made.predict_proba(typed)[:, 1]
        if kind == "lightgbm":
            import lightgbm
            import mlflow.lightgbm

            made = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(typed, yes)
            info = mlflow.lightgbm.log_model(made, **named)
            return info.model_uri, np.asarray(made.predict_proba(typed))[:, 1]
        made = pipeline(table, encoded=kind not in ("labels", "frame", "signature"))
        chances = made.predict_proba(X)[:, 1]
        if kind in ("labels", "encoded"):
            import mlflow.sklearn

            return mlflow.sklearn.log_model(made, serialization_format="cloudpickle", **named).model_uri, chances
        more = {"signature": infer_signature(X, made.predict(X))} if kind == "signature" else {}
        how = "array" if kind == "signature" else kind
        info = mlflow.pyfunc.log_model(python_model=_wrapped(made, how), **named, **more)
        return info.model_uri, (chances > 0.5).astype(float) if kind == "pyfunc" else chances


def register(uri: str, kind: str, name: str, table: pd.DataFrame, count: int = 1) -> tuple[int, np.ndarray]:
    """Log a model and register it, as one version or several alike; the last one's number and the model's probabilities
    of yes. Nothing names one champion."""
    with tracked(uri) as mlflow:
        address, chances = log(mlflow, kind, table)
        versions = [int(mlflow.register_model(address, name).version) for _ in range(count)]
        return versions[-1], chances


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MlflowClient(uri)


def store_of(project: Path) -> str:
    """The address of a project's embedded store."""
    return f"sqlite:///{project / '.mlops' / 'mlflow' / 'mlflow.db'}"
