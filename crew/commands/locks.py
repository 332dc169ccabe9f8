"""`mlops-crew locks`: who may change production now."""

import dataclasses
from typing import Annotated

import typer

from crew.commands.console import JsonOption, ProjectOption, place_of, print_json, say, table


def locks(
    release: Annotated[
        str, typer.Option("--release", metavar="MODEL", help="Remove what a suspended or dead run left.")
    ] = "",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> int:
    """List the locks of production: one per registered model, held by a run while it may change what serves."""
    from tools.core.locks import give_up, list_locks

    home = place_of(project).home
    if release:
        given = give_up(home, release)
        say(f"Released {release}: {given}" if given else f"Nothing holds {release}.")
        return 0
    found = list(list_locks(home))
    if as_json:
        print_json([{**dataclasses.asdict(item.holder), "held": item.held} for item in found])
        return 0
    if not found:
        say("Nothing is locked.")
        return 0
    rows = [["MODEL", "ENVIRONMENT", "STATE", "BY"]]
    for item in found:
        left = "reserved (suspended)" if item.holder.suspended else "left by a dead process"
        rows.append([item.holder.model, item.holder.environment, "held" if item.held else left, str(item.holder)])
    say(table(rows))
    return 0
