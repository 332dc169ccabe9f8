"""A queue of two lanes: what somebody waits for goes first, the rest when nobody waits."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lanes(Generic[K, V]):
    """First in, first out in each lane; the shadow lane moves only while the live one is empty. Thread-safe."""

    def __init__(self) -> None:
        self._live: OrderedDict[K, V] = OrderedDict()
        self._shadow: OrderedDict[K, V] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def waiting(self, *, live: bool) -> int:
        """How many wait in a lane."""
        return len(self._lane(live))

    def put(self, key: K, value: V, *, live: bool) -> bool:
        """Add to the end of a lane. False: it is closed, and nobody will come for it."""
        with self._changed:
            if not self._closed:
                self._lane(live)[key] = value
                self._changed.notify()
            return not self._closed

    def move(self, key: K, *, live: bool) -> bool:
        """Put what waits in the other lane to the end of this one. False: it does not wait there."""
        with self._changed:
            source = self._lane(not live)
            if key not in source:
                return False
            self._lane(live)[key] = source.pop(key)
            return True

    def get(self) -> tuple[K, V] | None:
        """The next one; waits for it. None: closed, and nothing is left."""
        with self._changed:
            while not self._live and not self._shadow:
                if self._closed:
                    return None
                self._changed.wait()
            return (self._live or self._shadow).popitem(last=False)

    def close(self) -> None:
        """`get` ends once nothing is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _lane(self, live: bool) -> OrderedDict[K, V]:
        return self._live if live else self._shadow
