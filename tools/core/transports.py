"""How a client reaches a server over HTTP, and what passes between them: bounded where the server is somebody else's.

Knows the MCP SDK's streams and messages. Sessions, calls and what a failure means are the client's.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import httpx
import mcp.types as types
from mcp.shared.message import SessionMessage
from mcp.shared.session import ProgressFnT

from tools.core.foreign import MAX_MESSAGE_CHARS, clean_text
from tools.core.proxies import may_use_proxy
from tools.core.stack import ServerConfig, made_token
from tools.core.stdio import Incoming, Outgoing

MAX_RESPONSE_BYTES = 32 * 2**20  # of one HTTP answer of somebody else's server
PROGRESS_EVERY_S = 0.1


@asynccontextmanager
async def http_transport(config: ServerConfig, connect_timeout_s: float) -> AsyncGenerator[tuple[Incoming, Outgoing]]:
    """Streamable HTTP. No time limit on reading: a call's own limit ends it, however long it is."""
    from mcp.client.streamable_http import streamable_http_client

    headers = dict(config.headers)
    if config.token_file is not None and (token := made_token(config.token_file)):
        headers["Authorization"] = f"Bearer {token}"
    hooks: dict[str, list[Callable[..., Any]]] = {"response": [bound_response]} if config.third_party else {}
    async with (
        httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(connect_timeout_s, read=None),
            event_hooks=hooks,
            trust_env=may_use_proxy(config.url),
        ) as client,
        streamable_http_client(config.url, http_client=client) as (read, write, _),
        read,
    ):
        yield read, write


@asynccontextmanager
async def watched(
    source: Incoming, look_at: Callable[[SessionMessage | Exception], None], ended: anyio.Event | None
) -> AsyncGenerator[Incoming]:
    """`source`, passed on.

    Args:
        look_at: is shown each message first; what it raises fails the connection.
        ended: set at the end of `source`, so that a server that died between two calls is noticed at once.
    """
    send, receive = anyio.create_memory_object_stream[SessionMessage | Exception](0)

    async def forward() -> None:
        async with send:
            try:
                async for message in source:
                    look_at(message)
                    await send.send(message)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # our session was closed first
        if ended is not None:
            ended.set()

    async with receive, anyio.create_task_group() as group:
        group.start_soon(forward)
        yield receive
        group.cancel_scope.cancel()


def calm(on_progress: ProgressFnT) -> ProgressFnT:
    """Pass on progress of somebody else's server: a bounded text, and not more often than anybody reads."""
    last = 0.0

    async def sometimes(progress: float, total: float | None, message: str | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_EVERY_S or progress == total:
            last = now
            await on_progress(progress, total, clean_text(message or "", MAX_MESSAGE_CHARS))

    return sometimes


def block_text(block: types.ContentBlock) -> str:
    """A content block in words; a model cannot read the bytes of an image, but must know that there was one."""
    match block:
        case types.TextContent():
            return block.text
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return resource.text
        case types.ResourceLink():
            return f"[{block.name}: {block.uri}]"
        case types.EmbeddedResource():
            return f"[{block.resource.mimeType or 'binary'} resource {block.resource.uri}]"
        case _:
            return f"[{block.mimeType} {block.type}]"


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_RESPONSE_BYTES:
                raise httpx.ReadError(f"an answer of more than {MAX_RESPONSE_BYTES >> 20} MiB")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def bound_response(response: httpx.Response) -> None:
    response.stream = _BoundedStream(cast("httpx.AsyncByteStream", response.stream))
