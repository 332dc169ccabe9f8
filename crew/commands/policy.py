"""`mlops-crew policy check`, `explain` and `try`: what the policy says, why, and what another one would have said."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crew.commands.console import (
    Colour,
    CommandError,
    JsonOption,
    Place,
    ProjectOption,
    paint,
    place_of,
    print_json,
    say,
    shown,
    table,
)

if TYPE_CHECKING:
    from crew.roles import Roles
    from tools.core.contract import Action
    from tools.core.policy import Policy, ProposedCall
    from tools.core.stack import Stack

app = typer.Typer(
    name="policy", help="Look at what the agents may do: check the file, explain a decision, try another policy.",
    no_args_is_help=True,
)  # fmt: skip

_VERDICTS: dict[str, Colour] = {"allow": "green", "ask": "yellow", "deny": "red"}
_KINDS: dict[str, Colour] = {"error": "red", "warning": "yellow"}
MOST_CHANGES = 40


@dataclass(frozen=True)
class _Project:
    """What the commands compare a policy with."""

    place: Place
    stack: "Stack"
    roles: "Roles"


@app.command("check")
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A policy file.", show_default="config/policy.yaml")] = "",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> int:
    """Look a policy through: unknown names, rules that never fire or never decide, contradictions, odd limits.

    Exit codes: 0 no errors (there may be warnings), 2 errors.
    """
    from tools.core.policy import review

    found = _project(project)
    path, policy = _policy(found, file)
    specs = [found.stack.load_spec(name) for name in found.stack.own]
    findings = review(
        policy.file, specs, found.stack.third_party, roles=found.roles.agents, tasks=found.roles.tasks,
        today=datetime.now(UTC).date(),
    )  # fmt: skip
    errors = sum(finding.kind == "error" for finding in findings)
    if as_json:
        print_json({"file": str(path), "errors": errors, "findings": [dataclasses.asdict(f) for f in findings]})
        return 2 if errors else 0
    if findings:
        rows = [[finding.kind, finding.where, finding.message] for finding in findings]
        say(table(rows, colours=[{0: _KINDS[finding.kind]} for finding in findings]))
        say()
    told = f"{len(policy.file.integrations)} integrations, {len(policy.file.rules)} rules, {len(policy.file.freeze)} "
    told += f"freezes, environment {policy.environment or 'not named'}"
    say(f"{shown(path)}: {_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')}; {told}")
    return 2 if errors else 0


@app.command("explain")
def explain(
    call: Annotated[str, typer.Argument(metavar="CALL", help="INTEGRATION.ACTION")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Its arguments, values as in YAML.")
    ] = None,
    role: Annotated[str, typer.Option(help="Who asks (default: a person).", show_default=False)] = "",
    task: Annotated[str, typer.Option(help="In which task the role asks.", show_default=False)] = "",
    at: Annotated[str, typer.Option(metavar="TIME", help="When, ISO 8601 (default: now).", show_default=False)] = "",
    environment: Annotated[str, typer.Option(help="Instead of MLOPS_ENVIRONMENT.", show_default=False)] = "",
    file: Annotated[str, typer.Option("--policy", metavar="FILE", help="Instead of config/policy.yaml.")] = "",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say which rule decides on a call, and every rule that was looked at. Nothing is called.

    The arguments are taken as they are given: what a task binds, the gateway compares apart from the policy.
    """
    found = _project(project)
    _, policy = _policy(found, file, environment)
    when = _time(at, policy.file.timezone)
    proposed, notes = _proposed(found, policy, call, arguments or [], role, task)
    answer = policy.explain(proposed, when)
    if as_json:
        steps = [dataclasses.asdict(step) for step in answer.steps]
        print_json({"call": proposed.name, "at": when, **dataclasses.asdict(answer.decision), "steps": steps})
        return 0
    decided = answer.decision
    by = f"role {role}" + (f" in task {task}" if task else "") if role else "a person"
    given = ", ".join(f"{name}={value}" for name, value in proposed.arguments.items())
    say(f"{proposed.name}({given}), {proposed.effect.value}, asked by {by}")
    say(f"{when:%A %Y-%m-%d %H:%M %Z}, environment {policy.environment or 'not named'}, level {decided.level.value}")
    for note in notes:
        say(note)
    say(f"\n{paint(decided.verdict.value, _VERDICTS[decided.verdict.value])}: {decided.rule}\n")
    rows = [[step.rule, step.verdict.value if step.verdict else "-", step.why] for step in answer.steps]
    colours: list[Mapping[int, Colour]] = [
        {1: _VERDICTS[step.verdict.value]} if step.verdict else {1: "dim"} for step in answer.steps
    ]
    say("Looked at, the strictest verdict wins:")
    say(table(rows, indent=2, colours=colours))
    return 0


@app.command("try")
def try_(
    new: Annotated[str, typer.Argument(metavar="NEW", help="A policy file.")],
    on: Annotated[list[str], typer.Option("--on", metavar="RUNS", help="Run ids, all, or last:N (repeat it).")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> int:
    """Judge the calls of recorded runs by another policy: which decisions would change. Nothing is called."""
    from tools.core.journal import read_journal
    from tools.core.replay import Project, replay

    found = _project(project)
    path, policy = _policy(found, new)
    runs = _runs(found.place.home, on)
    own = frozenset(name for name, task in found.roles.definitions.items() if task.runbook is not None)
    granted = {name: agent.granted for name, agent in found.roles.agents.items()}
    trial = replay(
        {folder.name: list(read_journal(folder / "journal.jsonl")) for folder in runs},
        policy,
        Project(lambda server, action: _action(found.stack, server, action), granted.get, own),
    )
    if as_json:
        print_json(
            {
                "policy": str(path), "runs": [folder.name for folder in runs], "looked_at": trial.looked_at,
                "left_out": dict(trial.left_out), "kinds": dict(trial.kinds),
                "changes": [dataclasses.asdict(change) for change in trial.changes],
            }
        )  # fmt: skip
        return 0
    rows = [
        [change.run, change.call_id, change.call, f"{change.before} -> {change.after}", change.rule_after]
        for change in trial.changes[:MOST_CHANGES]
    ]
    if rows:
        tones: list[Mapping[int, Colour]] = [{3: _VERDICTS[c.after]} for c in trial.changes[:MOST_CHANGES]]
        say(table([["RUN", "ID", "CALL", "CHANGE", "RULE"], *rows], colours=[{}, *tones]))
        if len(trial.changes) > len(rows):
            say(f"and {len(trial.changes) - len(rows)} more: --json prints all")
        say()
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(trial.kinds.items()))
    say(
        f"{shown(path)} on {_count(len(runs), 'run')}: {_count(trial.looked_at, 'decision')}, "
        f"{len(trial.changes)} would change{f' ({kinds})' if kinds else ''}"
    )
    for why, count in sorted(trial.left_out.items()):
        say(f"Left out: {count} {why}")
    return 0


def _project(project: Path | None) -> _Project:
    place = place_of(project)

    from crew.goal import load_goal
    from crew.roles import load_roles
    from tools.session import open_stack

    stack = open_stack(place.project, place.env)
    config = place.project / "config"
    goal = load_goal(config / "goal.yaml", place.env)
    roles = load_roles(config, {name: stack.spec(name) for name in stack.names}, goal.placeholders())
    return _Project(place, stack, roles)


def _policy(found: _Project, file: str, environment: str = "") -> "tuple[Path, Policy]":
    """The policy file that is meant: from where the user is, else from the project's folder."""
    from tools.core.policy import ENVIRONMENT, Policy

    given = Path(file or found.place.project / "config" / "policy.yaml").expanduser()
    path = given if given.exists() or given.is_absolute() else found.place.project / given
    env = {**found.place.env, **({ENVIRONMENT: environment} if environment else {})}
    return path, Policy.load(path, env)


def _time(text: str, timezone: str) -> datetime:
    """A time as a person writes it; in the policy's time zone where it names none."""
    from zoneinfo import ZoneInfo

    if not text:
        return datetime.now(ZoneInfo(timezone))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--at {text!r} is no time; write it like 2026-12-24T18:00", code=2) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=ZoneInfo(timezone))


def _proposed(
    found: _Project, policy: "Policy", name: str, arguments: list[str], role: str, task: str
) -> "tuple[ProposedCall, list[str]]":
    """The call that is meant, and what the reader must know of it."""
    from tools.core.policy import ProposedCall
    from tools.core.stop import StopSwitch
    from tools.core.windows import WindowStore

    server, _, action_name = name.partition(".")
    if server not in found.stack.names:
        raise CommandError(f"unknown integration {server!r}; valid: {', '.join(found.stack.names)}", code=2)
    action = _action(found.stack, server, action_name)
    spec = found.stack.spec(server)
    if spec is not None and action is None:
        valid = ", ".join(item.name for item in spec.actions)
        raise CommandError(f"{server} has no action {action_name!r}; valid: {valid}", code=2)
    if role and role not in found.roles.agents:
        raise CommandError(f"unknown role {role!r}; valid: {', '.join(found.roles.agents)}", code=2)
    if task and task not in found.roles.tasks:
        raise CommandError(f"unknown task {task!r}; valid: {', '.join(found.roles.tasks)}", code=2)
    own = bool(task) and found.roles.definitions[task].runbook is not None
    notes = ["It is taken to be one of the task's own calls, with the arguments that the task binds."] if own else []
    effect = action.effect if action is not None else policy.effect_of(server, action_name)
    switch = StopSwitch(found.place.home)
    to_stable = policy.is_to_stable(server, action_name)
    if stopped := switch.refusal(name, effect, to_stable=to_stable):
        notes.append(f"Whatever the policy says: {stopped}")
    return (
        ProposedCall(
            integration=server,
            action=action_name,
            effect=effect,
            arguments=_arguments(action, arguments),
            limited=action.limits() if action is not None else {},
            role=role or None,
            granted=found.roles.agents[role].granted if role else None,
            task=task or None,
            in_task=own,
            real=found.stack.is_real(server),
            used=WindowStore(found.place.home).used(policy.file.limits),
            asks=action is not None and action.asks,
        ),
        notes,
    )


def _arguments(action: "Action | None", given: list[str]) -> dict[str, Any]:
    """The arguments as typed, over the action's defaults."""
    import yaml

    values: dict[str, Any] = {}
    if action is not None:
        fields = action.args.model_fields
        values = {
            name: info.get_default(call_default_factory=True) for name, info in fields.items() if not info.is_required()
        }
    for item in given:
        name, separator, text = item.partition("=")
        if not separator:
            raise CommandError(f"{item!r} is no argument; write NAME=VALUE", code=2)
        if action is not None and name not in action.args.model_fields:
            raise CommandError(f"unknown argument {name!r}; valid: {', '.join(action.args.model_fields)}", code=2)
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            values[name] = text
    return {name: value for name, value in values.items() if value is not None}


def _action(stack: "Stack", server: str, name: str) -> "Action | None":
    """The definition of an action of ours; None for a third party's, or one that is no longer there."""
    spec = stack.spec(server) if server in stack.names else None
    return next((action for action in spec.actions if action.name == name), None) if spec is not None else None


def _runs(home: Path, wanted: list[str]) -> list[Path]:
    """Folders of runs, oldest first. Run ids begin with the time, so that their names sort by it."""
    folders = sorted(path.parent for path in (home / "runs").glob("*/journal.jsonl"))
    chosen: dict[str, Path] = {}
    for word in (part for item in wanted for part in item.split(",")):
        if word == "all":
            picked = folders
        elif word.startswith("last:") and word[5:].isascii() and word[5:].isdigit():
            picked = folders[-int(word[5:]) :] if int(word[5:]) else []
        else:
            picked = [folder for folder in folders if folder.name == word]
            if not picked:
                newest = ", ".join(folder.name for folder in reversed(folders[-5:])) or "none yet"
                raise CommandError(f"no run {word!r} in {home / 'runs'}; newest: {newest}; or all, or last:N")
        chosen |= {folder.name: folder for folder in picked}
    return sorted(chosen.values())


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
