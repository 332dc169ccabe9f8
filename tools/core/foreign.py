"""What comes from somebody else's server, made safe to hold, to show and to give to a model: bounded, and plain text.

Pure functions on text and JSON. What a server says of itself (annotations, effects) is not read here or anywhere.
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from tools.core.errors import shorten

MAX_DESCRIPTION_CHARS = 1_000
MAX_SCHEMA_BYTES = 16 * 1024
MAX_SCHEMA_DEPTH = 12
MAX_RESULT_BYTES = 8 * 2**20  # of one result; what is beyond the cap of any result goes to a file later
MAX_BLOCKS_BYTES = 256 * 1024
MAX_MESSAGE_CHARS = 300

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

# Characters that are taken for one another on a screen, in lower case.
_LOOK_ALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "2": "z"})


def skeleton(name: str) -> str:
    """What a name looks like: equal for names that people, or models, would take for one another."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    letters = "".join(char for char in plain if char.isalnum()).translate(_LOOK_ALIKE)
    return letters.replace("rn", "m").replace("vv", "w")


def clean_text(text: str, limit: int) -> str:
    """One line of what can be read: no control, escape, bidirectional or invisible characters; cut at `limit`."""
    plain = "".join(" " if char in "\n\r\t" else char for char in text[: limit * 4] if _is_shown(char))
    plain = " ".join(plain.split()) + ("…" if len(text) > limit * 4 else "")
    return shorten(plain, limit)


def _is_shown(char: str) -> bool:
    return char in "\n\r\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def clean_schema(schema: Any) -> dict[str, Any] | None:
    """An input schema with every text in it cleaned; None where it is too large or too deep to be one."""
    if not isinstance(schema, dict):
        return None
    try:
        if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
            return None
        cleaned = _cleaned(schema, 0)
    except (RecursionError, ValueError, TypeError):
        return None
    return cleaned if isinstance(cleaned, dict) else None


def _cleaned(value: Any, depth: int) -> Any:
    if depth > MAX_SCHEMA_DEPTH:
        raise ValueError("too deep")
    match value:
        case str():
            return clean_text(value, MAX_DESCRIPTION_CHARS)
        case dict():
            return {clean_text(str(key), 100): _cleaned(item, depth + 1) for key, item in value.items()}
        case list():
            return [_cleaned(item, depth + 1) for item in value]
        case _:
            return value


def cut(text: str, limit: int) -> str:
    """`text`, or its beginning and a sentence that says how long it was."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode("utf-8")
    kept = data[:limit].decode("utf-8", "ignore")
    return f"{kept}…\n[cut here: the server sent {len(data):,} bytes, of which {limit:,} are kept]"


def capped(structured: dict[str, Any] | None, limit: int) -> dict[str, Any] | None:
    """Structured content, or its JSON cut where it is longer than `limit` bytes."""
    if structured is None:
        return None
    try:
        text = json.dumps(structured, ensure_ascii=False)
    except (RecursionError, ValueError, TypeError):
        return {"text": "[the server sent a structure that is no JSON]"}
    return (
        structured
        if len(text) <= limit // 4 or len(text.encode("utf-8", "replace")) <= limit
        else {"text": cut(text, limit)}
    )


def kept_blocks(blocks: Iterable[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The first content blocks that together have at most `limit` bytes as JSON; a note says what was left out."""
    found: list[dict[str, Any]] = []
    left, dropped = limit, 0
    for block in blocks:
        left -= len(json.dumps(block, default=str))
        if left >= 0:
            found.append(block)
        else:
            dropped += 1
    if dropped:
        found.append(
            {"type": "text", "text": f"[{dropped} content blocks left out: together larger than {limit:,} bytes]"}
        )
    return found
