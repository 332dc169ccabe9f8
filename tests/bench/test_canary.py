"""The reference rules of the canary benchmark behave as published."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tasks.goal import METRICS


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    """bench/canary.py, with the reference rules."""
    path = Path(__file__).parents[2] / "bench" / "canary.py"
    spec = importlib.util.spec_from_file_location("bench_canary", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_canary"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_reference_rules_show_their_published_weaknesses(rules: ModuleType):
    # Kayenta's issue 780; Flagger's false rollbacks; Argo's wrong ones with its default limit.
    assert rules.kayenta_passes(np.array([100.0] * 7 + [1.0] * 3), np.ones(10))
    assert not rules.kayenta_passes(np.full(10, 100.0), np.ones(10))
    equal = rules.Scenario("equal", "promote")
    traffic = [equal.traffic(seed) for seed in range(30)]
    assert np.mean([rules.flagger(t, threshold=1, accuracy=False).verdict == "rollback" for t in traffic]) > 0.5
    assert np.mean([rules.argo(t, limit=0).verdict == "rollback" for t in traffic]) > 0.5
    assert np.mean([rules.ours(t, "accuracy").verdict == "promote" for t in traffic]) > 0.9


def pool(data: Path, name: str) -> dict[str, Any]:
    """Scored rows in which the challenger is worse by every metric."""
    random, n = np.random.default_rng(1), 3000
    task = {"telco_churn": "binary", "airlines_delayed_labels": "multiclass"}.get(name, "regression")
    noise = {"champion": random.random(n), "challenger": random.random(n)}
    right = {who: draw < limit for (who, draw), limit in zip(noise.items(), (0.9, 0.7), strict=True)}
    out: dict[str, Any] = {f"{who}_error": (~hit).astype(float) for who, hit in right.items()}
    out |= {f"{who}_loss": np.where(hit, 0.1, 2.0) for who, hit in right.items()}
    positive = random.random(n) < 0.3
    if task == "binary":
        out["positive"] = positive.astype(float)
        out |= {f"{w}_probability": np.where(h == positive, 0.8, 0.2) + 0.1 * noise[w] for w, h in right.items()}
    elif task == "multiclass":
        out["label"] = np.where(positive, "c", np.where(random.random(n) < 0.5, "a", "b"))
        out |= {f"{w}_prediction": np.where(h, out["label"], "a") for w, h in right.items()}
    else:
        out["y_true"] = random.uniform(5, 15, n)
    return out


def test_every_metric_of_a_goal_is_measured_with_a_weaker_an_equal_and_a_better_challenger(
    rules: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in rules.SETS:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(rules, "scored_rows", pool)
    made = rules.metric_scenarios(tmp_path)
    rows = Counter((s.task, s.metric, s.name.rpartition(": ")[2]) for s in made)
    kinds = ("weaker", "equal", "better")
    assert rows == Counter((task, metric, kind) for task in METRICS for metric in METRICS[task] for kind in kinds)
    for scenario in made:
        if not scenario.name.endswith("equal"):
            found = rules.ours(scenario.traffic(1), scenario.metric, scenario.task)
            assert found.verdict == scenario.verdict, scenario.name


def test_what_is_measured_is_what_a_goals_defaults_make_the_crew_do(rules: ModuleType) -> None:
    goal = rules.goal_of("f1", "binary", 0)
    assert goal.canary.batch_requests == rules.PER_MINUTE
    # Somewhat slower: whether too much so takes requests that it answers itself.
    traffic = rules.Scenario("slower", "promote", loss=-0.05, failed=(0.0, 0.0), slower=1.35).traffic(1)
    weights = np.full(rules.REQUESTS, goal.canary.percent / 100)
    plain = rules.trace(rules.evidence(traffic, 6000, weights), rules.Rules("accuracy", "binary"))
    traced = rules.shared(traffic, 6000, weights, goal, rules.Rules("accuracy", "binary"), None, True)
    assert set(np.round(100 * weights, 6)) == {5.0, 10.0, 20.0}, "raised once all but the latency was proven"
    sooner, later = (each.first("promote", rules.PER_MINUTE) for each in (traced, plain))
    assert sooner is not None and later is not None and sooner <= later / 2
