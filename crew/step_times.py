"""Where the time of a run went: seconds per task and per action, from what its report says. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Facts = dict[str, Any]
BETWEEN = "between tasks"


@dataclass(frozen=True)
class ActionTime:
    """All calls of one action in one task. A call without an outcome has no seconds."""

    action: str
    calls: int
    seconds: float
    longest_s: float


@dataclass(frozen=True)
class StepTime:
    """One task. `in_calls_s` counts overlapping calls once; the rest is the agent's, the model's or a wait."""

    task: str
    seconds: float | None  # None: it has not ended
    in_calls_s: float
    share: float | None  # of the run
    actions: list[ActionTime] = field(default_factory=list[ActionTime])


def step_times(facts: Facts) -> list[StepTime]:
    """The tasks of a run in their order, each with its actions, the slowest first; then what lies between the tasks.

    Args:
        facts: as `crew.runs.show_run` gives them.
    """
    whole = facts["run"]["duration_s"]
    tasks = [task for task in facts["tasks"] if task["state"] != "skipped"]
    steps = [_step(task["task"], task["duration_s"], _calls_of(task["calls"], facts), whole) for task in tasks]
    taken = {call for task in tasks for call in task["calls"]}
    others = [call for call in facts["calls"] if call["id"] not in taken]
    known = [step.seconds for step in steps if step.seconds is not None]
    rest = max(0.0, whole - sum(known)) if whole is not None and len(known) == len(steps) else None
    return [*steps, _step(BETWEEN, rest, others, whole)] if others or rest else steps


def _calls_of(ids: list[str], facts: Facts) -> list[Facts]:
    return [call for call in facts["calls"] if call["id"] in ids]


def _step(name: str, seconds: float | None, calls: list[Facts], whole: float | None) -> StepTime:
    durations: dict[str, list[float]] = {}
    for call in calls:
        durations.setdefault(f"{call['server']}.{call['action']}", []).append(call["duration_s"] or 0.0)
    actions = [ActionTime(action, len(took), sum(took), max(took)) for action, took in durations.items()]
    spans = ((call["start_s"], call["start_s"] + (call["duration_s"] or 0.0)) for call in calls)
    return StepTime(
        name,
        seconds,
        _covered(spans),
        seconds / whole if seconds is not None and whole else None,
        sorted(actions, key=lambda action: -action.seconds),
    )


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
