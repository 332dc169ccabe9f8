"""Asks a person in the terminal of the run: puts the card, reads the line, understands the answer."""

import os
import select
import shlex
import shutil
import sys
import termios
import threading
from collections.abc import Callable
from typing import Protocol

from crew.card import HEIGHT, WIDTH, question
from tools.core.approval import Approval, ApprovalError, Edited, Pick, Rejected
from tools.core.channels import Prompt
from tools.core.clean import clean_line

PROMPT_POLL_S = 0.2

Ask = Callable[["Screen", str, Callable[[], bool]], str | None]
Reply = bool | Edited | Rejected | Pick | None


class Screen(Protocol):
    """Whoever else writes to the terminal."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def write(self, text: str) -> None: ...


def terminal_prompt(screen: Screen) -> Prompt:
    """Asks in the terminal of the run, while the display holds its lines back; one question at a time.

    Only an explicit `y` or `yes` approves, with `NAME=VALUE` after it with other arguments; anything else, or the end
    of the input, rejects, and what follows an `n` is the reason. A question to choose takes the number or the name of
    an option, and asks why; anything else, an empty line too, is no choice, and it asks again. What was typed before
    the question was on the screen does not count. The prompt returns None when standard input is no terminal or ends,
    or when the question was answered elsewhere (or the run stopped) meanwhile.
    """
    return _prompt(screen, _ask, lambda: sys.stdin.isatty())


def cell_prompt(screen: Screen) -> Prompt:
    """Asks in the cell of a notebook that runs the crew, as `terminal_prompt` does in a terminal.

    Its input box cannot be taken back: where the question was answered elsewhere, the next one is asked after a line
    was entered.
    """
    return _prompt(screen, _ask_in_cell, lambda: True)


def _prompt(screen: Screen, ask: Ask, is_possible: Callable[[], bool]) -> Prompt:
    """One question at a time, while the screen is nobody else's; None where nobody can be asked here."""
    asking = threading.Lock()

    def prompt(approval: Approval, answered: Callable[[], bool]) -> Reply:
        if not is_possible():
            return None
        with asking:
            if answered():
                return None
            screen.pause()
            try:
                return (_choose if approval.asks else _decide)(screen, approval, answered, ask)
            finally:
                screen.resume()

    return prompt


def understood(approval: Approval, typed: str) -> bool | Edited | Rejected:
    """What a typed line means.

    Raises:
        ApprovalError: something follows the yes that changes no argument.
    """
    word, _, rest = typed.strip().partition(" ")
    if word.lower() in ("y", "yes"):
        try:
            pairs = shlex.split(rest)
        except ValueError as error:
            raise ApprovalError(f"cannot read {rest!r}: {error}") from None
        return Edited(approval.edits(pairs)) if pairs else True
    if word.lower() in ("n", "no") and rest.strip():
        return Rejected(clean_line(rest))
    return False


def _decide(screen: Screen, approval: Approval, answered: Callable[[], bool], ask: Ask) -> Reply:
    _put(screen, approval)
    while True:
        typed = ask(screen, "    Do it? [y/N] ", answered)
        if typed is None:
            screen.write("\n    answered elsewhere\n\n")
            return None
        try:
            reply = understood(approval, typed)
        except ApprovalError as error:
            screen.write(f"    {clean_line(error)}\n")
            continue
        told = {True: "approved", False: "rejected"}[reply] if isinstance(reply, bool) else _told(reply)
        screen.write(f"    {told}\n\n")
        return reply


def _told(reply: Edited | Rejected) -> str:
    if isinstance(reply, Rejected):
        return f"rejected: {reply.note}"
    return f"approved with {', '.join(clean_line(f'{k}={v}') for k, v in reply.arguments.items())}, if it may be so"


def _choose(screen: Screen, approval: Approval, answered: Callable[[], bool], ask: Ask) -> Pick | None:
    """Ask until an option is named, or the question is answered elsewhere, or the input ends."""
    options = approval.options
    which = f"    Which one? [1-{len(options)}] "
    _put(screen, approval)
    while True:
        typed = ask(screen, which, answered)
        if not typed:  # None: answered elsewhere; nothing, not even a line's end: the input ended
            screen.write(f"\n    {'answered elsewhere' if typed is None else 'nobody answered here'}\n\n")
            return None
        option = approval.option(typed)
        if option is not None:
            break
        screen.write(f"    That is no choice: type a number from 1 to {len(options)}, or a name.\n")
    screen.write(f"    {option.name}: {clean_line(option.title)}\n")
    why = ask(screen, "    Why? (for the report; may be left empty) ", answered)
    if why is None:
        screen.write("\n    answered elsewhere\n\n")
        return None
    screen.write(f"    chosen: {option.name}\n\n")
    return Pick(option.name, clean_line(why))


def _put(screen: Screen, approval: Approval) -> None:
    size = shutil.get_terminal_size((WIDTH, HEIGHT))
    screen.write(question(approval, "", size.columns, size.lines))


def _ask(screen: Screen, ask: str, answered: Callable[[], bool]) -> str | None:
    """The line typed after `ask` with its end, without it where the input ended; None once `answered`.

    What was typed before `ask` was shown is thrown away, and nothing that is typed after it: it comes last.
    """
    terminal = sys.stdin.fileno()
    termios.tcflush(terminal, termios.TCIFLUSH)
    screen.write(ask)
    typed = b""
    while not answered():
        ready, _, _ = select.select([terminal], [], [], PROMPT_POLL_S)
        if not ready:
            continue
        part = os.read(terminal, 1024)
        typed += part
        if not part or b"\n" in typed:
            line, end, _ = typed.partition(b"\n")
            return (line + end).decode(errors="replace")
    return None


def _ask_in_cell(screen: Screen, ask: str, answered: Callable[[], bool]) -> str | None:
    """The line entered below the cell, with an end; None where the question was answered elsewhere meanwhile."""
    typed = input(ask)
    return None if answered() else f"{typed}\n"
