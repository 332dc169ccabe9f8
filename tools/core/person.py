"""Which person acts here, as the operating system knows it: never what an environment variable claims."""

import os
import pwd
from pathlib import Path

_NO_LOGIN = 2**32 - 1  # what the kernel says of a process that nobody's login began


def person() -> str:
    """The name of the user that this process runs as, and who is behind it where that is another: `root (ann)`."""
    uid = os.getuid()
    behind = _behind(uid)
    return _name(uid) if behind is None else f"{_name(uid)} ({_name(behind)})"


def _behind(uid: int) -> int | None:
    """Who logged in, or called sudo, if it is another than `uid`."""
    try:
        login = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):  # not Linux, or no audit in the kernel
        login = _NO_LOGIN
    if login not in (_NO_LOGIN, uid):
        return login
    # Whoever is root may say what they like anyway; from anybody else the variable proves nothing.
    called = os.environ.get("SUDO_UID", "")
    if uid == 0 and called.isascii() and called.isdigit() and int(called) != uid:
        return int(called)
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):  # a container's user may have no name
        return f"uid {uid}"
