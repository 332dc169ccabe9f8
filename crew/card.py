"""A question to a person as one screen of text: what would happen, why it is asked, who asks. Pure.

Long values are cut and told by their length and hash, so that the call never scrolls off and no two are shown alike.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from crew.words import duration, title
from tools.core.approval import Approval
from tools.core.clean import clean_line, columns, cut, shown, wrap

WIDTH, HEIGHT = 80, 24
PROMPT_LINES = 3  # below the card: the prompt, what is typed, one spare
_INDENT = 4
_MIN_ARGUMENTS = 3

EFFECTS = {
    "read": "read: changes nothing",
    "write": "write: adds something of the run's own",
    "risky": "risky: changes what production does, or removes something",
}


@dataclass
class _Row:
    """A name and its text; at most `most` lines of it are shown.

    `is_value`: somebody else's text, so that what is cut is told by its hash. `about`: of an argument, what it is,
    shown where there is room; None: it is no argument, and is never left out.
    """

    name: str
    text: str
    most: int = 1
    is_value: bool = False
    about: str | None = None


def question(approval: Approval, effect: str = "", width: int = WIDTH, height: int = HEIGHT) -> str:
    """The exact call and why it is asked, or the options there are to choose from; the prompt comes after it.

    Args:
        effect: of the call, where the approval does not tell it itself.
        width, height: of the terminal, in cells and lines.
    """
    rows = _choice(approval) if approval.asks else _call(approval, effect)
    heading = "A CHOICE IS NEEDED" if approval.asks else "APPROVAL NEEDED"
    room = max(height - PROMPT_LINES - 3, 12)  # a blank line, the heading, and the command
    lines = _laid_out(rows, approval, max(width, 30), room)
    how = "choose" if approval.asks else "approve"
    option = " OPTION" if approval.asks else ""
    return "\n".join(["", f"  {heading}", *lines, f"    mlops-crew {how} {clean_line(approval.id)}{option}", ""])


def argument_rows(approval: Approval, width: int) -> list[tuple[str, str]]:
    """Each argument and its value, in at most `width` cells, with what it is where there is room for that."""
    found: list[tuple[str, str]] = []
    for name, value in approval.arguments.items():
        text = _value(value, width)
        about = clean_line(approval.facts.about.get(name, ""))
        if about and len(text) + len(about) + 5 <= width:
            text = f"{text}  ({about})"
        found.append((cut(clean_line(name), 24), text))
    return found


def state_rows(approval: Approval) -> list[tuple[str, str]]:
    """What it is now and what it would be: of the values that the call changes by their own names."""
    facts = approval.facts
    if not facts.now:
        return []
    now = ", ".join(f"{clean_line(name)} {_value(value, 60)}" for name, value in facts.now.items())
    after = [
        f"{clean_line(name)} {_value(facts.now[name], 30)} -> {_value(value, 30)}"
        for name, value in approval.arguments.items()
        if name in facts.now and facts.now[name] != value
    ]
    return [("now", now), *([("afterwards", ", ".join(after))] if after else [])]


def asked_by(approval: Approval) -> str:
    who = clean_line(title(approval.role)) if approval.role else "a person"
    return f"{who}, in {clean_line(approval.facts.task)}" if approval.facts.task else who


def _call(approval: Approval, effect: str) -> list[_Row]:
    facts = approval.facts
    effect = facts.effect or effect
    rows = [_Row("call", f"{approval.integration}.{approval.action}", 2)]
    if facts.summary:
        rows.append(_Row("does", facts.summary, 2))
    rows.append(_Row("effect", EFFECTS.get(effect, effect or "not known"), 2))
    for name, value in approval.arguments.items():
        about = facts.about.get(name, "")
        rows.append(_Row(f"  {cut(clean_line(name), 24)}", _json(value), 2, about=about, is_value=True))
    rows += [_Row(name, text, 3, is_value=True) for name, text in state_rows(approval)]
    if facts.undo:
        rows.append(_Row("undo", facts.undo))
    return [
        *rows,
        _Row("asked by", asked_by(approval)),
        _Row("why", approval.reason, 4),
        _Row("hash", f"{approval.call_hash[:16]} of this exact call"),
        _Row("expires", f"in {_left(approval)}"),
        _Row("answer", "y, n REASON, or y NAME=VALUE to change an argument", 2),
    ]


def _choice(approval: Approval) -> list[_Row]:
    rows = [_Row("question", str(approval.arguments.get("question", "")), 3, is_value=True)]
    for place, option in enumerate(approval.options, start=1):
        told = f"{option.title}. {option.consequences}"
        rows.append(_Row(f"{place} {cut(clean_line(option.name), 20)}", told, 8, is_value=True))
    plot = approval.arguments.get("plot")
    return [
        *rows,
        *([_Row("plot", str(plot), is_value=True)] if plot else []),
        _Row("asked by", asked_by(approval)),
        _Row("why", approval.reason, 3),
        _Row("expires", f"in {_left(approval)}; from another terminal:"),
    ]


def _laid_out(rows: list[_Row], approval: Approval, width: int, room: int) -> list[str]:
    """The rows as lines, at most `room` of them: arguments that do not fit are counted, long texts cut."""
    arguments = [row for row in rows if row.about is not None]
    fit = max(room - (len(rows) - len(arguments)), _MIN_ARGUMENTS)
    left_out: list[_Row] = []
    if len(arguments) > fit:
        left_out = arguments[fit - 1 :]
        more = f"and {len(left_out)} more arguments: mlops-crew approvals {approval.id}"
        rows = [row for row in rows if row not in left_out]
        rows.insert(rows.index(arguments[fit - 2]) + 1, _Row("  …", more, 2))
    start = min(max(columns(row.name) for row in rows) + _INDENT + 2, max(width // 3, 16))
    needed = [min(len(wrap(clean_line(row.text[:4000]), width - start)), row.most) for row in rows]
    given = [1] * len(rows)
    spare = room - len(rows)
    while spare > 0 and given != needed:  # a line at a time, so that no long text takes the room of another
        for place, lines in enumerate(needed):
            if given[place] < lines and spare > 0:
                given[place] += 1
                spare -= 1
    return [line for row, most in zip(rows, given, strict=True) for line in _lines(row, start, width - start, most)]


def _lines(row: _Row, start: int, room: int, most: int) -> list[str]:
    text = clean_line(row.text)
    told = clean_line(f"{text} ({row.about})") if row.about else text
    parts = wrap(told if columns(told) <= room else text, room)
    if len(parts) > most:
        # Wrapping between words wastes some of the room; what does not fit then is tried a little shorter.
        for cells in range(room * most, room // 2, -4):
            parts = wrap(shown(row.text, cells) if row.is_value else cut(clean_line(row.text), cells), room)
            if len(parts) <= most:
                break
    head = (" " * _INDENT + cut(row.name, start - _INDENT - 1)).ljust(start)
    return [(head if place == 0 else " " * start) + part for place, part in enumerate(parts[:most])]


def _value(value: Any, width: int) -> str:
    return shown(_json(value), width)


def _json(value: Any) -> str:
    """As JSON, so that the text "2" and the number 2 differ."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return type(value).__name__


def _left(approval: Approval) -> str:
    return duration(max(approval.expires_ts - time.time(), 0))
