"""`mlops-crew resume`: go on with a run that was cut off, or that waited without a process."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from crew.commands.console import CommandError, Place, ProjectOption, place_of, say
from crew.commands.run import play, stdout_for_result

if TYPE_CHECKING:
    from crew.resuming import Answered
    from tools.core.approval import ApprovalStore

IdsOption = Annotated[
    list[str] | None, typer.Option(metavar="CALL", help="A call that was not settled: it did happen.")
]


def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run, as `mlops-crew runs` lists it.")] = "",
    due: Annotated[bool, typer.Option("--due", help="Every suspended run whose wait is over.")] = False,
    happened: IdsOption = None,
    not_happened: Annotated[
        list[str] | None, typer.Option(metavar="CALL", help="A call that was not settled: it did not happen.")
    ] = None,
    project: ProjectOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON at the end; progress goes to stderr.")
    ] = False,
) -> int:
    """Go on with a run where it was cut off or suspended; what is done is not done again.

    Exit codes: as for `run`; with --due, that of the last run that went on, 0 where none was due.
    """
    if bool(run) == due:
        raise CommandError("name a run, or give --due to go on with every suspended run whose wait is over", code=2)
    place = place_of(project)
    said: dict[str, Answered] = dict.fromkeys(happened or (), "happened")
    said |= dict.fromkeys(not_happened or (), "not_happened")
    if run:
        return _resume(place, run, said, as_json)
    return _resume_due(place, as_json)


def _resume(place: Place, run_id: str, said: "dict[str, Answered]", as_json: bool) -> int:
    from crew.display import Display, terminal_prompt
    from crew.mlops_crew import MlopsCrew

    with stdout_for_result(as_json) as write_result:
        display = Display(sys.stderr if as_json else sys.stdout)
        prompt = terminal_prompt(display) if sys.stdin.isatty() else None
        crew = MlopsCrew.resumed(run_id, project=place.project, on_record=display, prompt=prompt, said=said)
        return play(crew, display, write_result if as_json else None)


def _resume_due(place: Place, as_json: bool) -> int:
    from crew.resuming import suspended_runs
    from tools.core.approval import ApprovalStore

    apart = (place.project, place.home)
    code, store = 0, ApprovalStore(place.home / "approvals", env=place.env, apart_from=apart)
    for recorded, why in suspended_runs(place.home, lambda name: is_answered(store, name)):
        assert recorded.wait is not None
        if not why:
            say(f"{recorded.run_id} still waits: {recorded.wait.what}", sys.stderr)
            continue
        say(f"{recorded.run_id} goes on: {why}", sys.stderr)
        code = _resume(place, recorded.run_id, {}, as_json)
    return code


def is_answered(store: "ApprovalStore", approval_id: str) -> bool:
    """Whether an approval needs no answer any more; one that is gone needs none either."""
    from tools.core.approval import ApprovalError

    try:
        return store.get(approval_id).state != "pending"
    except ApprovalError:
        return True
