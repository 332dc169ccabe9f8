"""`mlops-crew check-data`: how a file is understood, before any run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crew.commands.console import CommandError, JsonOption, ProjectOption, paint, place_of, print_json, say, shown

if TYPE_CHECKING:
    from tasks.goal import Goal
    from tools.modeling.reading.settings import ReadSettings
    from tools.modeling.reading.understand import ReadFile

REJECTED = 3


def check_data(
    files: Annotated[list[Path] | None, typer.Argument(help="One file, or reference and current.")] = None,
    goal: Annotated[Path | None, typer.Option(help="Files and settings of this goal.")] = None,
    time_column: Annotated[str, typer.Option(help="The column that orders the rows.")] = "",
    separator: Annotated[str | None, typer.Option(help="comma, semicolon, tab, pipe, or a character.")] = None,
    decimal: Annotated[str | None, typer.Option(help="'.' or ','.")] = None,
    thousands: Annotated[str | None, typer.Option(help="',', '.', space, apostrophe or none.")] = None,
    encoding: Annotated[str | None, typer.Option(help="utf-8, cp1252, ...")] = None,
    date_format: Annotated[str | None, typer.Option(help="dmy, mdy, ymd, excel, or a format: %d/%m/%Y.")] = None,
    nulls: Annotated[list[str] | None, typer.Option(help="A text that means no value; may be repeated.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Of times without one.")] = None,
    skip_rows: Annotated[int, typer.Option(help="Lines before the header.", min=0)] = 0,
    skip_footer: Annotated[int, typer.Option(help="Records at the end.", min=0)] = 0,
    json_: JsonOption = False,
    project: ProjectOption = None,
) -> int:
    """Show how a file is understood: separator, encoding, records, and what each column holds and why.

    Two files are read together, as a run reads reference and current: one way of writing for each column. Nothing is
    written or trained. Exits with 3 when a file cannot be read without guessing; the sentence names the setting.
    """
    from pydantic import ValidationError

    from tools.core.errors import FixableError

    given = {
        "separator": separator,
        "decimal": decimal,
        "thousands": thousands,
        "encoding": encoding,
        "date_format": date_format,
        "nulls": nulls or None,
        "timezone": timezone,
        "skip_rows": skip_rows or None,
        "skip_footer": skip_footer or None,
    }
    stated = {name: value for name, value in given.items() if value is not None}
    try:
        if goal is not None:
            if files:
                raise CommandError("give files, or --goal, which names them", code=2)
            place = place_of(project)  # without a goal, files are looked at anywhere
            loaded = _goal_at(goal, place.env)
            paths, settings, more = _of_goal(loaded, place.project, stated)
        else:
            loaded = None
            paths, settings, more = [Path.cwd() / path.expanduser() for path in files or []], _settings(stated), {}
        if not 1 <= len(paths) <= 2:
            raise CommandError("give one file, two (reference and current), or --goal", code=2)
        read, findings = _read(paths, settings, {"clock": time_column, **more})
        notes, refused = ([], []) if loaded is None else _judged(read, loaded)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}" for one in error.errors()
        )
        raise CommandError(problems, code=2) from None
    except FixableError as error:
        raise CommandError(error.message, code=REJECTED) from None
    if json_:
        content = {"files": [_as_json(one) for one in read], "findings": findings + notes, "refused": refused}
        print_json(content)
        return REJECTED if refused else 0
    for one in read:
        _show(one)
    for finding in findings + notes:
        say(f"{paint('look at', 'yellow')}  {finding}")
    for finding in refused:
        say(f"{paint('refused', 'red')}  {finding}")
    return REJECTED if refused else 0


def _settings(stated: dict[str, Any]) -> "ReadSettings":
    from tools.modeling.reading.settings import ReadSettings

    return ReadSettings.model_validate(stated)


def _goal_at(path: Path, env: Mapping[str, str]) -> "Goal":
    from crew.goal import load_goal

    return load_goal(path if path.is_absolute() else Path.cwd() / path, env)


def _judged(read: list["ReadFile"], goal: "Goal") -> tuple[list[str], list[str]]:
    """What a person should know of the target and of columns that tell it; and what a run would refuse for it."""
    from tools.modeling.labels import read_labels, told_positive
    from tools.modeling.leaks import find_leaks, shared_rows_doubt
    from tools.modeling.reading.compare import shared_rows
    from tools.modeling.target_checks import check_target

    frames: dict[str, Any] = {one.facts.source: one.frame for one in read}  # pandas' annotations know no columns
    if any(goal.target not in frame.columns for frame in frames.values()):
        return [], []
    columns, notes = read_labels({name: f[goal.target] for name, f in frames.items()}, goal.task, goal.data.labels)
    for name, column in columns.items():
        frames[name] = frames[name].assign(**{goal.target: column})
    *before, now = frames.values()
    reference = before[0] if before else None
    targets = (None if reference is None else reference[goal.target], now[goal.target])
    found = check_target(*targets, goal.task, goal.metric, goal.positive)
    found += find_leaks(reference, now, goal.target, goal.task, goal.dropped)
    found += [] if reference is None else shared_rows_doubt(shared_rows(reference, now, goal.dropped), len(now))
    if goal.task == "binary":
        notes.append(told_positive(now[goal.target], goal.positive))
    refused: list[str] = []
    for doubt in found:
        words = f"{doubt.column}: {doubt.reason}" if doubt.column else doubt.reason
        stops = doubt.critical and not doubt.is_accepted(goal.data.accept)
        (refused if stops else notes).append(words)
    return notes, refused


def _of_goal(goal: "Goal", project: Path, stated: dict[str, Any]) -> tuple[list[Path], "ReadSettings", dict[str, Any]]:
    """The goal's files, its settings with what was stated here over them, and what it says of the columns."""
    data = goal.data
    names = [data.source] if data.source else [data.reference, data.current]
    found = [Path(name) if Path(name).is_absolute() else project / name for name in names]
    settings = _settings({**data.read.stated(), **stated})
    return found, settings, {"clock": data.time_column, "target": goal.target, "drop": goal.dropped}


def _read(paths: list[Path], settings: "ReadSettings", columns: dict[str, Any]) -> tuple[list["ReadFile"], list[str]]:
    from tools.modeling.data import check_file
    from tools.modeling.reading.compare import compare_files
    from tools.modeling.reading.understand import read_together

    for path in paths:
        check_file(path)
    files = {shown(path): path for path in paths}
    roles = dict(zip(files, ("reference", "current"), strict=False)) if len(files) == 2 else {}
    read = read_together(files, settings, roles=roles, **columns)
    findings = [warning for one in read for warning in one.facts.warnings]
    clock = columns["clock"]
    if len(read) == 2 and all(not clock or clock in one.frame for one in read):
        findings += compare_files(read[0].frame, read[1].frame, clock or None)
    return read, findings


def _show(one: "ReadFile") -> None:
    from tools.modeling.columns import unusable
    from tools.modeling.reading.describe import describe

    facts = one.facts
    how = f"CSV separated by {facts.separator}, {facts.encoding}" if facts.kind == "CSV" else facts.kind
    say(f"{paint(facts.source, 'bold')}  {how}, {facts.records} records, {one.frame.shape[1]} columns")
    for note in facts.notes:
        say(f"  {note}")
    rows = describe(one.frame)
    wide = min(max((len(row.name) for row in rows), default=4), 32)
    say(f"  {'column'.ljust(wide)}  {'type'.ljust(12)}  {'nulls'.rjust(7)}  values")
    for row in rows:
        say(f"  {row.name.ljust(wide)}  {row.type.ljust(12)}  {str(row.nulls).rjust(7)}  {row.values}")
        if why := facts.columns.get(row.name):
            say(f"  {' ' * wide}    {why}")
    left_out = facts.left_out | {name: f"no feature: {why}" for name, why in unusable(one.frame).items()}
    for name, why in left_out.items():
        say(f"  {paint('left out', 'yellow')}  {name}: {why}")
    say()


def _as_json(one: "ReadFile") -> dict[str, Any]:
    from dataclasses import asdict

    from tools.modeling.reading.describe import describe

    facts = one.facts
    columns = [{**asdict(row), "why": facts.columns.get(row.name, "")} for row in describe(one.frame)]
    return {
        "file": facts.source,
        "kind": facts.kind,
        "separator": facts.separator,
        "encoding": facts.encoding,
        "records": facts.records,
        "notes": facts.notes,
        "columns": columns,
        "left_out": facts.left_out,
    }
