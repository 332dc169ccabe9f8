"""What a task is made of: a typed result, a runbook, a guardrail.

A runbook is a generator: it yields `ToolCall`s, receives each one's `ToolResult`, and returns the task's result. It may
yield a `Wait` too: the run is suspended, and goes on behind it once that is over. It
holds no state but its own variables, so it can be replayed over results already in a conversation. What a call returned
is read as the model that the action's spec declares, never by the names of its fields.

A guardrail compares a result that an agent claims with the evidence: the calls that the journal recorded.
"""

import importlib
import importlib.util
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.goal import Goal
from tools.core.contract import Data
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
Returned = TypeVar("Returned", bound=Data)
Given = TypeVar("Given")


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
Steps = Generator[ToolCall, ToolResult, Given]
"""A part of a runbook, and what it comes to."""


def returned(result: ToolResult, model: type[Returned]) -> Returned | None:
    """What a call returned, as the model of its action; None where it did not succeed.

    Raises:
        TaskFailedError: it succeeded and returned something else: too much to be handed on, or of another version.
    """
    if not result.ok or result.data is None:
        return None
    # A result that went through a conversation carries the message of its envelope, which not every model has.
    data = {key: value for key, value in result.data.items() if key != "message" or key in model.model_fields}
    try:
        return model.model_validate(data)
    except ValidationError as error:
        if result.data.get("spilled"):
            why = f"it was too large to be handed on and is in {result.data.get('file')}"
        else:
            first = error.errors()[0]
            why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise TaskFailedError(
            f"the result of call {result.call_id} cannot be read as {model.__name__}: {why}"
        ) from error


def expect(result: ToolResult, model: type[Returned], doing: str) -> Returned:
    """What a call returned that must succeed, as the model of its action.

    Raises:
        TaskFailedError: it did not; says what was being done and why it failed.
    """
    found = returned(result, model)
    if found is None:
        raise _failed(result, doing)
    return found


def succeed(result: ToolResult, doing: str) -> None:
    """`expect` where what was returned does not matter."""
    if not result.ok or result.data is None:
        raise _failed(result, doing)


def _failed(result: ToolResult, doing: str) -> TaskFailedError:
    tried = f" (looked in: {result.error.tried})" if result.error and result.error.tried else ""
    match result.status:
        case Status.DENIED:
            return TaskFailedError(f"{doing} was denied: {result.message}")
        case Status.NEEDS_APPROVAL:
            return TaskFailedError(f"{doing} waits for a person: {result.message}")
        case _:
            return TaskFailedError(f"{doing}: {result.message}{tried}")


@dataclass(frozen=True)
class Evidence:
    """The calls of one task as the journal recorded them, oldest first: `(tool, action, arguments, result)`.

    A call is named `integration.action`; what it returned is read as the model of that action.
    """

    calls: tuple[tuple[str, str, dict[str, Any], ToolResult], ...]
    inputs: Inputs

    def last(self, call: str, model: type[Returned], /, **arguments: Any) -> Returned | None:
        """What the last successful call of that name with these arguments returned; None where there was none."""
        made = self._successful(call, arguments)
        return returned(made[-1][1], model) if made else None

    def all(self, call: str, model: type[Returned], /) -> list[tuple[dict[str, Any], Returned]]:
        """Arguments and data of every successful call of that name, oldest first."""
        made = [(given, returned(result, model)) for given, result in self._successful(call, {})]
        return [(given, data) for given, data in made if data is not None]

    def named(self, call: str) -> list[tuple[dict[str, Any], ToolResult]]:
        """Arguments and result of every call of that name, whatever became of it."""
        return [(given, result) for tool, action, given, result in self.calls if f"{tool}.{action}" == call]

    def ended(self, call: str, status: Status) -> bool:
        """Whether a call of that name ended so."""
        return any(result.status is status for _, result in self.named(call))

    def succeeded(self, call: str) -> bool:
        """Whether a call of that name did."""
        return bool(self._successful(call, {}))

    def is_newer(self, call: str, than: str) -> bool:
        """Whether a call of that name succeeded after the last one of the other name did, if any did."""
        done = [f"{tool}.{action}" for tool, action, _, result in self.calls if result.ok and result.data is not None]
        return call in done and (than not in done or _last(done, call) > _last(done, than))

    def failed_since(self, call: str, since: str) -> bool:
        """Whether a call of that name was tried, and did not succeed, after one of the other name had."""
        ended = [(f"{tool}.{action}", result.ok) for tool, action, _, result in self.calls]
        return (since, True) in ended and (call, False) in ended[ended.index((since, True)) :]

    def _successful(self, call: str, arguments: Mapping[str, Any]) -> list[tuple[dict[str, Any], ToolResult]]:
        return [
            (given, result)
            for given, result in self.named(call)
            if result.ok
            and result.data is not None
            and all(given.get(name) == value for name, value in arguments.items())
        ]


def _last(names: list[str], name: str) -> int:
    return len(names) - 1 - names[::-1].index(name)


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
