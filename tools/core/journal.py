"""The append-only record of a run: one JSON object a line, the intent on disk before the effect.

Format 1. Every record has `v`, `seq` (from 0, no gaps), `ts` (UTC, ISO 8601) and `kind`:

- `run_started`, `run_finished`: the goal, versions and seed; the outcome.
- `task_started`, `task_finished`, `task_skipped`: role, mode (`runbook` or `llm`), result, tokens, cost.
- `intent`, `outcome`: a call by `call_id`, before and after its effect.
- `approval_requested`, `approval_decided`: what a person was asked, and what they said.
- `guardrail`, `fallback`: a claim the evidence did not carry; a task finished by its runbook.

A journal cut by a crash stays readable: an incomplete last line is set aside when the file is opened or read.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.core.redact import Redactor

FORMAT = 1
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
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self._redactor = redactor
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept, self._seq = _complete_prefix(path)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            if kept is not None:
                os.ftruncate(self._file, kept)
        except OSError as error:
            raise JournalError(f"cannot write the journal {path}: {error.strerror or error}") from error

    def append(self, kind: str, **fields: Any) -> Record:
        """Write one record and return it as written (redacted).

        Raises:
            JournalError: it could not be put on disk.
        """
        with self._lock:
            record: Record = {
                "v": FORMAT,
                "seq": self._seq,
                "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "kind": kind,
                **self._redactor.data(fields),
            }
            line = json.dumps(record, separators=(",", ":"), default=str) + "\n"
            try:
                _write_all(self._file, line.encode())
                os.fdatasync(self._file)
            except OSError as error:
                raise JournalError(f"cannot write the journal {self.path}: {error.strerror or error}") from error
            self._seq += 1
        self.publish(record)
        return record

    def publish(self, record: Record) -> None:
        """Show a record to the listeners without writing it (progress of a call)."""
        for listener in tuple(self._listeners):
            listener(record)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every later record, in the thread that appends; returns the way to stop it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

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
    """The complete records of a journal file, oldest first."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)


def _complete_prefix(path: Path) -> tuple[int | None, int]:
    """Length in bytes of the complete lines (None if the file is new), and their number."""
    if not path.exists():
        return None, 0
    content = path.read_bytes()
    kept = content.rfind(b"\n") + 1
    return kept, content[:kept].count(b"\n")


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
