"""Live progress in the terminal: a listener of the journal. Whatever it writes passes the cleaner.

Holds no judgement about the run and never ends it: when the terminal goes away, the display falls silent.
"""

import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TextIO

from crew.card import question
from crew.narrate import Ending, Line, Mark, Narrator, ending_text
from crew.prompt import terminal_prompt
from crew.words import Tone, duration
from tools.core.clean import clean_line, clean_text

__all__ = ["Display", "PlainSink", "Sink", "box", "ending_rows", "fit", "is_plain", "question", "terminal_prompt"]

PROGRESS_EVERY_S = 5.0
PLAIN_WIDTH = 80

_WORDS: dict[Mark, str] = {
    "ok": "ok", "failed": "FAILED", "denied": "DENIED", "waiting": "WAITING", "done": "done", "warning": "WARNING",
    "progress": "...", "error": "ERROR", "run": "", "task": "", "skipped": "",
}  # fmt: skip
_ROW_NAMES = {"Run", "Report", "Took", "Next"}


class Sink(Protocol):
    """Puts lines on a stream. Called under the display's lock; may raise OSError, ValueError."""

    def line(self, line: Line, elapsed_s: float) -> None: ...
    def block(self, heading: str, rows: list[str], tone: Tone) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


def is_plain(stream: TextIO) -> bool:
    """Whether the stream wants plain lines: no terminal, `NO_COLOR`, `CI` or `TERM=dumb`."""
    if os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb":
        return True
    return not stream.isatty()


class Display:
    """Shows a run while it happens: `journal.subscribe(display)`. Thread-safe.

    Args:
        stream: where to write; standard output when None.
        plain: one line per event without escape codes; found from the stream and the environment when None.
        clock: seconds, monotonic.

    The block at the end is written by `close`, because only the caller knows where the report is.
    """

    def __init__(
        self, stream: TextIO | None = None, *, plain: bool | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self.plain = is_plain(self._stream) if plain is None else plain
        self._clock = clock
        self._start = clock()
        self._lock = threading.RLock()
        self._narrator = Narrator(PROGRESS_EVERY_S if self.plain else None)
        self._held: list[tuple[Line, float]] = []  # while a question is on the screen
        self._pauses = 0
        self._closed = False
        self._sink: Sink | None
        if self.plain:
            self._sink = PlainSink(self._stream)
        else:
            from crew.terminal import TerminalSink

            self._sink = TerminalSink(self._stream, self._narrator, clock)

    def __call__(self, record: dict[str, Any]) -> None:
        """Show one record."""
        with self._lock:
            elapsed = self._clock() - self._start
            for line in self._narrator.lines(record, self._clock()):
                if self._pauses:
                    self._held.append((line, elapsed))
                else:
                    self._show(line, elapsed)

    def pause(self) -> None:
        """Hold all lines back, until `resume`: somebody else writes to the terminal. May be nested."""
        with self._lock:
            self._pauses += 1
            if self._pauses == 1 and self._sink is not None:
                self._try(self._sink.pause)

    def resume(self) -> None:
        """Show what was held back, and go on."""
        with self._lock:
            self._pauses = max(self._pauses - 1, 0)
            if self._pauses:
                return
            if self._sink is not None:
                self._try(self._sink.resume)
            held, self._held = self._held, []
            for line, elapsed in held:
                self._show(line, elapsed)

    def close(self, report: Path | None = None) -> None:
        """Write how the run ended, once, and give the terminal back. Nothing is written when no run began."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._pauses = 1 if self._pauses else 0
            self.resume()
            sink = self._sink
            if sink is None:
                return
            self._try(sink.close)
            if self._narrator.started or self._narrator.ending is not None:
                ending = self._narrator.ending or self._narrator.unfinished()
                words, tone = ending_text(ending)
                rows = ending_rows(ending, self._narrator.run_id, report)
                self._try(lambda: sink.block(clean_line(words), [clean_line(row) for row in rows], tone))

    def error(self, message: str) -> None:
        """Write an ERROR block for what went wrong outside a run (a broken YAML, a missing file)."""
        with self._lock:
            sink = self._sink
            if sink is not None:
                self._try(sink.pause)
                self._try(lambda: sink.block("ERROR", clean_text(message).split("\n"), "bad"))
                self._try(sink.resume)

    def write(self, text: str) -> None:
        """Write lines of text, cleaned; for whoever has paused the display."""
        with self._lock:
            self._try(lambda: _write(self._stream, clean_text(text)))

    def _show(self, line: Line, elapsed: float) -> None:
        sink = self._sink
        if sink is not None:
            shown = replace(line, text=clean_line(line.text), label=clean_line(line.label))
            self._try(lambda: sink.line(shown, elapsed))

    def _try(self, write: Callable[[], None]) -> None:
        """Write; if the reader or the terminal is gone, be silent from now on rather than end the run."""
        if self._sink is None:
            return
        try:
            write()
        except BrokenPipeError:
            self._sink = None
            _discard(self._stream)
        except (OSError, ValueError):  # the terminal hung up; the stream was closed
            self._sink = None


class PlainSink:
    """One line per event with the elapsed time, no escape codes: for logs. Wrapped only where a person looks on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if stream.isatty() else None

    def line(self, line: Line, elapsed_s: float) -> None:
        word = _WORDS[line.mark]
        head = f"[{elapsed_s:7.1f}s] " + "  " * line.level + (f"{word:<7} " if word else "")
        took = "" if line.took_s is None else f" ({duration(line.took_s)})"
        name = f"{line.label}{took}".strip()
        text = f"{name}: {line.text}" if name else line.text
        _write(self._stream, f"{fit(head, text, self._width)}\n")

    def block(self, heading: str, rows: list[str], tone: Tone) -> None:
        _write(self._stream, "\n" + box(heading, rows, "!" if tone == "bad" else "=", PLAIN_WIDTH) + "\n")

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def close(self) -> None:
        pass


def fit(head: str, text: str, width: int | None) -> str:
    """`head` and `text`, wrapped under the text's start; on one line when `width` is None."""
    flat = " ".join(text.split())
    if width is None:
        return head + flat
    return textwrap.fill(
        flat, max(width, len(head) + 20), initial_indent=head, subsequent_indent=" " * len(head),
        break_on_hyphens=False,
    )  # fmt: skip


def box(heading: str, rows: list[str], edge: str, width: int) -> str:
    """A block that cannot be missed in a log. Words too long for it (paths) stick out instead of being cut."""
    inner = width - 6
    lines = [heading.upper() if edge == "!" else heading, ""]
    for row in rows:
        hang = " " * 8 if row[:7].strip() in _ROW_NAMES else ""
        lines += textwrap.wrap(
            row, inner, subsequent_indent=hang, break_on_hyphens=False, break_long_words=False
        ) or [""]  # fmt: skip
    bar = edge * width
    return "\n".join([bar, *(f"{edge * 2} {line:<{inner}} {edge * 2}" for line in lines), bar])


def ending_rows(ending: Ending, run_id: str, report: Path | None) -> list[str]:
    """What stands in the block under the headline."""
    rows = [text for text in (ending.summary, *ending.errors) if text]
    rows = list(dict.fromkeys(rows))  # the summary of a failed run is often the error itself
    rows.append("")
    if report is not None:
        rows.append(f"Report  {report}")
    rows.append(f"Run     {run_id}")
    if ending.took_s is not None:
        rows.append(f"Took    {duration(ending.took_s)}")
    if ending_text(ending)[1] == "bad":
        rows.append(f"Next    mlops-crew show {run_id}")
    return rows


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding if isinstance(getattr(stream, "encoding", None), str) else "utf-8"
    # A log whose encoding has no such character gets a question mark.
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


def _discard(stream: TextIO) -> None:
    """Send what is still buffered for a closed pipe nowhere, so that Python's exit does not trip over it."""
    if stream is not sys.stdout:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
