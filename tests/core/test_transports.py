"""Bounds on what somebody else's HTTP server and its progress may send."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from tools.core import transports


def test_an_http_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "MAX_RESPONSE_BYTES", 1000)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100

    async def ask() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=endless()))
        hooks: dict[str, list[Any]] = {"response": [transports.bound_response]}
        async with httpx.AsyncClient(transport=transport, event_hooks=hooks) as http:
            await http.get("http://other/mcp")

    with pytest.raises(httpx.ReadError):
        anyio.run(ask)


def test_progress_of_somebody_elses_server_is_passed_on_calmly() -> None:
    heard: list[tuple[float, str | None]] = []

    async def listen(progress: float, _total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    async def flood() -> None:
        calm = transports.calm(listen)
        for step in range(1000):
            await calm(step, None, "\x1b[2J" + "y" * 5000)

    anyio.run(flood)
    assert 1 <= len(heard) < 100
    assert all("\x1b" not in str(message) and len(str(message)) <= 300 for _, message in heard)
