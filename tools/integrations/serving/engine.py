"""The engine process: `python -m tools.integrations.serving.engine`, started by the backend, never by hand.

Handshake: the parent writes one JSON line to standard input (`EngineConfig`) and reads one JSON line from standard
output (`{"port": ...}` or `{"error": ..., "message": ...}`). Standard input then stays open: when it ends, the parent
is gone, and so is the engine with every model process, whatever the parent died of.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tools.core.child_env import PRIVATE_UMASK
from tools.core.files import open_private

HOST = "127.0.0.1"
LOCK_FILE = "engine.lock"
PARENT_CHECK_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineConfig:
    """What the backend tells the engine.

    Args:
        folder: the serving store (state, shadow records, lock).
        port: 0 lets the system pick one.
        token: of the admin endpoints.
        project: models may import modules from here; empty: from nowhere but the installation.
        closed: folders that no model reads.
        home: the state folder; empty: none.
        credentials: of the tracking server, which MLflow reads from the environment. They come this way so that no
            process of a model ever had them.
    """

    folder: str
    port: int
    token: str
    tracking_uri: str
    registry_uri: str | None
    challenger_timeout_s: float
    project: str = ""
    closed: tuple[str, ...] = ()
    home: str = ""
    credentials: dict[str, str] = field(default_factory=dict[str, str])

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> None:
    config = EngineConfig(**json.loads(_first_line()))
    os.umask(PRIVATE_UMASK)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    lock = _lock(Path(config.folder))
    if lock is None:
        _fail("locked", f"another serving engine already uses {config.folder}")
    # The protocol is named because asyncio turns off Nagle's delay (40 ms a response) only where it is.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, config.port))
        listener.listen(128)
    except OSError as error:
        _fail("port", f"cannot listen on {HOST}:{config.port}: {error.strerror}")
    asyncio.run(_serve(config, listener))


async def _serve(config: EngineConfig, listener: socket.socket) -> None:
    import uvicorn

    from tools.core.http_guard import bounded_protocol
    from tools.integrations.serving.app import make_app
    from tools.integrations.serving.router import Router
    from tools.integrations.serving.worker import ModelSource

    project = Path(config.project) if config.project else None
    closed, home = [Path(path) for path in config.closed], Path(config.home) if config.home else None
    source = ModelSource(config.tracking_uri, config.registry_uri, project, closed, home)
    if project is not None:
        os.chdir(project)  # older stores name their folders relative to where they were made
    os.environ.update(config.credentials)  # after the process that models are forked from has started
    router = Router(Path(config.folder), source, config.challenger_timeout_s)
    _follow_parent(router)
    _report({"port": listener.getsockname()[1]})
    # Nothing but the handshake may go to standard output: the parent stops reading now.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    restoring = asyncio.create_task(router.restore())
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(router, config.token),
            http=bounded_protocol(),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=60,
        )
    )
    await server.serve(sockets=[listener])
    restoring.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await restoring
    _end(router)


def _follow_parent(router: Any) -> None:
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            ready, _, _ = select.select([0], [], [], PARENT_CHECK_S)
            if ready and not os.read(0, 4096):
                break
        _end(router)

    threading.Thread(target=follow, name="follow-parent", daemon=True).start()


def _end(router: Any) -> None:
    """Write what is still unwritten, then end this process and every model process (they share its group)."""
    router.recorder.flush(2.0)
    os.killpg(0, signal.SIGKILL)


def _first_line() -> bytes:
    # Unbuffered: nothing after the line may be swallowed.
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit("no configuration on standard input; this process is started by the serving backend")
        line += byte
    return line


def _lock(folder: Path) -> Any:
    """An exclusive lock held until this process ends; None when another engine holds it."""
    file = open_private(folder / LOCK_FILE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return file


def _report(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _fail(error: str, message: str) -> None:
    _report({"error": error, "message": message})
    sys.exit(1)


if __name__ == "__main__":
    main()
