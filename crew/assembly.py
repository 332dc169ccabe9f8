"""Builds the CrewAI crew from the YAML roles and tasks: agents, tasks, guardrails, and who thinks for them."""

import json
from typing import Any, Literal

from crewai import LLM, Agent, BaseLLM, Crew, Process, Task
from crewai.events import event_context
from crewai.events.event_context import MismatchBehavior
from crewai.tasks.output_format import OutputFormat
from crewai.tasks.task_output import TaskOutput
from crewai.tools import BaseTool
from pydantic import PrivateAttr, ValidationError

from crew.goal import ModelSettings
from crew.models import ReasoningLLM, RunbookLLM, RunbookManagerLLM
from crew.roles import MANAGER, AgentConfig, granted_actions
from crew.run import Run
from crew.third_party import tools_for_agent
from tasks.base import TaskFailedError, TaskResult
from tasks.grounding import ungrounded
from tools.core.schema import compact
from tools.core.tool import ServerTool
from tools.core.yamlfile import ConfigError
from tools.registry import load_tool

MAX_STEPS = 200  # model calls of one task; a canary in small batches needs two for each
ATTEMPTS = 3  # answers of a model that its guardrail may refuse, before the runbook takes over

ProcessName = Literal["sequential", "hierarchical"]


class RoleTask(Task):
    """A task that knows when it is due, and that its runbook finishes where a model cannot."""

    _run: Run = PrivateAttr()
    _key: str = PrivateAttr()
    _agent_key: str = PrivateAttr()
    _thinks: bool = PrivateAttr(default=False)

    def bind(self, run: Run, key: str, agent_key: str, thinks: bool) -> "RoleTask":
        """Tie the task to a run. `thinks`: a model answers for its agent."""
        self._run, self._key, self._agent_key, self._thinks = run, key, agent_key, thinks
        return self

    def execute_sync(
        self, agent: Any = None, context: str | None = None, tools: list[BaseTool] | None = None
    ) -> TaskOutput:
        run = self._run
        before = run.done_before(self._key)
        if before is not None:
            return self._output(before.model_dump_json())
        reason = run.skip_reason(self._key)
        if reason is not None:
            run.skip(self._key, self._agent_key, reason)
            return self._output(f"Skipped: {reason}.")
        title = run.roles.agents[self._agent_key].role
        with run.task(self._key, self._agent_key, title, "llm" if self._thinks else "runbook") as current:
            own = self._equip()
            tools = own if agent in (None, self.agent) else tools
            try:
                output = super().execute_sync(agent, context, tools)
            except Exception as error:  # CrewAI raises whatever went wrong; a model's task still has its runbook
                run.check()
                if current.mode != "llm":
                    raise
                run.fall_back(f"{type(error).__name__}: {error}")
                output = super().execute_sync(agent, context, tools)
            run.check()
        return output

    def _output(self, raw: str) -> TaskOutput:
        """The output of a task that is not worked on."""
        role = self._run.roles.agents[self._agent_key].role
        return TaskOutput(
            name=self._key, description=self.description, raw=raw, agent=role, output_format=OutputFormat.RAW
        )

    def _equip(self) -> list[BaseTool]:
        """Give the working agent the tools of this task, also where a manager delegates it."""
        own = task_tools(self._run, self._key)
        if self.agent is not None:
            self.agent.tools = own
        return own


def build_crew(run: Run, model: ModelSettings, process: ProcessName) -> Crew:
    """The crew of a run.

    Raises:
        ConfigError: a hierarchical run without a manager role, or a model that CrewAI cannot build.
    """
    _quiet_events()
    runbook = RunbookLLM(run)
    agents = {
        key: _agent(run, key, config, _thinker(run, config.llm, model, runbook))
        for key, config in run.roles.agents.items()
        if key != MANAGER
    }
    tasks: dict[str, Task] = {}
    for key, config in run.roles.tasks.items():
        definition = run.roles.definitions[key]
        placeholders = run.goal.placeholders()
        task = RoleTask(
            name=key,
            description=config.description.format_map(placeholders).strip(),
            expected_output=_expected(config.expected_output.format_map(placeholders).strip(), definition.result),
            agent=agents[config.agent],
            guardrail=_guardrail(run, key),
            guardrail_max_retries=ATTEMPTS,
            context=[tasks[name] for name in (tasks if config.context is None else config.context)] or None,
        )
        tasks[key] = task.bind(run, key, config.agent, isinstance(agents[config.agent].llm, ReasoningLLM))
    shared: dict[str, Any] = {
        "agents": list(agents.values()),
        "tasks": list(tasks.values()),
        "cache": False,
        "verbose": False,
        "memory": False,
    }
    if process == "sequential":
        return Crew(process=Process.sequential, **shared)
    if MANAGER not in run.roles.agents:
        raise ConfigError(f"a hierarchical run needs a role {MANAGER!r} in agents.yaml")
    config = run.roles.agents[MANAGER]
    manager = _agent(run, MANAGER, config, _thinker(run, config.llm, model, RunbookManagerLLM(run)))
    return Crew(process=Process.hierarchical, manager_agent=manager, **shared)


def _quiet_events() -> None:
    """A failed model call leaves CrewAI's event scopes unpaired; it would print a warning for each on the terminal.

    CrewAI (its version is pinned) offers no public switch.
    """
    event_context._default_config.mismatch_behavior = MismatchBehavior.SILENT  # pyright: ignore[reportPrivateUsage]
    event_context._default_config.empty_pop_behavior = MismatchBehavior.SILENT  # pyright: ignore[reportPrivateUsage]


def _expected(text: str, result: type[TaskResult]) -> str:
    """What a task must answer. The schema is written out here, and not given to CrewAI as `output_pydantic`, which
    would ask the model to convert a wrong answer: the guardrail refuses it instead, and says why."""
    schema = json.dumps(compact(result.model_json_schema()), separators=(",", ":"))
    return f"{text} Answer with one JSON object that fits this schema, and nothing else: {schema}"


def _agent(run: Run, key: str, config: AgentConfig, llm: BaseLLM) -> Agent:
    return Agent(
        role=config.role,
        goal=config.goal,
        backstory=config.backstory,
        llm=llm,
        cache=False,
        max_iter=MAX_STEPS,
        max_retry_limit=0,  # a failed task falls back to its runbook; repeating it blindly would repeat its effects
        allow_delegation=key == MANAGER,
        verbose=False,
    )


def task_tools(run: Run, task: str) -> list[BaseTool]:
    """The tools of a task, each call going through the run to the gateway."""
    stack = run.gateway.stack
    tools: list[BaseTool] = []
    for name, actions in granted_actions(run.roles, task, stack).items():
        tools += load_tool(name)(run).for_agent(actions)
    role = run.roles.tasks[task].agent
    config = run.roles.agents[role]
    for name in (name for name in config.integrations if name not in stack.own):
        tool = ServerTool(run, name)
        tools += [
            tool.agent_tool(found["name"], found["description"], found["inputSchema"])
            for found in tools_for_agent(run.gateway, role, config, name)
        ]
    return tools


def _thinker(run: Run, own: str | None, model: ModelSettings, runbook: RunbookLLM) -> BaseLLM:
    """A role's own model, the run's model, or its runbook."""
    name = own or model.name
    if name is None:
        return runbook
    return ReasoningLLM(run, _provider(name, model), runbook, model.context_tokens)


def _provider(name: str, model: ModelSettings) -> BaseLLM:
    settings: dict[str, Any] = {"timeout": model.timeout_s, "temperature": 0.0}
    if model.base_url:
        # Any server that speaks OpenAI's protocol; many want no key, and the client wants one.
        settings |= {"base_url": model.base_url, "custom_openai": True}
        settings["api_key"] = model.api_key or "not-needed"
        name = name.removeprefix("openai/")
    elif model.api_key:
        settings["api_key"] = model.api_key
    try:
        return LLM(model=name, **settings)
    except (ImportError, ValueError, NotImplementedError) as error:
        raise ConfigError(f"MODEL {name!r} cannot be used: {' '.join(str(error).split())[:400]}") from error


def _guardrail(run: Run, key: str) -> Any:
    """The check of a task's answer: it must be the typed result, and the journal must carry what it claims."""
    definition = run.roles.definitions[key]

    def check(output):  # type: ignore[no-untyped-def]  # CrewAI rejects annotations it cannot evaluate
        current = run.current
        assert current is not None
        try:
            result: TaskResult = definition.result.model_validate(_json_in(output.raw))
        except (ValidationError, ValueError) as error:
            problems = [f"the answer is not the JSON asked for: {_first_line(error)}"]
            result = None  # type: ignore[assignment]
        else:
            evidence = run.evidence()
            problems = ungrounded(result, evidence) if current.mode == "llm" else []
            if definition.guardrail is not None:
                problems += definition.guardrail(result, evidence)
        if not problems:
            run.results[key] = result
            return True, output.model_copy(update={"raw": result.model_dump_json(), "pydantic": result})
        reason = "; ".join(problems)
        current.guardrail_failures += 1
        run.journal.append("guardrail", task=key, ok=False, reason=reason, attempt=current.guardrail_failures)
        if current.mode == "runbook":
            run.fatal = run.fatal or TaskFailedError(f"task {key}: {reason}")
        elif current.guardrail_failures >= ATTEMPTS:
            run.fall_back(f"its answers were refused {ATTEMPTS} times, last because {reason}")
        return False, reason

    return check


def _json_in(text: str) -> Any:
    """The first JSON object in a text: models like to wrap it in prose or a code fence."""
    start = text.find("{")
    while start != -1:
        try:
            return json.JSONDecoder().raw_decode(text, start)[0]
        except json.JSONDecodeError:
            start = text.find("{", start + 1)
    raise ValueError(f"no JSON object in {text[:120]!r}")


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)[:5])
    return str(error)
