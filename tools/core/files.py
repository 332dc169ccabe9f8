"""Files that are written whole or not at all, and files that are their owner's alone."""

import json
import os
import stat
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PRIVATE_FOLDER = 0o700


def private_folder(path: Path) -> Path:
    """A folder that only this user can enter, made if it is not there; its parents too."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    return path


@contextmanager
def opened_folder(path: Path) -> Generator[int]:
    """A handle of a folder to open its files by (`dir_fd`), made (0700) if need be.

    Raises:
        OSError: it cannot be made, or a link or a file is in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Generator[Path]:
    """A file beside `path` to write to: it takes the place of `path` where the block ends well, and is removed else.

    Args:
        durable: on the disk before it takes the place, so that a power cut leaves the old or the new one.

    Raises:
        OSError: the disk is full or the folder is not writable; what was there is untouched, nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield draft
        if durable:
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write UTF-8, as `replacing` does."""
    with replacing(path, durable=durable) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, *, indent: int | None = None, durable: bool = False) -> None:
    """Write JSON, as `replacing` does."""
    write_text(path, json.dumps(content, indent=indent), durable=durable)


def _opener(path: str, flags: int) -> int:
    """Opens for the owner alone. A link is refused: what is behind it is somebody else's choice."""
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if flags & os.O_ACCMODE != os.O_RDONLY:
        try:
            if stat.S_IMODE(os.fstat(handle).st_mode) & 0o077:
                os.fchmod(handle, 0o600)
        except OSError:
            os.close(handle)
            raise
    return handle


def open_private(path: Path) -> IO[bytes]:
    """Open a file to append to, readable by its owner only; it is made where there is none.

    Raises:
        OSError: it is a link, or cannot be written.
    """
    return open(path, "ab", opener=_opener)


def read_private(path: Path) -> str:
    """The text of a file. Raises `OSError`, also where it is a link."""
    with open(path, encoding="utf-8", opener=_opener) as file:
        return file.read()


def write_private(path: Path, text: str) -> None:
    """Write UTF-8 durably, as `replacing` does, readable by its owner only. A link in its place is replaced.

    Raises:
        OSError: it could not be written; what was there is untouched.
    """
    with replacing(path, durable=True) as draft:
        draft.unlink(missing_ok=True)
        with open(draft, "x", encoding="utf-8", opener=_opener) as file:
            file.write(text)
