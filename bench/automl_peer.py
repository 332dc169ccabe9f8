"""FLAML or AutoGluon at its defaults, in the interpreter it is installed in. `bench/automl.py` runs it.

    PYTHON bench/automl_peer.py flaml|autogluon JOB.json

The job names the files, target, task, metric and seconds; the answers for the held-out rows are written as a Parquet
file: a column a class (probabilities), or `prediction`. Imports nothing of this project.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

AUTOGLUON_METRICS = {"roc_auc": "roc_auc", "log_loss": "log_loss", "rmse": "root_mean_squared_error"}


def flaml(job: dict[str, Any], train: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    from flaml import AutoML  # pyright: ignore[reportMissingImports]

    automl = AutoML()
    task = "regression" if job["task"] == "regression" else "classification"
    X, y = train.drop(columns=[job["target"]]), train[job["target"]]
    automl.fit(X, y, task=task, metric=job["metric"], time_budget=job["seconds"], seed=0, verbose=0)
    if task == "regression":
        return pd.DataFrame({"prediction": automl.predict(held)})
    classes: Any = [str(name) for name in automl.classes_]
    return pd.DataFrame(automl.predict_proba(held), columns=classes)


def autogluon(job: dict[str, Any], train: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    from autogluon.tabular import TabularPredictor  # pyright: ignore[reportMissingImports]

    predictor = TabularPredictor(
        label=job["target"], eval_metric=AUTOGLUON_METRICS[job["metric"]], path=job["folder"], verbosity=0
    ).fit(train, time_limit=job["seconds"])
    if job["task"] == "regression":
        return pd.DataFrame({"prediction": predictor.predict(held).to_numpy()})
    answers = predictor.predict_proba(held)
    return answers.rename(columns=str).reset_index(drop=True)


def main(name: str, job: dict[str, Any]) -> None:
    train, held = pd.read_parquet(job["train"]), pd.read_parquet(job["held"]).drop(columns=[job["target"]])
    answers = {"flaml": flaml, "autogluon": autogluon}[name](job, train, held)
    answers.to_parquet(job["answers"])


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
