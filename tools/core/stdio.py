"""An MCP server as a child process, over its standard input and output, with bounds on what it may send.

Knows the MCP SDK's messages, as `client` does. The SDK's own transport takes lines of any length and leaves standard
error to the terminal; here a line has a limit, and the end of what a server says on standard error is kept for the
message of a failed start.
"""

import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import mcp.types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from tools.core.child_env import unstartable
from tools.core.errors import FinalError, NeedsPersonError

MAX_LINE_BYTES = 32 * 2**20
TAIL_BYTES = 4 * 1024
END_TIMEOUT_S = 2.0
LAST_WORDS_S = 0.5

Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing = MemoryObjectSendStream[SessionMessage]


class Tail:
    """The last bytes of a stream that is read to its end."""

    def __init__(self) -> None:
        self._bytes = b""
        self._is_cut = False
        self.ended = anyio.Event()

    async def read(self, stream: anyio.abc.ByteReceiveStream) -> None:
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async for chunk in stream:
                whole = self._bytes + chunk
                self._bytes = whole[-TAIL_BYTES:]
                self._is_cut = self._is_cut or len(whole) > TAIL_BYTES
        self.ended.set()

    @property
    def text(self) -> str:
        """What is left; it begins with "…" where more was said before."""
        return ("…" if self._is_cut else "") + self._bytes.decode("utf-8", "replace")


@asynccontextmanager
async def stdio_transport(
    command: Sequence[str], env: Mapping[str, str], cwd: Path | None, said: Tail
) -> AsyncGenerator[tuple[Incoming, Outgoing]]:
    """Start a server, and end it and what it started at the end of the block.

    Args:
        env: its whole environment.
        said: is given what it says on standard error.

    Raises:
        NeedsPersonError: there is no such program or folder.
    """
    try:
        process = await anyio.open_process(list(command), env=dict(env), cwd=cwd, start_new_session=True)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        why = unstartable(command, env, cwd) or f"{error.strerror}; correct the command in config/stack.yaml"
        raise NeedsPersonError(why) from error
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    inside, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, outside = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with inside, read, write, outside, anyio.create_task_group() as group:
            group.start_soon(said.read, process.stderr)
            group.start_soon(_receive, process.stdout, inside, said)
            group.start_soon(_send, process.stdin, outside)
            try:
                yield read, write
            finally:
                group.start_soon(_ignore, read)  # it may say something while it ends, and must not be stuck with it
                with anyio.CancelScope(shield=True):
                    await _end(process)
                group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _ignore(messages: Incoming) -> None:
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async for _ in messages:
            pass


async def _receive(
    stdout: anyio.abc.ByteReceiveStream, inside: MemoryObjectSendStream[SessionMessage | Exception], said: Tail
) -> None:
    """Pass on each line as a message. Raises `FinalError` for a line that is too long to be one."""
    parts: list[bytes] = []
    size = 0
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async with inside:
            async for chunk in stdout:
                *lines, rest = chunk.split(b"\n")
                for line in lines:
                    whole, parts, size = b"".join([*parts, line]), [], 0
                    if whole.strip():
                        await inside.send(_message(whole))
                parts.append(rest)
                size += len(rest)
                if size > MAX_LINE_BYTES:
                    raise FinalError(f"the server sent a line of more than {MAX_LINE_BYTES >> 20} MiB")
            with anyio.move_on_after(LAST_WORDS_S):  # what it says of its end goes into the error
                await said.ended.wait()


def _message(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(types.JSONRPCMessage.model_validate_json(line))
    except ValueError as error:
        return error


async def _send(stdin: anyio.abc.ByteSendStream, outside: MemoryObjectReceiveStream[SessionMessage]) -> None:
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async for message in outside:
            text = message.message.model_dump_json(by_alias=True, exclude_none=True)
            await stdin.send(text.encode() + b"\n")


async def _end(process: anyio.abc.Process) -> None:
    """Close its input, as the protocol has it; then ask it and its children to end; then end them."""
    assert process.stdin is not None
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
        await process.stdin.aclose()
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        with anyio.move_on_after(END_TIMEOUT_S):
            await process.wait()
            return
