"""When to refit, recalibration in between, and the rules that the benches compare with."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import pytest

from tools.judge.refit import COST, Recalibrator, RetrainPolicy, row_weights


def refits(levels: list[float], seed: int = 0, fresh: float | None = None, cost: float = COST) -> list[int]:
    """Batches after which the policy refits; a refit brings the loss back to `fresh`, relative to a baseline of 1."""
    random = np.random.default_rng(seed)
    policy, made, level_after = RetrainPolicy(cost), [], None
    for batch, level in enumerate(levels):
        level = level if level_after is None else level_after
        if policy.observe(np.abs(random.normal(level, 0.3, 500)), 1.0):
            made.append(batch)
            level_after = fresh
    return made


def test_a_stream_without_drift_is_refitted_at_most_three_times_in_forty_batches():
    counts = [len(refits([0.6] * 40, seed)) for seed in range(200)]
    assert np.mean(counts) < 1
    assert np.quantile(counts, 0.95) <= 3


def test_a_jump_of_the_loss_is_answered_within_two_batches_and_once():
    made = refits([0.5] * 10 + [0.8] * 30, fresh=0.5)
    assert len(made) == 1
    assert made[0] in (10, 11)


def test_a_slow_loss_is_answered_later_than_a_fast_one():
    slow, fast = (refits([0.5 + slope * i for i in range(40)], fresh=0.5)[0] for slope in (0.005, 0.05))
    assert fast < slow < 20


def test_a_dearer_refit_is_done_later_or_never():
    levels = [0.5] * 5 + [0.6] * 15
    cheap, dear = refits(levels, fresh=0.5, cost=0.05), refits(levels, fresh=0.5, cost=0.6)
    assert cheap[0] < dear[0]
    assert refits(levels, fresh=0.5, cost=5.0) == []


def test_the_decision_does_not_depend_on_the_unit_of_the_loss():
    random = np.random.default_rng(1)
    batches = [np.abs(random.normal(0.5 + 0.02 * i, 0.2, 300)) for i in range(30)]
    decisions = []
    for unit in (1.0, 1e6):
        policy = RetrainPolicy()
        decisions.append([policy.observe(unit * losses, unit) for losses in batches])
    assert decisions[0] == decisions[1]
    assert any(decisions[0])


def test_a_batch_that_is_hard_for_everyone_is_not_held_against_the_champion():
    policy = RetrainPolicy()
    random = np.random.default_rng(2)
    acts = [policy.observe(d * np.abs(random.normal(0.6, 0.1, 500)), d) for d in (1, 1, 3, 5, 1, 4, 2, 1)]
    assert not any(acts)


def follow_ups(gain: float) -> int:
    """Refits after a jump where each refit brings the loss down by `gain`, to the old level at best."""
    random = np.random.default_rng(3)
    policy, made, level, before = RetrainPolicy(), 0, 0.4, None
    for batch in range(30):
        level = 0.8 if batch == 10 else level
        losses = np.abs(random.normal(level, 0.1, 500))
        shadow = None if before is None else np.abs(random.normal(before, 0.1, 500))
        if policy.observe(losses, 1.0, shadow):
            made += 1
            before, level = level, max(0.4, level - gain)
    return made


def test_a_refit_on_too_few_new_rows_does_not_become_the_new_normal():
    # ADWIN sees no change in a model that stays bad after its refit; the best fresh version is an absolute reference.
    assert 3 <= follow_ups(gain=0.1) <= 6
    assert follow_ups(gain=0.4) == 1


def test_a_world_that_became_harder_is_not_answered_by_refits_that_do_not_help():
    assert follow_ups(gain=0.0) == 1


def test_the_reason_names_the_excess_and_the_cost():
    policy = RetrainPolicy(cost=0.25)
    for level in (0.5, 0.7, 0.7):
        policy.observe(np.full(100, level), 1.0)
    assert "0.400 batches' worth" in policy.reason
    assert "a refit costs 0.25" in policy.reason


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_lasting_shift_of_the_level_is_corrected(task: Literal["binary", "regression"]):
    random = np.random.default_rng(4)
    level, raw_error, error = Recalibrator(task), [], []
    for _ in range(12):
        if task == "binary":
            odds = random.normal(0, 1, 2000)
            truth = (random.random(2000) < 1 / (1 + np.exp(-(odds + 1.5)))).astype(float)
            output = 1 / (1 + np.exp(-odds))
        else:
            output = random.gamma(2, 50, 2000)
            truth = 1.8 * output * random.lognormal(0, 0.1, 2000)
        served = level.apply(output)
        raw_error.append(abs(output.mean() - truth.mean()))
        error.append(abs(served.mean() - truth.mean()))
        level.observe(output, truth)
    assert np.mean(error[4:]) < 0.3 * np.mean(raw_error[4:])


def test_a_shift_that_comes_and_goes_is_ignored():
    random = np.random.default_rng(5)
    level = Recalibrator("regression")
    for i in range(12):
        output = random.normal(100, 10, 500)
        served = level.apply(output)
        assert np.abs(served - output).max() < 1.0
        level.observe(output, output + (20 if i % 2 else -20))


def test_a_new_version_starts_uncorrected():
    level = Recalibrator("regression")
    output = np.full(100, 10.0)
    for _ in range(5):
        level.observe(output, output * 2)
    assert level.apply(output)[0] > 15
    level.refitted()
    assert level.apply(output)[0] == 10


def test_negative_values_are_shifted_not_multiplied():
    level = Recalibrator("regression")
    output = np.array([-10.0, 10.0, 0.0])
    for _ in range(20):
        level.observe(output, output + 5)
    assert level.apply(output) == pytest.approx(output + 5, abs=0.5)


def test_the_newest_row_weighs_one_and_a_half_life_ago_one_half():
    weights = row_weights(301, 100)
    assert weights[[-1, -101, 0]] == pytest.approx([1, 0.5, 0.125])


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    """bench/canary.py, with the reference rules."""
    path = Path(__file__).parents[1] / "bench" / "canary.py"
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
