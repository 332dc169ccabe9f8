"""`mlops-crew who-was-live`: which version answered at a time, who let it, and why."""

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from crew.commands.console import CommandError, JsonOption, ProjectOption, paint, place_of, print_json, say, table

if TYPE_CHECKING:
    from crew.live_history import Answer, Live


def who_was_live(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="The registered model; all when left out.")] = "",
    at: Annotated[
        str,
        typer.Option("--at", metavar="TIME", help="ISO 8601, e.g. 2026-11-23T14:30:00Z; local time without a zone."),
    ] = "now",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say which version was live at a time: share, digest, data version, who approved it, why.

    Read from the journals of all runs, each verified first. Exits with 1 when they do not say.
    """
    moment = _moment(at)
    place = place_of(project)

    from crew.live_history import read_histories, who_was_live

    answers = who_was_live(read_histories(place.home, place.env), moment, model)
    if as_json:
        print_json([dataclasses.asdict(answer) for answer in answers])
    elif not answers:
        say(f"No journal in {place.home / 'runs'} tells of a model in production.")
    else:
        for answer in answers:
            _print(answer)
    return int(not any(answer.champion for answer in answers))


def _moment(at: str) -> datetime:
    if at == "now":
        return datetime.now(UTC)
    try:
        return datetime.fromisoformat(at).astimezone(UTC)
    except (ValueError, OverflowError):
        raise CommandError(f"--at takes a time such as 2026-11-23T14:30:00Z, got {at!r}", code=2) from None


def _print(answer: "Answer") -> None:
    say(paint(f"{answer.model}, {_shown(answer.at)}", "bold"))
    rows: list[list[str]] = []
    if answer.champion is None:
        rows.append(["live", "nobody, as far as the journals say"])
    else:
        rows += _rows("live", answer.champion)
    if answer.canary is not None:
        rows += _rows("canary", answer.canary)
    if answer.registered is not None:
        rows.append(["registry", f"version {answer.registered.version} since {_shown(answer.registered.origin.ts)}"])
    rows += [["note", note] for note in answer.notes]
    rows += [["DOUBTFUL", doubt] for doubt in answer.doubts]
    say(table(rows, indent=2))


def _rows(what: str, live: "Live") -> list[list[str]]:
    origin = live.origin
    return [
        [what, f"version {live.version}, {live.share:g} % of requests, since {_shown(origin.ts)}"],
        ["  digest", live.digest or "not recorded"],
        ["  data", f"version {origin.data_version}" if origin.data_version else "not recorded"],
        ["  approved", f"by {origin.approver}"],
        ["  reason", origin.reason or "not recorded"],
        ["  by call", f"{origin.action}, {origin.call} of run {origin.run}"],
    ]


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
