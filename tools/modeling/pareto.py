"""The Pareto front of a search: the trials that no other trial beats in value, latency and size together."""

import math
from collections.abc import Sequence

from tools.modeling.trials import Trial

# Latencies within a step count as equal: measured times vary, and half of all trials would be on the front by luck.
LATENCY_STEP = 1.25


def pareto_front(trials: Sequence[Trial], sign: float) -> list[Trial]:
    """The trials that are not dominated, best value first; of equal ones the earliest.

    Args:
        trials: those without a value, a latency or a size are left out.
        sign: +1 where the metric is to be maximized, -1 where it is to be minimized.
    """
    costs: list[tuple[tuple[float, float, float], Trial]] = []
    for trial in trials:
        if trial.value is not None and trial.latency_ms and trial.size_bytes:
            step = math.floor(math.log(trial.latency_ms) / math.log(LATENCY_STEP))
            costs.append(((-sign * trial.value, float(step), trial.size_bytes), trial))
    costs.sort(key=lambda item: (item[0], item[1].number))
    front: list[tuple[tuple[float, float, float], Trial]] = []
    for cost, trial in costs:
        # Sorted by value: only one that comes before can be no worse in all three.
        if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other, _ in front):
            front.append((cost, trial))
    return [trial for _, trial in front]
