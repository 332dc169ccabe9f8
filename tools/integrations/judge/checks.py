"""Arguments that the schema leaves open: is the metric one of the task's, is a number in its range."""

from typing import Protocol

from tools.core.errors import FixableError
from tools.judge.estimates import METRICS_OF, Task
from tools.modeling.data import check_task


class Judging(Protocol):
    """Arguments of an action that judges by a metric; some have an `alpha` too."""

    @property
    def metric(self) -> str: ...
    @property
    def task(self) -> str: ...


def check_task_and_metric(args: Judging) -> Task:
    """The task, once task, metric and level are known to be valid.

    Raises:
        FixableError: one is not; names the valid ones.
    """
    task = check_task(args.task)
    if args.metric not in METRICS_OF[task]:
        valid = ", ".join(METRICS_OF[task])
        raise FixableError(f"metric {args.metric!r} cannot be judged for {task}; valid metrics: {valid}")
    if (alpha := getattr(args, "alpha", None)) is not None:
        check_range("alpha", alpha, 0, 0.5)
    return task


def check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low < value < high:
        raise FixableError(f"{name} must be between {low:g} and {high:g}; got {value:g}")
