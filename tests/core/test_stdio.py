"""A server as a child process: what it sends is bounded, what it says is kept, and it is ended with its children."""

import os
import sys
import time
from pathlib import Path

import anyio
import pytest

from tools.core import stdio
from tools.core.errors import FinalError, NeedsPersonError
from tools.core.stdio import TAIL_BYTES, Tail, stdio_transport

ENV = {"PATH": os.environ["PATH"]}


def talk(program: str, seconds: float = 20.0) -> tuple[list[str], str]:
    """The messages of a Python program, and what it said last on standard error."""
    said = Tail()
    found: list[str] = []

    async def listen() -> None:
        with anyio.fail_after(seconds):
            async with stdio_transport([sys.executable, "-c", program], ENV, None, said) as (read, _):
                async for message in read:
                    found.append(type(message).__name__)

    anyio.run(listen)
    return found, said.text


def test_messages_are_passed_on_and_what_is_none_is_an_error_of_its_own() -> None:
    ping = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
    found, said = talk(f"import sys; print('{ping}'); print('chatter'); print(); sys.stderr.write('x' * 9000 + 'end')")
    assert found[0] == "SessionMessage" and len(found) == 2 and "Error" in found[1]
    assert said.startswith("…x") and said.endswith("xend") and len(said) == 1 + TAIL_BYTES


def test_a_line_without_end_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "MAX_LINE_BYTES", 1 << 20)
    with pytest.raises(ExceptionGroup) as caught:
        talk("import sys\nwhile True: sys.stdout.write('x' * 65536)")
    assert caught.group_contains(FinalError, match="line of more than")


def test_a_missing_program_or_folder_is_said_with_the_file_to_correct(tmp_path: Path) -> None:
    async def start(command: str, cwd: Path | None) -> None:
        async with stdio_transport([command], ENV, cwd, Tail()):
            pass

    for command, cwd, named in (
        ("no-such-program", None, "no-such-program"),
        (sys.executable, tmp_path / "gone", "gone"),
    ):
        with pytest.raises(NeedsPersonError, match=f"{named}.*config/stack.yaml"):
            anyio.run(start, command, cwd)


def test_a_server_that_does_not_end_is_ended_with_its_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stdio, "END_TIMEOUT_S", 0.3)
    program = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        'print(\'{"jsonrpc": "2.0", "method": "up"}\', flush=True)\n'
        "time.sleep(600)\n"
    )

    async def start() -> None:
        async with stdio_transport([sys.executable, "-c", program], ENV, None, Tail()) as (read, _):
            await read.receive()

    anyio.run(start)
    alive = [Path(f"/proc/{pid}/stat") for pid in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + 20
    while any(stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z" for stat in alive):
        assert time.monotonic() < deadline, "still alive"
        time.sleep(0.05)
