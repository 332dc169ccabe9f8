"""What everybody who uses a state folder has used up in the last hour and day: one small file, under a lock.

Counts are kept in slices of a minute (for the hour) and of fifteen (for the day); the slice that is half over still
counts whole, so that a window never holds less than what was used in it.
"""

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

from tools.core.policy.amounts import TIME_WINDOWS, Limit, Window, excess

FORMAT = 1
LARGEST_BYTES = 4_000_000
_SLICE_S: dict[Window, int] = {Window.HOUR: 60, Window.DAY: 900}
_SPAN_S: dict[Window, int] = {Window.HOUR: 3600, Window.DAY: 86400}
Slices = dict[str, dict[str, dict[str, float]]]  # limit -> window -> start of the slice, in seconds -> amount


class WindowsError(Exception):
    """The file cannot be read or written. The message says what to do."""


class WindowStore:
    """The file `limits.json` of a state folder. Safe to use from many threads and processes.

    Args:
        folder: the state folder; created at the first use.
        now: seconds since the epoch.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._path = folder / "limits.json"
        self._now = now
        self._threads = threading.Lock()
        self._file = -1

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def used(self, limits: Mapping[str, Limit]) -> dict[str, dict[Window, float]]:
        """Limit name -> time window -> what is used up, for the limits that bound one.

        Raises:
            WindowsError: the file cannot be read.
        """
        bounded = _bounded(limits)
        if not bounded:
            return {}
        if not self._path.exists():
            return {name: dict.fromkeys(windows, 0.0) for name, windows in bounded.items()}
        with self._alone():
            slices = self._read()
        return {name: {window: self._sum(slices, name, window) for window in bounded[name]} for name in bounded}

    def reserve(self, amounts: Mapping[str, float], limits: Mapping[str, Limit], *, free: bool) -> tuple[str, float]:
        """Add amounts unless that exceeds a limit: the sum is checked and taken in one step.

        Args:
            free: add without checking.

        Returns:
            Why nothing was added (empty: it was), and the time that `release` wants back.

        Raises:
            WindowsError: the file cannot be read or written; nothing was added.
        """
        at = self._now()
        bounded = {name: windows for name, windows in _bounded(limits).items() if name in amounts}
        if not bounded:
            return "", at
        with self._alone():
            slices = self._read()
            for name, windows in bounded.items():
                used = {window: self._sum(slices, name, window) for window in windows}
                why = "" if free else excess(name, limits[name], amounts[name], used)
                if why:
                    return why, at
            self._add(slices, {name: amounts[name] for name in bounded}, at)
        return "", at

    def release(self, amounts: Mapping[str, float], limits: Mapping[str, Limit], at: float) -> None:
        """Take back what was reserved at a time."""
        bounded = _bounded(limits)
        given = {name: -amount for name, amount in amounts.items() if name in bounded}
        if given:
            with self._alone():
                self._add(self._read(), given, at)

    def _add(self, slices: Slices, amounts: Mapping[str, float], at: float) -> None:
        for name, amount in amounts.items():
            for window in TIME_WINDOWS:
                kept = slices.setdefault(name, {}).setdefault(window, {})
                start = str(int(at // _SLICE_S[window]) * _SLICE_S[window])
                kept[start] = max(kept.get(start, 0.0) + amount, 0.0)
                slices[name][window] = {key: value for key, value in kept.items() if self._counts(key, window)}
        self._write(slices)

    def _sum(self, slices: Slices, name: str, window: Window) -> float:
        kept = slices.get(name, {}).get(window, {})
        return sum(amount for start, amount in kept.items() if self._counts(start, window))

    def _counts(self, start: str, window: Window) -> bool:
        return float(start) + _SLICE_S[window] > self._now() - _SPAN_S[window]

    def _read(self) -> Slices:
        try:
            text = os.pread(self._file, LARGEST_BYTES, 0)
            if not text:
                return {}  # just made
            found: Any = json.loads(text)
            if found["v"] != FORMAT:
                raise ValueError
            return {
                str(name): {
                    window: {str(int(start)): float(amount) for start, amount in kept.get(window, {}).items()}
                    for window in TIME_WINDOWS
                }
                for name, kept in found["used"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WindowsError(
                f"{self._path}, where the use of the hour and the day is kept, cannot be read; a person may remove it, "
                "and counting starts anew"
            ) from error

    def _write(self, slices: Slices) -> None:
        """In place and in one go: a new file for each call would cost more than the call."""
        text = json.dumps({"v": FORMAT, "used": slices}, separators=(",", ":")).encode()
        try:
            # Blanks cover what a longer text left, so that there is no moment with half of one.
            written = os.pwrite(self._file, text.ljust(os.fstat(self._file).st_size), 0)
            if written < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise WindowsError(f"cannot write {self._path}: {error.strerror or error}") from error

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """Nobody else reads or changes the file meanwhile, in this process or another."""
        with self._threads:
            try:
                self._open()
                fcntl.flock(self._file, fcntl.LOCK_EX)
                if os.fstat(self._file).st_nlink == 0:  # a person removed it
                    self._open(anew=True)
                    fcntl.flock(self._file, fcntl.LOCK_EX)
            except OSError as error:
                raise WindowsError(f"cannot use {self._path}: {error.strerror or error}") from error
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _open(self, *, anew: bool = False) -> None:
        if anew:
            os.close(self._file)
            self._file = -1
        if self._file < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _bounded(limits: Mapping[str, Limit]) -> dict[str, list[Window]]:
    """Limit name -> the time windows that it bounds."""
    found = {
        name: [window for window in TIME_WINDOWS if limit.per(window) is not None] for name, limit in limits.items()
    }
    return {name: windows for name, windows in found.items() if windows}
