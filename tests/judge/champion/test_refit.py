"""When to refit, recalibration in between, and the rules that the benches compare with."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import pytest

from tools.judge.champion.refit import COST, Recalibrator, RetrainPolicy, WindowMixture

BATCHES, ROWS = 40, 300
Losses = dict[str, np.ndarray]


class World:
    """Losses of a model by the rows of the present concept that it was trained on; `noise` is shared by all models.

    The loss falls from 1 (no model) to `floor` as the rows of the concept come in, quicker in the short window, which
    ends up somewhat worse.
    """

    def __init__(self, concepts: list[int], seed: int = 0, harder: float = 0.0, floor: float = 0.4) -> None:
        self.concepts, self.harder, self.floor = concepts, harder, floor
        self.random = np.random.default_rng(seed)

    def loss(self, trained_at: int, window: str, batch: int) -> float:
        """Mean loss on a batch of a model trained before batch `trained_at`; ten batches came before batch 0."""
        seen = [0] * 10 + self.concepts[:trained_at]
        half_life = 10 if window == "weighted" else 2
        weights = 0.5 ** (np.arange(len(seen))[::-1] / half_life)
        same = weights[np.array(seen) == self.concepts[batch]].sum() / weights.sum()
        price = 0.0 if window == "weighted" else 0.1
        return (self.floor + price) * same + 1.0 * (1 - same) + self.harder * (batch >= 15)

    def batch(self, version: int, window: str, batch: int) -> tuple[np.ndarray, Losses]:
        shared = self.random.normal(0, 0.2, ROWS)

        def rows(trained_at: int, name: str) -> np.ndarray:
            return self.loss(trained_at, name, batch) + shared + self.random.normal(0, 0.1, ROWS)

        return rows(version, window), {name: rows(batch, name) for name in ("weighted", "short")}


def refits(world: World, cost: float = COST, budget: float | None = None) -> list[tuple[int, str]]:
    """Batches after which the policy refits, and on which window."""
    policy, made, version, window = RetrainPolicy(cost, budget), [], 0, "weighted"
    for batch in range(BATCHES):
        if policy.observe(*world.batch(version, window, batch), 1.0):
            version, window = batch + 1, policy.window
            made.append((batch, window))
    return made


STILL = [0] * BATCHES
ONE_CHANGE = [0] * 10 + [1] * 30


def test_a_stream_without_drift_is_not_refitted_in_nineteen_of_twenty_seeds():
    # With 200 seeds, 10 or fewer refitted streams are 5 %; above 18 a rate of 5 % is refuted (binomial, 1 %).
    refitted = sum(bool(refits(World(STILL, seed))) for seed in range(200))
    assert refitted <= 18


def test_an_abrupt_change_is_answered_within_two_more_batches_and_again_when_more_rows_are_there():
    for seed in range(10):
        made = refits(World(ONE_CHANGE, seed))
        assert made[0][0] in (11, 12), "batch 10 is the first that differs, 11 the first that a shadow can know"
        assert 2 <= len(made) <= 6
        assert made[1][0] <= 16


def test_right_after_a_change_the_short_window_is_chosen_and_long_after_it_all_rows():
    policy, world = RetrainPolicy(), World(ONE_CHANGE)
    chosen = []
    for batch in range(BATCHES):
        policy.observe(*world.batch(0, "weighted", batch), 1.0)
        chosen.append(policy.window)
    assert chosen[9] == "weighted"
    assert set(chosen[12:15]) == {"short"}
    # Two windows later hardly any old row counts in the long window, and its lower variance wins.
    assert chosen[-1] == "weighted"


def test_a_world_that_became_harder_is_not_answered_by_refits_that_cannot_help():
    counts = [len(refits(World(STILL, seed, harder=0.3))) for seed in range(50)]
    assert max(counts) <= 3
    assert np.mean(counts) < 0.5


def test_concepts_that_take_turns_are_answered_at_each_turn():
    turns = [(batch // 10) % 2 for batch in range(BATCHES)]
    made = [batch for batch, _ in refits(World(turns))]
    for turn in (10, 20, 30):
        assert any(turn <= batch <= turn + 2 for batch in made)


def test_a_slow_change_is_answered_later_than_a_fast_one():
    def first(slope: float) -> int:
        policy, random = RetrainPolicy(), np.random.default_rng(0)
        for batch in range(BATCHES):
            fresh = random.normal(0.4, 0.1, ROWS)
            twin = fresh + slope * batch + random.normal(0, 0.05, ROWS)
            if policy.observe(twin, {"weighted": fresh}, 1.0):
                return batch
        return BATCHES

    assert first(0.05) < first(0.005) < first(0.001) < BATCHES


def test_a_dearer_refit_is_done_later_or_never():
    cheap, dear = refits(World(ONE_CHANGE), cost=0.05), refits(World(ONE_CHANGE), cost=1.0)
    assert cheap[0][0] < dear[0][0]
    assert refits(World(ONE_CHANGE), cost=20.0) == []


def test_a_budget_is_kept_in_the_long_run_and_spent_where_most_is_won():
    restless = [batch // 2 for batch in range(BATCHES)]
    free, bound = refits(World(restless)), refits(World(restless), budget=5 / BATCHES)
    assert len(free) > 12
    assert len(bound) <= 5 + 5  # the fifth beyond it costs 2 ** 5 times as much, more than all batches since lose
    assert next(batch for batch, _ in refits(World(ONE_CHANGE), budget=5 / BATCHES)) in (11, 12, 13)


def test_the_decision_does_not_depend_on_the_unit_of_the_loss():
    decisions = []
    for unit in (1.0, 1e6):
        world, policy = World(ONE_CHANGE, 1), RetrainPolicy()
        acts = []
        for batch in range(20):
            twin, fresh = world.batch(0, "weighted", batch)
            acts.append(policy.observe(unit * twin, {name: unit * losses for name, losses in fresh.items()}, unit))
        decisions.append(acts)
    assert decisions[0] == decisions[1]
    assert any(decisions[0])


def test_the_best_of_several_windows_on_a_batch_is_not_taken_for_a_gain():
    # Ten windows that differ by luck alone: chosen on the same batch, one of them always looks better.
    policy, random = RetrainPolicy(), np.random.default_rng(6)
    acts = []
    for _ in range(BATCHES):
        twin = random.normal(0.5, 0.3, 100)
        acts.append(policy.observe(twin, {f"w{k}": random.normal(0.5, 0.3, 100) for k in range(10)}, 1.0))
    assert sum(acts) <= 6


def squared(truth: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda output: (output - truth) ** 2


def test_the_mixture_goes_to_the_window_that_does_better_and_back():
    random = np.random.default_rng(7)
    mixture, truth = WindowMixture(), random.normal(size=400)
    good, bad = truth + 0.1 * random.normal(size=400), truth + 1.5
    assert mixture.share == 0.0
    mixture.observe(bad, good, squared(truth))
    assert mixture.share == 1.0 and np.array_equal(mixture.apply(bad, good), good)
    for _ in range(6):  # the older batch, in which the short window won by far, fades
        mixture.observe(good, bad, squared(truth))
    assert mixture.share == 0.0 and np.array_equal(mixture.apply(good, bad), good)


def test_windows_that_err_each_in_their_own_way_are_mixed():
    random = np.random.default_rng(8)
    mixture, truth = WindowMixture(), random.normal(size=2000)
    one, other = truth + random.normal(size=2000), truth + random.normal(size=2000)
    mixture.observe(one, other, squared(truth))
    assert mixture.share == 0.5
    mixed = squared(truth)(mixture.apply(one, other)).mean()
    assert mixed < 0.6 * min(squared(truth)(one).mean(), squared(truth)(other).mean())


def test_windows_that_say_the_same_leave_the_long_one():
    mixture, truth = WindowMixture(), np.arange(10.0)
    mixture.observe(truth + 1, truth + 1, squared(truth))
    assert mixture.share == 0.0


def test_after_a_refit_the_mixture_forgets_the_models_before_it():
    truth = np.zeros(50)
    mixture = WindowMixture()
    for _ in range(5):
        mixture.observe(truth + 3, truth, squared(truth))
    assert mixture.share == 1.0
    mixture.refitted(truth, truth + 0.1, squared(truth))
    assert mixture.share == 0.0


def test_the_reason_names_the_gain_the_cost_and_the_window():
    batch = np.full(100, 0.7), {"short": np.full(100, 0.5), "weighted": np.full(100, 0.6)}, 1.0
    policy = RetrainPolicy(cost=0.25)
    assert not policy.observe(*batch)
    assert policy.reason == (
        "In 1 batches since the last training, training anew would have won 0.200 batches' worth; it costs 0.25. "
        "The shadows did best on the window short."
    )
    assert policy.observe(*batch)
    frugal = RetrainPolicy(cost=0.25, budget=0.5)
    frugal.observe(*batch)
    assert "it costs 0.354 (0.25 within the budget)" in frugal.reason  # half a refit ahead: times 2 ** 0.5


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


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    """bench/canary.py, with the reference rules."""
    path = Path(__file__).parents[3] / "bench" / "canary.py"
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
