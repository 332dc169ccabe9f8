"""One decision about drift, its false alarms, and performance before the labels arrive."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from tests.conftest import Project
from tools.core.contract_suite import definition_tokens
from tools.core.errors import FixableError
from tools.judge.champion.performance import calibrate, estimate_performance
from tools.judge.drift.verdict import ColumnVerdict, anderson_darling, holm, judge, merge_cells, pearson, squares_tail
from tools.judge.estimates import Scores
from tools.modeling.column_counts import count_categories, count_frames, count_numbers, inflation
from tools.modeling.column_scan import scan
from tools.registry import load_spec

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


def test_inflation_is_one_for_independent_rows_and_large_for_repeated_ones() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=4000)
    assert inflation(values[:, None]) < 1.6
    assert inflation(np.repeat(values[:400], 10)[:, None]) > 5


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


def test_importance_for_none_of_the_columns_is_refused() -> None:
    random = np.random.default_rng(4)
    with pytest.raises(ValueError, match="none of the columns"):
        verdict(table(200, random), table(200, random), importance={"other": 1.0})


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


# --- large files


@pytest.fixture
def parquet(tmp_path: Path) -> tuple[Path, Path, pd.DataFrame, pd.DataFrame]:
    random = np.random.default_rng(7)
    frames = table(40_000, random), table(30_000, random, shift=0.3)
    for frame in frames:
        frame["i"] = random.poisson(3, len(frame))
    paths = tmp_path / "reference.parquet", tmp_path / "current.parquet"
    for path, frame in zip(paths, frames, strict=True):
        pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=7_000)
    return *paths, *frames


def test_a_scan_gives_the_verdicts_of_the_tables_in_memory(parquet: Any) -> None:
    scanned = scan(parquet[0], parquet[1])
    loaded = count_frames(parquet[2], parquet[3])
    assert (scanned.reference_rows, scanned.current_rows) == (40_000, 30_000)
    found, expected = judge(list(scanned.columns)), judge(list(loaded.columns))
    assert [v.name for v in found.columns if v.drifted] == [v.name for v in expected.columns if v.drifted] == ["a"]
    for one in scanned.columns:
        other = next(column for column in loaded.columns if column.name == one.name)
        assert one.reference.sum() == 40_000
        assert one.current.sum() == 30_000
        if one.kind == "category":
            counted = dict(zip(other.cells, other.reference, strict=True))
            assert dict(zip(one.cells, one.reference, strict=True)) == counted
        else:
            assert one.distance is not None
            assert other.distance is not None
            assert one.distance <= other.distance + 1e-12 <= one.distance + one.distance_error + 2e-12
            assert one.distance_error < 0.003


def test_a_scan_reads_nulls_booleans_and_numbers_written_as_text(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    frame = pd.DataFrame(
        {
            "flag": random.random(5000) < 0.3,
            "text": random.integers(0, 1000, 5000).astype(str),
            "hole": np.where(random.random(5000) < 0.4, None, random.normal(size=5000)),
            "word": np.where(random.random(5000) < 0.1, None, random.choice(["x", "y"], 5000)),
        }
    )
    path = tmp_path / "one.parquet"
    pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=900)
    found = {column.name: column for column in scan(path, path).columns}
    assert {name: column.kind for name, column in found.items()} == {
        "flag": "number", "text": "number", "hole": "number", "word": "category",
    }  # fmt: skip
    assert found["hole"].reference[0] == frame["hole"].isna().sum()
    assert found["word"].reference[found["word"].cells.index("(null)")] == frame["word"].isna().sum()
    assert all(column.reference.sum() == 5000 for column in found.values())


# --- performance without labels


def scored(rows: int, random: np.random.Generator, shift: float = 0.0, flip: float = 0.0) -> tuple[Scores, np.ndarray]:
    """Scores that are overconfident, a population moved by `shift`, and labels of which a share is turned over."""
    x = random.normal(shift, 1.5, rows)
    truth = random.random(rows) < 1 / (1 + np.exp(-x))
    truth ^= random.random(rows) < flip
    probability = 1 / (1 + np.exp(-2 * x))
    names = np.array(["no", "yes"], dtype=object)
    right = np.clip(np.where(truth, probability, 1 - probability), 1e-6, 1)
    return Scores(
        names[truth.astype(int)], names[(probability > 0.5).astype(int)], -np.log(right), probability, "yes"
    ), truth


def test_calibration_repairs_overconfidence() -> None:
    scores, truth = scored(8000, np.random.default_rng(9))
    assert scores.probability is not None
    fixed = calibrate(scores.probability, truth, np.array([1 / (1 + np.exp(-4.0))]))
    assert fixed[0] == pytest.approx(1 / (1 + np.exp(-2.0)), abs=0.05)


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss", "f1"])
def test_the_interval_holds_the_metric_that_the_labels_give(metric: str) -> None:
    inside = 0
    for seed in range(4):
        random = np.random.default_rng(seed)
        reference, current = scored(1000, random)[0], scored(500, random, shift=1.0)[0]
        found = estimate_performance(reference, current, np.ones(500, bool), metric, "binary", seed=seed)
        assert found.actual is not None
        inside += found.low <= found.actual <= found.high
    assert inside >= 3


def test_a_harder_population_is_seen_without_labels() -> None:
    random = np.random.default_rng(10)
    easy, hard = scored(4000, random, shift=2.0)[0], scored(4000, random, shift=0.0)[0]
    found = estimate_performance(easy, hard, np.zeros(4000, bool), "accuracy", "binary")
    assert found.actual is None
    assert found.unexplained_p is None
    assert found.high < found.reference_value


def test_labels_reveal_a_change_of_concept_and_only_that() -> None:
    random = np.random.default_rng(11)
    reference = scored(4000, random)[0]
    moved, turned = scored(1500, random, shift=1.0)[0], scored(1500, random, flip=0.15)[0]
    known = np.ones(1500, bool)
    explained = estimate_performance(reference, moved, known, "accuracy", "binary").unexplained_p
    unexplained = estimate_performance(reference, turned, known, "accuracy", "binary").unexplained_p
    assert explained is not None
    assert explained > 0.01
    assert unexplained is not None
    assert unexplained < 1e-4


def test_the_error_of_a_regression_follows_its_predictions() -> None:
    random = np.random.default_rng(12)

    def regression(low: float, high: float) -> Scores:
        said = random.uniform(low, high, 3000)
        truth = said + random.normal(0, 1, 3000) * said / 10
        return Scores(truth, said, np.abs(truth - said))

    found = estimate_performance(
        regression(0, 100), regression(80, 100), np.ones(3000, bool), "mae", "regression"
    )  # noise grows with the prediction
    assert found.value > 1.5 * found.reference_value
    assert found.actual == pytest.approx(found.value, rel=0.08)
    assert found.unexplained_p is not None
    assert found.unexplained_p > 0.001


def test_the_accuracy_of_many_classes_follows_the_predicted_classes() -> None:
    random = np.random.default_rng(13)

    def classes(share_of_hard: float) -> Scores:
        said = np.where(random.random(3000) < share_of_hard, "hard", random.choice(["p", "q"], 3000)).astype(object)
        wrong = random.random(3000) < np.where(said == "hard", 0.5, 0.05)
        truth = np.where(wrong, "p", said).astype(object)
        return Scores(truth, said, np.where(truth == said, 0.1, 2.0))

    found = estimate_performance(classes(0.1), classes(0.7), np.zeros(3000, bool), "accuracy", "multiclass")
    assert found.value == pytest.approx(1 - 0.7 * 0.5 - 0.3 * 0.025, abs=0.03)


# --- the actions


def test_the_action_decides_explains_and_writes_every_column(project: Project) -> None:
    random = np.random.default_rng(14)
    table(2000, random).to_parquet(project.root / "a.parquet")
    table(1000, random, shift=0.8).to_csv(project.root / "b.csv", index=False)
    (project.root / "importance.json").write_text(json.dumps({"a": 0.3, "b": 0.1, "c": -0.001}))
    found = project.ok("judge", "judge_drift", reference="a.parquet", current="b.csv", importance="importance.json")
    assert found["drifted"]
    assert [column["column"] for column in found["moved"]] == ["a"]
    assert found["moved"][0]["importance"] == pytest.approx(0.75)
    assert found["checks_between_false_alarms"] == pytest.approx(100)
    details = json.loads((project.root / found["details_path"]).read_text())
    assert len(details["columns"]) == found["columns"] == 8


def test_the_estimate_is_made_before_labels_and_compared_when_they_come(project: Project) -> None:
    random = np.random.default_rng(15)

    def write(name: str, rows: int, shift: float, labels: bool) -> None:
        scores, _ = scored(rows, random, shift)
        frame = pd.DataFrame(
            {"y_true": scores.y_true, "prediction": scores.prediction, "probability": scores.probability,
             "loss": scores.loss}
        )  # fmt: skip
        if not labels:
            frame["y_true"], frame["loss"] = None, np.nan
        frame.to_parquet(project.root / name)

    write("before.parquet", 2000, 0.0, True)
    write("unlabelled.parquet", 1000, 0.5, False)
    write("labelled.parquet", 1000, 0.5, True)
    ask: dict[str, Any] = {"reference_scores": "before.parquet", "metric": "accuracy", "task": "binary"}
    early = project.ok("judge", "estimate_performance", current_scores="unlabelled.parquet", **ask)
    assert early["labelled_rows"] == 0
    assert early["actual_value"] is None
    assert early["estimated_low"] < early["estimated_value"] < early["estimated_high"]
    later = project.ok("judge", "estimate_performance", current_scores="labelled.parquet", **ask)
    assert later["estimated_low"] <= later["actual_value"] <= later["estimated_high"]
    assert "go with the scores as before" in later["message"]
    assert project.ok("judge", "estimate_performance", current_scores="labelled.parquet", **ask) == later


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"current": "missing.csv"}, "missing"),
        ({"current": "few.csv"}, "at least 50"),
        ({"alpha": 0.9}, "alpha must be between"),
        ({"min_effect": 2}, "min_effect must be between"),
        ({"importance": "few.csv"}, "expected JSON"),
        ({"importance": "foreign.json"}, "none of the columns"),
        ({"importance": "words.json"}, "one finite number per column"),
        ({"current": "other.csv"}, "no column can be compared"),
    ],
    ids=["missing", "few rows", "alpha", "effect", "no JSON", "foreign", "words", "no common column"],
)
def test_bad_input_is_refused_with_what_is_valid(project: Project, change: dict[str, Any], says: str) -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=200)})
    frame.to_csv(project.root / "good.csv", index=False)
    frame.head(20).to_csv(project.root / "few.csv", index=False)
    frame.rename(columns={"a": "z"}).to_csv(project.root / "other.csv", index=False)
    (project.root / "foreign.json").write_text('{"z": 1}')
    (project.root / "words.json").write_text('{"a": "much"}')
    result = project.call("judge", "judge_drift", **{"reference": "good.csv", "current": "good.csv", **change})
    assert result.error is not None
    assert result.error.kind == FixableError.kind
    assert says in result.error.message


@pytest.mark.parametrize("name", ["judge_drift", "estimate_performance"])
def test_a_definition_costs_at_most_120_tokens(name: str) -> None:
    assert definition_tokens(load_spec("judge").action(name)) <= 120
