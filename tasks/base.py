"""What a task is made of: a typed result, a runbook, a guardrail.

A runbook is a generator: it yields `ToolCall`s, receives each one's `ToolResult`, and returns the task's result. It may
yield a `Wait` too: the run is suspended, and goes on behind it once that is over. It
holds no state but its own variables, so it can be replayed over results already in a conversation.

A guardrail compares a result that an agent claims with the evidence: the calls that the journal recorded.
"""

import importlib
import importlib.util
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from tasks.goal import Goal
from tools.core.grants import Grant
from tools.core.results import Status, ToolResult
from tools.core.waiting import Wait


class TaskResult(BaseModel):
    """Base of task results. `summary` is one or two plain sentences for people."""

    model_config = ConfigDict(extra="forbid")

    summary: str


class GenericResult(TaskResult):
    """Result of a task that has no Python module of its own.

    Args:
        decision: true or false where the task was to decide something; later tasks may ask for it with `when`.
    """

    decision: bool | None = None


Result = TypeVar("Result", bound=TaskResult)


@dataclass(frozen=True)
class ToolCall:
    """One call that a runbook asks for."""

    tool: str
    action: str
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])


def call(tool: str, action: str, **arguments: Any) -> ToolCall:
    """A `ToolCall`, written like a function call."""
    return ToolCall(tool, action, arguments)


class TaskFailedError(Exception):
    """A task cannot be done: the run ends with this message."""


@dataclass(frozen=True)
class Inputs:
    """What a runbook may know: the goal, the results of earlier tasks, the seed, the installed integrations."""

    goal: Goal
    results: Mapping[str, TaskResult]
    seed: int = 0
    installed: frozenset[str] = frozenset()

    def get(self, task: str, kind: type[Result]) -> Result | None:
        """The result of an earlier task, None when it was skipped."""
        found = self.results.get(task)
        return found if isinstance(found, kind) else None

    def need(self, task: str, kind: type[Result]) -> Result:
        """The result of an earlier task.

        Raises:
            TaskFailedError: the task was skipped or has another result type.
        """
        found = self.get(task, kind)
        if found is None:
            raise TaskFailedError(f"this task needs the result of {task}, which did not run")
        return found


Runbook = Generator[ToolCall | Wait, ToolResult, TaskResult]


def data_of(result: ToolResult, doing: str) -> dict[str, Any]:
    """The data of a call that must succeed.

    Raises:
        TaskFailedError: it did not; says what was being done and why it failed.
    """
    if result.status is Status.OK and result.data is not None:
        return result.data
    tried = f" (looked in: {result.error.tried})" if result.error and result.error.tried else ""
    match result.status:
        case Status.DENIED:
            raise TaskFailedError(f"{doing} was denied: {result.message}")
        case Status.NEEDS_APPROVAL:
            raise TaskFailedError(f"{doing} waits for a person: {result.message}")
        case _:
            raise TaskFailedError(f"{doing}: {result.message}{tried}")


@dataclass(frozen=True)
class Evidence:
    """The calls of one task as the journal recorded them, oldest first: `(tool, action, arguments, result)`."""

    calls: tuple[tuple[str, str, dict[str, Any], ToolResult], ...]
    inputs: Inputs

    def last(self, tool: str, action: str) -> dict[str, Any] | None:
        """The data of the last successful call of an action, None when there was none."""
        for name, done, _, result in reversed(self.calls):
            if (name, done) == (tool, action) and result.ok:
                return result.data
        return None

    def all(self, tool: str, action: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Arguments and data of every successful call of an action, oldest first."""
        return [
            (arguments, result.data or {})
            for name, done, arguments, result in self.calls
            if (name, done) == (tool, action) and result.ok
        ]

    def latest(self, call: str, field: str, **arguments: Any) -> Any:
        """A field of the last successful call with these arguments; None where there was none.

        Args:
            call: `integration.action`.
        """
        tool, _, action = call.partition(".")
        for given, data in reversed(self.all(tool, action)):
            if all(given.get(name) == value for name, value in arguments.items()):
                return data.get(field)
        return None

    def named(self, call: str) -> list[tuple[dict[str, Any], ToolResult]]:
        """Arguments and result of every call of that name, whatever became of it."""
        return [(given, result) for tool, action, given, result in self.calls if f"{tool}.{action}" == call]

    def ended(self, call: str, status: Status) -> bool:
        """Whether a call of that name ended so."""
        return any(result.status is status for _, result in self.named(call))

    def succeeded(self, tool: str, action: str) -> bool:
        return self.last(tool, action) is not None


Guardrail = Callable[[Any, Evidence], list[str]]


@dataclass(frozen=True)
class TaskDefinition:
    """One task's Python side. `runbook` is None for a task that exists in YAML alone.

    `atomic`: the task changes production in several steps, so a stop waits until it is done. `warms`: integrations that
    later tasks will need, which may get ready while this one works. `calls`: the actions that the task uses, as
    `integration.action`, each with the bound arguments that its caller must state because a grant leaves a choice.
    `grants`: the calls that belong to the task as things stand, with their arguments; no agent may make another one in
    it. None for a task of YAML alone: its role may do what it is granted, and a person decides what is risky.
    """

    name: str
    result: type[TaskResult]
    runbook: Callable[[Inputs], Runbook] | None = None
    guardrail: Guardrail | None = None
    atomic: bool = False
    warms: tuple[str, ...] = ()
    calls: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    grants: Callable[[Inputs, Evidence], list[Grant]] | None = None


def load_task(name: str) -> TaskDefinition:
    """The task's module `tasks.<name>` if there is one, else a generic definition that needs a model."""
    module_name = f"tasks.{name}"
    if name in _NOT_TASKS or importlib.util.find_spec(module_name) is None:
        return TaskDefinition(name=name, result=GenericResult)
    module = importlib.import_module(module_name)
    return TaskDefinition(
        name=name,
        result=module.Result,
        runbook=module.runbook,
        guardrail=getattr(module, "guardrail", None),
        atomic=getattr(module, "ATOMIC", False),
        warms=getattr(module, "WARMS", ()),
        calls=module.CALLS,
        grants=module.grants,
    )


_NOT_TASKS = frozenset({"base", "common", "decision", "goal", "grounding", "outlook", "unlabelled"})


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of JSON-like data with its dotted path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from walk(item, f"{path}[{index}]")
    else:
        yield path, value
