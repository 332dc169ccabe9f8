"""One error type per reader: whoever catches it knows what to do next without parsing text.

A backend raises these; the server kit turns them into a `ToolResult`; the gateway retries only `RetryableError`, and
only where the action allows it. Any other exception of a library is translated to `FinalError` at the server's
boundary (in words, redacted, truncated).
"""

import os
import pwd
from enum import StrEnum
from pathlib import Path


class ErrorKind(StrEnum):
    """Who can do something about a failure."""

    FIXABLE = "fixable"  # the caller: change the arguments and call again
    RETRY = "retry"  # nobody: wait, then the same call may work
    FINAL = "final"  # nobody now: the call will not work as it is
    DENIED = "denied"  # the policy forbids it
    NEEDS_PERSON = "needs_person"  # a person must decide or provide something


class ToolError(Exception):
    """Base of every error a tool reports.

    Args:
        message: one sentence: what was got, and what is valid.
        tried: what was tried or searched, when that helps the reader.
    """

    kind: ErrorKind = ErrorKind.FINAL

    def __init__(self, message: str, *, tried: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.tried = tried


class FixableError(ToolError):
    """The arguments are wrong; the message says what is valid."""

    kind = ErrorKind.FIXABLE


class RetryableError(ToolError):
    """A passing fault (a server restarting, a lock, a rate limit).

    Args:
        wait_s: seconds that the server asks to wait (Retry-After); None where it says nothing.
    """

    kind = ErrorKind.RETRY

    def __init__(self, message: str, *, tried: str | None = None, wait_s: float | None = None) -> None:
        super().__init__(message, tried=tried)
        self.wait_s = wait_s


class FinalError(ToolError):
    """The call cannot work as it is, and repeating it will not help."""

    kind = ErrorKind.FINAL


class DeniedError(ToolError):
    """The policy forbids the call."""

    kind = ErrorKind.DENIED


class NeedsPersonError(ToolError):
    """A person must decide, or provide a setting, a login or a file."""

    kind = ErrorKind.NEEDS_PERSON


class OutsideStoreError(NeedsPersonError):
    """A registered model's files lie outside the configured store; a person may let it be loaded.

    Args:
        model: its address, as it was to be loaded.
    """

    def __init__(self, message: str, *, model: str, tried: str | None = None) -> None:
        super().__init__(message, tried=tried)
        self.model = model


class UnknownOutcomeError(ToolError):
    """A write whose outcome could not be learned: read back before any retry."""

    kind = ErrorKind.FINAL


class NoDataError(ToolError):
    """There was nothing to return; `tried` says where it was looked for. Not a failure."""

    kind = ErrorKind.FINAL

    def __init__(self, message: str, *, tried: str) -> None:
        super().__init__(message, tried=tried)


class MissingDependencyError(ToolError):
    """A library that the integration needs is not installed; the message holds the install command."""

    kind = ErrorKind.NEEDS_PERSON


class CallCancelled(BaseException):
    """Raised inside a backend (by `CallContext.progress`) when the run is being stopped.

    A `BaseException`, so that no `except Exception` of a library on the way swallows it.
    """


# What a program raises where it is wrong itself; anything else tells of the world.
BUGS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError)


def in_words(error: BaseException) -> str:
    """An exception of a library in one line for people: the file and the reason, or its own words.

    Only where it is a fault of the program its type is named, which a report of it needs.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}{_whose(error)}" if error.filename else error.strerror
    if isinstance(error, BUGS):
        return f"a fault of the program ({type(error).__name__}: {text})"
    return text or "no reason was given"


def _whose(error: OSError) -> str:
    """Whose the file or the first folder above it is that can be seen, where that is why it may not be used."""
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str):
        return ""
    for place in (Path(error.filename), *Path(error.filename).absolute().parents):
        try:
            owner = place.stat().st_uid
        except OSError:
            continue
        me = os.geteuid()
        return "" if owner == me else f" ({place} belongs to {_user(owner)}, and you are {_user(me)})"
    return ""


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def short(value: object, limit: int = 120) -> str:
    """`repr(value)`, shortened."""
    return shorten(repr(value), limit)


def shorten(text: str, limit: int) -> str:
    """`text`, at most `limit` characters of it; the "…" of a cut also tells redaction where half a secret may be."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
