"""`python -m tools NAME`: serve one integration over MCP, on stdio or (with `--http PORT`) streamable HTTP."""

import argparse
import sys
from pathlib import Path

import anyio

from tools.core.errors import ToolError
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
    project: Path = project_folder()
    env = read_env(project)
    server = IntegrationServer(
        load_spec(arguments.name), env=env, project=project, home=state_folder(project, env), run_id=new_run_id()
    )
    try:
        if arguments.http is None:
            anyio.run(serve_stdio, server.mcp)
        else:
            anyio.run(_serve_http, server, arguments.host, arguments.http, env.get("MLOPS_SERVER_TOKEN"))
    except ToolError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        server.close()
    return 0


async def _serve_http(server: IntegrationServer, host: str, port: int, token: str | None) -> None:
    def announce(url: str) -> None:
        print(f"{server.spec.title} serves MCP at {url}", file=sys.stderr, flush=True)

    await serve_http(server.mcp, host=host, port=port, token=token, announce=announce)


if __name__ == "__main__":
    sys.exit(main())
