"""How a run ended, from what its tasks recorded; never from what a model says."""

from collections.abc import Mapping
from typing import Literal

from tasks import (
    ab_test,
    assess_champion,
    canary,
    check_data,
    choose_tradeoff,
    close_loop,
    establish_champion,
    release,
    restore_champion,
    train_challenger,
)
from tasks.base import TaskResult

Outcome = Literal[
    "promoted",
    "rolled_back",
    "champion_kept",
    "inconclusive",
    "undecided",
    "no_action",
    "data_rejected",
    "completed",
    "failed",
    "stopped",
    "suspended",
]

EXIT_CODES: dict[Outcome, int] = {"failed": 1, "data_rejected": 3, "undecided": 4, "suspended": 5, "stopped": 130}


def outcome_of(results: Mapping[str, TaskResult]) -> tuple[Outcome, str]:
    """The outcome of a run that came to its end, and one or two sentences on it."""
    last = next(reversed(list(results.values())), None)
    closing = results.get("close_loop")
    story = closing.summary if isinstance(closing, close_loop.Result) else (last.summary if last else "")
    match results.get("check_data"):
        case check_data.Result(usable=False) as checked:
            return "data_rejected", checked.summary
        case _:
            pass
    match results.get("establish_champion"):
        case establish_champion.Result(usable=False) as established:
            return "data_rejected", established.summary
        case establish_champion.Result(open=True) as established:
            return "undecided", established.summary
        case _:
            pass
    match results.get("assess_champion"):
        case assess_champion.Result(act=False) as assessed:
            return "no_action", assessed.summary
        case _:
            pass
    match results.get("choose_tradeoff"):
        case choose_tradeoff.Result(open=True):
            return "undecided", story
        case _:
            pass
    match results.get("restore_champion"):
        case restore_champion.Result(restored=True):
            return "rolled_back", story
        case _:
            pass
    match results.get("release"):
        case release.Result(promoted=True):
            return "promoted", story
        case release.Result(promoted=False):
            judged = results.get("canary")
            waited = isinstance(judged, canary.Result) and judged.verdict == "wait"
            tested = results.get("ab_test")
            waited |= isinstance(tested, ab_test.Result) and tested.undecided
            return ("inconclusive" if waited else "rolled_back"), story
        case _:
            pass
    match results.get("train_challenger"):
        case train_challenger.Result(better=False):
            return "champion_kept", story
        case _:
            return "completed", story
