"""Time that is a model's own: without that for which a busy machine had no core for it.

A process that is ready to run and waits for a core says nothing about what it runs; on a machine with other work that
wait is most of what a clock on the wall shows. Linux counts it for each thread (`schedstat`). Where nobody counts it,
nothing is left out.
"""

import os
import time
from pathlib import Path
from typing import Self

TRIES = 5


def starved(pid: int) -> float:
    """Seconds that a process was ready to run and had to wait for a core, since it started; 0 where nobody counts."""
    try:
        return _waited(Path(f"/proc/{pid}/schedstat").read_bytes())
    except (OSError, ValueError, IndexError):  # not Linux, ended, or a kernel that does not count
        return 0.0


class OwnTime:
    """A clock for the thread that made it, which stands still while that thread waits for a core. To be closed."""

    def __init__(self) -> None:
        try:  # opened once: a model's process may open nothing of the kind later
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give its file back. Safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def now(self) -> float:
        """Seconds since some moment."""
        waited = self._starved()
        for _ in range(TRIES):  # the thread may lose its core between the two readings
            at, before = time.perf_counter(), waited
            waited = self._starved()
            if waited == before:
                return at - waited
        return time.perf_counter() - waited

    def _starved(self) -> float:
        if self._file < 0:
            return 0.0
        try:
            return _waited(os.pread(self._file, 100, 0))
        except (OSError, ValueError, IndexError):
            return 0.0


def _waited(told: bytes) -> float:
    return int(told.split()[1]) / 1e9
