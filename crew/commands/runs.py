"""`mlops-crew runs`, `show`, `report`: what happened, from the journals."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

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
    shown,
    table,
)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run as `mlops-crew runs` lists it, or latest.")]
LATEST = "latest"

_COLOURS: dict[str, Colour] = {"good": "green", "warn": "yellow", "bad": "red", "neutral": "bold"}
_CALL_COLOURS: dict[str, Colour] = {
    "ok": "green", "no_data": "dim", "failed": "red", "unknown": "red", "unfinished": "yellow", "denied": "yellow",
    "needs_approval": "yellow",
}  # fmt: skip


def runs(
    limit: Annotated[int, typer.Option(help="How many, newest first; 0 for all.", min=0)] = 20,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> int:
    """List the runs of this project, newest first."""
    home = place_of(project).home

    from crew.runs import list_runs
    from crew.words import duration, headline

    found = list_runs(home)
    kept = found[:limit] if limit else found
    if as_json:
        print_json([dataclasses.asdict(run) for run in kept])
        return 0
    if not kept:
        say("No run yet. Start one with: mlops-crew run")
        return 0
    rows = [
        [
            run.id,
            f"{run.started.astimezone():%Y-%m-%d %H:%M}" if run.started else "",
            run.goal_name or "-",
            duration(run.duration_s),
            run.headline,
        ]
        for run in kept
    ]
    tones: list[dict[int, Colour]] = [{4: _COLOURS[headline(run.outcome)[1]]} for run in kept]
    say(table([["RUN", "STARTED", "GOAL", "TOOK", "OUTCOME"], *rows], colours=[{}, *tones]))
    if len(found) > len(kept):
        say(f"\n{len(found) - len(kept)} older runs: mlops-crew runs --limit 0")
    return 0


def show(
    run: RunArgument = LATEST,
    project: ProjectOption = None,
    as_json: JsonOption = False,
    time: Annotated[bool, typer.Option("--time", help="Seconds per task and per action instead.")] = False,
) -> int:
    """Show one run: its tasks, decisions and calls, and where its report is; or where its time went."""
    home = place_of(project).home

    from crew.runs import show_run

    run_id = _resolve(home, run)
    facts = show_run(home, run_id)
    if time:
        _print_times(facts, as_json)
        return 0
    folder = home / "runs" / run_id
    report = folder / "report.html"
    if as_json:
        facts["report"] = str(report) if report.is_file() else None
        facts["folder"] = str(folder)
        print_json(facts)
        return 0
    _print_head(facts, run_id, folder, report)
    _print_tasks(facts["tasks"])
    _print_decisions(facts["decisions"])
    _print_calls(facts["calls"])
    return 0


def report(run: RunArgument = LATEST, project: ProjectOption = None) -> int:
    """Write the report of a run again, from its journal."""
    home = place_of(project).home

    from crew.report import write_report
    from crew.runs import show_run

    run_id = _resolve(home, run)
    show_run(home, run_id)  # says which runs there are when there is no such one
    written = write_report(home / "runs" / run_id)
    say(f"Report  {shown(written.html)}")
    say(f"Data    {shown(written.json)}")
    return 0


def _resolve(home: Path, run: str) -> str:
    from crew.runs import latest_run

    if run != LATEST:
        return run
    latest = latest_run(home)
    if latest is None:
        raise CommandError(f"no run yet in {home / 'runs'}\nStart one with: mlops-crew run")
    return latest.id


def _print_head(facts: dict[str, Any], run_id: str, folder: Path, report: Path) -> None:
    from crew.words import duration

    run, verdict = facts["run"], facts["verdict"]
    say(paint(verdict["headline"], _COLOURS.get(verdict["tone"], "bold")))
    mode = f"LLM {run['model']}" if run["mode"] == "llm" else run["mode"]
    how = [mode, run["process"], run["autonomy"], f"seed {run['seed']}" if run["seed"] is not None else ""]
    written = shown(report) if report.is_file() else f"not written; write it with: mlops-crew report {run_id}"
    rows = [
        ["Run", run_id],
        ["Goal", " ".join(filter(None, [run["goal_name"], f"({run['goal_path']})" if run["goal_path"] else ""]))],
        ["Took", duration(run["duration_s"])],
        ["How", ", ".join(filter(None, how))],
        ["Summary", verdict["summary"]],
        *(["Because", reason] for reason in verdict["reasons"]),
        *(["Error", error] for error in run["errors"]),
        ["Report", written],
        ["Journal", shown(folder / "journal.jsonl")],
    ]
    say(table([row for row in rows if row[1]], indent=2))


def _print_tasks(tasks: list[dict[str, Any]]) -> None:
    from crew.words import duration, title

    if not tasks:
        return
    say(f"\n{paint('Tasks', 'bold')}")
    rows = [
        [
            task["task"],
            title(task["agent"]),
            duration(task["duration_s"]) if task["state"] == "done" else task["state"],
            _told(task),
        ]
        for task in tasks
    ]
    skipped: dict[int, Colour] = {0: "dim", 1: "dim", 2: "dim", 3: "dim"}
    say(table(rows, indent=2, colours=[skipped if task["state"] == "skipped" else {2: "dim"} for task in tasks]))


def _print_times(facts: dict[str, Any], as_json: bool) -> None:
    from crew.step_times import step_times
    from crew.words import DASH, duration

    run, steps = facts["run"], step_times(facts)
    if as_json:
        print_json({"duration_s": run["duration_s"], "steps": [dataclasses.asdict(step) for step in steps]})
        return
    say(f"Run {run['id']} took {duration(run['duration_s'])}")
    rows = [["TASK AND ACTION", "TOOK", "OF THE RUN", "IN CALLS", "CALLS", "LONGEST"]]
    tones: list[dict[int, Colour]] = [{}]
    for step in steps:
        share = DASH if step.share is None else f"{step.share:.0%}"
        count = str(sum(action.calls for action in step.actions))
        rows.append([step.task, duration(step.seconds), share, duration(step.in_calls_s), count, ""])
        tones.append({0: "bold"})
        for action in step.actions:
            rows.append(["  " + action.action, duration(action.seconds), "", "", str(action.calls)])
            rows[-1].append(duration(action.longest_s) if action.calls > 1 else "")
            tones.append(dict.fromkeys(range(6), "dim"))
    say(table(rows, indent=2, colours=tones))


def _told(task: dict[str, Any]) -> str:
    text = task["summary"] or task["reason"]
    return f"{text} (finished by its runbook: {task['fallback']})" if task["fallback"] else text


def _print_decisions(decisions: list[dict[str, Any]]) -> None:
    if not decisions:
        return
    say(f"\n{paint('Decisions', 'bold')}")
    for decision in decisions:
        say(
            table(
                [[f"{decision['what']}", f"{decision['result']}"]], indent=2, colours=[{1: _COLOURS[decision["tone"]]}]
            )
        )
        rows = [["why", decision["why"]], ["by", f"{decision['by']}  [{', '.join(decision['evidence'])}]"]]
        say(table([row for row in rows if row[1]], indent=4, colours=[{0: "dim"}, {0: "dim"}]))


def _print_calls(calls: list[dict[str, Any]]) -> None:
    from crew.words import duration

    if not calls:
        return
    say(f"\n{paint('Calls', 'bold')}")
    rows = [
        [
            call["id"],
            f"{call['server']}.{call['action']}",
            duration(call["duration_s"]),
            call["status"],
            call["message"],
        ]
        for call in calls
    ]
    say(table(rows, indent=2, colours=[{0: "dim", 3: _CALL_COLOURS.get(c["status"], "bold")} for c in calls]))
