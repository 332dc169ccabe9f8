"""How a command's process ends: the exit code for `./start`, closed pipes, and the end that waits for nothing."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tools.core.files import write_text

STATUS_FILE = "MLOPS_STATUS_FILE"
TERMINATE_S = 1.5
BROKEN_PIPE = 141  # 128 + SIGPIPE, what a shell would report


def note_status(status: str) -> None:
    """Write how the command stands to the file that `MLOPS_STATUS_FILE` names: `running PID`, then its exit code.

    `./start` waits for it and exits with it.
    """
    named = os.environ.get(STATUS_FILE)
    if named:
        with contextlib.suppress(OSError):  # `./start` then says that it does not know
            write_text(Path(named), status)


def end_at_once(code: int, last_words: Callable[[], None]) -> None:
    """End this process and everything it started, now.

    Args:
        last_words: gives the terminal back; half a second is all it gets.
    """
    import psutil

    speaking = threading.Thread(target=last_words, daemon=True)
    speaking.start()
    note_status(str(code))
    started = psutil.Process().children(recursive=True)
    for process in started:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    speaking.join(0.5)
    _, alive = psutil.wait_procs(started, TERMINATE_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    os._exit(code)


def silence_stdout() -> None:
    """The reader is gone: send what is still buffered nowhere, so that Python's exit does not trip over it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
