"""Serves an MCP server over streamable HTTP: a door with a token, names, and bounds on sessions, bodies and time.

Who may come in is decided here and in `http_guard`; what a caller may do is the gateway's. With `server`, `client` and
`gateway_server`, it knows the MCP SDK.
"""

import contextlib
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from mcp.server.lowlevel import Server

from tools.core.errors import FinalError, NeedsPersonError
from tools.core.files import write_private
from tools.core.http_guard import App, Guard, Message, Receive, Scope, Send, bounded_protocol, is_loopback, own_names
from tools.core.stack import SERVER_TOKEN, token_file

MIN_PUBLIC_TOKEN_CHARS = 16  # where other machines can try
MAX_BODY_BYTES = 4 * 2**20
MAX_SESSIONS = 64
SESSION_IDLE_S = 15 * 60.0
MAKE_ROOM_EVERY_S = 1.0
SETTING_UP = 1  # requests that a client sends to say that it is ready
SESSION_HEADER = b"mcp-session-id"


@dataclass(frozen=True)
class Door:
    """Where a server listens and what a client must carry.

    Args:
        host, port: port 0 picks a free one.
        token: the bearer token; None: none is asked for.
        home: the state folder, where this user's own clients find a token that was made here.
        made: the token was made here, for as long as the server runs.
        names: further names in Host under which the server is reached (behind a proxy).
    """

    host: str
    port: int
    token: str | None
    home: Path
    made: bool = False
    names: tuple[str, ...] = ()


def open_door(
    env: Mapping[str, str], home: Path, *, host: str, port: int, no_token: bool = False, names: Iterable[str] = ()
) -> Door:
    """The door of a server: with the token of `MLOPS_SERVER_TOKEN`, or one made for as long as the server runs.

    Raises:
        NeedsPersonError: other machines can reach the address, and a person has set no (long enough) token.
    """
    token = env.get(SERVER_TOKEN)
    if not is_loopback(host):
        reach = f"serving on {host} lets other machines call the tools"
        if no_token or not token:
            raise NeedsPersonError(f"{reach}: set {SERVER_TOKEN} first (at least {MIN_PUBLIC_TOKEN_CHARS} characters)")
        if len(token) < MIN_PUBLIC_TOKEN_CHARS:
            raise NeedsPersonError(f"{reach}: {SERVER_TOKEN} needs at least {MIN_PUBLIC_TOKEN_CHARS} characters")
    made = not token and not no_token
    if made:
        token = secrets.token_urlsafe(32)
    return Door(host, port, None if no_token else token, home, made, tuple(names))


async def serve_http(
    server: "Server[Any, Any]", door: Door, *, tell: Callable[[str], None], on_stop: Callable[[], None] = lambda: None
) -> None:
    """Serve at `/mcp` until stopped by SIGINT or SIGTERM.

    Args:
        tell: called with lines for the person who started it, the URL in the last one, when connections are accepted.
        on_stop: called when it is being stopped, so that calls under way end at their next progress report.

    Raises:
        FinalError: the port is taken or not allowed; names it.
    """
    import uvicorn
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.applications import Starlette
    from starlette.routing import Mount

    manager = StreamableHTTPSessionManager(
        app=server,
        json_response=False,
        session_idle_timeout=SESSION_IDLE_S,
        max_request_body_size=MAX_BODY_BYTES,
        max_sessions=MAX_SESSIONS,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with manager.run():
            yield

    class StoppableServer(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            file.unlink(missing_ok=True)
            on_stop()
            super().handle_exit(sig, frame)

    app = Guard(
        Starlette(routes=[Mount("/", app=Sessions(manager.handle_request))], lifespan=lifespan),
        names=own_names(door.host, door.names),
        token=door.token,
        max_body_bytes=MAX_BODY_BYTES,
    )
    config = uvicorn.Config(
        app,
        http=bounded_protocol(),
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,  # a client's open event stream would otherwise keep the server alive
    )
    listener = _listen(door)
    port = listener.getsockname()[1]
    file = token_file(door.home, port)
    file.unlink(missing_ok=True)  # of a server that was killed
    _tell_token(door, file, tell)
    shown = f"[{door.host}]" if ":" in door.host else door.host
    tell(f"MCP at http://{shown}:{port}/mcp")
    try:
        await StoppableServer(config).serve(sockets=[listener])
    finally:
        file.unlink(missing_ok=True)


class Sessions:
    """Lets a new session take the place of an idle one where all are taken, so that a flood keeps nobody out for long.

    The bound itself is the application's (it answers 503 beyond it). Here a session that nothing uses now is ended for
    a new one, those first that were never used after they were opened; at most one in `every_s` seconds, so that a
    flood ends no others. Its client is told 404 and opens a new one, as the protocol has it.
    """

    def __init__(
        self,
        app: App,
        *,
        most: int = MAX_SESSIONS,
        every_s: float = MAKE_ROOM_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._most = most
        self._every_s = every_s
        self._clock = clock
        self._known: dict[bytes, _Session] = {}
        self._made_room_at = -every_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = next((value for key, value in scope["headers"] if key == SESSION_HEADER), None)
        if name is None:
            if scope["method"] == "POST" and len(self._known) >= self._most:
                await self._make_room(scope)
            await self._app(scope, receive, self._noticing(send))
            return
        session = self._known.get(name)
        if session is None:
            await self._app(scope, receive, send)
            return
        session.under_way += 1
        session.used += 1
        try:
            await self._app(scope, receive, send)
        finally:
            session.under_way -= 1
            session.at = self._clock()
            if scope["method"] == "DELETE":
                self._known.pop(name, None)

    def _noticing(self, send: Send) -> Send:
        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                names = [value for key, value in message.get("headers", []) if key.lower() == SESSION_HEADER]
                for name in names:
                    self._known[name] = _Session(self._clock())
            await send(message)

        return forward

    async def _make_room(self, scope: Scope) -> None:
        now = self._clock()
        for name, session in list(self._known.items()):
            if not session.under_way and now - session.at > SESSION_IDLE_S:
                del self._known[name]  # the application has ended it
        idle = {name: session for name, session in self._known.items() if not session.under_way}
        if len(self._known) < self._most or not idle or now - self._made_room_at < self._every_s:
            return
        self._made_room_at = now
        name = min(idle, key=lambda name: (idle[name].used > SETTING_UP, idle[name].at))
        del self._known[name]
        ending = {**scope, "method": "DELETE", "headers": [(SESSION_HEADER, name)]}
        await self._app(ending, _nothing, _to_nobody)


@dataclass
class _Session:
    """A session: when it was last used, how many requests came after the first, and how many are under way."""

    at: float
    used: int = 0
    under_way: int = 0


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _to_nobody(_: Message) -> None:
    pass


def _listen(door: Door) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in door.host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((door.host, door.port))
        listener.listen(128)  # from here on clients may connect; they are answered once the server runs
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise FinalError(f"cannot listen on {door.host}:{door.port}: {why}; choose another port (0: any)") from error
    return listener


def _tell_token(door: Door, file: Path, tell: Callable[[str], None]) -> None:
    """Say once what a client must carry; a token that was made here is in a file for as long as it is valid."""
    if door.token is None:
        tell("WARNING: no token is asked for: every program and every user of this machine may call these tools")
    if not is_loopback(door.host):
        tell("WARNING: other machines can connect, and HTTP does not hide the token: put TLS in front")
    if door.made and door.token is not None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(file, door.token)
        tell(f"Clients need this token, valid until this server ends (set {SERVER_TOKEN} for your own): {door.token}")
        tell(f"It is also in {file}, where mlops-crew finds it by itself")
