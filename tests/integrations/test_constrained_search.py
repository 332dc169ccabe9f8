"""Searches that keep to constraints, on the real libraries and small data."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crew.mlops_crew import MlopsCrew
from tasks import train_challenger
from tests.conftest import Project
from tests.helpers.tiny_project import make_project
from tools.core.errors import ErrorKind
from tools.modeling.trials import Trial, read_trials


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


def trial(number: int, value: float, gap: float | None, size: float = 100.0, broken: float = 0.0) -> Trial:
    facts = {"value": value, "latency_ms": 1.0, "size_bytes": size, "fairness_gap": gap}
    return Trial.model_validate({"number": number, **facts, "violations": {"max_gap": broken}})


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
