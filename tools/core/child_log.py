"""The output of a process of others, cleaned before a byte of it reaches the disk."""

import contextlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

MAX_LINE_BYTES = 1 << 16
MAX_LOG_BYTES = 64 << 20
DRAIN_TIMEOUT_S = 5.0
MAX_KEY_LINES = 300  # of one private key; after that many, what is said is taken for something else

_BEGIN = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY")
_END = re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")


class CleanLog:
    """A file that a child writes to through a pipe: line by line, each cleaned, readable by this user alone.

    The lines of a private key are left out, from the one it begins in to the one it ends in. Use as a context
    manager around the child's life. Beyond `MAX_LOG_BYTES` the output is read and dropped.

    Args:
        path: replaced.
        clean: takes the secrets out of a line.
    """

    def __init__(self, path: Path, clean: Callable[[str], str]) -> None:
        self.path = path
        self._key_lines = 0  # that the private key under way may still have
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
        said = [self._without_key(line.decode("utf-8", "replace")) for line in lines]
        return os.write(self._file, "".join(f"{self._clean(line)}\n" for line in said if line is not None).encode())

    def _without_key(self, line: str) -> str | None:
        """A line, or what of it follows the private key that an earlier line began; None where all of it is the key."""
        if self._key_lines:
            end = _END.search(line)
            self._key_lines = 0 if end else self._key_lines - 1
            if end is None or not line[end.end() :].strip():
                return None
            line = line[end.end() :]
        begun = list(_BEGIN.finditer(line))
        if begun and not _END.search(line, begun[-1].end()):
            self._key_lines = MAX_KEY_LINES
        return line
