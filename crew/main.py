"""`run_crew`, the script that `crewai run` starts: a run with the project's own goal."""

import sys


def run_crew() -> None:
    """Run `config/goal.yaml` (or the options given); exits with the run's code."""
    from crew.cli import main

    sys.exit(main(["run", *sys.argv[1:]]))
