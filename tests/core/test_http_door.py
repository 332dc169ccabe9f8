"""The door of MCP over HTTP: who needs which token, and sessions that give way to new ones."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from tools.core.errors import NeedsPersonError
from tools.core.http_door import Sessions, open_door

TOKEN = "a-token-that-a-person-has-set"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.2", "LOCALHOST", "127.1", "0", "example.com"])
def test_other_machines_need_a_token_that_a_person_has_set(tmp_path: Path, host: str) -> None:
    for env, more in (
        ({}, {}),
        ({"MLOPS_SERVER_TOKEN": "short"}, {}),
        ({"MLOPS_SERVER_TOKEN": TOKEN}, {"no_token": True}),
    ):
        with pytest.raises(NeedsPersonError, match="MLOPS_SERVER_TOKEN"):
            open_door(env, tmp_path, host=host, port=0, **more)
    assert open_door({"MLOPS_SERVER_TOKEN": TOKEN}, tmp_path, host=host, port=0).token == TOKEN


def test_on_this_machine_a_token_is_made_unless_a_person_wants_none(tmp_path: Path) -> None:
    made = [open_door({}, tmp_path, host="127.0.0.1", port=0) for _ in range(2)]
    assert made[0].made and made[0].token != made[1].token and len(made[0].token or "") > 40
    assert open_door({}, tmp_path, host="::1", port=0, no_token=True).token is None


class Server:
    """An application that opens at most `most` sessions, as the SDK does, and remembers them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: list[bytes] = []
        self.count = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = dict(scope["headers"]).get(b"mcp-session-id")
        headers: list[Any] = []
        status = 200
        if name is None and len(self.open) >= self.most:
            status = 503
        elif name is None:
            self.count += 1
            self.open.append(b"s%d" % self.count)
            headers = [(b"mcp-session-id", self.open[-1])]
        elif name not in self.open:
            status = 404
        elif scope["method"] == "DELETE":
            self.open.remove(name)
        await send({"type": "http.response.start", "status": status, "headers": headers})


class Play:
    """Requests at times of its own."""

    def __init__(self, most: int) -> None:
        self.now = 0.0
        self.server = Server(most)
        self.sessions = Sessions(self.server, most=most, every_s=1.0, clock=lambda: self.now)

    def ask(self, name: bytes | None = None, method: str = "POST") -> int:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.append(message["status"])

        async def once() -> None:
            headers = [] if name is None else [(b"mcp-session-id", name)]
            await self.sessions({"type": "http", "method": method, "headers": headers}, None, send)  # type: ignore[arg-type]

        anyio.run(once)
        return statuses[0]


def test_a_flood_opens_few_sessions_and_keeps_nobody_out_for_long() -> None:
    play = Play(most=4)
    statuses = [play.ask() for _ in range(50)]
    assert statuses == [200] * 5 + [503] * 45, "as many as there are, and one that took another's place"
    assert play.server.open == [b"s2", b"s3", b"s4", b"s5"]
    play.now = 1.5
    assert play.ask() == 200 and len(play.server.open) == 4
    assert play.ask(b"s2") == 404, "its client is told to open a new one"


def test_a_session_that_is_used_stays_before_those_that_never_were() -> None:
    play = Play(most=3)
    for _ in range(3):
        play.ask()
    for _ in range(3):
        assert play.ask(b"s1") == 200
    for second in range(1, 3):
        play.now += second
        assert play.ask() == 200
    assert b"s1" in play.server.open and b"s2" not in play.server.open
    assert play.ask(b"s1", "DELETE") == 200 and play.ask() == 200, "an ended one leaves its place"
