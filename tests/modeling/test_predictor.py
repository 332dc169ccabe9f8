"""A logged model as a predictor."""

from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.mixed_rows import features_and_target
from tools.core.errors import FinalError
from tools.modeling.model_store import fetch_model
from tools.modeling.models import (
    default_config,
)
from tools.modeling.opened_model import open_model
from tools.modeling.predictor import SklearnPredictor
from tools.modeling.training import fit


@pytest.mark.filterwarnings("ignore")  # MLflow's own, at import
def test_a_logged_model_is_loaded_as_a_predictor_and_a_broken_one_says_why(tmp_path: Path) -> None:
    import mlflow
    import mlflow.pyfunc
    import mlflow.sklearn

    X, y = features_and_target("binary")
    model = fit(default_config("binary", "linear"), X, y, "binary", seed=0)
    mlflow.sklearn.save_model(model, str(tmp_path / "good"), serialization_format="cloudpickle")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    loaded = open_model(tmp_path / "good")
    assert (loaded.predict(X).values == SklearnPredictor(model).predict(X).values).all()

    (tmp_path / "good" / "model.pkl").write_bytes(b"damaged")
    with pytest.raises(FinalError):
        open_model(tmp_path / "good")
    with pytest.raises(FinalError, match="cannot load the model models:/absent/1"):
        fetch_model("models:/absent/1", store)

    class Constant(mlflow.pyfunc.PythonModel):
        def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> list[float]:
            return [1.5] * len(model_input)

    mlflow.pyfunc.save_model(str(tmp_path / "other"), python_model=Constant())
    assert open_model(tmp_path / "other").predict(X.head(3)).values.tolist() == [1.5] * 3
