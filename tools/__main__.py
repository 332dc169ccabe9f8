"""`python -m tools NAME`: serve one integration over MCP, on stdio or (with `--http PORT`) streamable HTTP."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import anyio

from tools.core.child_env import PRIVATE_UMASK
from tools.core.errors import ToolError
from tools.core.redact import Redactor
from tools.core.server import IntegrationServer, serve_http, serve_stdio
from tools.core.stack import read_env
from tools.registry import INTEGRATIONS, load_spec
from tools.session import new_run_id, project_folder, state_folder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools", description="Serve one integration over MCP.")
    parser.add_argument("name", choices=list(INTEGRATIONS), help="the integration")
    parser.add_argument("--http", type=int, metavar="PORT", help="streamable HTTP on this port (0: any), not stdio")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    arguments = parser.parse_args()
    os.umask(PRIVATE_UMASK)  # what it keeps is this user's alone
    project: Path = project_folder()
    env = read_env(project)
    spec = load_spec(arguments.name)
    stopping = threading.Event()
    server = IntegrationServer(
        spec,
        env=env,
        project=project,
        home=state_folder(project, env),
        run_id=new_run_id(),
        is_stopping=stopping.is_set,
        redactor=Redactor(env, [setting.name for setting in spec.settings if setting.secret]),
    )
    _end_on_sigterm(server, stopping)
    try:
        if arguments.http is None:
            anyio.run(serve_stdio, server.mcp, stopping.set)
        else:
            token = env.get("MLOPS_SERVER_TOKEN")
            anyio.run(_serve_http, server, arguments.host, arguments.http, token, stopping)
    except ToolError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
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


async def _serve_http(
    server: IntegrationServer, host: str, port: int, token: str | None, stopping: threading.Event
) -> None:
    def announce(url: str) -> None:
        print(f"{server.spec.title} serves MCP at {url}", file=sys.stderr, flush=True)

    await serve_http(server.mcp, host=host, port=port, token=token, announce=announce, on_stop=stopping.set)


if __name__ == "__main__":
    sys.exit(main())
