"""The client's bounds on what somebody else's HTTP server and its progress may send."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.core.fake import make_gateway
from tools.core import client


def test_an_http_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_RESPONSE_BYTES", 1000)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100

    async def ask() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=endless()))
        hooks: dict[str, list[Any]] = {"response": [client._bound_response]}  # pyright: ignore
        async with httpx.AsyncClient(transport=transport, event_hooks=hooks) as http:
            await http.get("http://other/mcp")

    with pytest.raises(httpx.ReadError):
        anyio.run(ask)


def test_progress_of_somebody_elses_server_is_passed_on_calmly() -> None:
    heard: list[tuple[float, str | None]] = []

    async def listen(progress: float, _total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    async def flood() -> None:
        calm = client._calm(listen)  # pyright: ignore
        for step in range(1000):
            await calm(step, None, "\x1b[2J" + "y" * 5000)

    anyio.run(flood)
    assert 1 <= len(heard) < 100
    assert all("\x1b" not in str(message) and len(str(message)) <= 300 for _, message in heard)


def test_a_server_that_could_not_be_reached_is_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    program = f"open({str(started)!r}, 'a').write('x')"
    server = {"command": sys.executable, "args": ["-c", program]}
    policy = {"integrations": {"other": {"allow": "*", "effects": {"search": "read"}}}}
    monkeypatch.setattr("tools.core.sending.BACKOFF_S", 0)
    with make_gateway(tmp_path, stack={"mcpServers": {"other": server}}, policy=policy) as gateway:
        gateway.stack.pins.accept("other", [{"name": "search", "inputSchema": {}}], by="tester")
        messages = {gateway.call("other", {"action": "search"}).message for _ in range(3)}
        assert started.read_text() == "x", "three calls, one start"
        monkeypatch.setattr(client, "TRY_AGAIN_S", 0)
        gateway.call("other", {"action": "search"})
    assert started.read_text() == "xx"
    assert len(messages) == 1 and "cannot reach the MCP server other" in messages.pop()
