"""`mlops-crew tools`: what each role may do, as the policy sees it now, and what its definitions cost a model."""

import json
import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crew.commands.accept import ACCEPT, accept
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
    from crew.roles import AgentConfig, Roles
    from tools.core.contract import Action
    from tools.core.policy import Policy
    from tools.core.stack import Stack

CHARS_PER_TOKEN = 4.0  # of compact JSON schemas; tokenizers of the large models count 3.8 to 4.4
_VERDICTS: dict[str, Colour] = {"allow": "green", "ask": "yellow", "deny": "red"}


def tools(
    role: Annotated[
        str, typer.Argument(help="One role (default: all), or accept.", metavar="[ROLE|accept]", show_default=False)
    ] = "",
    server: Annotated[
        str, typer.Argument(help="With accept: the third-party server whose tools you accept.", show_default=False)
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="With accept: accept without being asked.")] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show what each role may do: actions, effects, what the policy says, and tokens of the definitions by task.

    `mlops-crew tools accept SERVER` shows what a third-party server offers and what has changed, and accepts it.
    """
    place = place_of(project)
    if role == ACCEPT:
        if not server:
            raise CommandError("name the server: mlops-crew tools accept SERVER", code=2)
        return accept(place, server, yes=yes)
    if server:
        raise CommandError(f"got {role} and {server}; valid: one role, or accept SERVER", code=2)

    from crew.goal import load_goal
    from crew.roles import MANAGER, load_roles
    from crew.third_party import misnamed
    from tools.core.policy import Policy
    from tools.session import open_stack

    config = place.project / "config"
    stack = open_stack(place.project, place.env)
    policy = Policy.load(config / "policy.yaml", place.env)
    policy.check([stack.load_spec(name) for name in stack.own], stack.third_party, str(config / "policy.yaml"))
    goal = load_goal(config / "goal.yaml", place.env)
    roles = load_roles(config, {name: stack.spec(name) for name in stack.names}, goal.placeholders())
    names = [name for name in roles.agents if name != MANAGER]
    if role and role not in names:
        raise CommandError(f"unknown role {role!r}; the roles are: {', '.join(names)}", code=2)
    found = [_role(name, roles, stack, policy) for name in ([role] if role else names)]
    wrong = [str(item) for item in misnamed(stack, policy.file, roles.agents)]
    if as_json:
        print_json({"roles": found, "characters_per_token": CHARS_PER_TOKEN, "misnamed": wrong})
        return 0
    for entry in found:
        _print_role(entry)
    for text in wrong:
        say(paint(f"WARNING: {text}", "yellow"))
    say(f"The numbers are tokens, estimated at {CHARS_PER_TOKEN:g} characters each. ask: waits for a person.")
    say("Arguments have limits too, see config/policy.yaml.")
    return 0


def _role(name: str, roles: "Roles", stack: "Stack", policy: "Policy") -> dict[str, Any]:
    config = roles.agents[name]
    integrations = [
        _integration(integration, actions, name, config, stack, policy)
        for integration, actions in config.integrations.items()
    ]
    return {
        "role": name,
        "title": config.role,
        "tasks": {task: task_tokens(roles, task, stack) for task, its in roles.tasks.items() if its.agent == name},
        "integrations": integrations,
    }


def _integration(
    name: str, granted: list[str] | None, role: str, config: "AgentConfig", stack: "Stack", policy: "Policy"
) -> dict[str, Any]:
    from tools.core.policy import ProposedCall

    spec = stack.spec(name)
    real = stack.is_real(name)
    unaccepted: str | None = None
    listed: list[tuple[str, Any, Action | None]]
    if spec is not None:
        listed = [(a.name, a.effect, a) for a in spec.actions if granted is None or a.name in granted]
    else:  # those a person has accepted; the server is not started for a listing
        accepted = {tool["name"]: tool for tool in stack.pins.tools(name)}
        shown = [tool for tool in accepted if granted is None or tool in granted]
        listed = [(tool, policy.effect_of(name, tool), None) for tool in shown]
        if not accepted:
            unaccepted = f"nobody has accepted a tool of it: mlops-crew tools accept {name}"
    actions: list[dict[str, Any]] = []
    for action, effect, definition in listed:
        asks = definition is not None and definition.asks
        call = ProposedCall(name, action, effect, {}, role=role, granted=config.granted, real=real, asks=asks)
        decision = policy.decide(call)
        actions.append(
            {
                "action": action,
                "effect": effect.value,
                "verdict": decision.verdict.value,
                "rule": decision.rule,
                "tokens": definition_tokens(name, definition) if definition else None,
                "summary": definition.summary if definition else "a tool of a third-party server",
            }
        )
    return {
        "integration": name,
        "title": spec.title if spec else name,
        "level": policy.level(name, real).value,
        "real": real,
        "installed": not spec.missing() if spec else None,
        "unusable": stack.usable(name) or unaccepted,
        "install": spec.install_command() if spec and spec.missing() else None,
        "actions": actions,
    }


def task_tokens(roles: "Roles", task: str, stack: "Stack") -> int:
    """About how many tokens the definitions of a task's tools cost on each request."""
    from crew.roles import granted_actions

    return sum(
        definition_tokens(name, spec.action(action), stated)
        for name, actions in granted_actions(roles, task, stack).items()
        if (spec := stack.spec(name)) is not None
        for action, stated in actions.items()
    )


def definition_tokens(integration: str, action: "Action", stated: Collection[str] | None = ()) -> int:
    """About how many tokens a model reads for one action's definition.

    Args:
        stated: the bound arguments that it must state; see `tools.core.schema.agent_schema`.
    """
    from tools.core.schema import agent_schema, agent_tool_name

    definition = {
        "name": agent_tool_name(integration, action.name),
        "description": action.summary,
        "parameters": agent_schema(action, stated),
    }
    return math.ceil(len(json.dumps(definition, separators=(",", ":"))) / CHARS_PER_TOKEN)


def _print_role(entry: dict[str, Any]) -> None:
    heading = paint(f"{entry['title']} ({entry['role']})", "bold")
    told = ", ".join(f"{task} {tokens:,}" for task, tokens in entry["tasks"].items())
    say(f"{heading}  tokens of definitions by task: {told or 'none'}")
    if not entry["integrations"]:
        say("  uses nothing")
    for item in entry["integrations"]:
        if item["unusable"]:
            say(f"  {item['integration']}: not offered. {item['unusable']}")
            continue
        where = "a real system" if item["real"] else "embedded"
        missing = f", not installed: {item['install']}" if item["install"] else ""
        say(f"  {item['integration']}: {item['level']}, {where}{missing}")
        rows = [
            [
                a["action"],
                a["effect"],
                a["verdict"],
                str(a["tokens"] or "?").rjust(4),
                a["summary"] if a["verdict"] == "allow" else f"{a['summary']} ({a['rule']})",
            ]
            for a in item["actions"]
        ]
        say(table(rows, indent=4, colours=[{2: _VERDICTS[a["verdict"]]} for a in item["actions"]]))
    say()
