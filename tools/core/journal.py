"""The append-only record of a run: one JSON object a line, the intent on disk before the effect.

Format 1. Every record has `v`, `seq` (from 0, no gaps), `ts` (UTC, ISO 8601) and `kind`:

- `run_started`, `run_finished`: the goal, versions and seed; the outcome.
- `task_started`, `task_finished`, `task_skipped`: role, mode (`runbook` or `llm`), result, tokens, cost.
- `intent`, `outcome`: a call by `call_id`, before and after its effect.
- `approval_requested`, `approval_decided`: what a person was asked, and what they said.
- `guardrail`, `fallback`: a claim the evidence did not carry; a task finished by its runbook.

A journal cut by a crash stays readable: an incomplete last line is set aside when the file is opened or read.
"""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.core.redact import Redactor

FORMAT = 1
_log = logging.getLogger(__name__)
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
Record = dict[str, Any]
Listener = Callable[[Record], None]


class JournalError(Exception):
    """The journal cannot be written (disk full, no permission): nothing further may be done."""


class Journal:
    """Appends records of one run, each on disk (fsync) before `append` returns. Thread-safe.

    Args:
        path: the file; its folder is created.
        redactor: applied to every record before it is written or shown to a listener.

    Raises:
        JournalError: the file cannot be created or read.

    After a failed write every later append fails too (`failure`): what happened since could not be told from it.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self._redactor = redactor
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self.failure: JournalError | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._size, self._seq = _complete_prefix(path)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            if os.fstat(self._file).st_size > self._size:
                os.ftruncate(self._file, self._size)
            _sync_folder(path.parent)
        except OSError as error:
            raise JournalError(f"cannot write the journal {path}: {error.strerror or error}") from error

    def append(self, kind: str, **fields: Any) -> Record:
        """Write one record and return it as written (redacted).

        Raises:
            JournalError: it could not be put on disk.
        """
        with self._lock:
            if self.failure is not None:
                raise self.failure
            record: Record = {
                "v": FORMAT,
                "seq": self._seq,
                "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "kind": kind,
                **self._redactor.data(fields),
            }
            line = (json.dumps(record, separators=(",", ":")) + "\n").encode()
            try:
                _write_all(self._file, line)
                _sync(self._file)
            except OSError as error:
                with contextlib.suppress(OSError):  # half a record is worse than none
                    os.ftruncate(self._file, self._size)
                self.failure = JournalError(f"cannot write the journal {self.path}: {error.strerror or error}")
                raise self.failure from error
            self._seq += 1
            self._size += len(line)
        self.publish(record)
        return record

    def publish(self, record: Record) -> None:
        """Show a record to the listeners without writing it (progress of a call)."""
        for listener in tuple(self._listeners):
            try:
                listener(record)
            except Exception:  # noqa: BLE001 - a display that fails must not decide about calls
                _log.exception("a journal listener failed and is no longer called")
                self._unsubscribe(listener)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every later record, in the thread that appends; returns the way to stop it.

        A listener that raises is not called again.
        """
        self._listeners.append(listener)
        return lambda: self._unsubscribe(listener)

    def _unsubscribe(self, listener: Listener) -> None:
        with contextlib.suppress(ValueError):  # it may be gone already
            self._listeners.remove(listener)

    def records(self) -> list[Record]:
        """Everything written so far."""
        return list(read_journal(self.path))

    def close(self) -> None:
        """Close the file; further appends fail."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


def read_journal(path: Path) -> Iterator[Record]:
    """The complete records of a journal file, oldest first.

    Raises:
        JournalError: a line that is not a record; names it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise JournalError(f"{path}: line {number} is not a record: {error}") from error


def _complete_prefix(path: Path) -> tuple[int, int]:
    """Length in bytes of the complete lines, and their number."""
    if not path.exists():
        return 0, 0
    content = path.read_bytes()
    kept = content.rfind(b"\n") + 1
    return kept, content[:kept].count(b"\n")


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_folder(folder: Path) -> None:
    """Put a new file's name on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
