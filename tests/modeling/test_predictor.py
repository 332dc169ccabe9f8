"""A logged model as a predictor."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tools.core.errors import FinalError
from tools.modeling.data import (
    TASKS,
    Task,
)
from tools.modeling.model_store import fetch_model
from tools.modeling.models import (
    default_config,
)
from tools.modeling.predictor import SklearnPredictor, open_predictor
from tools.modeling.training import fit

ROWS = 240


def mixed_rows(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Every type of column, with nulls, and a signal in `amount` and `plan`."""
    rng = np.random.default_rng(seed)
    amount = rng.normal(size=rows)
    plan = rng.choice(["free", "pro", "team"], size=rows)
    frame = pd.DataFrame(
        {
            "customer": [f"id-{k}" for k in range(rows)],
            "amount": amount,
            "visits": rng.integers(0, 50, size=rows),
            "plan": plan,
            "active": rng.random(rows) < 0.5,
            "seen": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(rows), unit="h"),
            "charges": [" " if k % 40 == 0 else str(k * 1.5) for k in range(rows)],
            "nothing": [None] * rows,
        }
    )
    frame.loc[::17, "amount"] = np.nan
    frame.loc[::19, "plan"] = None
    signal = 2.0 * amount + (plan == "pro") * 2.0 + rng.normal(scale=0.5, size=rows)
    frame["binary"] = np.where(signal > 0.6, "yes", "no")
    frame["multiclass"] = pd.cut(signal, [-np.inf, -0.5, 1.5, np.inf], labels=["low", "mid", "top"]).astype(str)
    frame["regression"] = signal
    return frame


def features_and_target(task: Task) -> tuple[pd.DataFrame, pd.Series]:
    frame = mixed_rows()
    return frame.drop(columns=list(TASKS)), frame[task]


@pytest.mark.filterwarnings("ignore")  # MLflow's own, at import
def test_a_logged_model_is_loaded_as_a_predictor_and_a_broken_one_says_why(tmp_path: Path) -> None:
    import mlflow
    import mlflow.pyfunc
    import mlflow.sklearn

    X, y = features_and_target("binary")
    model = fit(default_config("binary", "linear"), X, y, "binary", seed=0)
    mlflow.sklearn.save_model(model, str(tmp_path / "good"), serialization_format="cloudpickle")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    loaded = open_predictor(tmp_path / "good")
    assert (loaded.predict(X).values == SklearnPredictor(model).predict(X).values).all()

    (tmp_path / "good" / "model.pkl").write_bytes(b"damaged")
    with pytest.raises(FinalError):
        open_predictor(tmp_path / "good")
    with pytest.raises(FinalError, match="cannot load the model models:/absent/1"):
        fetch_model("models:/absent/1", store)

    class Constant(mlflow.pyfunc.PythonModel):
        def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> list[float]:
            return [1.5] * len(model_input)

    mlflow.pyfunc.save_model(str(tmp_path / "other"), python_model=Constant())
    assert open_predictor(tmp_path / "other").predict(X.head(3)).values.tolist() == [1.5] * 3
