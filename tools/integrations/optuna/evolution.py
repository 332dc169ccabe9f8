"""Regularised (aging) evolution as an Optuna sampler, its children chosen by a surrogate.

Sources: Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019
(arXiv 1802.01548). The population is the last P finished trials, a queue: each child replaces the oldest member,
however good that is, so that a lucky score cannot stay. A parent is the best of S members drawn at random. Of many
children the most promising one by a model of the finished trials is tried: Wei et al., "NPENAS: Neural Predictor
Guided Evolution for Neural Architecture Search", 2020 (arXiv 2003.12857); White, Neiswanger, Savani, "BANANAS", AAAI
2021 (arXiv 1910.11858).
"""

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from tools.integrations.optuna.ranges import from_unit, mutate
from tools.integrations.optuna.surrogate import Surrogate, losses_to_learn

if TYPE_CHECKING:
    from optuna.study import Study

INTERRUPTED = "aging_evolution:interrupted"
# Of `BaseSampler`s that take `constraints_func`; `FrozenTrial.constraints` reads it.
CONSTRAINTS = "constraints"
STRATA = 8
ATTEMPTS = 20
BRANCH_SAMPLE = 2
TOP, NEIGHBOURS = 5, 10
FAILED = (math.inf,)
LEARNT = 200

Values = dict[str, Any]
Key = tuple[float, ...]
Identity = tuple[tuple[str, Any], ...]


class AgingEvolutionSampler(BaseSampler):
    """Aging evolution over any search space, conditional ones included.

    - Every decision follows from the seed and the study's trials; nothing is kept in memory. A search that was killed
      and resumed (after `close_interrupted`) makes the trials that an uninterrupted one makes.
    - The first trials are spread over each parameter's range (a Latin hypercube) and over the categories.
    - Then, of the children of the population and of each conditional branch, one or more parameters changed, the one
      with the largest expected improvement is tried (`tools.integrations.optuna.surrogate`).
    - A changed parameter may bring others into play (a model family and its parameters): those are taken from the best
      trial that has them, one of them changed; where no trial has them they are drawn.
    - Several objectives: no surrogate, each child is tried; the tournament goes by non-domination rank, then crowding
      distance (Deb et al. 2002).
    - Constraints: a trial within them wins against one that is not; of two that are not, the smaller violation.
    - Pruned trials belong to the population and lose against complete ones. Failed ones do not belong to it; the
      surrogate counts them as the worst.

    Args:
        population_size: P, at least 2.
        sample_size: S, 1 to P: the larger, the greedier.
        start: how many spread trials come first, at least 1; at most P are made.
        candidates: of how many children the surrogate chooses one, before it looks at neighbours of the best of them;
            1: no surrogate, plain aging evolution.
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
        start: int = 10,
        candidates: int = 80,
        seed: int | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        if population_size < 2:
            raise ValueError(f"population_size must be at least 2, got {population_size}")
        if not 1 <= sample_size <= population_size:
            raise ValueError(f"sample_size must be from 1 to the population's {population_size}, got {sample_size}")
        for name, value in (("start", start), ("candidates", candidates)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.population_size = population_size
        self.start = min(start, population_size)
        self.candidates = candidates
        self.sample_size = sample_size
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._constraints_func = constraints_func

    def reseed_rng(self) -> None:
        """Nothing to do: trials that run at the same time differ by their numbers."""

    def infer_relative_search_space(self, study: "Study", trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every parameter that a finished trial has; empty until the spread start is made."""
        done = _finished(study)
        return _changeable_space(done) if len(done) >= self.start else {}

    def sample_relative(
        self, study: "Study", trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The most promising of many children; empty until the spread start is made."""
        done = _finished(study)
        if not search_space or len(done) < self.start:
            return {}
        keys = ranking(done, study.directions)
        rng = self._rng(study, trial, "child")
        breeder = Breeder(done, keys, search_space, self.population_size, self.sample_size, rng)
        others = [
            t for t in study.get_trials(deepcopy=False)
            if t.number != trial.number and t.params and not _interrupted(t)
        ]  # fmt: skip
        seen = {_identity(t.params) for t in others}
        child = None
        if self.candidates > 1 and len(study.directions) == 1:
            with threadpool_limits(1):  # small matrices, for which threads cost more than they gain
                child = self._promising(breeder, seen, _surrogate(others, done, keys, study.direction, search_space))
        return child or breeder.unseen_child(seen)

    def _promising(self, breeder: "Breeder", seen: set[Identity], surrogate: "Surrogate") -> Values | None:
        """Of many unseen children the one with the largest expected improvement; None where all were tried.

        Half descend from the population, half from each conditional branch in turn, so that one that has been worse
        stays in question; then neighbours of the most promising ones.
        """
        pool: dict[Identity, Values] = {}
        promise: dict[Identity, float] = {}

        def add(children: Iterable[Values]) -> None:
            fresh = {key: c for c in children if (key := _identity(c)) not in seen and key not in pool}
            if fresh:
                pool.update(fresh)
                promise.update(zip(fresh, surrogate.promise(list(fresh.values())), strict=True))

        changes = breeder.rng.geometric(0.5, self.candidates)
        half = self.candidates // 2
        add(breeder.child(count) for count in changes[:half])
        add(breeder.branch_child(k, count) for k, count in enumerate(changes[half:]))
        top = sorted(pool, key=lambda key: -promise[key])[:TOP]
        add(breeder.change(pool[key]) for key in top for _ in range(NEIGHBOURS))
        return pool[max(pool, key=lambda key: promise[key])] if pool else None

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
            if values[-1] == values[0] or not math.isfinite(width := values[-1] - values[0]):
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


def _changeable_space(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Every parameter with more than one value."""
    return {
        name: distribution
        for trial in trials
        for name, distribution in trial.distributions.items()
        if not distribution.single()
    }


def _identity(params: Mapping[str, Any]) -> Identity:
    return tuple((name, _hashable(params[name])) for name in sorted(params))


def _hashable(value: Any) -> Any:
    """Itself; Optuna warns of categories of other types but takes them."""
    return value if isinstance(value, str | int | float | None) else repr(value)


def _surrogate(
    trials: Sequence[FrozenTrial],
    done: Sequence[FrozenTrial],
    keys: Sequence[Key],
    direction: StudyDirection,
    space: Mapping[str, BaseDistribution],
) -> "Surrogate":
    """What the trials teach; those that run now count as average ones, so that few run at the same place.

    Of more than `LEARNT` trials the better half of that many and the younger half.

    Args:
        trials: all that count.
        done, keys: the finished ones and their ranking keys.
    """
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
    valid = [t for t, key in zip(done, keys, strict=True) if key[0] == 0.0]
    bad = [(t, key[:-1]) for t, key in zip(done, keys, strict=True) if key[0] > 0.0]
    bad += [(t, FAILED) for t in trials if t.state == TrialState.FAIL]
    running = [t for t in trials if not t.state.is_finished()]
    losses = np.array([sign * float(t.value or 0.0) for t in valid])
    targets = losses_to_learn(losses, [key for _, key in bad])
    told = [*valid, *(t for t, _ in bad)]
    learnt = list(range(len(told)))
    if len(told) > LEARNT:
        better = sorted(learnt, key=lambda k: targets[k])[: LEARNT // 2]
        learnt = sorted({*better, *sorted(learnt, key=lambda k: -told[k].number)[: LEARNT // 2]})
    points = [t.params for t in [*(told[k] for k in learnt), *running]]
    return Surrogate(space, points, np.concatenate([targets[learnt], np.zeros(len(running))]))


class Breeder:
    """Makes children of the population.

    Args:
        done: finished trials, oldest first, and their ranking keys.
        space: the parameters with more than one value.
    """

    def __init__(
        self,
        done: Sequence[FrozenTrial],
        keys: Sequence[Key],
        space: Mapping[str, BaseDistribution],
        population_size: int,
        sample_size: int,
        rng: np.random.Generator,
    ) -> None:
        self.done, self.space, self.rng = done, space, rng
        self._keys = keys
        self._members = range(max(0, len(done) - population_size), len(done))
        self._drawn = min(sample_size, len(self._members))
        self._holders: dict[tuple[str, Any], list[FrozenTrial]] = {}
        best_first = sorted(range(len(done)), key=lambda k: keys[k])
        for k in best_first:
            for name, value in done[k].params.items():
                self._holders.setdefault((name, _hashable(value)), []).append(done[k])
        branches: dict[frozenset[str], list[FrozenTrial]] = {}
        for k in best_first:
            branches.setdefault(frozenset(done[k].params), []).append(done[k])
        self._branches = list(branches.values())

    def parent(self) -> Values:
        """The best of a random sample of the population."""
        drawn = self.rng.choice(len(self._members), self._drawn, replace=False)
        return dict(self.done[min((self._members[k] for k in drawn), key=lambda k: self._keys[k])].params)

    def child(self, changes: int = 1) -> Values:
        """A parent with so many changes."""
        return self._changed(self.parent(), changes)

    def branch_child(self, k: int, changes: int) -> Values:
        """The same within one conditional branch, whatever the other branches achieve."""
        branch = self._branches[k % len(self._branches)]
        best = int(self.rng.integers(len(branch), size=BRANCH_SAMPLE).min())
        return self._changed(dict(branch[best].params), changes)

    def _changed(self, child: Values, changes: int) -> Values:
        for _ in range(changes):
            child = self.change(child)
        return child

    def unseen_child(self, seen: set[Identity]) -> Values:
        """A child with one change that is new, where a few attempts find one."""
        parent = self.parent()
        child = parent
        for _ in range(ATTEMPTS):
            child = self.change(parent)
            if _identity(child) not in seen:
                break
        return child

    def change(self, params: Values) -> Values:
        """One parameter changed; what that brings into play comes from the best trial that has it, one changed."""
        name = self._any_changeable(params)
        if name is None:
            return params
        child = {**params, name: mutate(self.space[name], params[name], self.rng)}
        holders = self._holders.get((name, _hashable(child[name])))
        if not holders:
            return child
        donor = min(holders, key=lambda t: len(t.params.keys() ^ params.keys()))  # the first, so the best, of equals
        if donor.params.keys() == params.keys():
            return child
        brought = {key: value for key, value in donor.params.items() if key not in params}
        changed = self._any_changeable(brought)
        if changed is not None:
            brought[changed] = mutate(self.space[changed], brought[changed], self.rng)
        return {key: (child | brought)[key] for key in donor.params}

    def _any_changeable(self, names: Iterable[str]) -> str | None:
        changeable = sorted(name for name in names if name in self.space)
        return changeable[int(self.rng.integers(len(changeable)))] if changeable else None
