"""The Pareto front of a search: the trials that no other beats in value, latency, size and fairness gap together."""

import math
from collections.abc import Sequence

from tools.modeling.trials import Trial

# Latencies within a step count as equal: measured times vary, and half of all trials would be on the front by luck.
LATENCY_STEP = 1.25
# So do gaps, in steps of this share of the largest one: a finer difference is one of a few rows.
GAP_STEP = 0.05

Costs = tuple[float, float, float, float]


def pareto_front(trials: Sequence[Trial], sign: float) -> list[Trial]:
    """The trials that are not dominated, best value first; of equal ones the earliest.

    Only trials that keep to their constraints are on it, unless none does.

    Args:
        trials: those without a value, a latency or a size are left out. Without a fairness gap a trial counts as the
            worst in it where others have one.
        sign: +1 where the metric is to be maximized, -1 where it is to be minimized.
    """
    known = [trial for trial in trials if trial.value is not None and trial.latency_ms and trial.size_bytes]
    known = [trial for trial in known if trial.feasible] or known
    widest = max((trial.fairness_gap or 0.0 for trial in known), default=0.0)
    costs = sorted(
        ((_costs(trial, sign, widest), trial) for trial in known), key=lambda item: (item[0], item[1].number)
    )
    front: list[tuple[Costs, Trial]] = []
    for cost, trial in costs:
        # Sorted by value: only one that comes before can be no worse in all of them.
        if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other, _ in front):
            front.append((cost, trial))
    return [trial for _, trial in front]


def _costs(trial: Trial, sign: float, widest: float) -> Costs:
    """Value, latency step, bytes and step of the gap, all to be minimized."""
    assert trial.value is not None and trial.latency_ms and trial.size_bytes
    latency = math.floor(math.log(trial.latency_ms) / math.log(LATENCY_STEP))
    gap = math.inf if trial.fairness_gap is None else 0.0
    if trial.fairness_gap and widest > 0:
        gap = float(round(trial.fairness_gap / widest / GAP_STEP))
    return -sign * trial.value, float(latency), trial.size_bytes, gap


def spread_of(front: Sequence[Trial], count: int) -> list[Trial]:
    """At most `count` trials of a front, in its order: the best in each of the four, then those of the best value."""
    if not front:
        return []

    def of(name: str) -> Trial:
        values = {trial.number: getattr(trial, name) for trial in front}
        return min(front, key=lambda t: math.inf if values[t.number] is None else values[t.number])

    ends = [front[0], of("fairness_gap"), of("latency_ms"), of("size_bytes"), *front]
    chosen = list(dict.fromkeys(trial.number for trial in ends))[:count]
    return [trial for trial in front if trial.number in chosen]
