"""How a run ends before its end: who stopped it, a canary brought back to 100 % stable, and what is said of it."""

import threading

from tools.core.errors import ToolError
from tools.core.gateway import Gateway
from tools.core.journal import JournalError
from tools.core.stable import back_to_stable, end_shadows
from tools.core.stop import StopSwitch


class RunStopped(Exception):
    """The run was stopped by a person. The message says by whom, and during which task."""


class Stopping:
    """Whether a run is asked to stop: in this process, or by the stop of its state folder.

    Args:
        switch: of the state folder; None: only this process can ask.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.switch: StopSwitch | None = None

    def ask(self) -> None:
        """Ask in this process (Ctrl-C, SIGTERM, a notebook)."""
        self._asked.set()

    @property
    def asked_here(self) -> bool:
        return self._asked.is_set()

    def why(self, task: str | None = None) -> str:
        """Who stopped the run, in a sentence; empty: nobody did."""
        during = f" during {task}" if task else ""
        if self._asked.is_set():
            return f"Stopped by a person{during}."
        stop = self.switch.current() if self.switch is not None else None
        if stop is None:
            return ""
        return f"Stopped by {stop.by} (mlops-crew stop){during}{f': {stop.reason}' if stop.reason else ''}."


def end_after_failure(gateway: Gateway) -> str:
    """What production serves after a run failed that had changed it; empty where the run had changed nothing.

    A canary and the shadow of a former champion end: nobody judges them any more. Never raises.
    """
    if not gateway.in_force:
        return ""
    try:
        left = end_shadows(gateway)
    except (ToolError, JournalError) as error:
        left = [f"Whether a model is left in the shadow could not be learned: {error}"]
    return " ".join([end_at_stable(gateway), *left])


def end_at_stable(gateway: Gateway) -> str:
    """End a canary that is half done, and say what production serves. Never raises: it is the last thing a run does."""
    gateway.wind_down()
    try:
        found = back_to_stable(gateway)
    except (ToolError, JournalError) as error:
        return f"What production serves could not be learned: {error}"
    return str(found) or "Nothing was ever deployed here."
