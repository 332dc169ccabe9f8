"""Columns that tell the label are found; columns that are merely good are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from crew.goal import load_goal
from tasks.goal import Goal
from tools.modeling.labels import as_text
from tools.modeling.leaks import find_leaks, shared_rows_doubt
from tools.modeling.predictor import Predictions
from tools.modeling.reading.compare import shared_rows
from tools.modeling.reading.understand import read_together
from tools.modeling.target_checks import check_target
from tools.modeling.too_good import too_good

N = 1500
RANDOM = np.random.default_rng(7)
A, B = RANDOM.normal(size=(2, N))
PLAN = RANDOM.choice(["basic", "plus", "premium"], N)
Y = np.where(RANDOM.random(N) < 1 / (1 + np.exp(-(2 * A + (PLAN == "plus") - 0.5))), "yes", "no")
AMOUNT = 20 + 3 * A + B + RANDOM.normal(size=N)
HIT = Y == "yes"
NOISE = RANDOM.random(N)
TIMES = pd.date_range("2026-01-01", periods=N, freq="h")


def table(**more: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": A, "b": B, "plan": PLAN, "y": Y, **more})


def leaks(frame: pd.DataFrame, reference: pd.DataFrame | None = None, task: Any = "binary") -> dict[str | None, str]:
    return {doubt.column: doubt.reason for doubt in find_leaks(reference, frame, "y", task, ["ts"])}


LEAKS: dict[str, Any] = {
    "a flag": HIT.astype(int),
    "the label by another name": np.where(HIT, "left", "stayed"),
    "a doubled label": Y,
    "true and false": HIT,
    "a flag that is wrong in 1 %": HIT ^ (NOISE < 0.01),
    "an amount that only one class has": np.where(HIT, np.abs(B) + 0.01, 0.0),
    "filled in for one class only": np.where(HIT, "reason", None),
    "a time of the event": pd.Series(np.where(HIT, TIMES, pd.NaT)).astype("datetime64[ns]"),
    "an exported index of sorted rows": np.argsort(np.argsort(HIT + NOISE / 2)),
    "a score made of the label": HIT + RANDOM.normal(scale=0.2, size=N),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_column_that_tells_the_label_is_found_in_either_file(name: str) -> None:
    leaking, clean = table(told=LEAKS[name]), table(told=NOISE)
    assert list(leaks(leaking)) == ["told"] and "`data.accept: [leak:told]`" in leaks(leaking)["told"]
    assert "in the current data" in leaks(leaking, clean)["told"]
    assert "in the reference:" in leaks(clean, leaking)["told"]
    assert "in the reference and the current data" in leaks(leaking, leaking)["told"]


def test_two_columns_that_nearly_tell_it_do_not_hide_each_other() -> None:
    twins = table(first=HIT ^ (NOISE < 0.008), second=HIT ^ (NOISE > 0.992))
    assert set(leaks(twins)) == {"first", "second"}


def test_columns_that_are_merely_good_are_not() -> None:
    good = table(
        score=2 * A + RANDOM.normal(scale=0.3, size=N), ts=TIMES, id=np.arange(N), code=[f"c{i}" for i in range(N)]
    )
    assert not leaks(good, good)
    assert not find_leaks(None, table(told=HIT), "y", "binary", ["told"])


def test_a_problem_that_is_easy_for_many_columns_has_no_leak() -> None:
    for load in (datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer, datasets.load_digits):
        found: Any = load(as_frame=True)
        shuffled = found.frame.sample(frac=1, random_state=0).rename(columns={"target": "y"}).reset_index(drop=True)
        task = "binary" if shuffled["y"].nunique() == 2 else "multiclass"
        assert not leaks(shuffled, task=task), load.__name__
    numbers: Any = datasets.load_diabetes(as_frame=True)
    assert not leaks(numbers.frame.rename(columns={"target": "y"}), task="regression")


@pytest.mark.parametrize("told", [AMOUNT * 100, np.exp(AMOUNT / 20), AMOUNT + RANDOM.normal(scale=0.3, size=N)])
def test_a_column_that_tells_a_number_is_found(told: Any) -> None:
    frame = pd.DataFrame({"a": A, "b": B, "plan": PLAN, "y": AMOUNT, "told": told})
    assert list(leaks(frame, task="regression")) == ["told"]


def test_the_values_before_are_no_leak_of_a_series() -> None:
    lags = pd.DataFrame({"y": np.cumsum(A)})
    for lag in (1, 2, 3):
        lags[f"lag{lag}"] = lags["y"].shift(lag)
    assert not leaks(lags.dropna(), task="regression")


def test_rows_of_the_reference_in_the_current_data_are_counted() -> None:
    frame = table()
    assert shared_rows(frame, frame) == N and "1500 of the 1500" in shared_rows_doubt(N, N)[0].reason
    again = table(ts=TIMES, id=np.arange(N))  # the same rows under new times and numbers
    later = again.assign(ts=TIMES + pd.Timedelta(days=90), id=np.arange(N) + N).sample(frac=1, random_state=0)
    assert shared_rows(again, later, ["ts"]) == N
    years = pd.DataFrame({"day": np.arange(N) % 365, "hour": np.arange(N) // 365, "y": HIT})  # every year has them
    assert shared_rows(years.assign(ts=TIMES), years.assign(ts=TIMES + pd.Timedelta(days=365)), ["ts"]) == 0
    few = pd.DataFrame({"plan": PLAN, "visits": RANDOM.poisson(3, N), "y": Y, "id": np.arange(N)})
    assert shared_rows(few.iloc[:700], few.iloc[700:]) == 0  # rows of few values repeat by chance
    assert not shared_rows_doubt(3, N) and not shared_rows_doubt(0, N)


def test_a_model_without_an_error_is_not_believed() -> None:
    chance = np.where(HIT, 0.9, 0.2)
    classes = np.array(["no", "yes"])
    perfect = Predictions(Y, np.column_stack([1 - chance, chance]), classes)
    assert "not one of 1500 rows is predicted wrong" in too_good("binary", Y, perfect)
    assert "perfect_score" in too_good("binary", Y, Predictions(np.full(N, "no"), perfect.probabilities, classes))
    wrong = np.where(NOISE < 0.02, 1 - chance, chance)
    assert not too_good(
        "binary", Y, Predictions(classes[(wrong > 0.5).astype(int)], np.column_stack([1 - wrong, wrong]), classes)
    )
    assert not too_good("binary", Y[:15], Predictions(Y[:15]))  # few may be right by chance
    assert too_good("regression", AMOUNT, Predictions(AMOUNT + 1e-6)) and not too_good(
        "regression", AMOUNT, Predictions(AMOUNT + A)
    )


EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
OTHERS = {
    "telco_churn": ("binary", "Churn", "telco_churn/telco_churn.csv.gz"),
    "airlines": ("multiclass", "ValueToPredict", "airlines_delayed_labels/airlines_delayed_labels.csv.gz"),
    "nab": ("regression", "value", "nab/nab.csv.gz"),
}


def stops(frame: pd.DataFrame, goal: Goal) -> list[str]:
    """What would stop a run on a table that is split in two, in words."""
    half = round(len(frame) * goal.data.reference_share)
    reference, current = frame.iloc[:half].reset_index(drop=True), frame.iloc[half:].reset_index(drop=True)
    found = check_target(reference[goal.target], current[goal.target], goal.task, goal.metric, goal.positive)
    found += find_leaks(reference, current, goal.target, goal.task, goal.dropped)
    found += shared_rows_doubt(shared_rows(reference, current, goal.dropped), len(current))
    return [f"{doubt.column}: {doubt.reason}" for doubt in found if doubt.critical]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_real_data_raise_nothing_that_would_stop_a_promotion(example: Path, real_data: Path) -> None:
    goal = load_goal(example, {"MLOPS_DATA": str(real_data)})
    (read,) = read_together({"data": Path(goal.data.source)}, goal.data.read, target=goal.target)
    assert not stops(read.frame, goal)


@pytest.mark.parametrize("name", OTHERS)
def test_other_real_data_raise_nothing_either(name: str, real_data: Path) -> None:
    task, target, path = OTHERS[name]
    metric = "mae" if task == "regression" else "f1"
    content = {"name": name, "task": task, "target": target, "metric": metric, "data": {"source": path}}
    goal = Goal.model_validate(content)
    (read,) = read_together({"data": real_data / path}, goal.data.read, target=target)
    frame = read.frame[as_text(read.frame[target]) != ""].reset_index(drop=True)  # labels of the others come later
    assert not stops(frame, goal)
