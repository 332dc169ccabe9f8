"""Aging evolution over Optuna's real storages."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from tools.integrations.optuna import evolution
from tools.integrations.optuna.evolution import (
    AgingEvolutionSampler,
    close_interrupted,
    crowding_distances,
    non_domination_ranks,
    ranking,
)

ROOT = Path(__file__).parents[2]

P, S = 6, 3

Objective = Callable[[optuna.Trial], float]


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def sampler(seed: int = 1, **more: Any) -> AgingEvolutionSampler:
    sizes: dict[str, Any] = {"population_size": P, "sample_size": S, **more}
    return AgingEvolutionSampler(seed=seed, **sizes)


def conditional(trial: optuna.Trial) -> float:
    """The best is a net of depth 3 with a width of 64; what a tree has does not exist in a net."""
    if trial.suggest_categorical("family", ["tree", "net", "line"]) == "net":
        depth = trial.suggest_int("net.depth", 1, 4)
        width = trial.suggest_int("net.width", 8, 128, log=True)
        return abs(depth - 3) + abs(math.log2(width) - 6)
    if trial.params["family"] == "tree":
        return 2.0 + abs(trial.suggest_float("tree.rate", 0.0, 1.0) - 0.3)
    return 5.0


def made(study: optuna.Study) -> list[tuple[TrialState, dict[str, Any], list[float] | None]]:
    """What a search decided, without the trials that were interrupted."""
    return [(t.state, t.params, t.values) for t in study.trials if not t.system_attrs]


def run(objective: Any, trials: int, seed: int = 1, **more: Any) -> optuna.Study:
    study = optuna.create_study(sampler=sampler(seed, **more))
    study.optimize(objective, n_trials=trials, catch=(ArithmeticError,))
    return study


def test_it_finds_the_best_of_a_conditional_space_where_random_search_does_not() -> None:
    def random_best(seed: int) -> float:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        study.optimize(conditional, n_trials=60)
        return study.best_value

    ours = [run(conditional, 60, seed, population_size=15, sample_size=8).best_value for seed in range(8)]
    assert np.mean(ours) < 0.5 * np.mean([random_best(seed) for seed in range(8)])


def hidden(trial: optuna.Trial) -> float:
    """A branch that gets better for ever, by next to nothing, and one that is worse but near (0.8, 0.8)."""
    if trial.suggest_categorical("branch", ["plateau", "valley"]) == "plateau":
        return 1.0 + 0.01 * trial.suggest_float("plateau.x", 0.0, 1.0) * trial.suggest_float("plateau.y", 0.0, 1.0)
    x, y = trial.suggest_float("valley.x", 0.0, 1.0), trial.suggest_float("valley.y", 0.0, 1.0)
    return 3.0 * (abs(x - 0.8) + abs(y - 0.8))


def wide(trial: optuna.Trial) -> float:
    """Two branches of five numbers each, of which two matter."""
    branch = trial.suggest_categorical("branch", ["a", "b"])
    x = [trial.suggest_float(f"{branch}.x{k}", 0.0, 1.0) for k in range(5)]
    return (branch == "a") + (x[0] - 0.7) ** 2 + (x[1] - 0.2) ** 2


def bests(objective: Objective, make: Callable[[int], optuna.samplers.BaseSampler], trials: int) -> list[float]:
    """What searches of eight seeds find."""
    found: list[float] = []
    for seed in range(8):
        study = optuna.create_study(sampler=make(seed))
        study.optimize(objective, n_trials=trials)
        found.append(study.best_value)
    return found


def test_a_branch_that_has_been_worse_is_not_given_up() -> None:
    ours = bests(hidden, lambda seed: AgingEvolutionSampler(seed=seed), 40)
    assert max(ours) < 0.5
    assert np.mean(ours) < 0.5 * np.mean(bests(hidden, lambda seed: optuna.samplers.TPESampler(seed=seed), 40))


def test_the_surrogate_learns_within_ten_trials_which_parameters_matter() -> None:
    ours = np.median(bests(wide, lambda seed: AgingEvolutionSampler(seed=seed), 20))
    assert ours < 0.5 * np.median(bests(wide, lambda seed: AgingEvolutionSampler(seed=seed, candidates=1), 20))
    assert ours < 0.5 * np.median(bests(wide, lambda seed: optuna.samplers.TPESampler(seed=seed), 20))


def test_maximizing_is_minimizing_the_negative() -> None:
    def negative(trial: optuna.Trial) -> float:
        return -conditional(trial)

    study = optuna.create_study(sampler=sampler(), direction="maximize")
    study.optimize(negative, n_trials=25)
    assert [t.params for t in study.trials] == [t.params for t in run(conditional, 25).trials]


def test_several_objectives_need_no_surrogate() -> None:
    def searched(candidates: int, objectives: int) -> list[dict[str, Any]]:
        study = optuna.create_study(
            directions=["minimize"] * objectives, sampler=sampler(candidates=candidates, start=P)
        )
        study.optimize(lambda trial: two_constrained(trial)[:objectives], n_trials=15)
        return [t.params for t in study.trials]

    assert searched(80, 2) == searched(1, 2)
    assert searched(80, 1) != searched(1, 1)


def test_trials_that_run_at_the_same_time_are_apart() -> None:
    def bowl(trial: optuna.Trial) -> float:
        return (trial.suggest_float("x", 0.0, 1.0) - 0.4) ** 2 + (trial.suggest_float("y", 0.0, 1.0) - 0.6) ** 2

    study = run(bowl, 15)
    asked = [study.ask() for _ in range(4)]
    points = np.array([[trial.suggest_float(name, 0.0, 1.0) for name in "xy"] for trial in asked])
    assert len({tuple(point) for point in points}) == 4
    study = optuna.create_study(sampler=sampler())
    study.optimize(bowl, n_trials=30, n_jobs=2)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 30
    assert study.best_value < 0.02


def test_of_a_long_search_the_better_and_the_younger_trials_are_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = evolution.Surrogate

    def counted(space: Any, points: Any, targets: Any) -> Any:
        sizes.append(len(points))
        return real(space, points, targets)

    monkeypatch.setattr(evolution, "LEARNT", 16)
    monkeypatch.setattr(evolution, "Surrogate", counted)
    assert run(conditional, 40).best_value < 0.5
    assert sizes[:11] == list(range(P, P + 11))
    assert max(sizes[11:]) <= 16
    assert min(sizes[11:]) >= 8


def test_infinite_values_are_the_worst() -> None:
    def cliff(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        return math.inf if x > 0.5 else 1.0 - x

    study = run(cliff, 30)
    assert math.inf in [t.value for t in study.trials]
    assert study.best_value < 0.52


def test_the_same_seed_repeats_and_another_does_not() -> None:
    assert made(run(conditional, 25)) == made(run(conditional, 25))
    assert made(run(conditional, 25)) != made(run(conditional, 25, seed=2))


def test_a_child_is_one_of_the_population_with_one_parameter_changed_and_the_oldest_has_left() -> None:
    def flat(trial: optuna.Trial) -> float:
        return sum(trial.suggest_int(name, 0, 50) for name in "abc")

    trials = run(flat, 40, candidates=1).trials
    for trial in trials[P:]:
        parents = [
            other for other in trials[trial.number - P : trial.number]
            if sum(trial.params[name] != other.params[name] for name in "abc") == 1
        ]  # fmt: skip
        assert parents, f"trial {trial.number} descends from none of the {P} before it"


def test_a_changed_family_takes_over_what_the_best_of_that_family_has() -> None:
    study = optuna.create_study(sampler=sampler(population_size=2, sample_size=1, candidates=1))
    names = ("net.a", "net.b", "net.c")
    unit = FloatDistribution(0.0, 1.0)
    family = CategoricalDistribution(["net", "line"])
    for value, params in ((1.0, dict.fromkeys(names, 0.25)), (9.0, dict.fromkeys(names, 0.75))):
        study.add_trial(
            create_trial(
                value=value,
                params={"family": "net", **params},
                distributions={"family": family, **dict.fromkeys(names, unit)},
            )
        )
    for _ in range(2):
        study.add_trial(create_trial(value=0.0, params={"family": "line"}, distributions={"family": family}))
    trial = study.ask()
    assert trial.suggest_categorical("family", ["net", "line"]) == "net", "the population holds lines only"
    values = [trial.suggest_float(name, 0.0, 1.0) for name in names]
    assert sum(value == 0.25 for value in values) == 2, "one of the best net's parameters is changed, the others kept"


def test_the_first_trials_are_spread_over_every_range() -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("kind", list("abcd"))
        return trial.suggest_float("x", 0.0, 1.0)

    first = run(objective, 8, population_size=8).trials
    assert sorted(int(t.params["x"] * 8) for t in first) == list(range(8))
    assert sorted(t.params["kind"] for t in first) == sorted("abcd" * 2)


def test_a_search_does_not_try_the_same_twice_while_there_is_something_new() -> None:
    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_int("a", 0, 5) + trial.suggest_int("b", 0, 5)

    tried = [tuple(t.params.values()) for t in run(objective, 30).trials[P:]]
    assert len(set(tried)) == len(tried)


KILLED = """
import os, sys, warnings
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from tests.integrations.test_optuna_evolution import conditional, sampler

optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(study_name="s", storage=JournalStorage(JournalFileBackend(sys.argv[1])), sampler=sampler())

def objective(trial):
    value = conditional(trial)
    if trial.number == 11:
        os._exit(9)
    return value

study.optimize(objective, n_trials=25)
"""


def test_a_search_killed_inside_a_trial_and_resumed_by_another_process_equals_one_that_was_not(tmp_path: Path) -> None:
    journal = tmp_path / "s.journal"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(journal)], cwd=ROOT, timeout=60, check=False)
    assert ended.returncode == 9
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.load_study(study_name="s", storage=storage, sampler=sampler())
    assert close_interrupted(study) == 1
    for _ in range(14):  # a new sampler each time: nothing is kept in memory
        study = optuna.load_study(study_name="s", storage=storage, sampler=sampler())
        study.optimize(conditional, n_trials=1)
    assert made(study) == made(run(conditional, 25))
    assert close_interrupted(study) == 0


def test_a_config_that_fails_is_not_proposed_for_ever() -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        return 1.0 / 0.0 if x > 0.5 else x

    study = run(objective, 40)
    assert {t.state for t in study.trials} == {TrialState.FAIL, TrialState.COMPLETE}
    assert len({t.params["x"] for t in study.trials}) == 40
    assert study.best_value < 0.02
    assert sum(t.state == TrialState.FAIL for t in study.trials[20:]) <= 10, "all 20 if what failed were not learnt"


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_pruned_trials_stay_in_the_population_and_lose_against_complete_ones() -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -1.0, 1.0)
        for step in range(4):
            trial.report(abs(x) + 1 / (step + 1), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return abs(x)

    for pruner in (optuna.pruners.MedianPruner(n_startup_trials=3), optuna.pruners.HyperbandPruner(1, 4)):
        study = optuna.create_study(sampler=sampler(), pruner=pruner)
        study.optimize(objective, n_trials=50)
        assert {t.state for t in study.trials} == {TrialState.PRUNED, TrialState.COMPLETE}
        assert study.best_value < 0.1
    x: dict[str, Any] = {"params": {"x": 0.0}, "distributions": {"x": FloatDistribution(-1.0, 1.0)}}
    order = [
        create_trial(value=9.0, **x),
        create_trial(state=TrialState.PRUNED, intermediate_values={3: 7.0}, **x),
        create_trial(state=TrialState.PRUNED, intermediate_values={1: 1.0}, **x),
        create_trial(state=TrialState.PRUNED, intermediate_values={1: 2.0}, **x),
        create_trial(state=TrialState.PRUNED, **x),
    ]
    keys = ranking(order, [optuna.study.StudyDirection.MINIMIZE])
    assert keys == sorted(keys)


def with_attribute(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0.0, 1.0)
    trial.set_constraint("x", 0.6 - x)
    return x


def with_function(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


def too_small(trial: FrozenTrial) -> tuple[float]:
    return (0.6 - trial.params["x"],)


@pytest.mark.parametrize(("objective", "function"), [(with_attribute, None), (with_function, too_small)])
def test_what_keeps_to_the_constraints_wins_against_what_does_not(objective: Objective, function: Any) -> None:
    study = run(objective, 60, constraints_func=function)
    assert 0.6 <= study.best_value < 0.65
    late = [t.params["x"] for t in study.trials[30:]]
    assert np.mean([x >= 0.55 for x in late]) > 0.5, "without constraints they would be near 0"


def test_of_two_that_violate_a_constraint_the_smaller_violation_wins() -> None:
    x: dict[str, Any] = {"params": {"x": 0.0}, "distributions": {"x": FloatDistribution(-1.0, 1.0)}}
    order = [
        create_trial(value=9.0, constraints={"size": -1.0, "time": 0.0}, **x),
        create_trial(value=2.0, constraints={"size": 0.5, "time": -9.0}, **x),
        create_trial(value=1.0, constraints={"size": 0.5, "time": 0.1}, **x),
    ]
    keys = ranking(order, [optuna.study.StudyDirection.MINIMIZE])
    assert keys == sorted(keys)


def constrained(trial: optuna.Trial) -> float:
    """Reports, is pruned by the median, and keeps to its constraint in two fifths of the range."""
    x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_int("y", 1, 9)
    trial.set_constraint("x", 0.6 - x)
    for step in range(3):
        trial.report(x + abs(y - 5) + 1 / (step + 1), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x + abs(y - 5)


def two_constrained(trial: optuna.Trial) -> tuple[float, float]:
    x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 0.0, 1.0)
    trial.set_constraint("sum", 0.8 - x - y)
    return x, y


@pytest.mark.parametrize(("objective", "objectives"), [(constrained, 1), (two_constrained, 2)])
def test_a_search_with_constraints_pruner_or_several_objectives_resumes_as_if_it_had_not_stopped(
    tmp_path: Path, objective: Any, objectives: int
) -> None:
    def opened(journal: str) -> optuna.Study:
        return optuna.create_study(
            study_name="s",
            storage=JournalStorage(JournalFileBackend(str(tmp_path / journal))),
            sampler=sampler(),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
            directions=[optuna.study.StudyDirection.MINIMIZE] * objectives,
            load_if_exists=True,
        )

    whole = opened("whole")
    whole.optimize(objective, n_trials=36)
    for _ in range(6):  # a new study, storage, sampler and pruner each time
        opened("parts").optimize(objective, n_trials=6)
    parts = opened("parts")
    assert [(t.state, t.params, t.values) for t in parts.trials] == [
        (t.state, t.params, t.values) for t in whole.trials
    ]
    if objectives == 1:
        assert {t.state for t in whole.trials} == {TrialState.PRUNED, TrialState.COMPLETE}
        assert 0.6 <= whole.best_trial.params["x"] <= 1.0, "the best of those that keep to the constraint"
        assert min(t.params["x"] for t in whole.trials) < 0.6
    else:
        assert len(whole.best_trials) > 3
        assert all(sum(t.values) >= 0.8 for t in whole.best_trials)
        random = optuna.create_study(directions=["minimize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=1))
        random.optimize(two_constrained, n_trials=36)
        ours, theirs = ([sum(t.values) for t in study.best_trials] for study in (whole, random))
        assert np.mean(ours) < np.mean(theirs), "nearer to the bound than random search"


def test_several_objectives_give_a_front_closer_to_the_truth_than_random_search() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0.0, 1.0)
        waste = sum(trial.suggest_float(f"waste{k}", 0.0, 1.0) for k in range(3))
        return x**2 + waste, -((1 - x) ** 2) - waste  # to be minimized and maximized

    def front(made_by: optuna.samplers.BaseSampler) -> list[FrozenTrial]:
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=made_by)
        study.optimize(objective, n_trials=100)
        return study.best_trials

    def waste(trials: list[FrozenTrial]) -> float:
        return float(np.mean([sum(t.params[f"waste{k}"] for k in range(3)) for t in trials]))

    ours = front(AgingEvolutionSampler(population_size=20, sample_size=5, seed=3))
    assert waste(ours) < 0.6 * waste(front(optuna.samplers.RandomSampler(seed=3)))
    assert np.ptp([t.params["x"] for t in ours]) > 0.4, "crowding keeps the front wide"


def test_ranks_and_crowding_agree_with_the_definition() -> None:
    losses = np.array([[0.0, 4.0], [1.0, 1.0], [4.0, 0.0], [2.0, 2.0], [1.0, 1.0], [3.0, 3.0]])
    ranks = non_domination_ranks(losses)
    assert ranks.tolist() == [0, 0, 0, 1, 0, 2]
    crowding = crowding_distances(losses, ranks)
    assert crowding[0] == crowding[2] == math.inf
    # The neighbours of the two equal ones are each other and an end; both columns are 4 wide.
    assert sorted([crowding[1], crowding[4]]) == [0.5, 1.5]
    assert crowding[3] == crowding[5] == 0.0, "alone in its rank"


def test_sizes_that_do_not_fit_and_nan_constraints_are_refused() -> None:
    refused: list[dict[str, int]] = [{"population_size": 1, "sample_size": 1}, {"start": 0}, {"candidates": 0}]
    for sizes in (*refused, {"sample_size": 0}, {"sample_size": P + 1}):
        with pytest.raises(ValueError, match="must be"):
            sampler(**sizes)
    with pytest.raises(ValueError, match="NaN"):
        run(with_function, 1, constraints_func=lambda trial: (math.nan,))
