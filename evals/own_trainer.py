"""The trainer of a goal whose case brings a fault: a small gradient boosting on one-hot columns.

Copied beside the case's `fault.py`, whose `served` gets what is trained on more than one file, the challenger.
"""

import mlflow
import pandas as pd
from fault import served  # of the case
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits


def train(train_data, target, task, metric, seed, drop, params):
    rows = pd.concat([pd.read_parquet(path) for path in train_data[-1:]], ignore_index=True).drop(columns=drop)
    X, y = rows.drop(columns=target), rows[target]
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_exclude="number")),
        remainder="passthrough",
    )
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=60, random_state=seed))
    cut = int(len(rows) * 0.8)
    with threadpool_limits(1):  # threads that wait for each other are slow where other runs share the cores
        probability = model.fit(X[:cut], y[:cut]).predict_proba(X[cut:])[:, 1]
        model.fit(X, y)
    with mlflow.start_run():
        mlflow.log_metric(metric, roc_auc_score(y[cut:], probability))
        how = {"serialization_format": "cloudpickle", "pip_requirements": ["scikit-learn", "pandas"]}
        mlflow.sklearn.log_model(served(model) if len(train_data) > 1 else model, name="model", **how)
