"""`mlops-crew scaffold`: the folder of a new integration, and the lines that make it known."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from crew.commands.console import CommandError, ProjectOption, place_of, say


def scaffold(
    name: Annotated[str, typer.Argument(help="Of the folder, in YAML and in tool names: label_studio.")],
    remote: Annotated[bool, typer.Option("--remote", help="A system reached over REST, nothing embedded.")] = False,
    title: Annotated[str, typer.Option(help="What people call it (default: from the name).", show_default=False)] = "",
    requires: Annotated[
        list[str] | None, typer.Option("--requires", metavar="REQ", help='A library: "pagerduty>=7.2,<8" (repeat it).')
    ] = None,
    project: ProjectOption = None,
) -> int:
    """Write a new integration that works and keeps the contract: folder, registry line, policy block, extra.

    For developers, in a checkout. What exists is never overwritten.
    """
    place = place_of(project)

    from crew.scaffold.write import New, write

    new = New(name, title or name.replace("_", " ").title(), remote, tuple(requires or ()))
    for line in write(new, place.project):
        say(f"  {line}")
    folder = f"tools/integrations/{name}"
    # Where a line must be broken depends on the name.
    formatted = subprocess.run([sys.executable, "-m", "ruff", "format", "-q", folder], cwd=place.project, timeout=60)
    if formatted.returncode:
        say(f"  {folder} is not formatted: run ruff format {folder}")
    # In a process of its own: this one has the registry without the new line.
    paths = os.pathsep.join(path for path in (str(place.project), os.environ.get("PYTHONPATH", "")) if path)
    command = [sys.executable, "-m", "crew", "docs", "--write", "--project", str(place.project)]
    ended = subprocess.run(
        command, cwd=place.project, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300
    )
    if ended.returncode:
        raise CommandError(f"written, but what is derived from the specs is not:\n{ended.stderr.strip()}")
    say(ended.stdout.rstrip())
    say()
    say(f"Next: replace the sample actions in {folder}, then: mlops-crew docs --write")
    say(f'and:  uv run pytest tests/contracts -k "{name}"')
    return 0
