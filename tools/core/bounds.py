"""How large, how deep and of which types the arguments and results of a call may be. Checked before anything else.

Whatever a model or a client sends is walked once, without recursion and without `repr`: a deep structure, an integer of
thousands of digits or half a character cannot stop the check that is to refuse it.
"""

import contextlib
import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any, Literal, TypedDict

from tools.core.errors import FixableError
from tools.core.files import opened_folder

MAX_DEPTH = 32
MAX_BYTES = 1 << 20
MAX_STRING_BYTES = 256 << 10
MAX_RESULT_BYTES = 256 << 10
MIN_INTEGER, MAX_INTEGER = -(1 << 63), (1 << 63) - 1

RECORDED_STRING = 4 << 10  # of refused arguments: characters of one text
RECORDED_ITEMS = 100  # of one list or mapping
RECORDED_BYTES = 64 << 10  # of all of them
KEPT_FIELD = 1 << 10  # of a spilled result: bytes of a field that stays
KEPT_BYTES = 8 << 10

_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_JSON_TYPES = "text, numbers, true, false, null, lists and objects with text as keys"


def check_arguments(value: Any) -> None:
    """Check that `value` is JSON of a bearable size.

    Raises:
        FixableError: deeper than 32 levels, larger than 1 MiB as JSON, a text of more than 256 KiB or with half a
            character (a lone surrogate), an integer of more than 64 bits, NaN or infinity, or what JSON does not have.
            Says where.
    """
    left = MAX_BYTES
    open_: list[tuple[Any, str, int]] = [(value, "", 0)]
    while open_:
        item, where, depth = open_.pop()
        if isinstance(item, str):
            left -= _text_bytes(item, where) + 2
        elif item is None or isinstance(item, bool):
            left -= 4
        elif isinstance(item, int):
            if not MIN_INTEGER <= item <= MAX_INTEGER:
                raise FixableError(f"{where or 'the value'}: an integer of {_digits(item)}; at most 64 bits are taken")
            left -= 8
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise FixableError(f"{where or 'the value'}: {float(item)} is not a number that JSON has")
            left -= 8
        elif isinstance(item, dict | list | tuple):
            if depth >= MAX_DEPTH:
                raise FixableError(f"{where}: nested deeper than {MAX_DEPTH} levels")
            left -= 2 + len(item)
            if left < 0:
                break
            for key, part in item.items() if isinstance(item, dict) else enumerate(item):
                if isinstance(item, dict):
                    if not isinstance(key, str):
                        raise FixableError(
                            f"{where or 'the arguments'}: a key is {type(key).__name__}, not text; valid: {_JSON_TYPES}"
                        )
                    left -= _text_bytes(key, where) + 3
                open_.append((part, f"{where}.{_name(key)}"[-160:] if where else _name(key), depth + 1))
        else:
            raise FixableError(f"{where or 'the value'}: got {type(item).__name__}; valid: {_JSON_TYPES}")
        if left < 0:
            break
    if left < 0:
        raise FixableError(
            f"the arguments are larger than {MAX_BYTES >> 20} MiB; pass a file's path instead of its rows"
        )


def parse_json(text: str) -> Any:
    """The value of a JSON text that came from outside, checked as `check_arguments` does.

    Raises:
        FixableError: it is no JSON, or one that `check_arguments` refuses.
    """
    _text_bytes(text, "the JSON text")
    try:
        value = json.loads(text)
    except RecursionError:
        raise FixableError(f"the JSON text is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise FixableError(f"not JSON: {error.msg} at character {error.pos}") from None
    except ValueError:  # Python refuses to read an integer of thousands of digits
        raise FixableError("the JSON text holds an integer of thousands of digits; at most 64 bits are taken") from None
    check_arguments(value)
    return value


def read_json(text: str) -> Any:
    """`parse_json` for a validator of arguments. Raises `ValueError`, which becomes the error of that argument."""
    try:
        return parse_json(text)
    except FixableError as error:
        raise ValueError(error.message) from error


def recordable(value: Any) -> Any:
    """A bounded copy of anything, as JSON, for the journal: at most about 64 KiB, whatever `value` is. Never raises.

    What is too large is replaced by a text that states its size and SHA-256. No part of a long text is kept:
    the half of a secret would not be known for one.
    """
    return _Recorder().copy(value, 0)


class _Recorder:
    def __init__(self) -> None:
        self.left = RECORDED_BYTES

    def copy(self, value: Any, depth: int) -> Any:
        """Recursion is bounded by `MAX_DEPTH`."""
        if self.left <= 0:
            return "[left out: the arguments are too large]"
        self.left -= 8
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if MIN_INTEGER <= value <= MAX_INTEGER else f"[an integer of {_digits(value)}]"
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else f"[{float(value)}]"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes | bytearray):
            return f"[{len(value):,} bytes, sha256 {hashlib.sha256(value).hexdigest()}]"
        if not isinstance(value, dict | list | tuple):
            return f"[not JSON: {self.text(type(value).__name__)}]"
        if depth >= MAX_DEPTH:
            return f"[left out: deeper than {MAX_DEPTH} levels]"
        more = len(value) - RECORDED_ITEMS
        if not isinstance(value, dict):
            copied = [self.copy(item, depth + 1) for item in value[:RECORDED_ITEMS]]
            return [*copied, f"[{more:,} more]"] if more > 0 else copied
        kept: dict[str, Any] = {}
        for key, item in value.items():
            if len(kept) == RECORDED_ITEMS:
                kept["[more]"] = f"{more:,} more keys"
                break
            kept[self.text(key) if isinstance(key, str) else f"[key: {type(key).__name__}]"] = self.copy(
                item, depth + 1
            )
        return kept

    def text(self, value: str) -> str:
        whole = value.encode("utf-8", "backslashreplace")  # half a character is shown as its number
        if len(whole) > min(RECORDED_STRING, self.left):
            return f"[text of {len(value):,} characters, sha256 {hashlib.sha256(whole).hexdigest()}]"
        self.left -= len(whole)
        return whole.decode()


class Spilled(TypedDict):
    """What stays of a result that was too large: where the rest is, and those of its fields that are small."""

    spilled: Literal[True]
    file: str  # beside the journal: `<folder's name>/<file>`
    bytes: int
    sha256: str
    kept: dict[str, Any]
    left_out: list[str]  # names of the fields that are only in the file


def spill(data: dict[str, Any], folder: Path, call_id: str, cap: int = MAX_RESULT_BYTES) -> dict[str, Any] | Spilled:
    """`data` itself where its JSON is within `cap` bytes; else it is written to a file, and what says so is returned.

    Args:
        data: a result as JSON, redacted: it is written as it is.
        folder: made if need be (0700); the file is `CALL_ID-<first 12 of its SHA-256>.json` (0600).

    Raises:
        OSError: it cannot be written, or the folder is a link.
    """
    if not _CALL_ID.fullmatch(call_id):
        raise ValueError(f"not a call's id: {call_id[:80]!r}")
    content = json.dumps(data, separators=(",", ":")).encode()
    if len(content) <= cap:
        return data
    digest = hashlib.sha256(content).hexdigest()
    name = f"{call_id}-{digest[:12]}.json"
    with opened_folder(folder) as handle:
        with contextlib.suppress(FileNotFoundError):  # of the same call, or planted; never written through
            os.unlink(name, dir_fd=handle)
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=handle)
        with open(file, "wb") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
        os.fsync(handle)
    kept: dict[str, Any] = {}
    left = KEPT_BYTES
    for key, item in data.items():
        size = len(json.dumps({key: item}))
        if size <= min(KEPT_FIELD, left):
            kept[key] = item
            left -= size
    return Spilled(
        spilled=True,
        file=f"{folder.name}/{name}",
        bytes=len(content),
        sha256=digest,
        kept=kept,
        left_out=[_name(key) for key in data if key not in kept][:RECORDED_ITEMS],
    )


def _text_bytes(text: str, where: str) -> int:
    """Bytes in UTF-8. Raises `FixableError` for too long a text, and for half a character."""
    if len(text) > MAX_STRING_BYTES:
        raise FixableError(f"{where or 'the value'}: a text of {len(text):,} characters; at most 256 KiB are taken")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise FixableError(
            f"{where or 'the value'}: half a character (a lone surrogate) at position {error.start}; send whole ones"
        ) from None
    if size > MAX_STRING_BYTES:
        raise FixableError(f"{where or 'the value'}: a text of {size:,} bytes; at most 256 KiB are taken")
    return size


def _digits(value: int) -> str:
    """Without writing the integer out, which Python refuses beyond 4,300 digits."""
    return f"about {max(1, round(value.bit_length() * 0.30103)):,} digits"


def _name(key: Any) -> str:
    """A key or an index as part of a place's name, short and printable."""
    text = str(key) if isinstance(key, str | int) else "?"
    text = text if len(text) <= 40 else text[:39] + "…"
    return "".join(char if char.isprintable() else "?" for char in text)
