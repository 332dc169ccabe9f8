"""How the servers of other people stand: which cannot be reached, and which of their tools are not as accepted.

Noted by whoever contacts a server, so nothing is contacted to find out. What stands here is left out of what clients
are offered, and looked at again later. Nothing is decided here: a call of a tool that is left out ends as it would.
"""

import threading
import time
from collections.abc import Callable, Mapping

LOOK_AGAIN_S = 30.0  # after a server could not be reached for the first time; doubled each time
MOST_DOUBLINGS = 4
CHANGES_EVERY_S = 2.0  # how often a server that keeps saying so is asked what has changed


class Standing:
    """Thread-safe.

    Args:
        on_change: called with a server and why it is left out, or None once it is back; never with the lock held.
    """

    def __init__(
        self, on_change: Callable[[str, str | None], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_change = on_change
        self._clock = clock
        self._lock = threading.Lock()
        self._down: dict[str, str] = {}
        self._failures: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._withheld: dict[str, dict[str, str]] = {}
        self.version = 0  # grows with every change of what is left out

    def failed(self, server: str, why: str) -> None:
        """A server could not be reached, or did not list its tools."""
        with self._lock:
            times = self._failures.get(server, 0)
            self._failures[server] = times + 1
            self._due[server] = self._clock() + LOOK_AGAIN_S * 2 ** min(times, MOST_DOUBLINGS)
            is_new = server not in self._down
            self._down[server] = why
            self.version += is_new
        if is_new:
            self._on_change(server, why)

    def listed(self, server: str, not_as_accepted: Mapping[str, str]) -> None:
        """A server listed its tools.

        Args:
            not_as_accepted: tool -> what is different, of those that a person had accepted.
        """
        with self._lock:
            self._failures.pop(server, None)
            self._due.pop(server, None)
            was_down = self._down.pop(server, None) is not None
            is_changed = self._withheld.get(server, {}) != dict(not_as_accepted)
            self._withheld[server] = dict(not_as_accepted)
            self.version += was_down or is_changed
        if was_down:
            self._on_change(server, None)

    def changed(self, server: str) -> None:
        """A server says that its tools have changed; it is to be looked at soon."""
        with self._lock:
            self._due.setdefault(server, self._clock() + CHANGES_EVERY_S)

    def down(self, server: str) -> str | None:
        """Why a server could not be reached when it was last tried; None where it could, or nobody tried."""
        with self._lock:
            return self._down.get(server)

    def withheld(self, server: str, tool: str) -> str | None:
        """Why a tool is left out; None where it is not."""
        with self._lock:
            return self._down.get(server) or self._withheld.get(server, {}).get(tool)

    def due(self) -> list[str]:
        """Servers to be looked at now; each is given out once."""
        with self._lock:
            found = [server for server, at in self._due.items() if at <= self._clock()]
            for server in found:
                del self._due[server]
            return found
