"""A folder that only this user may open, and files in it that appear whole, once, and without following links.

Everything is opened relative to a handle of the folder, so that nobody can put another folder in its place between the
look and the use.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Generator
from pathlib import Path

from tools.core.errors import NeedsPersonError

LOCK_WAIT_S = 10.0
MAX_BYTES = 4_000_000
_OTHERS = 0o077  # of a mode: what others than the owner may do
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


class UnsafeFolderError(NeedsPersonError):
    """The folder or a file in it cannot be trusted as it lies there; the message says what a person must do."""


class OpenFolder:
    """The folder while it is open. Names are plain file names; anything else is not there."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    def names(self, ending: str) -> list[str]:
        """The files whose name ends so, without the ending."""
        return sorted(n.removesuffix(ending) for n in os.listdir(self._handle) if n.endswith(ending) and _NAME.match(n))

    def exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._handle, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes | None:
        """The file's bytes; None where there is none.

        Raises:
            UnsafeFolderError: it is a link, is not ours, may be opened by others, or is too long.
        """
        if not _NAME.fullmatch(name):
            return None
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._handle)
        except FileNotFoundError:
            return None
        except OSError as error:
            why = "it is a link" if error.errno == errno.ELOOP else error.strerror or str(error)
            raise UnsafeFolderError(f"cannot read {self._path / name}: {why}") from error
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise UnsafeFolderError(f"{self._path / name} is no plain file of its own (a link, a pipe)")
            _ours(found, self._path / name, "chmod 600")
            if found.st_size > MAX_BYTES:
                raise UnsafeFolderError(f"{self._path / name} is longer than {MAX_BYTES:,} bytes")
            with open(file, "rb", closefd=False) as reader:
                return reader.read(MAX_BYTES)
        finally:
            os.close(file)

    def write(self, name: str, content: bytes) -> None:
        """Make the file appear with its whole content, in the place of what is there."""
        draft = f".{secrets.token_hex(8)}.part"
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self._handle)
        try:
            with open(file, "wb") as writer:
                writer.write(content)
                writer.flush()
                os.fsync(writer.fileno())
            os.rename(draft, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except BaseException:  # whatever ends the write, Ctrl-C too: no draft is left behind
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=self._handle)
            raise
        os.fsync(self._handle)

    def claim(self, name: str) -> bool:
        """Make an empty file, unless it is there: of all that try, one gets True."""
        if not _NAME.fullmatch(name):
            return False
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600, dir_fd=self._handle))
        except FileExistsError:
            return False
        os.fsync(self._handle)
        return True

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._handle)


@contextlib.contextmanager
def opened(path: Path, *, make: bool = False, alone: bool = False) -> Generator[OpenFolder | None]:
    """The folder, checked; None where there is none and it is not to be made.

    Args:
        make: make it, with mode 0700.
        alone: wait until no other process holds it so.

    Raises:
        UnsafeFolderError: a link, somebody else's, or open to others; or another program never lets go of it.
        OSError: it cannot be made or read.
    """
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UnsafeFolderError(f"{path} is a link or a file; it must be a folder of its own") from error
        raise
    try:
        _ours(os.fstat(handle), path, "chmod 700")
        if alone:
            _lock(handle, path)
        yield OpenFolder(path, handle)
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    end = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise UnsafeFolderError(f"another program holds {path} and does not let go of it") from None
            time.sleep(0.01)


def _ours(found: os.stat_result, path: Path, remedy: str) -> None:
    if found.st_uid != os.geteuid():
        raise UnsafeFolderError(f"{path} belongs to another user (uid {found.st_uid}); remove it or run as that user")
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        raise UnsafeFolderError(f"{path} may be opened by other users; look at what is in it, then: {remedy} {path}")
