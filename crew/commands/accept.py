"""`mlops-crew tools accept SERVER`: look at the tools of somebody else's server, and accept them as they are now."""

import json
import sys
from typing import TYPE_CHECKING, Any

from crew.commands.console import Colour, CommandError, Place, paint, say, table

if TYPE_CHECKING:
    from tools.core.pins import Difference

ACCEPT = "accept"
_COLOURS: dict[str, Colour] = {"new": "yellow", "changed": "yellow", "gone": "dim", "same": "green", "refused": "red"}


def accept(place: Place, server: str, *, yes: bool) -> int:
    """Show what the server offers against what was accepted, and accept it if the person says so.

    Raises:
        CommandError: no such server, or nobody is there to say yes.
    """
    import anyio

    from tools.core.client import listed_tools
    from tools.core.person import person
    from tools.session import open_stack

    stack = open_stack(place.project, place.env)
    if server not in stack.third_party:
        known = ", ".join(stack.third_party) or "none"
        raise CommandError(f"no server {server!r} under mcpServers in config/stack.yaml; there: {known}", code=2)
    listed = anyio.run(listed_tools, server, stack.config(server))
    differences = stack.pins.compare(server, listed)
    _show(server, differences, {str(definition["name"]): definition for definition in listed})
    if not any(found.state in ("new", "changed", "gone") for found in differences):
        say("Nothing to accept: this is what was accepted before.")
        return 0
    if not yes and not _agreed(server):
        say("Nothing was accepted.")
        return 1
    kept = stack.pins.accept(server, listed, by=person())
    say(f"Accepted {len(kept)} tools of {server} in {stack.pins.path}.")
    say("What each of them may do is in config/policy.yaml; one that is not named under effects counts as risky.")
    return 0


def _show(server: str, differences: "list[Difference]", listed: dict[str, dict[str, Any]]) -> None:
    from tools.core.foreign import clean_schema, clean_text

    say(paint(f"Tools of {server}, as it describes them itself", "bold"))
    rows: list[list[str]] = []
    for found in differences:
        definition = listed.get(found.tool, {})
        described = clean_text(str(definition.get("description") or ""), 400)
        why = f" ({found.detail})" if found.detail else ""
        rows.append([found.tool, found.state, f"{described}{why}"])
    say(table(rows, indent=2, colours=[{1: _COLOURS[found.state]} for found in differences]))
    for found in differences:
        if found.state in ("new", "changed"):
            schema = clean_schema(listed[found.tool].get("inputSchema")) or {}
            say(f"  {found.tool}: {json.dumps(schema.get('properties', {}))[:2000]}")


def _agreed(server: str) -> bool:
    if not sys.stdin.isatty():
        raise CommandError("nobody is here to look at them: run it in a terminal, or add --yes once you have")
    return input(f"Accept the tools of {server} as they are now? [y/N] ").strip().lower() in ("y", "yes")
