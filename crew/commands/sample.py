"""`mlops-crew sample`: write the simulated sample data."""

from pathlib import Path
from typing import Annotated

import typer

from crew.commands.console import CommandError, ProjectOption, place_of, say, shown

FILES = ("reference.csv", "current.csv", "README.txt")


def sample(
    folder: Annotated[Path | None, typer.Argument(help="Where to.", show_default="sample in the project")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same files.", min=0)] = 7,
    no_drift: Annotated[
        bool, typer.Option("--no-drift", help="The current data follows the reference's rule.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    project: ProjectOption = None,
) -> int:
    """Write SIMULATED sample data: a year of phone customers, then three weeks in which they drift."""
    place = place_of(project)
    default = place.project / "sample"
    target = default if folder is None else Path.cwd() / folder.expanduser()
    there = [name for name in FILES if (target / name).exists()]
    if there and not force:
        raise CommandError(
            f"{shown(target)} holds {', '.join(there)} already; nothing was written\nOverwrite with: --force", code=1
        )

    from crew.sample import write_sample

    write_sample(target, seed=seed, drift=not no_drift)
    say(f"SIMULATED data written to {shown(target)} (seed {seed}; no real customer is in it):")
    say("  reference.csv  6,000 customers of one year, before the drift")
    drifting = "nothing drifts" if no_drift else "drifting silently"
    say(f"  current.csv    6,000 customers of the three weeks after it, {drifting}")
    say("  README.txt     what exactly was simulated")
    say()
    if target == default:
        say("Next: mlops-crew run    (or: crewai run)")
    else:
        say(f"Next: name {shown(target)}/reference.csv and current.csv under data in a goal file, then")
        say("      mlops-crew run GOAL")
    return 0
