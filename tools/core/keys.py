"""Keys that sign evidence: journals' heads, approvals. They lie outside the project and outside its state folder.

Whoever can write journals and approvals (a tool that went wrong, a copied state folder) cannot sign them: the keys are
files of the user's own, in a folder that only the user may open, and no setting or result ever holds one.

The folder is `MLOPS_KEYS`, else `$XDG_STATE_HOME/mlops-crew`, else `~/.local/state/mlops-crew`. A key is made at its
first use and never replaced: what it signed could not be verified any more.
"""

import contextlib
import errno
import fcntl
import hmac
import os
import re
import secrets
import stat
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path

from tools.core.errors import NeedsPersonError

SETTING = "MLOPS_KEYS"
KEY_BYTES = 32
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_PRIVATE = 0o077  # of a mode: what others than the owner may do


class KeyFileError(NeedsPersonError):
    """A key cannot be used as it lies there; the message says what a person must do."""


def keys_folder(env: Mapping[str, str]) -> Path:
    """Where the keys lie. Pure: nothing is made or read.

    Raises:
        KeyFileError: `MLOPS_KEYS` is not an absolute path.
    """
    configured = env.get(SETTING)
    if configured:
        folder = Path(configured).expanduser()
        if not folder.is_absolute():
            raise KeyFileError(f"{SETTING} must be an absolute path, got {configured!r}")
        return folder
    state = env.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):  # the standard has a relative one ignored
        return Path(state) / "mlops-crew"
    home = env.get("HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home()) / ".local" / "state" / "mlops-crew"


def signing_key(name: str, env: Mapping[str, str], *, apart_from: Iterable[Path] = (), make: bool = True) -> bytes:
    """The key `name` (32 bytes); made where there is none yet. Safe to call from several processes at once.

    Args:
        name: lower-case letters, digits, `-` and `_`; what it signs, for example `journal`.
        env: says where the folder is, see `keys_folder`.
        apart_from: folders that must not hold the keys: the project, its state folder.
        make: False to verify only: nothing is made, neither folder nor key.

    Raises:
        KeyFileError: the folder or the file is a link, belongs to somebody else, may be opened by others, is damaged,
            cannot be made, lies in one of `apart_from`, or is not there and not to be made.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a key's name: {name!r}")
    folder = keys_folder(env)
    for other in apart_from:
        if folder.resolve().is_relative_to(other.resolve()):
            raise KeyFileError(
                f"the keys' folder {folder} lies inside {other}, where what it signs is written; "
                f"set {SETTING} to a folder outside"
            )
    file = f"{name}.key"
    if not make and not (folder / file).exists():
        raise KeyFileError(f"there is no key {folder / file}; {SETTING} says where the keys are")
    with _opened(folder) as handle:
        try:
            return _read(handle, folder / file)
        except FileNotFoundError:
            pass
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # of two processes that find none, one makes it
            with contextlib.suppress(FileNotFoundError):
                return _read(handle, folder / file)
            _make(handle, file)
            return _read(handle, folder / file)
        except OSError as error:
            raise KeyFileError(f"cannot make the key {folder / file}: {error.strerror or error}") from error


def sign(key: bytes, payload: bytes) -> str:
    """HMAC-SHA256 of `payload`, as 64 hexadecimal digits."""
    return hmac.digest(key, payload, "sha256").hex()


def verify(key: bytes, payload: bytes, signature: str) -> bool:
    """Whether `signature` is that of `payload` under `key`. Takes the same time for every wrong one."""
    return hmac.compare_digest(sign(key, payload).encode(), signature.encode("utf-8", "replace"))


@contextlib.contextmanager
def _opened(folder: Path) -> Generator[int]:
    """A handle of the folder, made if need be, once it is sure that it is ours alone."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise KeyFileError(f"the keys' folder {folder} is a link or a file; it must be a folder") from error
        raise KeyFileError(
            f"cannot open the keys' folder {folder}: {error.strerror or error}; set {SETTING} to another one"
        ) from error
    try:
        _ours(os.fstat(handle), folder, "chmod 700")
        yield handle
    finally:
        os.close(handle)


def _read(handle: int, path: Path) -> bytes:
    """The key's bytes. Raises `FileNotFoundError` where there is none."""
    try:
        file = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise KeyFileError(f"cannot read the key {path}: {reason}") from error
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise KeyFileError(f"the key {path} is no plain file of its own (a link, a pipe); remove it")
        _ours(found, path, "chmod 600")
        key = os.read(file, KEY_BYTES + 1)
    finally:
        os.close(file)
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"the key {path} is damaged: {KEY_BYTES} bytes are expected; restore it from a backup")
    return key


def _make(handle: int, name: str) -> None:
    """Write a new key beside its place and move it there: nobody ever reads half of one."""
    draft = f".{name}.part"
    with contextlib.suppress(FileNotFoundError):  # of a process that was killed; the lock is ours
        os.unlink(draft, dir_fd=handle)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=handle)
    try:
        os.write(file, secrets.token_bytes(KEY_BYTES))
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(draft, name, src_dir_fd=handle, dst_dir_fd=handle)
    os.fsync(handle)


def _ours(found: os.stat_result, path: Path, remedy: str) -> None:
    if found.st_uid != os.geteuid():
        raise KeyFileError(f"{path} belongs to another user (uid {found.st_uid}); set {SETTING} to a folder of yours")
    if stat.S_IMODE(found.st_mode) & _PRIVATE:
        raise KeyFileError(f"{path} may be opened by other users; close it with: {remedy} {path}")
