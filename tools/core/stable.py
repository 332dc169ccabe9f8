"""The way back: ends a canary that is half done at 100 % stable, through the gateway, and says what production serves.

Every integration whose policy names actions that go back to stable and that can tell its `status` is a serving target;
all of them answer with the same keys.
"""

import logging
import threading
from dataclasses import dataclass, field
from typing import Any

from tools.core.calls import PERSON
from tools.core.errors import ToolError
from tools.core.gateway import Gateway
from tools.core.journal import JournalError
from tools.core.results import Status, ToolResult

STATUS, END_SHADOW = "status", "end_probation"
WATCH_S = 0.5
_log = logging.getLogger(__name__)


@dataclass
class WayBack:
    """What was done, and what production serves now.

    Args:
        rolled_back: sentences, one for each canary that was ended.
        serves: sentences on what serves, one for each target where anything was ever deployed.
        failed: sentences on what could not be learned or done; a person must look.
    """

    rolled_back: list[str] = field(default_factory=list[str])
    serves: list[str] = field(default_factory=list[str])
    failed: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        return " ".join([*self.rolled_back, *self.serves, *self.failed])


def back_to_stable(gateway: Gateway) -> WayBack:
    """Look at every serving target, end the canary of each that has one, and look again."""
    found = WayBack()
    for name in gateway.stack.own:
        spec = gateway.stack.spec(name)
        actions = {action.name: action for action in spec.actions} if spec is not None else {}
        # Only an action that needs no arguments can be called by one who knows nothing of the release.
        ways = [
            action
            for action in actions.values()
            if gateway.policy.is_to_stable(name, action.name)
            and not any(info.is_required() for info in action.args.model_fields.values())
        ]
        if ways and STATUS in actions:
            _end_canary(gateway, name, ways[0].name, found)
    return found


def end_shadows(gateway: Gateway) -> list[str]:
    """End the shadow of a former champion on every serving target that has one: nobody judges it any more.

    Returns sentences on what could not be ended.
    """
    failed: list[str] = []
    for name in gateway.stack.own:
        spec = gateway.stack.spec(name)
        actions = {action.name for action in spec.actions} if spec is not None else set[str]()
        if not {STATUS, END_SHADOW} <= actions:
            continue
        former = _value(gateway.call(name, {"action": STATUS}, PERSON), "former_version")
        if former is None:
            continue
        ended = gateway.call(name, {"action": END_SHADOW}, PERSON)
        if not ended.ok:
            failed.append(f"Version {former} still scores in the shadow of {name}: {ended.message}")
    return failed


def watch(gateway: Gateway) -> threading.Thread:
    """In a session that waits for calls (serve, a notebook): when a stop appears, end the canary that is half done.

    Returns the thread, which ends with the gateway.
    """

    def look() -> None:
        stopped = False
        while not gateway.closed.wait(WATCH_S):
            now = gateway.stop_switch.current() is not None
            if now and not stopped:
                try:
                    back_to_stable(gateway)
                except (ToolError, JournalError) as error:
                    _log.warning("a stop is on, and the way back to stable failed: %s", error)
            stopped = now

    thread = threading.Thread(target=look, name="stop watch", daemon=True)
    thread.start()
    return thread


def _end_canary(gateway: Gateway, name: str, way: str, found: WayBack) -> None:
    before = gateway.call(name, {"action": STATUS}, PERSON)
    if before.status is Status.NO_DATA:
        return  # nothing was ever deployed there
    if not before.ok:
        found.failed.append(f"What {name} serves could not be learned: {before.message}")
        return
    canary = _value(before, "canary_version")
    # What does not run here tells of no canary, and would start with the one its state names. Where another process is
    # at work it may run there, and only that one may touch its state.
    if canary is None and (_value(before, "running") or not gateway.at_work.alone()):
        found.serves.append(_serves(name, before))
        return
    back = gateway.call(name, {"action": way}, PERSON)
    if not back.ok:
        found.failed.append(f"The canary of {name} could not be rolled back, look at it now: {back.message}")
        return
    if _value(back, "changed"):
        which = f"version {canary}" if canary is not None else "that its state named"
        found.rolled_back.append(f"The canary ({which}) was rolled back.")
    found.serves.append(_serves(name, back))


def _serves(name: str, result: ToolResult) -> str:
    model, version = _value(result, "name"), _value(result, "champion_version")
    if version is None:
        return f"{name} serves no model."
    return f"Production serves version {version} of {model}, alone."


def _value(result: ToolResult, key: str) -> Any:
    return (result.data or {}).get(key)
