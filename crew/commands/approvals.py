"""`mlops-crew approvals`, `approve`, `reject`, `choose`: answer, from another terminal, what a run asks."""

import json
import time
from typing import Annotated, Literal

import typer

from crew.commands.console import JsonOption, ProjectOption, place_of, print_json, table, user_name

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The approval, as `mlops-crew approvals` lists it.")]
NoteOption = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept in the journal and the report.")]


def approvals(project: ProjectOption = None, as_json: JsonOption = False) -> int:
    """List what waits for a person."""
    from crew.words import choice_rows, duration, title
    from tools.core.approval import ApprovalStore

    pending = ApprovalStore(place_of(project).home / "approvals").pending()
    if as_json:
        print_json([approval.model_dump() for approval in pending])
        return 0
    if not pending:
        print("Nothing waits for a person.")
        return 0
    for approval in pending:
        print(approval.id)
        arguments = {} if approval.asks else approval.arguments
        rows = [
            *([name, text] for name, text in choice_rows(approval)),
            ["call", f"{approval.integration}.{approval.action}"],
            *([f"  {name}", json.dumps(value, default=str)] for name, value in arguments.items()),
            ["asked by", title(approval.role) if approval.role else "a person"],
            ["why", approval.reason],
            ["expires", f"in {duration(max(approval.expires_ts - time.time(), 0))}"],
        ]
        print(table(rows, indent=2))
        print()
    if any(approval.asks for approval in pending):
        print("Choose with: mlops-crew choose ID OPTION --note WHY; mlops-crew reject ID takes none of the options")
    if not all(approval.asks for approval in pending):
        print("Answer with: mlops-crew approve ID, or mlops-crew reject ID --note TEXT")
    return 0


def approve(approval_id: IdArgument, note: NoteOption = "", project: ProjectOption = None) -> int:
    """Let a waiting call happen, once."""
    return _decide(approval_id, "approved", note, project)


def reject(approval_id: IdArgument, note: NoteOption = "", project: ProjectOption = None) -> int:
    """Refuse a waiting call, or all options of a question."""
    return _decide(approval_id, "rejected", note, project)


def choose(
    approval_id: IdArgument,
    option: Annotated[str, typer.Argument(metavar="OPTION", help="Its name, or its number in the list.")],
    note: NoteOption = "",
    project: ProjectOption = None,
) -> int:
    """Choose one of the options of a question."""
    from tools.core.approval import ApprovalStore

    store = ApprovalStore(place_of(project).home / "approvals")
    decided = store.choose(approval_id, option, by=user_name(), note=note)
    print(f"Chosen: {decided.chosen} ({decided.id})")
    return 0


def _decide(approval_id: str, state: Literal["approved", "rejected"], note: str, project: ProjectOption) -> int:
    from tools.core.approval import ApprovalStore

    store = ApprovalStore(place_of(project).home / "approvals")
    decided = store.decide(approval_id, state, by=user_name(), note=note)
    print(f"{state.capitalize()}: {decided.integration}.{decided.action} ({decided.id})")
    return 0
