"""`python -m tools NAME`: serve one integration over MCP, on stdio or (with `--http PORT`) streamable HTTP.

For our gateway, which shares a key with it. Whoever else calls has no policy, person or journal in front, and is
offered what is safe there; `mlops-crew serve --integration NAME` is the server for outside clients.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import anyio

from tools.core.child_env import PRIVATE_UMASK
from tools.core.errors import ToolError
from tools.core.http_door import Door, open_door, serve_http
from tools.core.meta import GATEWAY_KEY, GatewayKey
from tools.core.proxies import bypass_here
from tools.core.redact import Redactor
from tools.core.server import IntegrationServer, serve_stdio
from tools.core.stack import SERVER_TOKEN, read_env
from tools.registry import INTEGRATIONS, load_spec
from tools.session import new_run_id, project_folder, state_folder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools", description="Serve one integration over MCP.")
    parser.add_argument("name", choices=list(INTEGRATIONS), help="the integration")
    parser.add_argument("--http", type=int, metavar="PORT", help="streamable HTTP on this port (0: any), not stdio")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a further name in Host")
    parser.add_argument("--no-token", action="store_true", help="ask for no token; on loopback only")
    parser.add_argument("--allow-risky", action="store_true", help="without the gateway too: nobody is asked")
    arguments = parser.parse_args()
    os.umask(PRIVATE_UMASK)  # what it keeps is this user's alone
    project: Path = project_folder()
    env = read_env(project)
    bypass_here()
    try:
        return _serve(arguments, project, env)
    except ToolError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1


def _serve(arguments: argparse.Namespace, project: Path, env: dict[str, str]) -> int:
    """Serve until the client or a signal ends it. Raises `ToolError` where it cannot be served so."""
    # The SDK warns of every call of a tool that is not listed; the gateway may call those too.
    logging.getLogger("mcp.server.lowlevel.server").setLevel(logging.ERROR)
    home = state_folder(project, env)
    key = GatewayKey.from_env(env)
    env.pop(GATEWAY_KEY, None)
    os.environ.pop(GATEWAY_KEY, None)  # no process that a backend starts inherits it
    door: Door | None = None
    if arguments.http is not None:
        names = arguments.allow_host
        door = open_door(env, home, host=arguments.host, port=arguments.http, no_token=arguments.no_token, names=names)
    spec = load_spec(arguments.name)
    stopping = threading.Event()
    secret_values = {**env, GATEWAY_KEY: key.secret if key else "", SERVER_TOKEN: (door and door.token) or ""}
    server = IntegrationServer(
        spec,
        env=env,
        project=project,
        home=home,
        run_id=new_run_id(),
        is_stopping=stopping.is_set,
        redactor=Redactor(secret_values, [setting.name for setting in spec.settings if setting.secret]),
        gateway_key=key,
        allow_risky=arguments.allow_risky,
    )
    if door is not None or key is None:
        may = "everything, risky actions too" if arguments.allow_risky else "only what is harmless without them"
        _tell(
            "WARNING: no policy, approval or journal stands in front of this server. Clients other than mlops-crew may "
            f"do {may}; for outside clients start: mlops-crew serve --integration {spec.name}"
        )
    _end_on_sigterm(server, stopping)
    try:
        if door is None:
            anyio.run(serve_stdio, server.mcp, stopping.set)
        else:
            anyio.run(_serve_http, server, door, stopping)
    except KeyboardInterrupt:
        return 130
    finally:
        server.close()
    return 0


def _end_on_sigterm(server: IntegrationServer, stopping: threading.Event) -> None:
    """Stop what the backend started before SIGTERM ends the process, also while the main thread waits for input."""

    def end() -> None:
        try:
            server.close()
        finally:
            os._exit(128 + signal.SIGTERM)

    def on_sigterm(_number: int, _frame: FrameType | None) -> None:
        stopping.set()
        threading.Thread(target=end).start()

    signal.signal(signal.SIGTERM, on_sigterm)


async def _serve_http(server: IntegrationServer, door: Door, stopping: threading.Event) -> None:
    _tell(f"{server.spec.title}:")
    await serve_http(server.mcp, door, tell=_tell, on_stop=stopping.set)


def _tell(text: str) -> None:
    """To standard error: standard output belongs to the protocol."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
