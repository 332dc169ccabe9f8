"""The target, checked harder than any feature, in the reference as in the current data."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tools.modeling.accepted import check_accepted, is_accepted
from tools.modeling.doubts import Doubt
from tools.modeling.target_checks import check_target
from tools.modeling.target_rest import check_rest
from tools.modeling.target_units import mixed_units, unit_change

RANDOM = np.random.default_rng(5)
PRICES = RANDOM.normal(1400, 220, 2000)
INCOMES = np.exp(RANDOM.normal(10, 0.9, 2000))
CELSIUS = RANDOM.normal(12, 8, 2000)


def found(reference: Any, current: Any, task: Any = "regression", **more: str) -> dict[str, Doubt]:
    before = None if reference is None else pd.Series(reference, name="y")
    return {doubt.kind: doubt for doubt in check_target(before, pd.Series(current, name="y"), task, **more)}


def test_a_sound_target_raises_nothing() -> None:
    assert not found(PRICES, PRICES * 1.1 + 20) and not found(None, INCOMES)
    assert not found(["no", "yes"] * 50, ["no", "yes", "yes"] * 50, "binary")
    assert not found([0, 1] * 50, [0.0, 1.0] * 50, "binary", metric="f1")


def test_empty_infinite_and_text_are_found_in_the_reference_too() -> None:
    assert "340 of the 1000 rows of the reference" in (
        found(["no"] * 300 + [None] * 340 + ["yes"] * 360, ["no", "yes"] * 500, "binary")["target_missing"].reason
    )
    infinite = found(PRICES, np.where(np.arange(2000) % 500 == 0, np.inf, PRICES))["target_infinite"]
    assert infinite.at is not None and infinite.at.tolist() == [0, 500, 1000, 1500]
    assert "the reference" in found(np.append(PRICES, -np.inf), PRICES)["target_infinite"].reason
    assert found(["63.0 EUR"] * 99 + ["1"], PRICES)["target_text"].examples == ("63.0 EUR",)
    assert "one class only" in found(["no"] * 99, ["no", "yes"] * 50, "binary")["target_one_class"].reason


@pytest.mark.parametrize("before", [PRICES, INCOMES, -PRICES, RANDOM.normal(0, 3, 2000)])
@pytest.mark.parametrize("factor", [100.0, 0.01, 1000.0, 60.0])
def test_a_change_of_unit_stops_a_run(before: Any, factor: float) -> None:
    doubt = found(before, before * factor * RANDOM.normal(1.05, 0.03, 2000))["target_unit"]
    assert doubt.critical and f"{'larger' if factor > 1 else 'smaller'} as a whole" in doubt.reason
    assert "`data.accept: [target_unit]`" in doubt.reason


def test_degrees_of_another_scale_are_found_and_a_hot_summer_is_not() -> None:
    assert "Celsius to Fahrenheit" in found(CELSIUS, CELSIUS[::-1] * 1.8 + 32)["target_unit"].reason
    assert "Kelvin to Celsius" in found(CELSIUS + 273.15, CELSIUS + 1)["target_unit"].reason
    assert not found(CELSIUS, CELSIUS + 15) and not found(PRICES, PRICES * 2.2) and not found(INCOMES, INCOMES**1.1)


def test_two_units_in_one_column_are_found_with_their_rows() -> None:
    late = np.where(np.arange(2000) >= 1500, PRICES * 100, PRICES)
    for reference in (PRICES, None):
        doubt = found(reference, late)["target_unit"]
        assert (
            doubt.at is not None and doubt.at.tolist() == list(range(1500, 2000)) and "500 of the 2000" in doubt.reason
        )
    assert "rows of the reference" in found(late, PRICES)["target_unit"].reason
    some = np.where(RANDOM.random(2000) < 0.03, PRICES / 1000, PRICES)
    assert "0.001 times" in found(PRICES, some)["target_unit"].reason


@pytest.mark.parametrize(
    "values",
    [
        INCOMES,
        RANDOM.gamma(0.4, 30, 3000),  # long tails on both sides of the logarithm
        np.abs(RANDOM.normal(0, 3, 3000)),
        RANDOM.pareto(1.5, 3000) + 1,
        np.append(RANDOM.normal(50, 5, 2990), RANDOM.normal(200, 5, 10)),
        RANDOM.poisson(4, 3000) + 1.0,
    ],
)
def test_long_tails_are_no_second_unit(values: Any) -> None:
    half = len(values) // 2
    assert mixed_units(values, None) is None and mixed_units(values[half:], values[:half]) is None
    assert unit_change(values[:half], values[half:]) is None


def test_one_value_that_suddenly_stands_for_a_missing_one_is_found() -> None:
    doubt = found(PRICES, np.where(np.arange(2000) % 12 == 0, 0.0, PRICES))["target_filler"]
    assert doubt.rows == 167 and "exactly 0 in 167 of the 2000" in doubt.reason
    assert "target_filler" in found(CELSIUS, np.where(np.arange(2000) % 50 == 0, -999.0, CELSIUS))
    counts = RANDOM.poisson(3, 2000).astype(float)
    assert not found(counts, RANDOM.poisson(1, 2000).astype(float))  # zeros as such are nothing odd


def test_mape_of_zeros_is_said() -> None:
    zeros = np.where(np.arange(2000) % 10 == 0, 0.0, PRICES)
    assert (
        "0 in 200 of the 2000 rows of the current data (10.0%)"
        in found(zeros, zeros, metric="mape")["mape_of_zero"].reason
    )
    assert "mape_of_zero" not in found(zeros, zeros, metric="mae") and not found(PRICES, PRICES, metric="mape")


def test_a_metric_of_one_class_needs_to_know_which_where_the_labels_do_not_say_it() -> None:
    rare = ["fraud"] * 10 + ["legit"] * 90
    assert "`positive: fraud`" in found(rare, rare, "binary", metric="average_precision")["positive_unstated"].reason
    assert not found(rare, rare, "binary", metric="average_precision", positive="legit")
    assert not found(rare, rare, "binary", metric="roc_auc")
    for plain in (["no"] * 10 + ["yes"] * 90, [0] * 10 + [1] * 90):
        assert not found(plain, plain, "binary", metric="f1")


def test_a_class_that_may_be_written_as_nothing_is_said() -> None:
    reference = ["none"] * 40 + ["mild"] * 40 + ["severe"] * 20
    gone = found(reference, [None] * 40 + ["mild"] * 40 + ["severe"] * 20, "multiclass")["class_gone"]
    assert "'none'" in gone.reason and "40 current rows have no label" in gone.reason
    assert not found(reference, ["mild"] * 40 + ["severe"] * 60, "multiclass")


def rest(target: Any, bad: Any, faulty: Any = None, task: Any = "binary", share: float = 0.05) -> str:
    at = np.asarray(bad)
    faults = np.zeros(len(at), dtype=bool) if faulty is None else np.asarray(faulty)
    return check_rest(pd.Series(target, name="y"), at, faults, task, share)


def test_rows_are_not_set_aside_where_that_removes_a_class_or_biases_a_label() -> None:
    labels = ["no"] * 900 + ["yes"] * 100
    assert rest(labels, range(0, 1000, 10)) == "" and rest(labels, [999]) == ""
    assert "would remove the class 'yes' of 'y' with all of its 100 rows" in rest(labels, range(900, 1000))
    assert "60 of the 100 rows of the class 'yes'" in rest(labels, range(900, 960))
    assert "missing" in rest([None] * 60 + labels, range(60), [True] * 60) and not rest([None] * 40 + labels, range(40))
    assert "'None'" in rest(["None"] * 300 + labels, range(300), [True] * 300)
    amounts = np.sort(PRICES)
    assert "its mean would go from" in rest(amounts, range(1700, 2000), task="regression")
    assert rest(amounts, range(0, 2000, 7), task="regression") == ""


def test_what_may_be_accepted_has_a_name() -> None:
    assert is_accepted(["leak:flag"], "leak", "flag") and not is_accepted(["leak:flag"], "leak", "other")
    assert is_accepted(["leak"], "leak", "other") and is_accepted(["shared_rows"], "shared_rows")
    for wrong in ("everything", "leak:", "shared_rows:x"):
        with pytest.raises(ValueError, match="cannot be accepted; valid: leak, shared_rows"):
            check_accepted([wrong])
