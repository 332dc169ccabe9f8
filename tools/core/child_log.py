"""The output of a process of others, cleaned before a byte of it reaches the disk."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

MAX_LINE_BYTES = 1 << 16
MAX_LOG_BYTES = 64 << 20
DRAIN_TIMEOUT_S = 5.0


class CleanLog:
    """A file that a child writes to through a pipe: line by line, each cleaned, readable by this user alone.

    Use as a context manager around the child's life. Beyond `MAX_LOG_BYTES` the output is read and dropped.

    Args:
        path: replaced.
        clean: takes the secrets out of a line.
    """

    def __init__(self, path: Path, clean: Callable[[str], str]) -> None:
        self.path = path
        self._clean = clean

    def __enter__(self) -> "CleanLog":
        self._read_end, self.write_end = os.pipe()
        self.path.unlink(missing_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._thread = threading.Thread(target=self._copy, name="child-log", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self.write_end)
        # Something the child left behind may hold the pipe open; nobody waits for that.
        self._thread.join(DRAIN_TIMEOUT_S)

    def _copy(self) -> None:
        written, rest = 0, b""
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, self._file)
            closing.callback(os.close, self._read_end)
            while chunk := os.read(self._read_end, MAX_LINE_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                if lines and written < MAX_LOG_BYTES:
                    written += self._write(lines)
            if rest and written < MAX_LOG_BYTES:
                self._write([rest])

    def _write(self, lines: list[bytes]) -> int:
        text = "".join(f"{self._clean(line.decode('utf-8', 'replace'))}\n" for line in lines)
        return os.write(self._file, text.encode())
