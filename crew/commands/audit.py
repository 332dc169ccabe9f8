"""`mlops-crew audit`: whether the journals are what was written, and what they hold."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from crew.commands.console import (
    Colour,
    CommandError,
    JsonOption,
    ProjectOption,
    paint,
    place_of,
    print_json,
    say,
    table,
)

if TYPE_CHECKING:
    from tools.core.audit import Audit

ALL, LATEST = "all", "latest"
TOLD = 10  # problems of one journal, unless it is the only one asked for


def audit(
    what: Annotated[Literal["verify", "show"], typer.Argument(help="verify, or show the records of one run.")],
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="A run, latest, or all.")] = ALL,
    project: ProjectOption = None,
    as_json: JsonOption = False,
    old: Annotated[bool, typer.Option("--old", help="Take journals of the old format, which prove nothing.")] = False,
) -> int:
    """Verify that journals are as they were written: nothing edited, removed, moved, put in or cut.

    Exits with 0 when all are intact, 1 when one was changed or proves nothing, 2 when it was asked wrongly. Journals
    of the old format have no chain: they can be read, and not verified. Where journals were signed on this machine, one
    of the old format may have been made up, and counts as no evidence unless --old is given.
    """
    place = place_of(project)
    folders = _folders(place.home, run)
    if what == "show":
        if run == ALL:
            raise CommandError("name the run to show: mlops-crew audit show RUN", code=2)
        return _show(folders[0], as_json)
    return _verify(place.home, folders, place.env, as_json, only=run != ALL, old=old)


def _folders(home: Path, run: str) -> list[Path]:
    """The folders meant, newest first.

    Raises:
        CommandError: no such run.
    """
    from tools.core.chain import HEAD

    runs = home / "runs"
    found = {path.parent for name in ("journal.jsonl", HEAD) for path in runs.glob(f"*/{name}")}
    ordered = sorted(found, key=lambda folder: folder.name, reverse=True)
    if run == ALL:
        return ordered
    if run == LATEST and ordered:
        return ordered[:1]
    named = [folder for folder in ordered if folder.name == run]
    if not named:
        newest = ", ".join(folder.name for folder in ordered[:5]) or "none yet"
        raise CommandError(f"no run {run!r} in {runs}; newest: {newest}", code=2)
    return named


def _verify(home: Path, folders: list[Path], env: Mapping[str, str], as_json: bool, *, only: bool, old: bool) -> int:
    from tools.core.audit import audit_journal
    from tools.core.chain import heads_of, run_label, signs

    audits = {folder.name: audit_journal(folder / "journal.jsonl", env) for folder in folders}
    there = {run_label(folder / "journal.jsonl") for folder in folders}
    gone = [] if only else sorted(heads_of(home / "runs", env) - there, reverse=True)
    changed = sum(not found.intact for found in audits.values())
    is_doubted = not old and signs(env)
    unproven = [name for name, found in audits.items() if is_doubted and found.intact and _is_old(found)]
    failed = bool(changed or unproven)
    if as_json:
        runs = [_facts(name, found) for name, found in audits.items()]
        print_json({"intact": not failed, "runs": runs, "unproven": unproven, "gone": gone})
        return int(failed)
    if not audits:
        say("No run yet, so there is nothing to verify.")
    rows: list[list[str]] = []
    colours: list[dict[int, Colour]] = []
    for name, found in audits.items():
        word, told, colour = _words(found, only)
        rows.append([name, word, told])
        colours.append({1: colour})
    if rows:
        say(table(rows, colours=colours))
    for name in gone:
        say(f"{name}  {paint('gone', 'yellow')}  it was written here, and its folder is not there any more")
    if changed:
        say(f"\n{changed} of {len(audits)} changed after it was written: what such a journal says is no evidence.")
    if unproven:
        say(
            f"\n{len(unproven)} of {len(audits)} of the old format prove nothing: journals are signed on this machine, "
            "and anybody could have written these. If you know where they come from, add --old."
        )
    return int(failed)


def _is_old(found: "Audit") -> bool:
    return bool(found.records) and not found.chained


def _words(found: "Audit", only: bool) -> tuple[str, str, Colour]:
    if found.problems:
        shown = found.problems if only else found.problems[:TOLD]
        more = len(found.problems) - len(shown)
        lines = [problem.message for problem in shown] + ([f"and {more} more"] if more else [])
        return "CHANGED", "\n".join(lines), "red"
    notes = list(found.notes)
    if _is_old(found):
        return "old", f"format 1 has no chain: {found.records} records, not verified", "yellow"
    if found.chained < found.records:
        notes.append(
            f"the first {found.records - found.chained} are of format 1, sealed as a whole when it was continued"
        )
    if not found.closed:
        notes.append("not closed: it goes on, or its process was killed")
    return "intact", "; ".join([f"{found.records} records", *notes]), "green"


def _facts(name: str, found: "Audit") -> dict[str, Any]:
    return {
        "run": name, "intact": found.intact, "records": found.records, "chained": found.chained, "format": found.format,
        "closed": found.closed, "problems": [dataclasses.asdict(problem) for problem in found.problems],
        "notes": list(found.notes),
    }  # fmt: skip


def _show(folder: Path, as_json: bool) -> int:
    from tools.core.journal import read_journal

    records = list(read_journal(folder / "journal.jsonl"))
    if as_json:
        print_json(records)
        return 0
    rows = [
        [
            str(record.get("seq")),
            str(record.get("ts"))[:23],
            str(record.get("kind")),
            str(record.get("call_id") or record.get("task") or ""),
            " ".join(
                str(record[name])
                for name in ("server", "action", "decision", "status", "state", "outcome")
                if record.get(name)
            ),
        ]
        for record in records
    ]
    say(table([["SEQ", "TIME", "KIND", "OF", "WHAT"], *rows]))
    return 0
