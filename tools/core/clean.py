"""Text from outside as a person may be shown it: the one cleaner of terminal, HTML and notebooks.

Column names, categories, model names, reasons, goals and whatever a server says are other people's text. What could
repaint a terminal, reorder or hide words, or be read as something else becomes the mark � where it stood; the rest
stays as it is. Nothing is ever dropped without a mark, so a cleaned text cannot hide that there was something.

Pure. Never decides about a call, and never changes what is journalled, signed or sent.
"""

import hashlib
import json
import re
import unicodedata
from typing import Any

MARK = "\N{REPLACEMENT CHARACTER}"
MOST_MARKS = 4  # combining marks on one letter; no living script needs more, a flood covers the lines around it
_HASH_DIGITS = 12

# Letters and marks that show as nothing, or far wider than their one cell; their categories do not tell.
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
_WIDE = "\u2e3a\u2e3b\ua9c5\ufdfa\ufdfb\ufdfd\U00012031\U000120b0\U000121bb\U000122b4\U00012429\U0001242b"
_ODD = frozenset(_BLANK + _WIDE)
_PLAIN = re.compile(r"[ -~]*\Z")
_PLAIN_LINES = re.compile(r"[ -~\n]*\Z")
_SPACES = re.compile(r"[ \t]{2,}")


def clean_text(text: str) -> str:
    """Text of several lines, clean. Tabs are spaces; `\\r\\n` and a lone `\\r` do not survive as such."""
    if _PLAIN_LINES.match(text):
        return text
    return "\n".join(_clean(line) for line in text.replace("\r\n", "\n").split("\n"))


def clean_line(text: object) -> str:
    """One line, clean; line breaks and runs of blanks become one blank."""
    line = str(text)
    if not _PLAIN.match(line):
        line = " ".join(_clean(part) for part in line.replace("\r\n", "\n").split("\n"))
    return _SPACES.sub(" ", line).strip()


def clean_data(value: Any) -> Any:
    """JSON-like data with every text in it clean, keys included."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_line(key): clean_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_data(item) for item in value]
    return value


def columns(text: str) -> int:
    """Cells that a clean line takes in a terminal: two for wide letters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def cut(text: str, width: int) -> str:
    """The start of a clean line in at most `width` cells; what is cut ends in `…`."""
    if columns(text) <= width:
        return text
    kept, used = "", 0
    for char in text:
        used += _cells(char)
        if used > width - 1:
            break
        kept += char
    return kept.rstrip() + "…" if width > 0 else ""


def wrap(text: str, width: int) -> list[str]:
    """A clean line as lines of at most `width` cells, broken between words where it can be; at least one."""
    lines: list[str] = []
    current = ""
    for word in text.split(" "):
        joined = f"{current} {word}" if current else word
        if columns(joined) <= width:
            current = joined
            continue
        if current:
            lines.append(current)
        while columns(word) > width:  # a word that is longer than a line
            head = _head(word, max(width, 2))
            lines.append(head)
            word = word[len(head) :]
        current = word
    return [*lines, current] if current or not lines else lines


def shown(value: Any, width: int) -> str:
    """A value on one clean line of at most `width` cells; what is cut is told by its length and SHA-256.

    Two long values that differ are therefore never shown alike.
    """
    text = value if isinstance(value, str) else _json(value)
    line = clean_line(text)
    if columns(line) <= width and (line == text or len(text) <= 2 * width):
        return line
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    tail = f" ({len(text):,} characters, sha256 {digest})"
    if width < len(tail) + 12:
        tail = f" #{digest[:8]}"
    return cut(line, max(width - len(tail), 4)) + tail


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return str(type(value).__name__)


def _clean(line: str) -> str:
    found: list[str] = []
    marks = 0
    for char in line:
        code = ord(char)
        if 32 <= code < 127:
            found.append(char)
            marks = 0
            continue
        kind = unicodedata.category(char)
        if char == "\t" or kind == "Zs":
            found.append(" ")
        elif kind[0] == "C" or kind in ("Zl", "Zp") or char in _ODD or 0xE0100 <= code <= 0xE01EF:
            if not found or found[-1] != MARK:  # one mark for a run of them
                found.append(MARK)
        elif 0xFE00 <= code <= 0xFE0F:
            # How an emoji is drawn; one after a character is usual, more of them carry something.
            marks += 1
            if marks > 1 and found[-1:] != [MARK]:
                found.append(MARK)
            continue
        elif kind in ("Mn", "Me", "Mc"):
            marks += 1
            if marks <= MOST_MARKS:
                found.append(char)
            elif found[-1] != MARK:
                found.append(MARK)
            continue
        else:
            found.append(char)
        marks = 0
    return "".join(found)


def _cells(char: str) -> int:
    if char < "\x7f":
        return 1
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _head(word: str, width: int) -> str:
    used, end = 0, 0
    for char in word:
        used += _cells(char)
        if used > width:
            break
        end += 1
    return word[: max(end, 1)]
