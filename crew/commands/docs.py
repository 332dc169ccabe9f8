"""`mlops-crew docs`: what is derived from the specs of the integrations."""

from typing import Annotated

import typer

from crew.commands.console import CommandError, ProjectOption, place_of, say


def docs(
    write: Annotated[bool, typer.Option("--write", help="Write what departs.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Say what departs (the default).")] = False,
    project: ProjectOption = None,
) -> int:
    """Check or write what is derived from the specs: .env.example, docs, the linter's list of libraries.

    For developers, in a checkout. Exits with 1 when something departs.
    """
    if write and check:
        raise CommandError("--check and --write exclude each other", code=2)
    place = place_of(project)

    from crew import derived

    if not (place.project / "tools" / "registry.py").is_file():
        raise CommandError(f"{place.project} is no checkout of the project: it has no tools/registry.py", code=2)
    if write:
        for name in derived.write(place.project):
            say(f"  {name}: written")
    found = derived.problems(place.project)
    if found:
        raise CommandError("\n".join(found))
    say("Everything that is derived from the specs agrees with them.")
    return 0
