"""Counts finished Ray Tune trials for the caller. Imports Ray, so it is imported by the call that needs it."""

from collections.abc import Callable
from typing import Any

from ray import tune


class TrialProgress(tune.Callback):
    """Tells how many trials have ended.

    Ray pickles a tuner with its callbacks to be able to restore it; the caller's progress function belongs to this
    process and stays behind.
    """

    def __init__(self, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._tell: Callable[[int], None] | None = tell
        self._ended = 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended += 1
        if self._tell is not None:
            self._tell(self._ended)

    on_trial_error = on_trial_complete

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tell": None}
