"""What the commands share: the project option, JSON, plain tables, colours that only a terminal sees."""

import json
import os
import re
import secrets
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer

from tools.core.clean import clean_line, clean_text

LOG_WIDTH = 100  # of tables where nobody looks on: wide enough to read, narrow enough for a CI log
MIN_LAST_WIDTH = 24

ProjectOption = Annotated[
    Path | None,
    typer.Option("--project", metavar="DIR", help="The project folder (default: MLOPS_PROJECT, or found from here)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

Colour = Literal["green", "yellow", "red", "dim", "bold"]
# What `paint` puts around a text, and `say` turns into an escape code. Drawn anew in each process: no data holds it.
_MARKER = f"paint-{secrets.token_hex(8)}:"
_PAINT = re.compile(f"{_MARKER}([0-9]+);")
_CODES: dict[Colour, str] = {"green": "32", "yellow": "33", "red": "31", "dim": "2", "bold": "1"}


class CommandError(Exception):
    """A command cannot do what was asked. `code`: 1 failed, 2 wrong use or configuration."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Place:
    """Where a command works: the project, its state folder, and the environment with `.env`."""

    project: Path
    home: Path
    env: Mapping[str, str]


def place_of(project: Path | None) -> Place:
    """Find the project, and prepare the environment before any library is imported.

    Raises:
        CommandError: no project there.
    """
    from crew.environment import prepare
    from tools.core.stack import read_env
    from tools.session import project_folder, state_folder

    if project is not None:
        os.environ["MLOPS_PROJECT"] = str(project.expanduser().resolve())
    root = project_folder()
    if not (root / "config").is_dir():
        raise CommandError(
            f"{root}: no project here (it has no folder config)\n"
            "Change to the project's folder, name it with --project DIR, or set MLOPS_PROJECT.",
            code=2,
        )
    home = state_folder(root, read_env(root))
    return Place(root, home, prepare(root, home))


def shown(path: Path) -> str:
    """A path as a person would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def say(text: str = "", stream: TextIO | None = None) -> None:
    """Print lines of text, cleaned: the only way by which a command writes for a person."""
    parts = _PAINT.split(text)
    cleaned = "".join(f"\x1b[{part}m" if place % 2 else clean_text(part) for place, part in enumerate(parts))
    stream = sys.stdout if stream is None else stream
    encoding: str = getattr(stream, "encoding", None) or "utf-8"
    print(cleaned.encode(encoding, "replace").decode(encoding), file=stream, flush=stream is sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))  # ASCII: whatever is in it is escaped


def paint(text: str, colour: Colour, stream: TextIO | None = None) -> str:
    """`text` in a colour where a terminal shows it, for `say`."""
    from crew.display import is_plain

    return text if is_plain(stream or sys.stdout) else f"{_MARKER}{_CODES[colour]};{text}{_MARKER}0;"


def width_of_output() -> int:
    return shutil.get_terminal_size((LOG_WIDTH, 24)).columns if sys.stdout.isatty() else LOG_WIDTH


def table(
    rows: Sequence[Sequence[str]], *, indent: int = 0, colours: Sequence[Mapping[int, Colour]] | None = None
) -> str:
    """Aligned columns, two spaces apart; the last column is wrapped under itself, the others keep their words whole.

    Args:
        colours: for each row, column -> colour.
    """
    if not rows:
        return ""
    rows = [[*map(clean_line, row[:-1]), clean_text(row[-1])] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    start = indent + sum(width + 2 for width in widths)
    room = max(width_of_output() - start, MIN_LAST_WIDTH)
    lines: list[str] = []
    for number, row in enumerate(rows):
        paints = colours[number] if colours else {}
        cells = [row[column].ljust(widths[column]) for column in range(len(widths))]
        first, *more = _wrapped(row[-1], room)
        painted = [paint(cell, paints[i]) if i in paints else cell for i, cell in enumerate([*cells, first])]
        lines.append((" " * indent + "  ".join(painted)).rstrip())
        last = len(widths)
        lines += [" " * start + (paint(line, paints[last]) if last in paints else line) for line in more]
    return "\n".join(lines)


def _wrapped(text: str, room: int) -> list[str]:
    """Lines of at most `room` characters; a word that is longer (a path) sticks out, so that it can be copied."""
    return [
        line
        for part in text.splitlines() or [""]
        for line in textwrap.wrap(part, room, break_long_words=False, break_on_hyphens=False) or [""]
    ]
