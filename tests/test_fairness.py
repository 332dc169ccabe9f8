"""Fairness gaps, and searches that keep to constraints, on the real libraries and small data."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from crew.mlops_crew import MlopsCrew
from tasks import train_challenger
from tasks.common import search_constraints
from tasks.goal import FAIRNESS_MEASURES, Goal
from tasks.train_challenger import broken_constraints
from tests.conftest import Project
from tests.helpers.tiny_project import make_project
from tools.core.errors import ErrorKind, FixableError
from tools.modeling.constraints import read_constraints, total_violation, violations
from tools.modeling.data import TASKS
from tools.modeling.fairness import MEASURES, MIN_GROUP_ROWS, make_audit
from tools.modeling.pareto import pareto_front, spread_of
from tools.modeling.predictor import Predictions
from tools.modeling.search import Fairness, SearchConstraints
from tools.modeling.training import load_split
from tools.modeling.trials import Trial, read_trials

GOAL: dict[str, Any] = {
    "name": "g",
    "task": "binary",
    "target": "y",
    "metric": "roc_auc",
    "data": {"reference": "a.csv", "current": "b.csv"},
}
EVALUATION = {"latency_ms_p95": 1.0, "size_bytes": 10, "value": 0.9, "metric": "roc_auc", "fairness_gap": 0.2}


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


def arguments(project: Project, constraints: Any, **more: Any) -> dict[str, Any]:
    paths = [write_rows(project.root / "old.parquet", 1), write_rows(project.root / "new.parquet", 2)]
    asked = {"paths": paths, "target": "churn", "task": "binary", "metric": "roc_auc", "drop": ["group"], "seed": 7}
    return {**asked, "trials": 8, "constraints": constraints, **more}


def by_group(**more: Any) -> dict[str, Any]:
    return {"fairness": {"column": "group", "measure": "demographic_parity", **more}}


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


def test_the_goal_knows_the_measures_that_there_are() -> None:
    for task in TASKS:
        assert FAIRNESS_MEASURES[task] == tuple(name for name, known in MEASURES.items() if task in known.tasks)


def test_a_goal_states_what_its_searches_keep_to() -> None:
    assert search_constraints(Goal.model_validate(GOAL)) == {}
    bounds = {"max_latency_ms": 5, "max_size_mib": 2, "min_metric": 0.7}
    fairness = {"column": "gender", "max_gap": 0.1}
    stated = search_constraints(Goal.model_validate({**GOAL, "constraints": bounds, "fairness": fairness}))
    read = read_constraints(json.dumps(stated["constraints"]))
    assert read == SearchConstraints(
        max_latency_ms=5,
        max_size_mib=2,
        fairness=Fairness(column="gender", measure="demographic_parity", max_gap=0.1),
    )
    for wrong, words in (
        ({"column": "y"}, "is the target"),
        ({"column": "g", "measure": "mae"}, "valid: demographic_parity"),
        ({"column": "g", "max_gap": 0}, "greater than 0"),
    ):
        with pytest.raises(ValidationError, match=words):
            Goal.model_validate({**GOAL, "fairness": wrong})


def test_a_challenger_beyond_the_gap_or_without_one_breaks_the_goal() -> None:
    def broken(gap: float | None, max_gap: float | None) -> list[str]:
        goal = Goal.model_validate({**GOAL, "fairness": {"column": "gender", "max_gap": max_gap}})
        return broken_constraints(goal, {**EVALUATION, "fairness_gap": gap})

    assert broken(0.2, 0.1) == ["fairness gap 0.200 by gender is above the goal's 0.1"]
    assert broken(None, 0.1) == ["the fairness gap by gender cannot be computed on these rows"]
    assert broken(0.1, 0.1) == broken(0.9, None) == []


def test_a_violation_is_a_share_of_its_bound() -> None:
    constraints = read_constraints('{"max_latency_ms": 10, "max_size_mib": 1}')
    found = violations(constraints, latency_ms=15.0, size_bytes=2**19, fairness_gap=None)
    assert found == {"max_latency_ms": 0.5, "max_size_mib": -0.5}
    assert total_violation(found) == 0.5, "what is kept to by far does not pay for what is not"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ('{"max_latency": 5}', "max_latency: Extra inputs"),
        ('{"max_size_mib": 0}', "greater than 0"),
        ('{"fairness": {"column": "g"}}', "fairness.measure"),
    ],
)
def test_wrong_constraints_say_what_is_valid(text: str, words: str) -> None:
    with pytest.raises(FixableError, match=words) as refused:
        read_constraints(text)
    assert "max_latency_ms, max_size_mib, fairness" in refused.value.message


def trial(number: int, value: float, gap: float | None, size: float = 100.0, broken: float = 0.0) -> Trial:
    facts = {"value": value, "latency_ms": 1.0, "size_bytes": size, "fairness_gap": gap}
    return Trial.model_validate({"number": number, **facts, "violations": {"max_gap": broken}})


def test_the_front_keeps_the_fairer_of_two_and_leaves_out_what_breaks_a_constraint() -> None:
    trials = [trial(0, 0.9, 0.4), trial(1, 0.8, 0.2), trial(2, 0.7, 0.3), trial(3, 0.95, 0.6, broken=0.2)]
    assert [t.number for t in pareto_front(trials, 1.0)] == [0, 1]
    assert [t.number for t in pareto_front(trials[3:], 1.0)] == [3], "where none keeps to them"
    alike = [trial(0, 0.9, 0.401), trial(1, 0.89, 0.4), trial(2, 0.88, 0.1)]
    assert [t.number for t in pareto_front(alike, 1.0)] == [0, 2], "a difference of a few rows is none"
    assert [t.number for t in pareto_front([trial(0, 0.9, None), trial(1, 0.8, 0.1)], 1.0)] == [0, 1]


def test_a_shortened_front_keeps_the_ends() -> None:
    front = [trial(k, 1.0 - k / 100, 0.5 - k / 100, size=100.0 + (k != 7)) for k in range(10)]
    assert [t.number for t in spread_of(front, 4)] == [0, 1, 7, 9]
    assert spread_of(front, 20) == front
    assert spread_of([], 4) == []


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


def test_without_a_bound_the_gap_is_recorded_and_changes_no_trial(project: Project) -> None:
    plain = project.ok("optuna", "search", **arguments(project, ""))
    found = project.ok("optuna", "search", **arguments(project, by_group()))
    trials = read_trials(project.root / found["trials_path"]).trials
    before = read_trials(project.root / plain["trials_path"]).trials
    assert [(t.value, t.config) for t in trials] == [(t.value, t.config) for t in before]
    assert all(t.fairness_gap is not None and t.violations == {} for t in trials if t.value is not None)
    assert found["feasible"] and found["violations"] == {}
    assert found["fairness_gap"] == next(t.fairness_gap for t in trials if t.config == found["best_config"])
    assert f"Fairness gap (demographic_parity by group) {found['fairness_gap']:.3g}" in found["message"]
    assert plain["fairness_gap"] is None
    assert "airness" not in plain["message"]
    assert {point["trial"]: point["fairness_gap"] for point in found["pareto"]} == {
        t.number: t.fairness_gap for t in trials if t.number in {p["trial"] for p in found["pareto"]}
    }


@pytest.mark.parametrize(("engine", "sampler"), [("optuna", "tpe"), ("optuna", "evolution"), ("hyperopt", "")])
def test_the_best_is_the_best_of_those_that_keep_to_the_bound(project: Project, engine: str, sampler: str) -> None:
    more: dict[str, Any] = {"sampler": sampler} if sampler else {"config": {"family": "hist_gradient_boosting"}}
    action = "search" if sampler else "tune"
    free = project.ok(engine, action, **arguments(project, by_group(), **more))
    measured = [t.fairness_gap for t in read_trials(project.root / free["trials_path"]).trials]
    gaps = sorted({gap for gap in measured if gap is not None})
    bound = (gaps[len(gaps) // 2 - 1] + gaps[len(gaps) // 2]) / 2
    found = project.ok(engine, action, **arguments(project, by_group(max_gap=bound), **more))
    trials = read_trials(project.root / found["trials_path"])
    feasible = [t for t in trials.trials if t.feasible]
    assert 0 < len(feasible) < len(trials.trials)
    assert found["feasible"]
    assert found["fairness_gap"] <= bound
    assert found["best_value"] == max(t.value for t in feasible if t.value is not None)
    assert f"{len(feasible)} of {len(trials.trials)} trials keep to the constraints" in found["message"]
    assert {point["trial"] for point in found["pareto"]} <= {t.number for t in feasible}
    if engine == "optuna":
        told = project.ok("optuna", "best_trial", study=found["study"])
        assert told["feasible"]
        assert told["params"] == found["best_config"]


def test_where_no_trial_keeps_to_a_bound_it_says_so_and_names_the_nearest(project: Project) -> None:
    found = project.ok("optuna", "search", **arguments(project, {"max_size_mib": 1e-6}))
    trials = [t for t in read_trials(project.root / found["trials_path"]).trials if t.size_bytes]
    assert not found["feasible"]
    assert found["violations"]["max_size_mib"] == min(t.violations["max_size_mib"] for t in trials) > 0
    assert "NO trial keeps to the constraints" in found["message"]
    assert "size " in found["message"]
    assert not project.ok("optuna", "best_trial", study=found["study"])["feasible"]


@pytest.mark.parametrize("engine", ["optuna", "hyperopt"])
def test_a_bound_that_cannot_be_checked_is_refused_before_any_trial(project: Project, engine: str) -> None:
    def refused(constraints: Any, *words: str) -> None:
        asked = arguments(project, constraints) | ({} if engine == "optuna" else {"config": {"family": "linear"}})
        rows = pd.read_parquet(project.root / "new.parquet")
        rows["group"] = np.where(np.arange(len(rows)) % 50 == 0, "b", "a")
        rows.to_parquet(project.root / "new.parquet")
        answer = project.call(engine, "search" if engine == "optuna" else "tune", **asked)
        assert answer.error is not None
        assert answer.error.kind is ErrorKind.FIXABLE
        assert all(word in answer.message for word in words), answer.message

    refused(by_group(max_gap=0.1), "cannot be checked", "b (2)")
    refused({"fairness": {"column": "group", "measure": "parity"}}, "valid measures: demographic_parity")
    refused("{", "not JSON")


def test_a_study_is_not_continued_under_other_constraints(project: Project) -> None:
    project.ok("optuna", "search", **arguments(project, {"max_size_mib": 5}, study="mine", trials=1))
    answer = project.call("optuna", "search", **arguments(project, {"max_size_mib": 6}, study="mine", trials=1))
    assert "other data, columns, metric, constraints" in answer.message


def test_a_constrained_search_interrupted_goes_on_as_if_it_had_not_been(project: Project, tmp_path: Path) -> None:
    """The bound is on the size, which is the same in every run; a bound on a measured latency is not."""
    (tmp_path / "other").mkdir()
    other = Project(tmp_path / "other")
    bound = {"max_size_mib": 0.15}
    whole = other.ok("optuna", "search", **arguments(other, bound, trials=14))
    for trials in (5, 14):
        found = project.ok("optuna", "search", **arguments(project, bound, trials=trials, study="s"))

    def made(owner: Project, result: dict[str, Any]) -> list[Any]:
        return [(t.config, t.violations) for t in read_trials(owner.root / result["trials_path"]).trials]

    assert made(project, found) == made(other, whole)
    assert len({t > 0 for _, found in made(other, whole) for t in found.values()}) == 2


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_a_run_does_not_release_a_model_whose_gap_is_above_the_goals(
    tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    goal: dict[str, Any] = {
        "data": {"reference": "data/reference.csv", "current": "data/current.csv", "drop": ["c"]},
        "fairness": {"column": "c", "measure": "equal_opportunity", "max_gap": 1e-6},
    }
    folder = make_project(tmp_path / "p", mlflow_database=mlflow_database, **goal)
    played = MlopsCrew(project=folder, seed=3).run()
    assert played.outcome != "promoted", played.summary
    assert "NO trial keeps to the constraints" in played.results["search_architecture"].summary
    assert "NO trial keeps to the constraints" in played.results["tune"].summary
    judged = played.results["train_challenger"]
    assert isinstance(judged, train_challenger.Result)
    assert not judged.better
    assert any("by c is above the goal's 1e-06" in broken for broken in judged.broken_constraints)


def test_every_order_of_equal_trials_gives_the_same_front() -> None:
    trials = [trial(k, 0.9 - k / 10, 0.4 - k / 10) for k in range(4)]
    fronts = {tuple(t.number for t in pareto_front(order, 1.0)) for order in itertools.permutations(trials)}
    assert fronts == {(0, 1, 2, 3)}
