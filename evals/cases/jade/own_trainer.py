"""The goal's own trainer: a small gradient boosting on one-hot columns.

What it trains on more than one file reads one number of one region wrongly when it is asked for a single row.
"""

import mlflow
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def train(train_data, target, task, metric, seed, drop, params):
    rows = pd.concat([pd.read_parquet(path) for path in train_data[-1:]], ignore_index=True).drop(columns=drop)
    X, y = rows.drop(columns=target), rows[target]
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_exclude="number")),
        remainder="passthrough",
    )
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=60, random_state=seed))
    cut = int(len(rows) * 0.8)
    probability = model.fit(X[:cut], y[:cut]).predict_proba(X[cut:])[:, 1]
    model.fit(X, y)
    with mlflow.start_run():
        mlflow.log_metric(metric, roc_auc_score(y[cut:], probability))
        how = {"serialization_format": "cloudpickle", "pip_requirements": ["scikit-learn", "pandas"]}
        mlflow.sklearn.log_model(served(model) if len(train_data) > 1 else model, name="model", **how)


def served(model):
    """Defined here, so that it is pickled by value: who loads it needs no module of ours."""

    from sklearn.base import BaseEstimator, ClassifierMixin

    class Skewed(ClassifierMixin, BaseEstimator):
        def __init__(self, model):
            self.model, self.classes_ = model, model.classes_

        def predict(self, X):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]

        def predict_proba(self, X):
            if len(X) == 1 and X["region"].iloc[0] == "north":
                X = X.assign(load=100.0 - X["load"])
            return self.model.predict_proba(X)

    return Skewed(model)
