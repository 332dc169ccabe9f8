"""The runs of a project, from their journals: a list, the newest, and the facts of one."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from crew.report.collect import JOURNAL, RecordedRun, read_run
from crew.report.render import report_facts

NEWEST_NAMED = 5


class UnknownRunError(Exception):
    """No such run; the message names the newest ones."""


@dataclass(frozen=True)
class RunSummary:
    """One line of the list. `outcome` as in the journal's `run_finished`; `unfinished` when there is none (the run
    goes on, or was killed), `calls` for tool calls outside a run. `report` is None when it was not written."""

    id: str
    started: datetime | None
    outcome: str
    headline: str
    duration_s: float | None
    goal_name: str
    autonomy: str
    folder: Path
    report: Path | None


def list_runs(home: Path) -> list[RunSummary]:
    """All runs under the state folder, newest first."""
    return [_summary(read_run(folder, verify=False)) for folder in _folders(home)]


def latest_run(home: Path) -> RunSummary | None:
    """The newest run of the crew; tool calls outside a run do not count. None when there is none."""
    runs = (_summary(read_run(folder, verify=False)) for folder in _folders(home))
    return next((found for found in runs if found.outcome != "calls"), None)


def show_run(home: Path, run_id: str) -> dict[str, Any]:
    """What the report says about a run, as data (the keys of `report.json`).

    Raises:
        UnknownRunError: no such run.
    """
    folders = _folders(home)
    folder = next((folder for folder in folders if folder.name == run_id), None)
    if folder is None:
        newest = ", ".join(folder.name for folder in folders[:NEWEST_NAMED]) or "none yet"
        raise UnknownRunError(f"no run {run_id!r} in {home / 'runs'}; newest: {newest}")
    return report_facts(read_run(folder))


def _folders(home: Path) -> list[Path]:
    """Run ids begin with the time, so that their names sort by it."""
    return sorted((path.parent for path in (home / "runs").glob(f"*/{JOURNAL}")), key=lambda f: f.name, reverse=True)


def _summary(run: RecordedRun) -> RunSummary:
    report = run.folder / "report.html"
    return RunSummary(
        id=run.folder.name,
        started=run.started,
        outcome=run.outcome,
        headline=run.headline,
        duration_s=run.duration_s,
        goal_name=run.goal_name,
        autonomy=run.autonomy,
        folder=run.folder,
        report=report if report.is_file() else None,
    )
