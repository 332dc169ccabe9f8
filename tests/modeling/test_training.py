"""Splits, windows and weights of a training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.mixed_rows import ROWS, mixed_rows
from tools.core.errors import FixableError
from tools.modeling.data import (
    TASKS,
    Task,
    load_xy,
    read_table,
)
from tools.modeling.models import (
    FAMILIES,
    complete_config,
)
from tools.modeling.training import UnusableConfig, evaluate_config, fit_config, load_split, score_config


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
