"""`mlops-crew stop`: from any terminal, let no process here make another write, and end a half-done canary."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from crew.commands.console import CommandError, JsonOption, Place, ProjectOption, place_of, print_json, say

if TYPE_CHECKING:
    from tools.core.stable import WayBack

WAIT_POLL_S = 0.2


def stop(
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; shown wherever a call is refused.")] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Lift the stop.")] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="For runs that are under way to end.", min=0)
    ] = 60,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> int:
    """Stop: no process that uses this project makes another write, until `mlops-crew stop --clear`. Reads go on.

    A run that is under way ends, and a canary that is half done ends at 100 % stable; where nothing is running, this
    command rolls the canary back itself.
    """
    from tools.core.stop import StopSwitch, system_user

    if clear and reason:
        raise CommandError("give --clear or --reason, not both", code=2)
    place = place_of(project)
    switch = StopSwitch(place.home)
    if clear:
        lifted = switch.lift()
        if as_json:
            print_json({"stopped": False, "was": str(lifted) if lifted else None})
        else:
            say(f"Lifted; it was {lifted}." if lifted else "Nothing was stopped.")
        return 0
    stopped = switch.pull(system_user(), reason)
    if not as_json:
        say(f"S{str(stopped)[1:]}" + ("" if stopped.reason[-1:] in (".", "!") else "."))
        say("No write is made here any more. Lift it with: mlops-crew stop --clear")
    alone = _wait(place, wait_s, quiet=as_json)
    found = _way_back(place) if alone else None
    if as_json:
        print_json(
            {
                "stopped": True, "by": stopped.by, "reason": stopped.reason, "at": stopped.at, "alone": alone,
                "rolled_back": found.rolled_back if found else [], "serves": found.serves if found else [],
                "failed": found.failed if found else [],
            }
        )  # fmt: skip
    elif found is None:
        say("A process is still at work here: it can read, and it ends its canary itself. Look with: mlops-crew runs")
    else:
        say(str(found) or "Nothing was ever deployed here.")
    return 1 if found is not None and found.failed else 0


def _wait(place: Place, wait_s: float, *, quiet: bool) -> bool:
    """Wait until nobody else works here; whether that came."""
    from tools.core.stop import AtWork

    at_work = AtWork(place.home)
    deadline, told = time.monotonic() + wait_s, quiet
    try:
        while not at_work.alone():
            if time.monotonic() >= deadline:
                return False
            if not told:
                say("Waiting for what is under way to end ...", sys.stderr)
                told = True
            time.sleep(WAIT_POLL_S)
        return True
    finally:
        at_work.end()


def _way_back(place: Place) -> "WayBack":
    """End a canary that nobody watches."""
    from tools.core.stable import WayBack, back_to_stable
    from tools.session import open_gateway

    # A project where nothing was ever done needs no journal of this.
    if not (place.home / "runs").is_dir():
        return WayBack()
    gateway = open_gateway(place.project, env=place.env)
    try:
        return back_to_stable(gateway)
    finally:
        gateway.close()
        gateway.journal.close()
