"""One reading of labels: in one file, in two, in what a model answers, in a table of labels."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tools.core.errors import FixableError
from tools.modeling.labels import as_text, match, merged, positive_label, read_labels, skeleton, told_positive
from tools.modeling.metrics import get_metric, score
from tools.modeling.predictor import Predictions


@pytest.mark.parametrize(
    ("written", "known"),
    [
        (["YES", "NO "], ["yes", "no"]),
        ([">50K.", "<=50K."], [">50K", "<=50K"]),
        (["1", "0"], ["True", "False"]),
        (["True", "False"], ["1", "0"]),
        (["t", "f"], ["yes", "no"]),
        (["Y", "N"], ["1", "0"]),
        (["1.0", "0.0"], ["1", "0"]),
        (["\ufeffgood", "very  bad"], ["good", "very bad"]),
        (["'spam'", "HAM"], ["spam", "ham"]),
    ],
)
def test_a_label_in_another_spelling_is_the_one_that_is_known(written: list[str], known: list[str]) -> None:
    assert match(written, known) == dict(zip(written, known, strict=True))


@pytest.mark.parametrize(
    ("written", "known"),
    [
        (["2"], ["1", "0"]),
        (["-1"], ["1", "0"]),
        (["Nope"], ["no", "yes"]),
        (["YES"], ["yes", "Yes"]),  # which of the two?
        (["1", "maybe"], ["yes", "no"]),
    ],
)
def test_what_may_mean_something_else_spells_nothing(written: list[str], known: list[str]) -> None:
    assert not match(written, known)


def test_labels_of_many_classes_are_merged_only_where_one_spelling_is_rare() -> None:
    assert merged({"a": 50, "A": 40, "b": 9}, "multiclass") == {"a": "a", "A": "A", "b": "b"}
    assert merged({"Low": 500, "low": 4, "High": 300}, "multiclass")["low"] == "Low"
    assert merged({"Yes": 5, "YES": 4, "No": 9}, "binary") == {"Yes": "Yes", "YES": "Yes", "No": "No"}
    assert merged({"True": 5, "1": 4, "False": 9, "0": 2}, "binary") == {
        "True": "True",
        "1": "True",
        "False": "False",
        "0": "False",
    }
    assert skeleton("1.") == skeleton("1") and skeleton(".") == "."


@pytest.mark.parametrize(
    ("reference", "current", "values"),
    [
        ([True, False], [1, 0], [True, False]),
        ([1, 0], [True, False], [1, 0]),
        (["No", "Yes "], ["NO", "YES"], ["No", "Yes"]),
        ([0, 1], ["0", "1"], [0, 1]),
        (["yes", "no"], [True, False], ["yes", "no"]),
        ([1.0, 0.0], [1, 0], [1, 0]),
    ],
)
def test_two_files_get_the_labels_of_the_first_with_their_type(
    reference: list[Any], current: list[Any], values: list[Any]
) -> None:
    columns = {"a": pd.Series(reference * 5, name="y"), "b": pd.Series(current * 5, name="y")}
    read, notes = read_labels(columns, "binary")
    assert read["a"].tolist() == read["b"].tolist() == values * 5
    assert bool(notes) == (as_text(reference).tolist() != as_text(current).tolist())


def test_an_unknown_label_stays_and_nulls_stay_null() -> None:
    columns = {"a": pd.Series([0, 1, None, 1], name="y"), "b": pd.Series(["0", "1", None, "unknown"], name="y")}
    read, _ = read_labels(columns, "multiclass")
    assert read["a"].tolist() == ["0", "1", None, "1"] and read["b"].tolist() == ["0", "1", None, "unknown"]
    kept = pd.Series([1.5, 2.5], name="y")
    assert read_labels({"a": kept}, "regression")[0]["a"] is kept


def test_the_goal_says_what_a_label_means() -> None:
    columns = {"a": pd.Series(["churned", "stayed"] * 3, name="y"), "b": pd.Series([2, 1] * 3, name="y")}
    read, notes = read_labels(columns, "binary", {"2": "churned", "1": "stayed", "7": "stayed"})
    assert read["b"].tolist() == ["churned", "stayed"] * 3
    assert any("'2' (3 rows) as 'churned'" in note for note in notes) and any("'7' is no label" in n for n in notes)


def test_the_positive_class_is_the_stated_one_however_yaml_read_it() -> None:
    assert positive_label(["legit", "fraud"]) == "legit" and positive_label(["legit", "fraud"], "fraud") == "fraud"
    assert positive_label(["yes", "no"], "True") == "yes" and positive_label([True, False], "0") is False
    assert positive_label(np.array([0, 1]), "0") == 0
    with pytest.raises(FixableError, match="'fruad' is no label of the target; labels: 'fraud', 'legit'"):
        positive_label(["legit", "fraud"], "fruad")
    said = told_positive(pd.Series(["legit"] * 9 + ["fraud"]), "")
    assert "'legit' (90.0% of the rows)" in said and "`positive: fraud`" in said
    assert "as stated" in told_positive(pd.Series(["legit", "fraud"]), "fraud")


def test_a_metric_is_of_the_stated_class() -> None:
    truth = np.array(["fraud"] * 10 + ["legit"] * 90)
    chance = np.concatenate([np.full(10, 0.6), np.full(5, 0.7), np.full(85, 0.1)])  # of fraud
    said = Predictions(
        np.where(chance > 0.5, "fraud", "legit"), np.column_stack([chance, 1 - chance]), np.array(["fraud", "legit"])
    )
    metric = get_metric("average_precision", "binary")
    assert score(metric, truth, said, "binary") > 0.9
    assert score(metric, truth, said.read_as(truth, "binary", "fraud"), "binary") == pytest.approx(10 / 15)
    assert score(get_metric("f1", "binary"), truth, said.read_as(truth, "binary", "fraud"), "binary") == pytest.approx(
        0.8
    )


def test_what_a_model_answers_is_read_as_the_labels_of_the_rows() -> None:
    truth = np.array(["yes", "no", "yes", "no"])
    said = Predictions(np.array([1, 0, 1, 0]), np.array([[0.1, 0.9], [0.8, 0.2]] * 2), np.array([0, 1]))
    read = said.read_as(truth, "binary")
    assert (
        read.values.tolist() == truth.tolist() and read.classes is not None and read.classes.tolist() == ["no", "yes"]
    )
    assert score(get_metric("accuracy", "binary"), truth, read, "binary") == 1.0
    only = said.read_as(np.array(["no"] * 4), "binary")
    assert only.classes is not None and only.classes.tolist()[0] == "no"
    numbers = Predictions(np.array([1.0, 2.0]))
    assert numbers.read_as([1.0, 2.5], "regression") is numbers
