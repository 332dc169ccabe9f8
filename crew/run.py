"""One run's state: the goal, the results so far, which task is on, who thinks in it. The crew's parts share it.

The journal is the record; this is what the run must know while it is under way.
"""

import asyncio
import json
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from crew.resuming import Recorded
from crew.roles import Roles
from crew.takeover import Made
from tasks.base import Evidence, Inputs, TaskResult, ToolCall
from tasks.goal import Goal
from tools.core.arguments import bound_arguments
from tools.core.calls import PERSON, Caller
from tools.core.contract import Effect
from tools.core.gateway import Gateway
from tools.core.grants import Scope
from tools.core.journal import Journal, JournalError, Record
from tools.core.results import ToolResult
from tools.core.waiting import Suspended, Wait

Mode = Literal["runbook", "llm"]
MAX_REFUSED = 100  # calls of a model in one task that are not valid or not of the task, before its runbook takes over


@dataclass
class Usage:
    """Tokens of one task, and their cost where prices are known."""

    prompt: int = 0
    completion: int = 0
    calls: int = 0


@dataclass
class Current:
    """The task under way."""

    task: str
    agent: str
    mode: Mode
    started: float
    usage: Usage = field(default_factory=Usage)
    calls: list[Made] = field(default_factory=list[Made])
    by_model: int | None = None  # of `calls`, how many a model asked for; None: all so far, no runbook took over
    guardrail_failures: int = 0


class Run:
    """State of one run. Results are written by the main thread; calls may come from several.

    Args:
        price_per_mtok: US dollars per million prompt and completion tokens; None when not known.
        recorded: what is there already, of a run that is gone on with.
    """

    def __init__(
        self,
        *,
        goal: Goal,
        roles: Roles,
        gateway: Gateway,
        seed: int,
        installed: frozenset[str],
        price_per_mtok: tuple[float, float] | None = None,
        recorded: Recorded | None = None,
    ) -> None:
        self.goal = goal
        self.roles = roles
        self.gateway = gateway
        self.seed = seed
        self.installed = installed
        self.results: dict[str, TaskResult] = {}
        self.fatal: BaseException | None = None
        self.current: Current | None = None
        self._price = price_per_mtok
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # one call at a time: what may come next depends on what was done
        self._recorded = recorded
        # What a recorded call was made with; it is handed out without a new intent.
        self._arguments = {past.id: past.arguments for past in gateway.recall.calls}
        self._refused: set[str] = set()
        gateway.journal.subscribe(self._listen)

    @property
    def journal(self) -> Journal:
        return self.gateway.journal

    def inputs(self) -> Inputs:
        """What the current task's runbook may know."""
        return Inputs(goal=self.goal, results=dict(self.results), seed=self.seed, installed=self.installed)

    def evidence(self) -> Evidence:
        """The calls of the current task, as they were journalled; without those that a model put wrongly."""
        current = self._on()
        with self._lock:
            own = len(current.calls) if current.by_model is None else current.by_model
            calls = tuple(
                (made.tool, made.action, made.arguments, made.result)
                for place, made in enumerate(current.calls)
                if not (made.refused and place < own)
            )
        return Evidence(calls=calls, inputs=self.inputs())

    def made(self) -> tuple[list[Made], list[Made]]:
        """The current task's calls, oldest first: a model's until the runbook took over, and those since."""
        current = self._on()
        with self._lock:
            own = current.by_model or 0
            return current.calls[:own], current.calls[own:]

    def skip_reason(self, task: str) -> str | None:
        """Why a task is not due, None when it is."""
        for condition in self.roles.conditions(task):
            if not condition.holds(self.goal, self.results):
                return condition.unmet(self.results)
        return None

    def skip(self, task: str, agent: str, reason: str) -> None:
        if self._recorded is None or task not in self._recorded.skipped:
            self.journal.append("task_skipped", task=task, agent=agent, reason=reason)

    def done_before(self, task: str) -> TaskResult | None:
        """The result of a task that a process before this one finished."""
        found = self._recorded.result(task, self.roles.definitions[task].result) if self._recorded else None
        if found is not None:
            self.results[task] = found
        return found

    @contextmanager
    def task(self, task: str, agent: str, title: str, mode: Mode) -> Generator[Current]:
        """The time during which a task is on. Leaving it normally needs a result in `results`."""
        again = self._recorded is not None and task == self._recorded.open_task
        if again:
            self.gateway.recall.enter(task)
        self.journal.append("task_started", task=task, agent=agent, title=title, mode=mode, again=again)
        by_model = 0 if mode == "runbook" else None
        self.current = Current(task=task, agent=agent, mode=mode, started=time.monotonic(), by_model=by_model)
        if again and self.roles.definitions[task].runbook is not None:
            # What a model said is not recorded; what it did is, and the runbook goes on from there.
            self.fall_back("the process ended during the task; its runbook goes on over the recorded calls")
        for integration in self.roles.definitions[task].warms:
            self.gateway.warm(integration)
        try:
            yield self.current
            self._finish(self.current)
        finally:
            self.current = None
            self.gateway.recall.leave()

    def wait(self, wait: Wait, number: int) -> None:
        """A runbook waits, for the `number`th time in its task (from 0). Returns once that wait is over.

        Raises:
            Suspended: it is not; the run ends here and is gone on with later.
        """
        current = self._on()
        over = self._recorded.waits.get(current.task, 0) if self._recorded is not None else 0
        if number >= over:
            self.fatal = self.fatal or Suspended(wait.begun(self.gateway.project, time.time()), in_runbook=True)
            raise self.fatal

    def _finish(self, current: Current) -> None:
        usage = current.usage
        cost = None
        if self._price is not None and usage.calls:
            cost = round((usage.prompt * self._price[0] + usage.completion * self._price[1]) / 1e6, 6)
        self.journal.append(
            "task_finished", task=current.task, agent=current.agent, mode=current.mode,
            result=self.results[current.task].model_dump(mode="json"),
            duration_s=round(time.monotonic() - current.started, 3),
            tokens={"prompt": usage.prompt, "completion": usage.completion} if usage.calls else None, cost_usd=cost,
        )  # fmt: skip

    def fall_back(self, reason: str) -> None:
        """From here on the current task is finished by its runbook."""
        current = self._on()
        with self._lock:
            if current.mode == "runbook":
                return
            current.mode = "runbook"
        self.journal.append("fallback", task=current.task, reason=reason[:500])

    def take_over(self) -> None:
        """The runbook answers for the first time since the model is out: what that asked for last is done by now."""
        current = self._on()
        with self._lock:
            if current.by_model is None:
                current.by_model = len(current.calls)

    def call(self, tool: str, arguments: Mapping[str, Any], caller: Caller = PERSON) -> ToolResult:
        """A tool call of the current task's agent, on whose behalf it is whatever `caller` says.

        CrewAI turns whatever a tool raises into text for the model, so an error that must end the run is kept here too,
        and raised by the next model call.
        """
        current = self._on()
        with self._turn:
            try:
                result = self.gateway.call(tool, arguments, self._caller(current))
            except (JournalError, Suspended) as error:
                self.fatal = error
                raise
            self._record(current, tool, arguments, result)
        return result

    async def call_tool(self, tool: str, arguments: Mapping[str, Any], caller: Caller = PERSON) -> ToolResult:
        """`call`, to be awaited."""
        current = self._on()
        await asyncio.to_thread(self._turn.acquire)
        try:
            result = await self.gateway.call_tool(tool, arguments, self._caller(current))
            self._record(current, tool, arguments, result)
        finally:
            self._turn.release()
        return result

    def _caller(self, current: Current) -> Caller:
        granted = self.roles.agents[current.agent].granted
        return Caller(role=current.agent, task=current.task, granted=granted, scope=self.scope())

    def _record(self, current: Current, tool: str, arguments: Mapping[str, Any], result: ToolResult) -> None:
        given = {name: value for name, value in arguments.items() if name != "action"}
        with self._lock:
            journalled = self._arguments.pop(result.call_id, given)
            refused = result.call_id in self._refused
            current.calls.append(Made(tool, str(arguments.get("action")), given, journalled, result, refused))
            lost = current.mode == "llm" and sum(made.refused for made in current.calls) >= MAX_REFUSED
        if lost:
            self.fall_back(f"{MAX_REFUSED} of its calls were refused, the last because {result.message}")

    def is_same(self, made: Made, wanted: ToolCall) -> bool:
        """Whether a call of this task is the one that a runbook wants: what the task binds in it is the same.

        In words that nothing binds (the reason of a promotion, say) a model and a runbook differ.
        """
        if (made.tool, made.action) != (wanted.tool, wanted.action):
            return False
        if made.given == json.loads(json.dumps(wanted.arguments, default=str)):
            return True
        action = self.gateway.action_of(wanted.tool, wanted.action)
        if action is None:
            return False
        try:
            typed = action.args.model_validate(wanted.arguments)
        except ValidationError:
            return False
        wants = typed.model_dump(mode="json", exclude_none=True)
        counts = wants.keys() | made.arguments.keys()
        if action.effect is not Effect.READ:
            counts &= bound_arguments(action.args).keys()
        return all(wants.get(name) == made.arguments.get(name) for name in counts)

    def writes(self, tool: str, action: str) -> bool:
        """Whether an action changes anything, as far as is known."""
        known = self.gateway.action_of(tool, action)
        return known is None or known.effect is not Effect.READ

    def _listen(self, record: Record) -> None:
        """Keep the arguments with which calls are really made: evidence is what the journal says.

        A call that a person let happen with other arguments begins with those.
        """
        if record["kind"] in ("intent", "recalled") or (record["kind"] == "begun" and "arguments" in record):
            with self._lock:
                self._arguments[record["call_id"]] = record["arguments"]
                if record["kind"] == "intent" and record["effect"] is None:
                    self._refused.add(record["call_id"])

    def scope(self) -> Scope:
        """What binds the current task's calls, as things stand."""
        definition = self.roles.definitions[self._on().task]
        grants = None if definition.grants is None else tuple(definition.grants(self.inputs(), self.evidence()))
        return Scope(self.goal.bound(self.seed), grants)

    def check(self) -> None:
        """Raise what must end the run."""
        if self.fatal is not None:
            raise self.fatal

    def _on(self) -> Current:
        if self.current is None:
            raise RuntimeError("no task is under way")
        return self.current
