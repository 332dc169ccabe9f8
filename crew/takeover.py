"""What a runbook is handed of the calls that were made in its task: its own, and before them those of a model.

A model's call counts where the runbook would make the same one next, so that nothing is done twice and a verdict
stands. What only looks may be missing or too much; from the first change on that is not the runbook's own, it goes its
own way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.base import ToolCall
from tools.core.results import ToolResult


@dataclass(frozen=True)
class Made:
    """A call of a task.

    Args:
        given: the arguments as its caller stated them.
        arguments: those it was made with, as journalled.
        refused: it never came to a decision: not valid, or not of this task as it was put.
    """

    tool: str
    action: str
    given: dict[str, Any]
    arguments: dict[str, Any]
    result: ToolResult
    refused: bool = False

    @property
    def succeeded(self) -> bool:
        return self.result.ok and self.result.data is not None


class Past:
    """The calls of a task, handed out in the order in which its runbook asks for them.

    Args:
        before: made by a model; what failed in its hands is tried again.
        own: made by the runbook.
        same: whether a call is the one that is wanted.
        writes: whether an action changes anything, by tool and name.
    """

    def __init__(
        self,
        before: list[Made],
        own: list[Made],
        *,
        same: Callable[[Made, ToolCall], bool],
        writes: Callable[[str, str], bool],
    ) -> None:
        self._before = [made for made in before if made.succeeded]
        self._own = list(own)
        self._same = same
        self._writes = writes
        self._last: Made | None = None

    def take(self, wanted: ToolCall) -> ToolResult | None:
        """What the wanted call returned; None where it is still to be made."""
        for place, made in enumerate(self._before):
            if self._same(made, wanted):
                self._before = self._before[place + 1 :]
                if self._writes(made.tool, made.action):
                    self._last = made
                return made.result
            if self._writes(made.tool, made.action) and not self._repeats(made):
                break
        if self._writes(wanted.tool, wanted.action):
            self._before = []
        for place, made in enumerate(self._own):
            if self._same(made, wanted):
                return self._own.pop(place).result
        return None

    def _repeats(self, made: Made) -> bool:
        """Whether a call only did once more what the last one did."""
        last = self._last
        return last is not None and (made.tool, made.action, made.arguments) == (
            last.tool, last.action, last.arguments,
        )  # fmt: skip
