"""Every model family, with the real scikit-learn."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest

from tests.helpers.mixed_rows import features_and_target
from tools.core.errors import FixableError
from tools.modeling.data import (
    TASKS,
    Task,
)
from tools.modeling.metrics import get_metric, score
from tools.modeling.models import (
    FAMILIES,
    build,
    complete_config,
    default_config,
    dimensions,
)
from tools.modeling.predictor import Predictions, SklearnPredictor
from tools.modeling.training import fit


def over_http(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows as a server gets them: JSON there and back."""
    return pd.DataFrame(json.loads(frame.to_json(orient="records", date_format="iso", double_precision=15)))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_and_predicts_the_same_from_json(family: str, task: Task) -> None:
    X, y = features_and_target(task)
    config = default_config(task, family)
    model = fit(config, X, y, task, seed=3)
    predictions = SklearnPredictor(pickle.loads(pickle.dumps(model))).predict(over_http(X))
    again = SklearnPredictor(fit(config, X, y, task, seed=3)).predict(X)
    if task == "regression":
        assert predictions.values == pytest.approx(again.values, rel=1e-6)
    else:
        assert (predictions.values == again.values).all()
    constant = np.full(len(y), y.mode()[0] if task != "regression" else y.mean(), dtype=object)
    metric = get_metric("accuracy" if task != "regression" else "mae", task)
    learned = score(metric, y, predictions, task)
    assert metric.better(learned, score(metric, y, Predictions(constant), task)), learned


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("choice", ["impute", "scale", "encode", "class_weight", "activation"])
def test_every_choice_of_every_family_trains(family: str, choice: str) -> None:
    X, y = features_and_target("multiclass")
    found = [d for d in dimensions(family, "multiclass") if d.name == choice]
    for value in found[0].choices if found else ():
        quick = {"trees": 30, "iterations": 30, "epochs": 10}
        params = {d.name: quick[d.name] for d in dimensions(family, "multiclass") if d.name in quick}
        config = complete_config({"family": family, "params": {**params, choice: value}}, "multiclass")
        predictions = SklearnPredictor(fit(config, X, y, "multiclass", seed=0)).predict(X)
        assert predictions.probabilities is not None
        assert np.isfinite(predictions.probabilities).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_accepts_columns_that_changed_type_or_are_gone_and_values_never_seen(family: str) -> None:
    X, y = features_and_target("binary")
    predictor = SklearnPredictor(fit(default_config("binary", family), X, y, "binary", seed=0))
    odd = X.head(4).drop(columns=["seen", "customer"])
    odd["visits"] = odd["visits"].astype(str)
    odd["plan"] = ["enterprise", None, "", "pro"]
    odd["active"] = ["true", None, "False", 1]
    odd["amount"] = [None, np.inf, "12", "twelve"]
    odd["new_column"] = 1
    probabilities = predictor.predict(odd[list(reversed(odd.columns))]).positive_probability
    assert probabilities is not None
    assert np.isfinite(probabilities).all()
    with pytest.raises(FixableError, match="none of the model's columns"):
        predictor.predict(pd.DataFrame({"unrelated": [1]}))


def test_rows_without_a_usable_column_cannot_be_trained_on() -> None:
    with pytest.raises(FixableError, match="none of the 1 columns"):
        build(default_config("binary"), "binary", pd.DataFrame({"x": [None, None]}))
