"""One decision about drift: its level, its power, its words."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tools.judge.drift.verdict import ColumnVerdict, anderson_darling, holm, judge, merge_cells, pearson, squares_tail
from tools.modeling.column_counts import count_categories, count_frames, count_numbers

SEEDS = 150


def table(rows: int, random: np.random.Generator, shift: float = 0.0) -> pd.DataFrame:
    """Eight columns of many kinds; `shift` moves the first, in standard deviations."""
    common = random.normal(size=rows)
    return pd.DataFrame(
        {
            "a": random.normal(shift, 1, rows),
            "b": common,
            "c": common + random.normal(0, 0.1, rows),
            "d": np.round(random.exponential(2, rows)),
            "e": random.random(rows) * (random.random(rows) < 0.1),
            "f": np.where(random.random(rows) < 0.2, np.nan, random.normal(size=rows)),
            "g": random.choice(["x", "y", "z"], rows, p=[0.7, 0.2, 0.1]),
            "h": (random.zipf(1.6, rows).clip(max=300)).astype(str),
        }
    ).astype({"h": "string"})


def verdict(reference: pd.DataFrame, current: pd.DataFrame, **options: Any) -> Any:
    return judge(list(count_frames(reference, current).columns), **options)


def named(columns: list[ColumnVerdict], name: str) -> ColumnVerdict:
    return next(column for column in columns if column.name == name)


@pytest.mark.parametrize(("value", "level"), [(1.933, 0.10), (2.492, 0.05), (3.878, 0.01), (5.967, 0.001)])
def test_the_tail_meets_the_published_points_of_anderson_and_darling(value: float, level: float) -> None:
    weights = 1 / np.arange(1, 1000) / np.arange(2, 1001)
    assert squares_tail(value, weights) == pytest.approx(level, rel=0.08)


@pytest.mark.parametrize("value", [2.0, 5.0, 20.0, 60.0])
def test_the_tail_of_equal_weights_is_that_of_chi_squared(value: float) -> None:
    assert squares_tail(value, np.ones(5)) == pytest.approx(stats.chi2.sf(value, 5), rel=0.03)


def test_pearson_equals_the_usual_test_of_a_table() -> None:
    counts = np.array([[30, 50, 20], [80, 60, 60]])
    shares = counts / counts.sum(axis=1, keepdims=True)
    expected = stats.chi2_contingency(counts, correction=False).pvalue
    assert pearson(shares[0], shares[1], 100, 200) == pytest.approx(expected)


def test_two_cells_of_numbers_are_tested_like_two_categories() -> None:
    before, now = np.array([0.6, 0.4]), np.array([0.5, 0.5])
    assert anderson_darling(before, now, 300, 200) == pytest.approx(pearson(before, now, 300, 200), rel=0.01)


def test_holm_with_equal_weights_is_the_textbook_procedure() -> None:
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]), np.ones(4))
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_weights_favour_the_columns_that_matter() -> None:
    p_values = np.array([0.004, 0.004])
    assert holm(p_values, np.array([3.0, 1.0]))[0] < holm(p_values, np.ones(2))[0]


def test_with_nothing_changed_alarms_are_as_rare_as_stated() -> None:
    alarms = 0
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        before, now = table(400, random), table(200, random)
        columns: list[Any] = [
            count_numbers(name, before[name].to_numpy(), now[name].to_numpy()) for name in ("a", "c", "d", "e", "f")
        ]
        columns.append(count_categories("h", before["h"].to_numpy(object), now["h"].to_numpy(object)))
        alarms += judge(columns, alpha=0.05, min_effect=0.0).drifted
    assert alarms <= stats.binom.ppf(0.999, SEEDS, 0.05)
    assert alarms >= 1  # a test that never fires would pass the line above


def test_rows_that_resemble_their_neighbours_do_not_raise_alarms() -> None:
    alarms = plain = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        series = np.zeros((2, 2000))
        noise = random.normal(size=series.shape)
        for i in range(1, 2000):
            series[:, i] = 0.8 * series[:, i - 1] + noise[:, i]
        alarms += verdict(pd.DataFrame({"a": series[0]}), pd.DataFrame({"a": series[1]}), min_effect=0.0).drifted
        plain += stats.ks_2samp(series[0], series[1]).pvalue < 0.01
    assert alarms <= 5
    assert plain >= 15


@pytest.mark.parametrize("rows", [2_000, 20_000, 200_000])
def test_the_decision_does_not_depend_on_the_number_of_rows(rows: int) -> None:
    random = np.random.default_rng(1)
    reference = pd.DataFrame({"a": random.normal(size=rows), "b": random.normal(size=rows)})
    tiny = pd.DataFrame({"a": random.normal(0.06, 1, rows), "b": random.normal(size=rows)})
    large = pd.DataFrame({"a": random.normal(0.4, 1, rows), "b": random.normal(size=rows)})
    assert not verdict(reference, tiny).drifted
    found = verdict(reference, large)
    assert found.drifted
    assert named(found.columns, "a").effect == pytest.approx(2 * stats.norm.cdf(0.2) - 1, abs=0.04)


def test_a_proven_change_too_small_to_matter_is_named_and_is_no_drift() -> None:
    random = np.random.default_rng(2)
    found = verdict(table(50_000, random), table(50_000, random, shift=0.05))
    assert not found.drifted
    assert found.p_value < 0.01
    assert "No drift that matters" in found.sentence
    assert " in a" in found.sentence


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("a", lambda v: v * 1.6),
        ("d", lambda v: v + 1),
        ("f", lambda v: v.where(v.index % 8 != 0, np.nan)),
        ("e", lambda v: v.where(v.index % 9 != 0, 0.5)),
        ("g", lambda v: v.where(v.index % 6 != 0, "new")),
    ],
    ids=["wider", "moved", "more nulls", "a constant appears", "a new category"],
)
def test_changes_of_many_kinds_are_found_and_named(column: str, change: Any) -> None:
    random = np.random.default_rng(3)
    reference, current = table(3000, random), table(1500, random)
    current[column] = change(current[column])
    found = verdict(reference, current)
    assert [v.name for v in found.columns if v.drifted] == [column]
    assert column in found.sentence
    assert "100 checks" in found.sentence


def test_severity_follows_the_effect_on_the_model() -> None:
    random = np.random.default_rng(4)
    reference, current = table(3000, random), table(3000, random, shift=1.0)
    unused = verdict(reference, current, importance={"a": 0.01, "b": 0.99})
    used = verdict(reference, current, importance={"a": 0.99, "b": 0.01})
    assert unused.drifted
    assert unused.severity == "low"
    assert used.severity == "high"
    assert "99% of the model's importance" in used.sentence


def test_where_the_model_needs_none_of_the_columns_all_weigh_the_same() -> None:
    random = np.random.default_rng(4)
    before, now = table(200, random), table(200, random)
    for importance in ({"other": 1.0}, {"a": -0.1}, {}):
        found = verdict(before, now, importance=importance)
        assert found.columns == verdict(before, now).columns
        assert "needs none of these columns, so all of them weigh the same" in found.sentence


def test_cells_are_merged_without_losing_rows() -> None:
    random = np.random.default_rng(5)
    before, now = random.integers(0, 50, 3000).astype(float), random.integers(0, 50, 3000).astype(float)
    merged = merge_cells(before, now)
    assert 32 <= len(merged[0]) <= 65
    assert merged[0].sum() == before.sum()
    assert merged[1].sum() == now.sum()


def test_the_distance_of_numbers_is_kolmogorov_and_smirnovs() -> None:
    random = np.random.default_rng(6)
    before, now = random.normal(size=700), np.round(random.normal(0.3, 1, 400), 1)
    assert count_numbers("a", before, now).distance == pytest.approx(stats.ks_2samp(before, now).statistic)
