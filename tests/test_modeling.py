"""The shared modelling library, with the real scikit-learn and MLflow."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from tools.core.errors import FinalError, FixableError
from tools.modeling.columns import MISSING, ColumnReader, infer_schema
from tools.modeling.data import (
    TASKS,
    Task,
    as_text,
    load_xy,
    positive_label,
    read_table,
    write_table,
)
from tools.modeling.metrics import METRICS, get_metric, row_losses, score, score_blocks
from tools.modeling.model_store import fetch_model
from tools.modeling.models import (
    FAMILIES,
    build,
    complete_config,
    default_config,
    dimensions,
)
from tools.modeling.predictor import Predictions, SklearnPredictor, open_predictor
from tools.modeling.space import (
    ChosenValues,
    architecture_values,
    sample_architecture,
    sample_tuning,
    spread_tuning,
)
from tools.modeling.training import UnusableConfig, evaluate_config, fit, fit_config, load_split, score_config

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


def test_columns_are_read_for_what_they_hold() -> None:
    frame = mixed_rows()
    frame["day"] = [f"{1 + k % 12}/{1 + k % 28}/11" for k in range(ROWS)]
    frame["code"] = pd.Categorical(frame["plan"])
    schema = infer_schema(frame)
    assert schema["charges"] == "number", "numbers as text with a few blanks are numbers"
    assert schema["seen"] == "time:ISO8601"
    assert schema["day"] == "time:%m/%d/%y"
    assert schema["plan"] == schema["code"] == "category"
    assert schema["active"] == "number"
    assert "nothing" not in schema, "an all-null column cannot be used"
    assert "customer" not in schema, "a text that differs in each row identifies it"
    read = ColumnReader(schema).fit(frame).transform(frame)
    assert np.isnan(read["charges"].iloc[0])
    assert read["charges"].iloc[1] == 1.5
    assert read["plan"].iloc[0] == MISSING
    assert list(read.columns) == list(ColumnReader(schema).get_feature_names_out())
    assert read[["day:year", "day:month", "day:day"]].iloc[2].tolist() == [2011.0, 3.0, 3.0]
    later = ColumnReader(schema).transform(frame.assign(day="2011-03-05", seen=1_767_225_600_000))
    assert later["day:day"].iloc[0] == 5.0, "a time may arrive as ISO text"
    assert later["seen:year"].iloc[0] == 2026.0, "or as an epoch in milliseconds"


def test_labels_are_the_same_whatever_type_they_arrive_in() -> None:
    assert as_text([1, 2.0, "3 ", None, np.nan]).tolist() == ["1", "2", "3", "", ""]
    assert as_text([True, False]).tolist() == as_text(["True", "False"]).tolist()
    predictions = Predictions(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    for truth in ([0, 1], [0.0, 1.0], ["0", "1"]):
        assert score(get_metric("roc_auc", "binary"), truth, predictions, "binary") == 1.0


@pytest.mark.parametrize(
    ("labels", "positive"),
    [(["no", "yes"], "yes"), ([1, 0], 1), ([True, False], True), (["UP", "DOWN"], "UP"), (["yes", "no", "yes"], "yes")],
)
def test_the_positive_label_is_the_last_of_the_sorted_ones(labels: list[object], positive: object) -> None:
    assert positive_label(labels) == positive
    X, y = features_and_target("binary")
    predictions = SklearnPredictor(fit(default_config("binary", "linear"), X, y, "binary", 0)).predict(X)
    assert predictions.positive_probability is not None
    assert predictions.positive_probability[y == "yes"].mean() > predictions.positive_probability[y == "no"].mean()


def test_metrics_agree_with_scikit_learn() -> None:
    X, y = features_and_target("binary")
    predictions = SklearnPredictor(fit(default_config("binary", "linear"), X, y, "binary", 0)).predict(X)
    positive = predictions.positive_probability
    assert positive is not None
    expected = {
        "accuracy": sk.accuracy_score(y, predictions.values),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predictions.values),
        "f1": sk.f1_score(y, predictions.values, pos_label="yes"),
        "roc_auc": sk.roc_auc_score(y, positive),
        "average_precision": sk.average_precision_score(y, positive, pos_label="yes"),
        "log_loss": sk.log_loss(y, predictions.probabilities),
    }
    for name, value in expected.items():
        assert score(get_metric(name, "binary"), y, predictions, "binary") == pytest.approx(value), name
    X, y = features_and_target("multiclass")
    predictions = SklearnPredictor(fit(default_config("multiclass", "linear"), X, y, "multiclass", 0)).predict(X)
    expected = {
        "f1": sk.f1_score(y, predictions.values, average="macro"),
        "roc_auc": sk.roc_auc_score(y, predictions.probabilities, multi_class="ovr"),
        "log_loss": sk.log_loss(y, predictions.probabilities),
    }
    for name, value in expected.items():
        assert score(get_metric(name, "multiclass"), y, predictions, "multiclass") == pytest.approx(value), name
    numbers, guesses = np.array([1.0, 2.0, 4.0]), Predictions(np.array([1.5, 2.0, 3.0]))
    assert score(get_metric("rmse", "regression"), numbers, guesses, "regression") == pytest.approx((1.25 / 3) ** 0.5)


def test_log_loss_is_the_mean_of_the_row_losses_and_a_new_class_costs_the_most() -> None:
    X, y = features_and_target("multiclass")
    predictions = SklearnPredictor(fit(default_config("multiclass", "linear"), X, y, "multiclass", 0)).predict(X)
    truth = y.to_numpy().copy()
    truth[0] = "never seen"
    loss, error = row_losses("multiclass", truth, predictions)
    assert loss[0] == pytest.approx(-np.log(1e-6))
    assert error[0] == 1.0
    assert score(get_metric("log_loss", "multiclass"), truth, predictions, "multiclass") == pytest.approx(loss.mean())
    assert row_losses("regression", [1, 2], Predictions(np.array([3.0, 2.0])))[0].tolist() == [2.0, 0.0]
    certain, _ = row_losses("binary", ["a", "b"], Predictions(np.array(["a", "a"])))
    assert certain.tolist() == pytest.approx([0.0, -np.log(1e-6)]), "without probabilities a label counts as certain"


def test_a_metric_of_another_task_is_refused_by_name_and_a_ranking_needs_two_classes() -> None:
    with pytest.raises(FixableError, match="mae, rmse, r2, mape"):
        get_metric("roc_auc", "regression")
    with pytest.raises(FixableError, match="all 2 rows have the label"):
        score(METRICS["roc_auc"], ["a", "a"], Predictions(np.array(["a", "b"])), "binary")


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet"])
def test_a_table_is_read_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    frame = mixed_rows(30).drop(columns=["seen"])
    path = tmp_path / name
    if name.endswith("parquet"):
        write_table(frame, path)
    else:
        frame.to_csv(path, index=False)
    assert list(read_table(path).columns) == list(frame.columns)
    assert read_table(path)["visits"].tolist() == frame["visits"].tolist()


def test_files_that_cannot_be_read_say_what_is_valid(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")
    (tmp_path / "broken.csv.gz").write_bytes(b"not gzip")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    (tmp_path / "notes.txt").write_text("a")
    for name, words in {
        "absent.csv": "missing",
        "empty.csv": "the file is empty",
        "header.csv": "no rows",
        "broken.parquet": "valid kinds",
        "broken.csv.gz": "valid kinds",
        "ragged.csv": "valid kinds",
        "notes.txt": "unknown kind",
        ".": "a folder",
    }.items():
        with pytest.raises(FixableError, match=words):
            read_table(tmp_path / name)


def test_a_full_disk_leaves_the_old_table_and_no_scraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.parquet"
    write_table(mixed_rows(10), path)

    def full(self: pd.DataFrame, *args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="No space"):
        write_table(mixed_rows(20), path)
    assert len(read_table(path)) == 10
    assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]


@pytest.mark.parametrize(
    ("values", "task", "words"),
    [
        (["a"] * 40, "binary", "one value only"),
        ([None] * 40, "binary", "null in all 40 rows"),
        (["a", "b", "c", "d"] * 10, "binary", "multiclass or regression"),
        (["a", "b"] * 20, "regression", "must be numeric"),
        ([1.0] * 40, "regression", "one value only"),
        ([k + 0.5 for k in range(240)], "multiclass", "task regression"),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused(
    tmp_path: Path, values: list[object], task: Task, words: str
) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"x": range(len(values)), "y": values}).to_parquet(path)
    with pytest.raises(FixableError, match=words):
        load_xy([path], "y", (), task)


def test_unknown_columns_are_named_beside_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    mixed_rows(30).to_parquet(path)
    with pytest.raises(FixableError, match=r"no column 'churn'; columns: customer, amount"):
        load_xy([path], "churn")
    with pytest.raises(FixableError, match="no column 'typo'"):
        load_xy([path], "binary", ["typo"])
    with pytest.raises(FixableError, match="cannot be in the drop list"):
        load_xy([path], "binary", ["binary"])


def test_files_join_in_order_without_unlabelled_rows_and_with_one_type_of_label(tmp_path: Path) -> None:
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    pd.DataFrame({"x": [1, 2, 3], "y": [0, 1, None]}).to_csv(first, index=False)
    pd.DataFrame({"x": [4, 5], "y": [1, 0]}).to_csv(second, index=False)
    X, y = load_xy([first, second], "y")
    assert X["x"].tolist() == [1, 2, 4, 5]
    assert y.tolist() == [0, 1, 1, 0]
    pd.DataFrame({"x": [4, 5], "y": ["1", "unknown"]}).to_csv(second, index=False)
    assert load_xy([first, second], "y", (), "multiclass")[1].tolist() == ["0", "1", "1", "unknown"]


def two_files(folder: Path) -> list[Path]:
    """An old file whose labels follow the rule, and a new one with the rule turned round."""
    paths = [folder / "old.parquet", folder / "new.parquet"]
    old, new = mixed_rows(seed=1), mixed_rows(seed=2)
    new["binary"] = np.where(new["binary"] == "yes", "no", "yes")
    old.drop(columns=["multiclass", "regression"]).to_parquet(paths[0])
    new.drop(columns=["multiclass", "regression"]).to_parquet(paths[1])
    return paths


def test_validation_is_the_tail_of_the_last_file_before_the_rows_that_no_trial_sees(tmp_path: Path) -> None:
    paths = two_files(tmp_path)
    split = load_split(paths, "binary", [], "binary")
    new = read_table(paths[1])
    assert split.nested is not None
    assert split.nested["customer"].tolist() == new["customer"].tolist()[-36:]
    assert split.validation["customer"].tolist() == new["customer"].tolist()[-96:-36]
    assert split.recent["customer"].tolist() == new["customer"].tolist()[:-96]
    assert len(split.training_rows("all")[0]) == ROWS + ROWS - 96
    assert split.training_rows("all")[1].tolist()[-1] == new["binary"].tolist()[-97]
    with pytest.raises(FixableError, match="at least 30"):
        mixed_rows(25).to_parquet(tmp_path / "few.parquet")
        load_split([tmp_path / "few.parquet"], "binary", [], "binary")


def test_after_a_change_the_recent_window_beats_all_rows(tmp_path: Path) -> None:
    paths = two_files(tmp_path)

    def value(window: str) -> float:
        config = {"family": "linear", "window": window}
        return evaluate_config(config, paths, "binary", [], "binary", "roc_auc").value

    assert value("recent") > 0.9 > value("all")


def test_the_newest_rows_begin_at_the_same_row_while_searching_and_in_the_end(tmp_path: Path) -> None:
    paths = two_files(tmp_path)
    split = load_split(paths, "binary", [], "binary")
    new = read_table(paths[1])["customer"].tolist()
    X, y, weights = split.training_rows("newest:200")
    assert X["customer"].tolist() == new[-200:-96]  # the newest 96 are held back
    assert (len(y), weights) == (104, None)
    _, sample = fit_config({"family": "linear", "window": "newest:30"}, paths, "binary", [], "binary")
    assert sample["customer"].tolist() == new[-30:]
    with pytest.raises(UnusableConfig, match="lies within the 96 newest rows"):
        score_config(complete_config({"family": "linear", "window": "newest:90"}, "binary"), split, "roc_auc", 0)


def test_weights_halve_with_each_last_file_and_let_the_newest_rows_win(tmp_path: Path) -> None:
    paths = two_files(tmp_path)
    split = load_split(paths, "binary", [], "binary")
    X, _, weights = split.training_rows("weighted")
    assert len(X) == ROWS + ROWS - 96
    assert weights is not None
    assert weights[[-1, -1 - ROWS]] == pytest.approx([1, 0.5])

    def value(window: str) -> float:
        return score_config(
            complete_config({"family": "linear", "window": window}, "binary"), split, "roc_auc", 0
        ).value

    assert value("recent") > value("weighted") > value("all") + 0.1


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_weights(tmp_path: Path, family: str, task: Task) -> None:
    path = tmp_path / "rows.parquet"
    mixed_rows(120).drop(columns=[t for t in TASKS if t != task]).to_parquet(path)
    fit_config({"family": family, "window": "weighted"}, [path], task, [], task)


def test_a_model_for_use_is_trained_on_every_row_of_its_window(tmp_path: Path) -> None:
    paths = two_files(tmp_path)
    model, sample = fit_config({"family": "linear", "window": "recent"}, paths, "binary", [], "binary")
    assert sample["customer"].tolist() == read_table(paths[1])["customer"].tolist()[-100:]
    assert "binary" not in sample
    new = read_table(paths[1])
    assert (model.predict(new.drop(columns=["binary"])) == new["binary"]).mean() > 0.85


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ({}, "family"),
        ({"family": "svm"}, "hist_gradient_boosting, random_forest"),
        ({"family": "mlp", "windows": "all"}, "keys family"),
        ({"family": "mlp", "window": "newest"}, "all, recent"),
        ({"family": "mlp", "params": {"depth": 3}}, "unknown parameter 'depth'"),
        ({"family": "mlp", "params": {"layers": 9}}, "layers=9, valid: 2, 1, 3, 4"),
        ({"family": "mlp", "params": {"width": 1.5}}, "width=1.5, valid: int from 8 to 128"),
        ({"family": "mlp", "params": {"l2": "high"}}, "l2='high', valid: float"),
    ],
)
def test_a_wrong_config_is_refused_with_what_is_valid(config: object, words: str) -> None:
    with pytest.raises(FixableError, match=words):
        complete_config(config, "binary")  # type: ignore[arg-type]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_default_config_lies_in_both_search_spaces(family: str, task: Task) -> None:
    config = default_config(task, family, "recent")
    chosen = ChosenValues(architecture_values(config))
    assert sample_architecture(chosen, task) == config
    assert sample_tuning(chosen, config, task) == config
    assert complete_config(json.dumps(config), task) == config


def test_spread_configs_repeat_by_seed_stay_in_range_and_keep_the_architecture() -> None:
    start = default_config("binary", "mlp")
    configs = spread_tuning(start, "binary", 20, seed=5)
    assert configs == spread_tuning(start, "binary", 20, seed=5)
    assert configs != spread_tuning(start, "binary", 20, seed=6)
    for config in configs:
        assert complete_config(config, "binary") == config
        assert {k: config["params"][k] for k in ("layers", "activation", "encode")} == {
            k: start["params"][k] for k in ("layers", "activation", "encode")
        }
    rates = sorted(config["params"]["learning_rate"] for config in configs)
    assert rates[0] < 2e-4, "a Latin hypercube reaches both ends"
    assert rates[-1] > 5e-3


def test_rows_without_a_usable_column_cannot_be_trained_on() -> None:
    with pytest.raises(FixableError, match="none of the 1 columns"):
        build(default_config("binary"), "binary", pd.DataFrame({"x": [None, None]}))


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


@pytest.mark.parametrize(
    ("path", "target", "drop", "task", "metric", "at_least"),
    [
        ("telco_churn/telco_churn.csv.gz", "Churn", [], "binary", "roc_auc", 0.82),
        ("bike_hourly/bike_hourly_clean.csv.gz", "cnt", ["casual", "registered"], "regression", "r2", 0.84),
        ("airlines_delayed_labels/airlines_delayed_labels.csv.gz", "ValueToPredict", [], "multiclass", "roc_auc", 0.57),
    ],
)
def test_real_data_train_to_a_useful_model(
    real_data: Path, path: str, target: str, drop: list[str], task: str, metric: str, at_least: float
) -> None:
    config = {"family": "hist_gradient_boosting"}
    assert evaluate_config(config, [real_data / path], target, drop, task, metric).value >= at_least


class TestScoreBlocks:
    def test_blocks_are_consecutive_rows_and_average_to_the_mean_metric(self) -> None:
        truth = np.arange(1000, dtype="float64")
        predictions = Predictions(truth + np.repeat(np.arange(20.0), 50))
        found = score_blocks(get_metric("mae", "regression"), truth, predictions, "regression")
        assert found == [float(k) for k in range(20)]

    @pytest.mark.parametrize(("rows", "count"), [(49, 0), (50, 2), (130, 5), (10_000, 20)])
    def test_a_block_has_at_least_25_rows_and_there_are_at_most_20(self, rows: int, count: int) -> None:
        truth = np.zeros(rows)
        assert len(score_blocks(get_metric("mae", "regression"), truth, Predictions(truth), "regression")) == count

    def test_a_block_of_one_class_has_no_ranking(self) -> None:
        truth = np.array([0] * 25 + [0, 1] * 25)
        probabilities = np.column_stack([1 - truth, truth]).astype("float64")
        predictions = Predictions(truth, probabilities, np.array([0, 1]))
        assert score_blocks(get_metric("roc_auc", "binary"), truth, predictions, "binary") == [None, 1.0, 1.0]

    def test_of_two_models_on_the_same_rows_the_blocks_carry_the_error_of_the_difference(self) -> None:
        """Batch means: over 200 draws of the rows, the 95 % interval holds the true difference in 95 % of them."""
        random = np.random.default_rng(5)
        metric, held = get_metric("mae", "regression"), 0
        for _ in range(200):
            truth, shared = random.normal(size=1000), random.normal(size=1000)
            # Mean absolute errors 0.8 E|Z| and 0.7 E|Z|; the two models err together.
            made = (Predictions(truth + scale * shared) for scale in (0.8, 0.7))
            a, b = (score_blocks(metric, truth, predictions, "regression") for predictions in made)
            differences = np.array(a, dtype=float) - np.array(b, dtype=float)
            half = 2.093 * differences.std(ddof=1) / np.sqrt(20)  # Student's t, 19 degrees of freedom
            held += abs(differences.mean() - 0.1 * np.sqrt(2 / np.pi)) <= half
        assert 0.90 * 200 <= held <= 0.99 * 200  # 0.95 and about three standard errors
