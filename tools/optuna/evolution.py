"""Regularised (aging) evolution as an Optuna sampler.

Source: Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019
(arXiv 1802.01548). The population is the last P finished trials, a queue: each child replaces the oldest member,
however good that is, so that a lucky score cannot stay. A child is the best of S members drawn at random, with one
parameter changed.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from optuna.study import Study

INTERRUPTED = "aging_evolution:interrupted"
# Of `BaseSampler`s that take `constraints_func`; `FrozenTrial.constraints` reads it.
CONSTRAINTS = "constraints"
STRATA = 8
ATTEMPTS = 20
SMALLEST_STEP = 0.03

Values = dict[str, Any]
Key = tuple[float, ...]


class AgingEvolutionSampler(BaseSampler):
    """Aging evolution over any search space, conditional ones included.

    - Every decision follows from the seed and the study's trials; nothing is kept in memory. A search that was killed
      and resumed (after `close_interrupted`) makes the trials that an uninterrupted one makes.
    - The first P trials are spread over each parameter's range (a Latin hypercube).
    - A changed parameter may bring others into play (a model family and its parameters): those are taken from the best
      trial that has them, one of them changed; where no trial has them they are drawn.
    - Several objectives: the tournament goes by non-domination rank, then crowding distance (Deb et al. 2002).
    - Constraints: a trial within them wins against one that is not; of two that are not, the smaller violation.
    - Pruned trials belong to the population and lose against complete ones. Failed ones do not belong to it.

    Args:
        population_size: P, at least 2.
        sample_size: S, 1 to P: the larger, the greedier.
        seed: None for a different search each time.
        constraints_func: as Optuna's: values above 0 are violations. `Trial.set_constraint` needs none.

    Thread safety: as Optuna's samplers; trials that run at the same time count by their numbers, and which of them has
    finished decides what the next one descends from.

    Raises:
        ValueError: the sizes do not fit.
    """

    def __init__(
        self,
        *,
        population_size: int = 20,
        sample_size: int = 10,
        seed: int | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        if population_size < 2:
            raise ValueError(f"population_size must be at least 2, got {population_size}")
        if not 1 <= sample_size <= population_size:
            raise ValueError(f"sample_size must be from 1 to the population's {population_size}, got {sample_size}")
        self.population_size = population_size
        self.sample_size = sample_size
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._constraints_func = constraints_func

    def reseed_rng(self) -> None:
        """Nothing to do: trials that run at the same time differ by their numbers."""

    def infer_relative_search_space(self, study: "Study", trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every parameter that a member of the population has; empty until there is a population."""
        done = _finished(study)
        if len(done) < self.population_size:
            return {}
        return {
            name: distribution
            for member in done
            for name, distribution in member.distributions.items()
            if not distribution.single()
        }

    def sample_relative(
        self, study: "Study", trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The child of the best of a random sample of the population; empty until there is a population."""
        done = _finished(study)
        if not search_space or len(done) < self.population_size:
            return {}
        rng = self._rng(study, trial, "child")
        keys = ranking(done, study.directions)
        drawn = rng.choice(self.population_size, self.sample_size, replace=False)
        members = range(len(done) - self.population_size, len(done))
        parent = done[min((members[k] for k in drawn), key=lambda k: keys[k])]
        best_first = [done[k] for k in sorted(range(len(done)), key=lambda k: keys[k])]
        seen = [t.params for t in study.get_trials(deepcopy=False) if t.number != trial.number and not _interrupted(t)]
        child: Values = {}
        for _ in range(ATTEMPTS):
            child, active = _mutated(parent, best_first, rng)
            if {name: child[name] for name in active} not in seen:
                break
        return {name: value for name, value in child.items() if name in search_space}

    def sample_independent(
        self, study: "Study", trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value of its stratum: of each block of trials that have the parameter, one falls into each stratum."""
        strata = STRATA
        if isinstance(param_distribution, CategoricalDistribution):
            strata = len(param_distribution.choices)
        before = [t for t in study.get_trials(deepcopy=False) if t.number < trial.number and not _interrupted(t)]
        block, place = divmod(sum(param_name in t.params for t in before), strata)
        order = np.random.default_rng([self._seed, zlib.crc32(param_name.encode()), block]).permutation(strata)
        share = (order[place] + self._rng(study, trial, param_name).random()) / strata
        return from_unit(param_distribution, float(share))

    def after_trial(
        self, study: "Study", trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Store the constraints where Optuna's own samplers do."""
        if self._constraints_func is None or state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return
        constraints = tuple(float(value) for value in self._constraints_func(trial))
        if any(map(math.isnan, constraints)):
            raise ValueError(f"a constraint of trial {trial.number} is NaN")
        _mark(study, trial, CONSTRAINTS, constraints)

    def _rng(self, study: "Study", trial: FrozenTrial, purpose: str) -> np.random.Generator:
        """The random numbers of one purpose in one trial."""
        lost = sum(t.number < trial.number and _interrupted(t) for t in study.get_trials(deepcopy=False))
        return np.random.default_rng([self._seed, trial.number - lost, zlib.crc32(purpose.encode())])


def close_interrupted(study: "Study") -> int:
    """Close the trials that a killed process left running, so that they count for nothing; how many there were.

    Call it before resuming, when no other process works on the study.
    """
    left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in left:
        _mark(study, trial, INTERRUPTED, True)
        study.tell(trial.number, state=TrialState.FAIL)
    return len(left)


def ranking(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[Key]:
    """One sort key per trial, better ones smaller: complete and feasible, then infeasible, then pruned.

    Of equals the younger is better.

    Args:
        trials: complete or pruned.
    """
    signs = np.array([-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in directions])
    violations = [sum(value for value in t.constraints.values() if value > 0) for t in trials]
    complete = [t.state == TrialState.COMPLETE for t in trials]
    feasible = [k for k in range(len(trials)) if complete[k] and violations[k] <= 0]
    losses = np.array([trials[k].values for k in feasible], dtype=float).reshape(len(feasible), len(signs)) * signs
    ranks = non_domination_ranks(losses)
    crowding = crowding_distances(losses, ranks)
    keys: list[Key] = []
    place = {k: j for j, k in enumerate(feasible)}
    for k, trial in enumerate(trials):
        if k in place:
            key = (0.0, float(ranks[place[k]]), -float(crowding[place[k]]))
        elif complete[k]:
            key = (1.0, violations[k], 0.0)
        elif trial.last_step is None:
            key = (2.0, 0.0, math.inf)
        else:
            reached = float(signs[0]) * trial.intermediate_values[trial.last_step]
            key = (2.0, -float(trial.last_step + 1), math.inf if math.isnan(reached) else reached)
        keys.append((*key, -float(trial.number)))
    return keys


def non_domination_ranks(losses: np.ndarray) -> np.ndarray:
    """Rank of each row (0: the Pareto front, 1: the front without it, ...); columns are to be minimized."""
    if losses.shape[1] == 1:
        return np.unique(losses[:, 0], return_inverse=True)[1]
    no_worse = (losses[:, None, :] <= losses[None, :, :]).all(axis=2)
    dominates = no_worse & ~no_worse.T
    ranks = np.full(len(losses), -1)
    rank = 0
    while (ranks < 0).any():
        left = ranks < 0
        beaten = np.asarray(dominates)[left].any(axis=0)
        ranks[left & ~beaten] = rank
        rank += 1
    return ranks


def crowding_distances(losses: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """How far the neighbours of the same rank are, summed over the columns; infinite at the ends (Deb et al. 2002)."""
    total = np.zeros(len(losses))
    for rank in np.unique(ranks):
        front = np.flatnonzero(ranks == rank)
        for column in losses[front].T:
            order = np.argsort(column, kind="stable")
            values = column[order]
            width = values[-1] - values[0]
            if not (math.isfinite(width) and width > 0):
                continue
            gaps = np.full(len(front), math.inf)
            gaps[1:-1] = (values[2:] - values[:-2]) / width
            total[front[order]] += gaps
    return total


def _finished(study: "Study") -> list[FrozenTrial]:
    """Complete and pruned trials, oldest first."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _interrupted(trial: FrozenTrial) -> bool:
    return INTERRUPTED in trial.system_attrs


def _mark(study: "Study", trial: FrozenTrial, key: str, value: Any) -> None:
    # Samplers, Optuna's own too, have no other way to leave a note on a trial.
    study._storage.set_trial_system_attr(trial._trial_id, key, value)  # pyright: ignore[reportPrivateUsage]


def _mutated(
    parent: FrozenTrial, best_first: Sequence[FrozenTrial], rng: np.random.Generator
) -> tuple[Values, list[str]]:
    """The parent with one parameter changed, and the names that the child probably has."""
    name = _any_changeable(parent, parent.params, rng)
    if name is None:
        return dict(parent.params), list(parent.params)
    child: Values = {**parent.params, name: mutate(parent.distributions[name], parent.params[name], rng)}
    donor = next((t for t in best_first if name in t.params and t.params[name] == child[name]), None)
    if donor is None:
        return child, list(child)
    brought = {key: value for key, value in donor.params.items() if key not in parent.params}
    changed = _any_changeable(donor, brought, rng)
    if changed is not None:
        brought[changed] = mutate(donor.distributions[changed], brought[changed], rng)
    return child | brought, list(donor.params)


def _any_changeable(trial: FrozenTrial, names: Mapping[str, Any], rng: np.random.Generator) -> str | None:
    """A parameter with more than one value."""
    changeable = sorted(name for name in names if not trial.distributions[name].single())
    return changeable[int(rng.integers(len(changeable)))] if changeable else None


def mutate(distribution: BaseDistribution, value: Any, rng: np.random.Generator) -> Any:
    """Another value of the distribution.

    A category becomes any other one. A number moves by a step whose size is drawn on the logarithmic scale, from 3 % of
    its range (at least to the next value) to all of it.
    """
    if isinstance(distribution, CategoricalDistribution):
        others = [k for k in range(len(distribution.choices)) if k != distribution.to_internal_repr(value)]
        return distribution.choices[others[rng.integers(len(others))]]
    start = to_unit(distribution, value)
    while True:
        step = SMALLEST_STEP ** rng.random()
        reached = start + (step if rng.random() < 0.5 else -step)
        reached = -reached if reached < 0 else 2.0 - reached if reached > 1 else reached
        changed = from_unit(distribution, reached)
        if changed != value:
            return changed


def to_unit(distribution: BaseDistribution, value: float) -> float:
    """Where a number lies in its range, from 0 to 1, on the distribution's own scale."""
    low, high, log = _range(distribution)
    if log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def from_unit(distribution: BaseDistribution, share: float) -> Any:
    """The value at a place of the range; equal steps and categories have equal shares."""
    share = min(max(share, 0.0), 1.0)
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[min(int(share * len(distribution.choices)), len(distribution.choices) - 1)]
    low, high, log = _range(distribution)
    value = low * (high / low) ** share if log else low + (high - low) * share
    if isinstance(distribution, FloatDistribution):
        if distribution.step is None:
            return min(max(value, distribution.low), distribution.high)
        steps = round((value - distribution.low) / distribution.step)
        return min(max(distribution.low + steps * distribution.step, distribution.low), distribution.high)
    assert isinstance(distribution, IntDistribution)
    steps = round((value - distribution.low) / distribution.step)
    return min(max(distribution.low + steps * distribution.step, distribution.low), distribution.high)


def _range(distribution: BaseDistribution) -> tuple[float, float, bool]:
    """Low, high and whether the scale is logarithmic; half a step beyond both ends where there are steps."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    margin = (distribution.step or 0.0) / 2.0
    return distribution.low - margin, distribution.high + margin, distribution.log
