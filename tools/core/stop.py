"""The stop: a file in the state folder. While it is there no process makes a write; reads and the way back go on.

Anything at that path counts as a stop, also what cannot be read: whoever put it there wanted things to stop.
"""

import contextlib
import fcntl
import json
import os
import pwd
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tools.core.contract import Effect
from tools.core.files import write_json

STOP_FILE = "stop"
AT_WORK_FILE = ".at-work"
LONGEST_REASON = 500


@dataclass(frozen=True)
class Stop:
    """Who stopped, why and when (ISO 8601 in UTC); `by` is `somebody` where the file does not tell."""

    by: str = "somebody"
    reason: str = ""
    at: str = ""

    def __str__(self) -> str:
        when = f" at {self.at}" if self.at else ""
        return f"stopped by {self.by}{when}" + (f": {self.reason}" if self.reason else "")


class StopSwitch:
    """The stop of a state folder, and of this process alone. Costs one look at a path where nothing is stopped.

    Args:
        home: the state folder.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / STOP_FILE
        self._here = ""

    def current(self) -> Stop | None:
        """The stop that is on; None: there is none."""
        try:
            self.path.lstat()
        except FileNotFoundError:
            return None
        except OSError:
            return Stop(reason=f"{self.path} cannot be looked at")
        try:
            # A link or a pipe at that place is never followed or waited for.
            file = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(file, encoding="utf-8") as opened:
                found = json.loads(opened.read(10_000))
            return Stop(str(found["by"])[:100], str(found["reason"])[:LONGEST_REASON], str(found["at"])[:40])
        except FileNotFoundError:
            return None  # lifted between the two looks
        except (OSError, ValueError, KeyError, TypeError):
            return Stop()

    def pull(self, by: str, reason: str = "") -> Stop:
        """Stop every process that uses the state folder. A stop that is on stays as it is.

        Raises:
            OSError: the file cannot be written.
        """
        already = self.current()
        if already is not None:
            return already
        stop = Stop(by, " ".join(reason.split())[:LONGEST_REASON], datetime.now(UTC).isoformat(timespec="seconds"))
        before = os.umask(0o077)
        try:
            write_json(self.path, asdict(stop), durable=True)
        finally:
            os.umask(before)
        return stop

    def lift(self) -> Stop | None:
        """End the stop; returns what it was, None where there was none. For people: no tool reaches this."""
        found = self.current()
        if found is not None:
            self.path.unlink()
        return found

    def halt_here(self, reason: str) -> None:
        """From now on this process alone makes no further writes but the way back to stable."""
        self._here = reason

    def refusal(self, name: str, effect: Effect, *, to_stable: bool) -> str:
        """Why a call may not happen now, in words; empty: it may.

        Args:
            name: `integration.action`.
        """
        if effect is Effect.READ or to_stable:
            return ""
        if self._here:
            return f"{self._here}; {name} is not made"
        stop = self.current()
        if stop is None:
            return ""
        return f"{stop}; {name} is not made. A person lifts it with: mlops-crew stop --clear"


class AtWork:
    """Whether a process works in a state folder: each holds a shared lock, which the system takes from the dead.

    Args:
        home: the state folder; created.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._file = os.open(home / AT_WORK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._held = fcntl.LOCK_UN

    def begin(self) -> None:
        """Say that this process works here, until `end`."""
        fcntl.flock(self._file, fcntl.LOCK_SH)
        self._held = fcntl.LOCK_SH

    def alone(self) -> bool:
        """Whether nobody else works here."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(self._file, self._held)
        return True

    def end(self) -> None:
        """Safe to call twice."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1


def system_user() -> str:
    """The person by the operating system's account, not by a variable that anybody can set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"  # a container's user may have no name
