"""Fairness gaps between groups."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tools.core.errors import FixableError
from tools.modeling.fairness import MIN_GROUP_ROWS, make_audit
from tools.modeling.predictor import Predictions
from tools.modeling.search import Fairness
from tools.modeling.training import load_split


def write_rows(path: Path, seed: int, rows: int = 400) -> str:
    """The target follows `score` and, in group b, lies lower; `proxy` gives the group away, `noise` is nothing."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b"], size=rows)
    in_b = (group == "b").astype(float)
    score = rng.normal(size=rows)
    frame = pd.DataFrame({"score": score, "proxy": in_b + rng.normal(scale=0.1, size=rows)})
    frame["noise"] = rng.normal(size=rows)
    frame["group"] = group
    signal = score - 1.5 * in_b + 0.75 + rng.normal(scale=0.5, size=rows)
    frame["churn"] = np.where(signal > 0, "yes", "no")
    frame.to_parquet(path)
    return path.name


# Of 40 rows of each group: truth and prediction as counts of (positive, positive), (positive, negative), ...
COUNTS = {"a": (20, 0, 10, 10), "b": (10, 10, 2, 18)}


def counted() -> tuple[pd.Series, np.ndarray, Predictions]:
    groups: list[str] = []
    truth: list[int] = []
    said: list[float] = []
    for name, (hit, missed, alarm, quiet) in COUNTS.items():
        groups += [name] * 40
        truth += [1] * (hit + missed) + [0] * (alarm + quiet)
        said += [1.0] * hit + [0.0] * missed + [1.0] * alarm + [0.0] * quiet
    return pd.Series(groups * 3), np.array(truth * 3), Predictions(np.array(said * 3))


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("demographic_parity", 30 / 40 - 12 / 40),
        ("equal_opportunity", 20 / 20 - 10 / 20),
        ("equalized_odds", max(0.5, 10 / 20 - 2 / 20)),
        ("error_rate", 12 / 40 - 10 / 40),
    ],
)
def test_a_gap_is_the_difference_that_its_definition_gives(measure: str, expected: float) -> None:
    groups, truth, predictions = counted()
    assert make_audit(measure, groups, truth, "binary").gap(predictions) == pytest.approx(expected)


def test_equalized_odds_takes_the_larger_of_its_two_differences() -> None:
    groups = pd.Series(["a", "b"] * 120)
    truth = np.repeat([1, 0], 120)
    said = truth.copy()
    said[120:][(groups[120:] == "b").to_numpy()] = 1  # every negative of group b is called positive
    assert make_audit("equalized_odds", groups, truth, "binary").gap(Predictions(said)) == 1.0
    assert make_audit("equal_opportunity", groups, truth, "binary").gap(Predictions(said)) == 0.0


def test_a_regression_gap_is_in_the_unit_of_the_target() -> None:
    groups = pd.Series(["a"] * 40 + ["b"] * 40)
    predictions = Predictions(np.r_[np.full(40, 1.0), np.full(40, 4.0)])
    assert make_audit("mae", groups, np.zeros(80), "regression").gap(predictions) == pytest.approx(3.0)
    endless = Predictions(np.r_[np.full(79, 1.0), np.inf])
    assert make_audit("mae", groups, np.zeros(80), "regression").gap(endless) is None


def test_small_groups_are_left_out_and_named_and_nulls_are_a_group() -> None:
    groups = pd.Series(["a"] * 40 + [None] * 40 + ["c"] * (MIN_GROUP_ROWS - 1), dtype=object)
    truth = np.arange(len(groups)) % 2
    audit = make_audit("error_rate", groups, truth, "binary")
    assert audit.compared == ("(missing)", "a")
    assert audit.left_out == {"c": MIN_GROUP_ROWS - 1}
    assert f"c ({MIN_GROUP_ROWS - 1})" in audit.note
    wrong_for_c = np.where(groups == "c", 1 - truth, truth)
    assert audit.gap(Predictions(wrong_for_c)) == 0.0
    # What counts is the rows that the measure is taken over: 40 rows of "a" are 20 positives.
    assert make_audit("equal_opportunity", groups, truth, "binary").compared == ()
    alone = make_audit("error_rate", groups.iloc[:40], truth[:40], "binary")
    assert not alone.possible
    assert alone.gap(Predictions(truth[:40])) is None


def test_measures_of_another_task_and_columns_of_too_many_values_are_refused() -> None:
    with pytest.raises(FixableError, match="valid measures: mae"):
        make_audit("demographic_parity", pd.Series(["a"]), [1.0], "regression")
    with pytest.raises(FixableError, match="at most 20 groups"):
        make_audit("error_rate", pd.Series(range(50), name="age"), [0, 1] * 25, "binary")


def test_a_column_kept_from_the_model_is_read_for_the_gap_only(tmp_path: Path) -> None:
    paths = [tmp_path / "old.parquet", tmp_path / "new.parquet"]
    for seed, path in enumerate(paths):
        write_rows(path, seed)
    fairness = Fairness(column="group", measure="error_rate")
    split = load_split(paths, "churn", ["group", "noise"], "binary", fairness=fairness)
    assert list(split.validation.columns) == list(split.recent.columns) == ["score", "proxy"]
    assert split.audit is not None and split.nested_audit is not None
    expected = pd.read_parquet(paths[1])["group"].to_numpy()
    assert (split.audit.parts[0]["b"] == (expected[-160:-60] == "b")).all(), "the rows between training and nested"
    assert split.nested_audit.left_out == {} or set(split.nested_audit.left_out) <= {"a", "b"}
    assert len(split.nested_audit.truth.values) == 60
    assert "group" in load_split(paths, "churn", [], "binary", fairness=fairness).validation
    with pytest.raises(FixableError, match="no column 'gender'"):
        load_split(paths, "churn", [], "binary", fairness=Fairness(column="gender", measure="error_rate"))
    with pytest.raises(FixableError, match="is the target"):
        load_split(paths, "churn", [], "binary", fairness=Fairness(column="churn", measure="error_rate"))
