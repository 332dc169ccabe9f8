"""The display's form for a terminal (rich): lines that scroll, and one live line at the bottom."""

from collections.abc import Callable
from typing import TextIO

from rich import box
from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from crew.narrate import Line, Mark, Narrator, Running
from crew.words import Tone, duration, one_line
from tools.core.clean import clean_line

LABEL_WIDTH = 25
TOOK_WIDTH = 8
BAR_WIDTH = 16
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

_GLYPHS: dict[Mark, tuple[str, str]] = {
    "run": ("", ""), "task": ("●", "bold cyan"), "ok": ("✓", "green"), "failed": ("✗", "bold red"),
    "denied": ("⊘", "yellow"), "waiting": ("?", "bold yellow"), "done": ("→", "cyan"), "skipped": ("○", "dim"),
    "warning": ("!", "bold yellow"), "progress": ("…", "dim"), "error": ("✗", "bold red"),
}  # fmt: skip
_STYLES: dict[Tone, str] = {"good": "bold green", "neutral": "", "warn": "yellow", "bad": "bold red"}


class TerminalSink:
    """Writes to a terminal. The live line is refreshed by rich's own thread; `narrator` is only read for it.

    Raises from its methods what the terminal raises (OSError, ValueError); rich's habit of ending the process on a
    broken pipe is turned off, `line` reports it.
    """

    def __init__(self, stream: TextIO, narrator: Narrator, clock: Callable[[], float]) -> None:
        self._console = _Console(file=stream, highlight=False, force_terminal=True, emoji=False, markup=False)
        self._narrator = narrator
        self._clock = clock
        self._start = clock()
        self._live: Live | None = None

    def line(self, line: Line, elapsed_s: float) -> None:
        self.resume()
        self._console.print(self._render(line))
        if self._console.broken:
            raise BrokenPipeError

    def block(self, heading: str, rows: list[str], tone: Tone) -> None:
        style = {"good": "green", "neutral": "cyan", "warn": "yellow", "bad": "red"}[tone]
        body = Text()
        for row in rows:
            body.append("\n" + row, "bold" if row[:7].strip() == "Report" else "")
        words = heading.upper() if tone == "bad" else heading
        top = Text(f" {words} ", "bold white on red") if tone == "bad" else Text(words, f"bold {style}")
        panel = Panel(Text.assemble(top, "\n", body), box=box.HEAVY, border_style=f"bold {style}", padding=(1, 2))
        self._console.print()
        self._console.print(panel)

    def pause(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def resume(self) -> None:
        if self._live is None and not self._console.broken:
            self._live = Live(get_renderable=self._status, console=self._console, refresh_per_second=8, transient=True)
            self._live.start()

    def close(self) -> None:
        self.pause()

    def _render(self, line: Line) -> "Table | Text | Padding":
        glyph, style = _GLYPHS[line.mark]
        text_style = _STYLES[line.tone]
        if line.mark == "run":
            return _pair(f"{line.label}", line.text, "bold" if line.level == 0 else "dim", 12)
        if line.level == 0:
            heading = Text(f"{glyph} ", style)
            heading.append(f"{line.label}  ", "dim" if line.mark == "skipped" else style)
            heading.append(line.text, "dim" if line.mark == "skipped" else text_style or "bold")
            return Padding(heading, (1 if line.mark == "task" else 0, 0, 0, 0))
        row = Table.grid(padding=(0, 1))
        row.add_column(width=3, justify="right")
        if line.mark in ("done", "waiting"):
            row.add_column(overflow="fold")
            row.add_row(Text(glyph, style), Text(line.text, "cyan" if line.mark == "done" else text_style))
            return row
        room = self._console.width - 3 - LABEL_WIDTH - TOOK_WIDTH - 4
        text = line.text if line.whole else one_line(line.text, room)
        row.add_column(width=LABEL_WIDTH, no_wrap=True, overflow="ellipsis")
        row.add_column(width=TOOK_WIDTH, justify="right")
        row.add_column(overflow="fold")
        took = "" if line.took_s is None else duration(line.took_s)
        row.add_row(Text(glyph, style), line.label, Text(took, "dim"), Text(text, text_style or "dim"))
        return row

    def _status(self) -> Text:
        """The live line: what runs now, how far it is, for how long."""
        now = self._clock()
        calls = tuple(self._narrator.running.values())
        spinner = FRAMES[int(now * 8) % len(FRAMES)]
        status = Text(no_wrap=True, overflow="ellipsis")
        minutes, seconds = divmod(int(now - self._start), 60)
        status.append(f"{spinner} {minutes:02d}:{seconds:02d} ", "cyan")
        if not calls:
            status.append(clean_line(self._narrator.task) or "working", "dim")
            return status
        call = calls[-1]
        status.append(f"{clean_line(call.label)} ", "bold")
        if call.waiting:
            status.append("waits for a person", "bold yellow")
            return status
        if call.total:
            filled = _filled(call)
            status.append("━" * filled, "green")
            status.append("─" * (BAR_WIDTH - filled), "dim")
            status.append(" ")
        told = clean_line(self._narrator.progress_text(call))
        status.append(f"{told} " if told else "")
        status.append(f"{duration(now - call.begun)}" if now - call.begun >= 1 else "", "dim")
        if len(calls) > 1:
            status.append(f" +{len(calls) - 1} more", "dim")
        return status


class _Console(Console):
    """A console that notes a broken pipe, possibly in the refresh thread, instead of ending the process."""

    broken = False

    def on_broken_pipe(self) -> None:
        self.quiet = True
        self.broken = True


def _filled(call: Running) -> int:
    share = call.done / call.total if call.total else 0.0
    return round(BAR_WIDTH * min(max(share, 0.0), 1.0))


def _pair(name: str, text: str, style: str, width: int) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=width)
    row.add_column(overflow="fold")
    row.add_row(Text(name, style), Text(text))
    return row
