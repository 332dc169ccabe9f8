"""The few options that a Pareto front comes down to, each really different from the others. Pure.

Extremes and a compromise, as a person would name them: the best in each objective, and the knee, the point nearest to
the ideal one when each objective is scaled between its best and its worst value among the extremes (compromise
programming, Zeleny 1973). Two trials differ in an objective only by more than its noise: of the metric the paired
difference over blocks of the validation rows (batch means, Student's t), of latency and size a factor, of the fairness
gap a share of the widest one. An option that another is not really worse than in any objective is none: its wishes pass
to the other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy import stats

COSTS = {"latency": "latency_ms", "size": "size_bytes", "fairness": "fairness_gap"}
"""Objective -> what is measured of it; smaller is better."""

FACTOR = 1.25  # latencies and sizes within this factor count as equal: measured times vary by it
GAP_SHARE = 0.1  # of the widest fairness gap; finer differences are a few rows
LEVEL = 0.05  # two-sided, of one difference in the metric
MIN_BLOCKS = 4
MOST_OPTIONS = 4


@dataclass(frozen=True)
class Candidate:
    """A trial that may be chosen.

    Args:
        value: the metric on the validation rows.
        costs: objective -> its measure, in the unit of `COSTS`.
        blocks: the metric on each block of the validation rows, the same rows for every trial; empty: not measured.
    """

    number: int
    family: str
    value: float
    costs: Mapping[str, float]
    blocks: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Pick:
    """A candidate that is an option; `wishes` are the objectives (or `balanced`) it answers, its name first."""

    candidate: Candidate
    wishes: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """What counts as a difference.

    Args:
        sign: +1 where the metric is to be maximized, -1 where it is to be minimized.
        gap: the smallest difference of fairness gaps that counts.
    """

    sign: float
    gap: float

    def margin(self, a: Candidate, b: Candidate) -> float:
        """Half the two-sided interval of the difference of two values; 0 where it cannot be estimated."""
        pairs = [(x, y) for x, y in zip(a.blocks, b.blocks, strict=False) if x is not None and y is not None]
        if len(pairs) < MIN_BLOCKS:
            return 0.0
        differences = [x - y for x, y in pairs]
        mean = math.fsum(differences) / len(differences)
        variance = math.fsum((d - mean) ** 2 for d in differences) / (len(differences) - 1)
        quantile = float(stats.t.ppf(1 - LEVEL / 2, len(differences) - 1))
        return quantile * math.sqrt(variance / len(differences))

    def worse(self, a: Candidate, b: Candidate, objective: str) -> bool:
        """Whether `a` is really worse than `b` in an objective."""
        if objective == "quality":
            return self.sign * (b.value - a.value) > self.margin(a, b)
        if objective == "fairness":
            return a.costs[objective] - b.costs[objective] >= self.gap > 0
        return a.costs[objective] >= FACTOR * b.costs[objective]

    def covers(self, a: Candidate, b: Candidate, objectives: Sequence[str]) -> bool:
        """Whether `a` is not really worse than `b` in any objective: nobody would miss `b`."""
        return not any(self.worse(a, b, objective) for objective in objectives)


def scale_of(candidates: Sequence[Candidate], sign: float) -> Scale:
    """The scale that fits these candidates."""
    gaps = [abs(c.costs["fairness"]) for c in candidates if "fairness" in c.costs]
    return Scale(sign, GAP_SHARE * max(gaps, default=0.0))


def options(
    candidates: Sequence[Candidate], objectives: Sequence[str], sign: float, *, balanced: str, preference: str = ""
) -> list[Pick]:
    """One to four picks, the best in quality first.

    Args:
        candidates: at least one; each has every cost of the objectives.
        objectives: quality and at least one of `COSTS`.
        sign: see `Scale`.
        balanced: what the compromise is called.
        preference: a wish that must be answered by one of the picks, when there would be more than four.
    """
    scale = scale_of(candidates, sign)
    costs = [objective for objective in objectives if objective != "quality"]
    picks = [Pick(_best(candidates, costs, scale), ("quality",))]
    picks += [Pick(_least(candidates, cost, costs, sign), (cost,)) for cost in costs]
    picks.append(Pick(_knee(candidates, [pick.candidate for pick in picks], costs, sign), (balanced,)))
    return _shortened(_merged(picks, objectives, scale), preference)


def _best(candidates: Sequence[Candidate], costs: Sequence[str], scale: Scale) -> Candidate:
    """Of those that cannot be told from the best value, the one of the least costs."""
    top = max(candidates, key=lambda c: (scale.sign * c.value, -c.number))
    tied = [c for c in candidates if not scale.worse(c, top, "quality")]
    spans = {cost: _span([_position(c, cost) for c in tied]) for cost in costs}
    return min(tied, key=lambda c: (sum(spans[k](_position(c, k)) for k in costs), -scale.sign * c.value, c.number))


def _least(candidates: Sequence[Candidate], cost: str, costs: Sequence[str], sign: float) -> Candidate:
    """Of those that cost about the least, the best value."""
    least = min(candidates, key=lambda c: (c.costs[cost], c.number))
    scale = scale_of(candidates, sign)
    tied = [c for c in candidates if not scale.worse(c, least, cost)]
    return min(tied, key=lambda c: (-sign * c.value, *(c.costs[k] for k in costs), c.number))


def _knee(
    candidates: Sequence[Candidate], extremes: Sequence[Candidate], costs: Sequence[str], sign: float
) -> Candidate:
    """The candidate nearest to the ideal point."""
    quality = _span([-sign * c.value for c in extremes])
    spans = {cost: _span([_position(c, cost) for c in extremes]) for cost in costs}

    def distance(c: Candidate) -> float:
        return math.hypot(quality(-sign * c.value), *(spans[cost](_position(c, cost)) for cost in costs))

    return min(candidates, key=lambda c: (distance(c), c.number))


def _position(candidate: Candidate, cost: str) -> float:
    """Where a cost lies: gaps as they are, latency and size by their logarithm."""
    value = candidate.costs[cost]
    return value if cost == "fairness" else math.log(max(value, 1e-12))


@dataclass(frozen=True)
class _span:  # noqa: N801 - used as a function
    """Maps values so that the least becomes 0 and the largest 1; all 0 where they are equal."""

    values: list[float]

    def __call__(self, value: float) -> float:
        low, high = min(self.values), max(self.values)
        return (value - low) / (high - low) if high > low else 0.0


def _merged(picks: list[Pick], objectives: Sequence[str], scale: Scale) -> list[Pick]:
    """Picks of which none covers another; where two cover each other the earlier stays."""
    left = list(picks)
    while True:
        pair = next(
            (
                (kept, gone)
                for kept in left
                for gone in left
                if kept is not gone and scale.covers(kept.candidate, gone.candidate, objectives)
            ),
            None,
        )
        if pair is None:
            return left
        kept, gone = pair
        order = [wish for pick in picks for wish in pick.wishes]
        wishes = tuple(sorted((*kept.wishes, *gone.wishes), key=order.index))
        place = min(left.index(kept), left.index(gone))
        left = [pick for pick in left if pick is not kept and pick is not gone]
        left.insert(place, replace(kept, wishes=wishes))


def _shortened(picks: list[Pick], preference: str) -> list[Pick]:
    """At most four: the last go first, but for the best in quality and the one that the goal prefers."""
    left = list(picks)
    while len(left) > MOST_OPTIONS:
        left.remove(next(pick for pick in reversed(left[1:]) if preference not in pick.wishes))
    return left
