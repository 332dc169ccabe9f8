"""Serves an MCP server over streamable HTTP: a door with a token, names, and bounds on sessions, bodies and time.

Who may come in is decided here and in `http_guard`; what a caller may do is the gateway's. With `server`, `client` and
`gateway_server`, it knows the MCP SDK.
"""

import contextlib
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from mcp.server.lowlevel import Server

from tools.core.errors import FinalError, NeedsPersonError
from tools.core.files import write_private
from tools.core.http_guard import Guard, bounded_protocol, is_loopback, own_names
from tools.core.stack import SERVER_TOKEN, token_file

MIN_PUBLIC_TOKEN_CHARS = 16  # where other machines can try
MAX_BODY_BYTES = 4 * 2**20
MAX_SESSIONS = 64
SESSION_IDLE_S = 15 * 60.0


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
        Starlette(routes=[Mount("/", app=manager.handle_request)], lifespan=lifespan),
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
