"""The append-only record of a run: one JSON object a line, each tied to the last, the intent on disk before the effect.

Format 2. Every record has `v`, `seq` (from 0, no gaps), `ts` (UTC, ISO 8601) and `kind`, and at its end `hash` and
`mac`, which tie it to the record before and to the key of this user (`chain.py`):

- `run_started`, `run_finished`: the goal, versions and seed; the outcome.
- `task_started`, `task_finished`, `task_skipped`: role, mode (`runbook` or `llm`), result, tokens, cost.
- `intent`, `outcome`: a call by `call_id`, before and after its effect.
- `approval_requested`, `approval_decided`: what a person was asked, and what they said.
- `guardrail`, `fallback`: a claim the evidence did not carry; a task finished by its runbook.

Format 1 is the same without `hash` and `mac`. It stays readable; where one is continued, what was there is sealed as a
whole by the first new record.

A journal cut by a crash stays readable: an incomplete last line is set aside when the file is opened or read. One that
was changed after it was written is read, and not continued.
"""

import contextlib
import fcntl
import json
import logging
import os
import stat
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.core.audit import Audit, Problem, audit_journal, verify_journal
from tools.core.chain import FORMAT, KEY_NAME, HeadPlaces, HeadWriter, is_plain, run_label, seal
from tools.core.errors import ToolError
from tools.core.files import opened_folder
from tools.core.keys import signing_key
from tools.core.redact import Redactor

__all__ = ["Journal", "JournalError", "Listener", "Problem", "Record", "read_journal", "verify_journal"]

RESERVED = frozenset({"v", "seq", "ts", "kind", "hash", "mac"})
_log = logging.getLogger(__name__)
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
Record = dict[str, Any]
Listener = Callable[[Record], None]


class JournalError(Exception):
    """The journal cannot be written (disk full, no permission): nothing further may be done."""


class _Tail:
    """Where a journal that is open for writing ends: the files, and what the next record follows."""

    def __init__(self, file: int, heads: HeadWriter, audit: Audit, size: int) -> None:
        self.file, self.heads, self.size = file, heads, size
        self.seq, self.hash = audit.last
        self.owner = os.getpid()
        self.failed = False
        self.lock = threading.Lock()

    def close(self) -> None:
        """State the end in the heads and let the files go. Safe to call twice, and in a forked child."""
        with self.lock:
            if self.file < 0 or os.getpid() != self.owner:
                return
            with contextlib.suppress(OSError):  # the records are on disk; without it the end is that of a crash
                if not self.failed:
                    self.heads.write(self.seq, self.hash, self.size, closed=True, durable=True)
            self.heads.close()
            os.close(self.file)  # which gives the lock back
            self.file = -1


class Journal:
    """Appends records of one run, each on disk (fsync) before `append` returns. Thread-safe.

    While it is open no other process, and no other object, can open it for writing. It ends with `close`, or with its
    process; without either (a kill) it stays readable and can be continued.

    Args:
        path: the file; its folder is created. Neither may be a link. Both become private to the user.
        redactor: applied to every record before it is written or shown to a listener.
        env: says where the signing key is (`keys.py`); the process's environment by default.
        apart_from: folders that must not hold the key; the journal's own never may.

    Raises:
        JournalError: the file cannot be created or read; another process writes it; it was changed after it was
            written; there is no key to sign with.

    After a failed write every later append fails too (`failure`): what happened since could not be told from it.
    """

    def __init__(
        self,
        path: Path,
        redactor: Redactor,
        *,
        env: Mapping[str, str] | None = None,
        apart_from: Iterable[Path] = (),
    ) -> None:
        env = os.environ if env is None else env
        self.path = path
        self._redactor = redactor
        self._listeners: list[Listener] = []
        self.failure: JournalError | None = None
        try:
            self._key = signing_key(KEY_NAME, env, apart_from=[path.parent, *apart_from])
            self._tail = _open(path, env, self._key)
        except ToolError as error:
            raise JournalError(f"cannot write the journal {path}: {error.message}") from error
        except OSError as error:
            raise JournalError(f"cannot write the journal {path}: {error.strerror or error}") from error
        self._finalizer = weakref.finalize(self, self._tail.close)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, kind: str, **fields: Any) -> Record:
        """Write one record and return it as written (redacted).

        Raises:
            JournalError: it could not be put on disk.
            ValueError: a field has a name that every record has.
        """
        if not RESERVED.isdisjoint(fields):
            raise ValueError(f"fields of the journal itself: {', '.join(sorted(RESERVED & fields.keys()))}")
        clean = self._redactor.data(fields)
        tail = self._tail
        with tail.lock:
            if self.failure is not None:
                raise self.failure
            record: Record = {
                "v": FORMAT,
                "seq": tail.seq + 1,
                "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "kind": kind,
                **clean,
            }
            body = json.dumps(record, separators=(",", ":")).encode()
            line, record["hash"], record["mac"] = seal(body, tail.hash, self._key)
            try:
                _write_all(tail.file, line)
                _sync(tail.file)
            except OSError as error:
                with contextlib.suppress(OSError):  # half a record is worse than none
                    os.ftruncate(tail.file, tail.size)
                raise self._fail(error) from error
            tail.seq, tail.hash, tail.size = tail.seq + 1, record["hash"], tail.size + len(line)
            try:  # only now: a head that is ahead of the journal would say that a record was taken away
                tail.heads.write(tail.seq, tail.hash, tail.size)
            except OSError as error:
                raise self._fail(error) from error
        self.publish(record)
        return record

    def _fail(self, error: OSError) -> JournalError:
        self._tail.failed = True
        self.failure = JournalError(f"cannot write the journal {self.path}: {error.strerror or error}")
        return self.failure

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
        self._finalizer()


def read_journal(path: Path) -> Iterator[Record]:
    """The complete records of a journal file, oldest first. Whether they are what was written, `verify_journal` says.

    Raises:
        JournalError: a line that is not a record; names it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise JournalError(f"{path}: line {number} is not a record: {error}") from error
            if not isinstance(record, dict):
                raise JournalError(f"{path}: line {number} is not a record: it is no object")
            if isinstance(record.get("v"), int) and record["v"] > FORMAT:
                raise JournalError(
                    f"{path}: format {record['v']} is newer than this program, which reads 1 to {FORMAT}"
                )
            yield record


def _open(path: Path, env: Mapping[str, str], key: bytes) -> _Tail:
    """Open, lock and check a journal, and set an incomplete last line aside.

    Raises:
        OSError: it cannot be opened, or is a link.
        JournalError: another process writes it, or it was changed.
    """
    _private_folders(path.parent)
    with opened_folder(path.parent) as folder:
        _make_private(folder, 0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.open(path.name, flags, 0o600, dir_fd=folder)
        try:
            if not is_plain(os.fstat(file)):
                raise JournalError(
                    f"cannot write the journal {path}: it is not a plain file of its own (a link, a pipe)"
                )
            _make_private(file, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JournalError(
                    f"the journal {path} is being written by another process; wait for it to end, or stop it first"
                ) from None
            audit = audit_journal(path, env)
            if audit.problems:
                raise JournalError(
                    f"the journal {path} is not as it was written: {audit.problems[0].message}. It is not continued; "
                    f"mlops-crew audit verify {path.parent.name} tells all that is wrong"
                )
            size = _complete_bytes(path)
            if os.fstat(file).st_size > size:
                os.ftruncate(file, size)
            heads = HeadWriter(HeadPlaces.of(path, env), run_label(path), key)
            try:
                heads.write(*audit.last, size, durable=True)
                os.fsync(folder)
            except OSError:
                heads.close()
                raise
            return _Tail(file, heads, audit, size)
        except BaseException:  # whatever it is: no handle is left open
            os.close(file)
            raise


def _private_folders(folder: Path) -> None:
    """Make the folders that are missing, each for the user alone."""
    for missing in reversed([f for f in (folder, *folder.parents) if not f.exists() and not f.is_symlink()]):
        with contextlib.suppress(FileExistsError):
            missing.mkdir(mode=0o700)


def _make_private(handle: int, mode: int) -> None:
    """Take what others may do with a file of ours."""
    found = os.fstat(handle)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
        os.fchmod(handle, mode)


def _complete_bytes(path: Path) -> int:
    """Length in bytes of the complete lines."""
    return path.read_bytes().rfind(b"\n") + 1


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
