"""`mlops-crew approvals`, `approve`, `reject`, `choose`: answer, from another terminal, what a run asks."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crew.commands.console import (
    CommandError,
    JsonOption,
    ProjectOption,
    place_of,
    print_json,
    say,
    table,
    width_of_output,
)

if TYPE_CHECKING:
    from tools.core.approval import Approval, ApprovalStore

TAKEN_S = 5.0  # how long an answer with edits waits to hear whether the run takes it

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The approval, as `mlops-crew approvals` lists it.")]
NoteOption = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept in the journal and the report.")]


def approvals(
    approval_id: Annotated[str, typer.Argument(metavar="ID", help="Only this one, with its values in full.")] = "",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> int:
    """List what waits for a person."""
    store = _store(project)
    pending = [store.get(approval_id)] if approval_id else store.pending()
    if as_json:
        print_json([approval.model_dump() for approval in pending])
        return 0
    for name in store.untrusted():
        say(f"Not to be trusted: {name} is not as a run put it (its signature does not fit). Do not answer it.\n")
    if not pending:
        say("Nothing waits for a person.")
        return 0
    for approval in pending:
        say(approval.id)
        say(table(_rows(approval, whole=bool(approval_id)), indent=2))
        say()
    if any(approval.asks for approval in pending):
        say("Choose with: mlops-crew choose ID OPTION --note WHY; mlops-crew reject ID takes none of the options")
    if not all(approval.asks for approval in pending):
        say("Answer with: mlops-crew approve ID [--set NAME=VALUE], or mlops-crew reject ID --note TEXT")
    return 0


def approve(
    approval_id: IdArgument,
    note: NoteOption = "",
    edits: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another value for an argument; may be given several times."),
    ] = None,
    project: ProjectOption = None,
) -> int:
    """Let a waiting call happen, once; with --set, with other arguments if the policy lets them."""
    store = _store(project)
    changed = store.get(approval_id).edits(edits or [])
    decided = store.decide(approval_id, "approved", note=note, edited=changed)
    told = f" with {', '.join(f'{name}={json.dumps(value)}' for name, value in changed.items())}" if changed else ""
    if changed:
        _heard(store, decided)
    say(f"Approved: {decided.integration}.{decided.action}{told} ({decided.id}), by {decided.decided_by}")
    return 0


def reject(approval_id: IdArgument, note: NoteOption = "", project: ProjectOption = None) -> int:
    """Refuse a waiting call, or all options of a question."""
    decided = _store(project).decide(approval_id, "rejected", note=note)
    say(f"Rejected: {decided.integration}.{decided.action} ({decided.id}), by {decided.decided_by}")
    return 0


def choose(
    approval_id: IdArgument,
    option: Annotated[str, typer.Argument(metavar="OPTION", help="Its name, or its number in the list.")],
    note: NoteOption = "",
    project: ProjectOption = None,
) -> int:
    """Choose one of the options of a question."""
    decided = _store(project).choose(approval_id, option, note=note)
    say(f"Chosen: {decided.chosen} ({decided.id}), by {decided.decided_by}")
    return 0


def _store(project: Path | None) -> "ApprovalStore":
    from tools.core.approval import ApprovalStore

    place = place_of(project)
    return ApprovalStore(place.home / "approvals", env=place.env, apart_from=(place.project, place.home))


def _heard(store: "ApprovalStore", decided: "Approval") -> None:
    """Wait until the run has decided anew on what was changed.

    Raises:
        CommandError: it was refused; the question is open again.
    """
    end = time.monotonic() + TAKEN_S
    while time.monotonic() < end:
        why = store.refusal_of(decided)
        if why:
            raise CommandError(f"{decided.id} was not approved so: {why}\nThe question is still open.")
        if store.get(decided.id).state == "used":
            return
        time.sleep(0.1)
    say("The run has not taken the changed call yet; whether it may be made so is decided when it goes on.")


def _rows(approval: "Approval", *, whole: bool) -> list[list[str]]:
    from crew.card import EFFECTS, argument_rows, asked_by, state_rows
    from crew.words import duration

    options = [[f"{place} {o.name}", f"{o.title}. {o.consequences}"] for place, o in enumerate(approval.options, 1)]
    if approval.asks:
        rows = [["question", str(approval.arguments.get("question", ""))], *options]
        if approval.arguments.get("plot"):
            rows.append(["plot", str(approval.arguments["plot"])])
        rows.append(["call", f"{approval.integration}.{approval.action}"])
    else:
        width = 100_000 if whole else max(width_of_output() - 24, 40)
        rows = [
            ["call", f"{approval.integration}.{approval.action}"],
            *([["does", approval.facts.summary]] if approval.facts.summary else []),
            *([["effect", EFFECTS.get(approval.facts.effect, approval.facts.effect)]] if approval.facts.effect else []),
            *([f"  {name}", text] for name, text in argument_rows(approval, width)),
            *([name, text] for name, text in state_rows(approval)),
            *([["undo", approval.facts.undo]] if approval.facts.undo else []),
        ]
    left = duration(max(approval.expires_ts - time.time(), 0))
    return [
        *rows,
        ["asked by", asked_by(approval)],
        ["why", approval.reason],
        ["hash", f"{approval.call_hash[:16]} of this exact call"],
        ["expires", f"in {left}" if approval.state == "pending" else f"it is {approval.state}"],
    ]
