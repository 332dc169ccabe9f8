"""Reads `config/agents.yaml` and `config/tasks.yaml`, and says everything that is wrong with them before anything runs.

CrewAI drops unknown keys and missing files silently; here each is an error that names the valid ones.
"""

import difflib
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.base import TaskDefinition, load_task
from tasks.goal import Goal
from tools.core.arguments import bound_arguments
from tools.core.contract import Integration
from tools.core.stack import Stack
from tools.core.yamlfile import ConfigError, as_model, load_yaml

MANAGER = "manager"


class AgentConfig(BaseModel):
    """One role. `integrations` maps what it may use to the actions it may call there (None: all of them)."""

    model_config = ConfigDict(extra="forbid")

    role: str = Field(min_length=1)
    goal: str = Field(min_length=1)
    backstory: str = Field(min_length=1)
    integrations: dict[str, list[str] | None] = Field(default_factory=dict[str, list[str] | None])
    llm: str | None = None

    @field_validator("integrations", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("must be a list of names, or of {name: [actions]}")
        found: dict[str, list[str] | None] = {}
        for item in value:
            if isinstance(item, str):
                found[item] = None
            elif isinstance(item, dict):
                found.update(item)
            else:
                raise ValueError(f"{item!r} is neither a name nor {{name: [actions]}}")
        return found

    @property
    def granted(self) -> frozenset[str]:
        """What the role may use, as the policy reads it: `integration` or `integration.action`."""
        return frozenset(
            entry
            for name, actions in self.integrations.items()
            for entry in ([name] if actions is None else [f"{name}.{action}" for action in actions])
        )


class TaskConfig(BaseModel):
    """One task. `when`: conditions that must all hold. `context`: earlier tasks to show; None shows all of them."""

    model_config = ConfigDict(extra="forbid")

    agent: str
    description: str = Field(min_length=1)
    expected_output: str = Field(min_length=1)
    when: list[str] = Field(default_factory=list[str])
    context: list[str] | None = None

    @field_validator("when", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


@dataclass(frozen=True)
class Condition:
    """`task.field` or `goal.field`, possibly negated. One on a task that was skipped does not hold, negated or not,
    unless it is `lenient`: then it holds."""

    subject: str
    field: str
    negated: bool
    lenient: bool = False

    @classmethod
    def parse(cls, text: str) -> "Condition":
        lenient = text.startswith("unless ")
        negated = lenient or text.startswith("not ")
        subject, _, name = text.removeprefix("unless ").removeprefix("not ").strip().partition(".")
        return cls(subject, name, negated, lenient)

    def holds(self, goal: Goal, results: Mapping[str, BaseModel]) -> bool:
        if self.subject == "goal":
            truth = _asked_for(goal, self.field)
        elif self.subject in results:
            truth = bool(getattr(results[self.subject], self.field))
        else:
            return self.lenient
        return truth != self.negated

    def unmet(self, results: Mapping[str, BaseModel]) -> str:
        """Why it does not hold, in words."""
        if self.subject == "goal" and self.field == "objectives":
            return f"the goal names {'more than ' if self.negated else ''}one objective"
        if self.subject == "goal":
            return f"the goal {'asks' if self.negated else 'does not ask'} for {self.field}"
        if self.subject not in results:
            return f"{self.subject} did not run"
        return f"{self.subject} found {self.field} to be {'true' if self.negated else 'false'}"


def _asked_for(goal: Goal, name: str) -> bool:
    """Whether a goal asks for something: synthetic rows, more than one objective; of anything else its truth."""
    match name:
        case "synthetic":
            return goal.synthetic.rows > 0
        case "objectives":
            return goal.weighs
        case _:
            return bool(getattr(goal, name))


@dataclass(frozen=True)
class Roles:
    """The roles and tasks of a project, checked against each other. Tasks keep the file's order."""

    agents: dict[str, AgentConfig]
    tasks: dict[str, TaskConfig]
    definitions: dict[str, TaskDefinition]

    def conditions(self, task: str) -> list[Condition]:
        return [Condition.parse(text) for text in self.tasks[task].when]


def load_roles(config: Path, specs: Mapping[str, Integration | None], placeholders: Iterable[str]) -> Roles:
    """Read and check both files.

    Args:
        config: the folder that holds them.
        specs: every server that may be named; None for a third-party one, whose actions are not checked here.
        placeholders: what descriptions may name in braces.

    Raises:
        ConfigError: a missing file, an unknown key, integration, action, agent, task or field; names the valid ones.
    """
    agents_path, tasks_path = config / "agents.yaml", config / "tasks.yaml"
    agents = load_agents(config)
    tasks = {
        name: as_model(content, TaskConfig, f"{tasks_path}: task {name!r}")
        for name, content in _mapping(tasks_path).items()
    }
    if not tasks:
        raise ConfigError(f"{tasks_path}: no task is defined")
    for name, agent in agents.items():
        _check_integrations(f"{agents_path}: agent {name!r}", agent, specs)
    definitions = {name: load_task(name) for name in tasks}
    known = set(placeholders)
    earlier: list[str] = []
    for name, task in tasks.items():
        where = f"{tasks_path}: task {name!r}"
        if task.agent not in agents or task.agent == MANAGER:
            raise ConfigError(f"{where}: {_unknown('agent', task.agent, [a for a in agents if a != MANAGER])}")
        _check_placeholders(where, task, known)
        for reference in task.context or ():
            if reference not in earlier:
                raise ConfigError(f"{where}: context: {_unknown('earlier task', reference, earlier)}")
        for text in task.when:
            _check_condition(where, Condition.parse(text), text, earlier, definitions)
        earlier.append(name)
    return Roles(agents, tasks, definitions)


def load_agents(config: Path) -> dict[str, AgentConfig]:
    """The roles of `agents.yaml`, not held against anything else. Raises `ConfigError`."""
    path = config / "agents.yaml"
    return {name: as_model(content, AgentConfig, f"{path}: agent {name!r}") for name, content in _mapping(path).items()}


def _mapping(path: Path) -> dict[str, Any]:
    content = load_yaml(path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: expected a mapping from names to their definitions")
    return content


def _check_integrations(where: str, agent: AgentConfig, specs: Mapping[str, Integration | None]) -> None:
    for name, actions in agent.integrations.items():
        if name not in specs:
            raise ConfigError(f"{where}: {_unknown('integration', name, specs)}")
        spec = specs[name]
        valid = [action.name for action in spec.actions] if spec is not None else None
        for action in actions or ():
            if valid is not None and action not in valid:
                raise ConfigError(f"{where}: {name}: {_unknown('action', action, valid)}")


def _check_placeholders(where: str, task: TaskConfig, known: set[str]) -> None:
    for text in (task.description, task.expected_output):
        try:
            named = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        except ValueError as error:
            raise ConfigError(f"{where}: {error} in {text!r} (write {{{{ and }}}} for literal braces)") from None
        for name in named - known:
            raise ConfigError(f"{where}: {_unknown('placeholder', name, sorted(known))}")


def _check_condition(
    where: str, condition: Condition, text: str, earlier: list[str], definitions: Mapping[str, TaskDefinition]
) -> None:
    if condition.subject == "goal":
        if condition.field not in Goal.model_fields:
            raise ConfigError(f"{where}: when {text!r}: {_unknown('goal field', condition.field, Goal.model_fields)}")
        return
    if condition.subject not in earlier:
        raise ConfigError(f"{where}: when {text!r}: {_unknown('earlier task', condition.subject, [*earlier, 'goal'])}")
    fields = definitions[condition.subject].result.model_fields
    if condition.field not in fields:
        raise ConfigError(f"{where}: when {text!r}: {_unknown('field', condition.field, fields)}")


def _unknown(what: str, got: str, valid: Iterable[str]) -> str:
    names = list(valid)
    close = difflib.get_close_matches(got, names, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    return f"unknown {what} {got!r}{hint} (valid: {', '.join(names) or 'none'})"


def granted_actions(roles: Roles, task: str, stack: Stack) -> dict[str, dict[str, list[str]]]:
    """Server -> action -> the bound arguments that its caller must state: what a task's agent is given.

    A task says which actions it uses; of those its agent's YAML must name them. A task that exists in YAML alone uses
    everything its agent is granted, and its caller states whatever the goal does not bind. Servers of other people are
    left out: only they know their tools. So is what cannot be used as things are set up.
    """
    config, definition = roles.agents[roles.tasks[task].agent], roles.definitions[task]
    found: dict[str, dict[str, list[str]]] = {}
    for name, named in config.integrations.items():
        spec = stack.spec(name)
        if spec is None or stack.usable(name) is not None:
            continue
        for action in spec.actions:
            call = f"{name}.{action.name}"
            if named is not None and action.name not in named:
                continue
            if definition.grants is None:
                stated = [argument for argument, bound in bound_arguments(action.args).items() if not bound.name]
            elif call in definition.calls:
                stated = list(definition.calls[call])
            else:
                continue
            found.setdefault(name, {})[action.name] = stated
    return found
