"""Models as the libraries of others log them, opened and asked: the same probabilities as the library itself gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC

from tools.core.errors import FinalError, FixableError
from tools.modeling.data import write_table
from tools.modeling.made_with import other_versions
from tools.modeling.model_input import ModelInput
from tools.modeling.opened_model import OpenedModel, open_model
from tools.modeling.output import Asked
from tools.modeling.output_settings import OutputSettings

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, and the libraries'
ASKED = Asked(task="binary", labels=["no", "yes"], drop=["ts"])


def rows(count: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "amount": random.normal(50, 10, count),
            "visits": random.integers(0, 9, count),
            "plan": random.choice(["basic", "plus", "gold"], count),
        }
    )
    odds = 0.1 * (table["amount"] - 50) + 0.4 * (table["visits"] - 4) + (table["plan"] == "gold")
    return table, np.where(random.random(count) < 1 / (1 + np.exp(-odds)), "yes", "no")


X, Y = rows()
NUMBERS = X[["amount", "visits"]]
LIVE = X.assign(ts="2025-01-01", other=1.5)[["ts", "plan", "other", "visits", "amount"]]  # as requests come


def pipeline(y: Any) -> Any:
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["plan"]), remainder="passthrough")
    return make_pipeline(encode, LogisticRegression(max_iter=2000)).fit(X, y)


def saved(tmp_path: Path, save: Callable[..., Any], *args: Any, **more: Any) -> OpenedModel:
    # Named requirements spare MLflow a process that finds them out.
    save(*args, path=str(tmp_path / "model"), pip_requirements=["scikit-learn"], **more)
    return open_model(tmp_path / "model")


def check(model: OpenedModel, expected: np.ndarray, live: pd.DataFrame = LIVE) -> None:
    reading, found = model.understood(live, ASKED)
    assert found.positive_probability == pytest.approx(expected, abs=1e-5)
    assert set(found.values) <= {"no", "yes"}
    one = model.predict(live.iloc[[7]], reading)
    assert one.positive_probability == pytest.approx(expected[[7]], abs=1e-5)


@pytest.mark.parametrize("encoded", [True, False])
def test_an_sklearn_pipeline_with_its_own_encoders(tmp_path: Path, encoded: bool) -> None:
    import mlflow.sklearn

    made = pipeline((Y == "yes").astype(int) if encoded else Y)
    model = saved(tmp_path, mlflow.sklearn.save_model, made, serialization_format="cloudpickle")
    check(model, made.predict_proba(X)[:, 1])


def test_xgboost_with_its_own_categories(tmp_path: Path) -> None:
    import mlflow.xgboost
    import xgboost

    typed = X.assign(plan=X["plan"].astype("category"))
    made = xgboost.XGBClassifier(n_estimators=20, max_depth=3, enable_categorical=True).fit(typed, Y == "yes")
    check(saved(tmp_path, mlflow.xgboost.save_model, made), made.predict_proba(typed)[:, 1])


def test_an_xgboost_booster(tmp_path: Path) -> None:
    import mlflow.xgboost
    import xgboost

    matrix = xgboost.DMatrix(NUMBERS, (Y == "yes").astype(int))
    made = xgboost.train({"objective": "binary:logistic", "max_depth": 3}, matrix, 20)
    check(saved(tmp_path, mlflow.xgboost.save_model, made), made.predict(matrix))


def test_lightgbm_with_its_own_categories_and_labels(tmp_path: Path) -> None:
    import lightgbm
    import mlflow.lightgbm

    typed = X.assign(plan=X["plan"].astype("category"))
    made = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(typed, Y)
    check(saved(tmp_path, mlflow.lightgbm.save_model, made), np.asarray(made.predict_proba(typed))[:, 1])


def test_a_lightgbm_booster(tmp_path: Path) -> None:
    import lightgbm
    import mlflow.lightgbm

    typed = X.assign(plan=X["plan"].astype("category"))
    made = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(typed, (Y == "yes").astype(int)), 20)
    check(saved(tmp_path, mlflow.lightgbm.save_model, made), np.asarray(made.predict(typed)))


def pyfunc(tmp_path: Path, answers: Callable[[Any, pd.DataFrame], Any], signature: Any = None, y: Any = Y) -> Any:
    import mlflow.pyfunc

    class Wrapped(mlflow.pyfunc.PythonModel):
        def __init__(self, model: Any, answers: Any) -> None:
            self.model, self.answers = model, answers

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return self.answers(self.model, model_input)

    made = pipeline(y)
    more = {} if signature is None else {"signature": signature}
    model = saved(tmp_path, mlflow.pyfunc.save_model, python_model=Wrapped(made, answers), **more)
    return model, made.predict_proba(X)[:, 1]


@pytest.mark.parametrize(
    "answers",
    [
        lambda model, table: model.predict_proba(table),
        lambda model, table: model.predict_proba(table)[:, 1],
        lambda model, table: pd.DataFrame({"score": model.predict_proba(table)[:, 1], "label": model.predict(table)}),
        lambda model, table: pd.DataFrame(model.predict_proba(table), columns=["p_no", "p_yes"]),
        lambda model, table: [{"score": float(chance)} for chance in model.predict_proba(table)[:, 1]],
    ],
    ids=["array", "column", "frame", "named", "records"],
)
def test_a_pyfunc_that_answers_probabilities_of_any_shape(tmp_path: Path, answers: Any) -> None:
    check(*pyfunc(tmp_path, answers))


def test_a_pyfunc_and_an_estimator_that_answer_labels_alone(tmp_path: Path) -> None:
    import mlflow.sklearn

    model, chance = pyfunc(tmp_path / "a", lambda model, table: model.predict(table), y=(Y == "yes").astype(int))
    check(model, (chance > 0.5).astype(float))
    made = LinearSVC().fit(NUMBERS, (Y == "yes").astype(int))
    model = saved(tmp_path / "b", mlflow.sklearn.save_model, made, serialization_format="cloudpickle")
    check(model, made.predict(NUMBERS).astype(float))


def signature(table: pd.DataFrame) -> Any:
    from mlflow.models import infer_signature

    return infer_signature(table, ["yes"])


def test_a_signature_takes_whole_numbers_fractions_and_nulls_as_they_come(tmp_path: Path) -> None:
    def answers(model: Any, table: pd.DataFrame) -> Any:
        assert list(table.columns) == ["amount", "visits", "plan"]
        kinds.add(str(table["visits"].dtype))
        return model.predict_proba(table.fillna({"visits": 4}))[:, 1]

    kinds: set[str] = set()
    for name, sample in (
        ("whole", X),
        ("fraction", X.astype({"visits": "float64"})),
        ("short", X.astype({"visits": "int32"})),
    ):
        model, chance = pyfunc(tmp_path / name, answers, signature(sample))
        check(model, chance)
        check(model, chance, LIVE.astype({"visits": "float64"}))
        check(model, chance, LIVE.astype({"visits": "int8"}))
        holes = LIVE.astype({"visits": "float64"})
        holes.loc[5:20, "visits"] = np.nan
        filled = model.understood(X.fillna({"visits": 4}).assign(visits=holes["visits"].fillna(4)), ASKED)[1]
        assert model.understood(holes, ASKED)[1].positive_probability == pytest.approx(filled.positive_probability)


def test_a_model_that_takes_no_nulls_names_column_rows_and_setting(tmp_path: Path) -> None:
    model, _ = pyfunc(tmp_path, lambda model, table: model.predict_proba(table), signature(X))
    holes = LIVE.astype({"visits": "float64"})
    holes.loc[5:20, "visits"] = np.nan
    holes.loc[3:9, "plan"] = None  # which its encoder takes
    with pytest.raises(FixableError) as refused:
        model.understood(holes, ASKED)
    assert refused.value.message == (
        "it cannot answer the 16 of 300 rows where visits is null (by its signature visits holds whole numbers, which "
        "cannot be null); set `data: {max_null_share: 0, on_bad_rows: quarantine}` in the goal to leave such rows out, "
        "or register a version that takes nulls"
    )


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    model, _ = pyfunc(tmp_path, lambda model, table: model.predict_proba(table), signature(X))
    with pytest.raises(FixableError, match="it was trained on the column plan, which is not in these rows"):
        model.predict(LIVE.drop(columns="plan"))


def test_columns_that_are_dropped_are_given_to_a_model_that_was_trained_on_them_only(tmp_path: Path) -> None:
    import mlflow.sklearn

    made = LogisticRegression(max_iter=2000).fit(NUMBERS.to_numpy(), Y)  # says not what it was trained on
    model = saved(tmp_path / "a", mlflow.sklearn.save_model, made, serialization_format="cloudpickle")
    live = NUMBERS.assign(ts=1)
    check(model, made.predict_proba(NUMBERS.to_numpy())[:, 1], live)
    made = LogisticRegression(max_iter=2000).fit(live, Y)
    check(saved(tmp_path / "b", mlflow.sklearn.save_model, made, serialization_format="cloudpickle"),
          made.predict_proba(live)[:, 1], live)  # fmt: skip


def test_a_regression_of_any_flavor(tmp_path: Path) -> None:
    import lightgbm
    import mlflow.lightgbm
    import mlflow.sklearn

    asked, y = Asked(task="regression"), X["amount"] * 2 + X["visits"]
    made: Any = LinearRegression().fit(NUMBERS, y)
    model = saved(tmp_path / "a", mlflow.sklearn.save_model, made, serialization_format="cloudpickle")
    assert model.understood(LIVE, asked)[1].values == pytest.approx(made.predict(NUMBERS))
    made = lightgbm.LGBMRegressor(n_estimators=10, verbose=-1).fit(NUMBERS, y)
    model = saved(tmp_path / "b", mlflow.lightgbm.save_model, made)
    assert model.understood(LIVE, asked)[1].values == pytest.approx(made.predict(NUMBERS))


def test_what_is_stated_is_used(tmp_path: Path) -> None:
    model, chance = pyfunc(tmp_path, lambda model, table: model.predict_proba(table)[:, ::-1] * 100)
    with pytest.raises(FixableError, match=r"2 columns without names.*what is what"):
        model.understood(LIVE, ASKED)
    stated = OutputSettings(probabilities={"yes": 0, "no": 1}, scale="percent")
    found = model.understood(LIVE, ASKED.model_copy(update={"stated": stated}))[1]
    assert found.positive_probability == pytest.approx(chance)


def test_damaged_files_are_told(tmp_path: Path) -> None:
    write_table(X, tmp_path / "model" / "model.pkl")
    with pytest.raises(FinalError):
        open_model(tmp_path / "model")


class Renamed:
    """A model whose library has renamed what it uses since it was saved."""

    def predict(self, rows: pd.DataFrame) -> Any:
        raise AttributeError("'str' object has no attribute 'transform'")


def test_a_model_that_fails_and_was_logged_with_other_versions_names_them(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "mlflow==2.9.2\nnumpy==1.2.4\nscikit-learn[extra]==0.1.2 ; python\n# x\n"
    )
    made_with = other_versions(tmp_path)
    assert made_with.startswith(f"numpy 1.2.4 (here {np.__version__}), scikit-learn 0.1.2 (here ")
    assert "mlflow" not in made_with
    model = OpenedModel(Renamed().predict, ModelInput((), {}))
    with pytest.raises(AttributeError):
        model.understood(LIVE, ASKED)
    model.made_with = made_with
    with pytest.raises(FixableError, match=r"it was logged with numpy 1\.2\.4 .* register it again"):
        model.understood(LIVE, ASKED)


def test_versions_that_agree_in_two_numbers_or_are_not_stated_say_nothing(tmp_path: Path) -> None:
    assert other_versions(tmp_path) == ""
    (tmp_path / "requirements.txt").write_text(f"numpy=={'.'.join(np.__version__.split('.')[:2])}.99\nscikit-learn\n")
    assert other_versions(tmp_path) == ""
    (tmp_path / "requirements.txt").write_text("a-library-of-theirs==1.0\n")
    assert other_versions(tmp_path) == "a-library-of-theirs 1.0 (not installed here)"
