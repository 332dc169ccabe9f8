"""`mlops-crew serve`: the gateway as one MCP server for outside clients."""

import os
import signal
import sys
import threading
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from crew.commands.console import CommandError, Place, ProjectOption, place_of, say
from crew.commands.ending import end_at_once

if TYPE_CHECKING:
    from tasks.goal import Goal
    from tools.core.gateway import Gateway
    from tools.core.journal import Record

DEFAULT_GOAL = "config/goal.yaml"


def serve(
    stdio: Annotated[bool, typer.Option("--stdio", help="Standard input and output (the default).")] = False,
    http: Annotated[
        int | None,
        typer.Option("--http", metavar="PORT", help="Streamable HTTP at /mcp on this port (0: any).", min=0, max=65535),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; beyond loopback it needs MLOPS_SERVER_TOKEN.")
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A further name this server is reached by (repeat it)."),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Ask for no token, on loopback: anybody on this machine may call.")
    ] = False,
    goal: Annotated[
        str, typer.Option("--goal", metavar="FILE", help="The goal that binds the calls.", show_default=DEFAULT_GOAL)
    ] = "",
    integration: Annotated[
        list[str] | None, typer.Option("--integration", metavar="NAME", help="Offer only these (repeat it).")
    ] = None,
    project: ProjectOption = None,
) -> int:
    """Offer every allowed action as an MCP tool: each call passes the policy, approvals, journal and redaction.

    The goal binds what decides or opens something, as it does for agents: its target, metric, limits, trainer and data.
    HTTP clients must send a bearer token: MLOPS_SERVER_TOKEN, or the one that is made and shown at the start. Calls
    that need a person wait for `mlops-crew approve` in another terminal.
    """
    if stdio and http is not None:
        raise CommandError("choose either --stdio or --http PORT", code=2)
    place = place_of(project)

    import importlib.metadata

    import anyio

    from tools.core.gateway_server import GatewayServer
    from tools.core.grants import Scope
    from tools.core.http_door import open_door, serve_http
    from tools.core.server import serve_stdio
    from tools.core.stable import watch
    from tools.session import open_gateway, open_stack

    known = open_stack(place.project, place.env).names
    for name in integration or ():
        if name not in known:
            raise CommandError(f"unknown integration {name!r}; valid: {', '.join(known)}", code=2)
    door = None
    if http is not None:
        names = allow_host or ()
        door = open_door(place.env, place.home, host=host, port=http, no_token=no_token, names=names)
    bound = _goal(place, goal)
    gateway = open_gateway(
        place.project, env=place.env, data=bound.files if bound else (), data_roots=bound.data.roots if bound else ()
    )
    _end_on_signals(gateway)
    watch(gateway)
    try:
        scope = Scope(bound.bound(seed=0) if bound else {})
        server = GatewayServer(gateway, integration, version=importlib.metadata.version("mlops-crew"), scope=scope)
        _tell(f"Journal: {gateway.journal.path}")
        _tell(f"Calls are bound to the goal {bound.name}" if bound else "No goal: calls that need one are refused")
        _tell(f"Tools: {server.count}, of {', '.join(server.names)}")
        for name, why in server.offers.left_out().items():
            _tell(f"WARNING: {name} is left out: {why}")
        gateway.journal.subscribe(_tell_server)
        _tell("Calls that need a person wait for: mlops-crew approve ID")
        if door is None:
            _tell("MCP on standard input and output")
            anyio.run(serve_stdio, server.mcp, gateway.stop)
        else:
            anyio.run(partial(serve_http, server.mcp, door, tell=_tell, on_stop=gateway.stop))
    finally:
        gateway.close()
        gateway.journal.close()
    return 0


def _tell(text: str) -> None:
    """To standard error: standard output belongs to the protocol."""
    say(text, sys.stderr)


def _tell_server(record: "Record") -> None:
    """That a server of somebody else is left out from now on, or answers again."""
    if record["kind"] == "server":
        why = record["left_out"]
        _tell(f"WARNING: {record['server']} is left out: {why}" if why else f"{record['server']} answers again")


def _end_on_signals(gateway: "Gateway") -> None:
    """Stop what the calls started before a signal ends the process, also while a thread waits for input."""
    asked = threading.Event()

    def end(code: int) -> None:
        try:
            gateway.close()
        finally:
            os._exit(code)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            end_at_once(128 + number, lambda: None)
        asked.set()
        gateway.stop()
        threading.Thread(target=end, args=(128 + number,)).start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)


def _goal(place: Place, given: str) -> "Goal | None":
    """The goal that binds the calls; None where none is named and the project has none."""
    from crew.goal import load_goal

    path = place.project / (given or DEFAULT_GOAL)
    return load_goal(path, place.env) if given or path.is_file() else None
