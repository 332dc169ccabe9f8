"""Locks of production: one per registered model and environment, visible, held by one process at a time.

A lock is a file in `<home>/locks` that its holder keeps locked (`flock`) and that says who that is. The operating
system takes the lock from a process that dies; what the file says then stays, and whoever takes it over is told. A run
that is suspended over something in production leaves a reservation: the file says so, and no other run begins.

The locks are those of one state folder on one machine: what two machines do to one registry is not seen here.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tools.core.errors import FinalError

FOLDER = "locks"
EVERYTHING = "*"  # calls that name no model: they exclude every other change, and every other change them
POLL_S = 0.2
LONGEST = 4096


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, or left it.

    Args:
        model: registered model; `EVERYTHING` for calls that name none.
        since: ISO 8601 in UTC.
        suspended: the run waits without a process, and production is not to be changed under it.
    """

    model: str
    environment: str
    run_id: str
    pid: int
    host: str
    since: str
    suspended: bool = False

    def __str__(self) -> str:
        return f"run {self.run_id} (process {self.pid} on {self.host}, since {self.since})"


@dataclass(frozen=True)
class Listed:
    """A lock as it is found: `held` by a living process; else `holder` was left behind or is a reservation."""

    holder: Holder
    held: bool


class LockedError(FinalError):
    """Another process may change this production now; the message says which."""


class ProductionLocks:
    """The locks that one process takes in a state folder. Not thread-safe; the gateway uses it from its event loop and
    a run before and after it.

    Args:
        home: the state folder.
        environment: the production that the models serve in.
    """

    def __init__(self, home: Path, run_id: str, environment: str = "local") -> None:
        self._folder = home / FOLDER
        self._run_id = run_id
        self._environment = environment
        self._held: dict[str, int] = {}

    def acquire(self, model: str, wait_s: float = 0.0) -> Holder | None:
        """Take the lock of a model (`EVERYTHING`: of all). Holding it already is fine.

        Args:
            wait_s: how long to wait for another process to let go of it.

        Returns:
            Who left it behind by dying, to be told; None where nobody did.

        Raises:
            LockedError: another process holds it, or a suspended run has it reserved.
            OSError: the file cannot be opened (no permission, a link).
        """
        if model in self._held or EVERYTHING in self._held:
            return None
        deadline = time.monotonic() + wait_s
        while True:
            try:
                return self._take(model)
            except LockedError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_S)

    def covers(self, model: str | None) -> bool:
        """Whether a change of that model (None: it is not said which) is covered by what is held."""
        return EVERYTHING in self._held or (bool(self._held) if model is None else model in self._held)

    def release(self, *, reserve: bool = False) -> None:
        """Let go of everything. `reserve`: the run is suspended, and nobody else may change this production."""
        for model, file in self._held.items():
            with contextlib.suppress(OSError):
                if reserve and model != EVERYTHING:
                    _write(file, self._holder(model, suspended=True))
                else:
                    os.ftruncate(file, 0)
            os.close(file)  # and with it the lock
        self._held.clear()

    def _take(self, model: str) -> Holder | None:
        with contextlib.ExitStack() as undo:
            shared = self._open(EVERYTHING)
            undo.callback(os.close, shared)
            if not _lock(shared, fcntl.LOCK_EX if model == EVERYTHING else fcntl.LOCK_SH):
                raise self._refusal(model, _read(shared))
            if model == EVERYTHING:
                for other in list_locks(self._folder.parent):
                    if other.held and other.holder.model != EVERYTHING and other.holder.model not in self._held:
                        raise self._refusal(other.holder.model, other.holder)
                undo.pop_all()
                self._held[model] = shared
                _write(shared, self._holder(model))
                return None
            file = self._open(model)
            undo.callback(os.close, file)
            if not _lock(file, fcntl.LOCK_EX):
                raise self._refusal(model, _read(file))
            before = _read(file)
            if before is not None and before.suspended and before.run_id != self._run_id:
                raise LockedError(
                    f"run {before.run_id} is suspended and has something in production of {model}; go on with it "
                    f"(mlops-crew resume {before.run_id}), or give it up (mlops-crew locks --release {model})"
                )
            _write(file, self._holder(model))
            undo.pop_all()
            os.close(shared)
            self._held[model] = file
            return before if before is not None and before.run_id != self._run_id else None

    def _open(self, model: str) -> int:
        path = self._folder / _name(self._environment, model)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LockedError(f"cannot write the lock {path}: {error.strerror or error}; nothing was done") from error

    def _holder(self, model: str, *, suspended: bool = False) -> Holder:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return Holder(model, self._environment, self._run_id, os.getpid(), socket.gethostname(), since, suspended)

    def _refusal(self, model: str, holder: Holder | None) -> LockedError:
        who = f"another run changes it: {holder}" if holder else "another run changes production right now"
        what = "production" if model == EVERYTHING else f"production of {model}"
        return LockedError(f"{what} is locked, {who}; wait for it to end (run --wait does), or stop it")


def list_locks(home: Path) -> Iterator[Listed]:
    """Every lock that somebody holds, reserved, or left behind."""
    for path in sorted((home / FOLDER).glob("*.lock")):
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            holder = _read(file)
            if holder is not None:
                yield Listed(holder, held=not _lock(file, fcntl.LOCK_SH))
        finally:
            os.close(file)


def give_up(home: Path, model: str) -> Holder | None:
    """Remove what a suspended or dead run left in the lock of a model; None: there was nothing.

    Raises:
        LockedError: a living process holds it.
    """
    for listed in list_locks(home):
        if listed.holder.model == model:
            if listed.held:
                raise LockedError(f"{model} is held by {listed.holder}, which is alive; stop it first")
            os.truncate(home / FOLDER / _name(listed.holder.environment, model), 0)
            return listed.holder
    return None


def _name(environment: str, model: str) -> str:
    return f"{quote(environment, safe='')}--{quote(model, safe='')}.lock"[-200:]


def _lock(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(file: int, holder: Holder) -> None:
    data = json.dumps(asdict(holder)).encode()
    os.ftruncate(file, 0)
    os.pwrite(file, data, 0)


def _read(file: int) -> Holder | None:
    """What a lock file says; None where it is empty, or says nothing that can be understood."""
    try:
        told: dict[str, Any] = json.loads(os.pread(file, LONGEST, 0))
        return Holder(**told)
    except (ValueError, TypeError):
        return None
