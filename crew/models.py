"""The models that think for agents: runbooks replayed as a CrewAI model, and a real model with the runbook below it.

`RunbookLLM` keeps no state. At each call it replays the current task's runbook over the calls that were made in it so
far, as the journal has them, and answers with the next one, or with the result as JSON.
"""

import json
from typing import Any

from crewai import BaseLLM
from pydantic import PrivateAttr

from crew.run import Run
from crew.takeover import Past
from tasks.base import TaskFailedError, TaskResult, ToolCall
from tools.core.schema import agent_tool_name
from tools.core.waiting import Wait

CONTEXT_TOKENS = 1_000_000
CHARS_PER_TOKEN = 4
DELEGATE = "delegate_work_to_coworker"


class RunbookLLM(BaseLLM):
    """Answers for a working agent by the current task's runbook."""

    llm_type: str = "runbook"
    _run: Run = PrivateAttr()

    def __init__(self, run: Run) -> None:
        super().__init__(model="runbook", provider="runbook")
        self._run = run

    def supports_function_calling(self) -> bool:
        """CrewAI then passes tools natively rather than as text."""
        return True

    def get_context_window_size(self) -> int:
        """Large enough that CrewAI summarises nothing: no model is asked, so no summary could be written."""
        return CONTEXT_TOKENS

    def get_input_tokens_count(self, messages: Any, tools: Any = None, response_model: Any = None) -> int:
        return len(str(messages)) // CHARS_PER_TOKEN

    def call(self, messages: Any, tools: Any = None, *_: Any, **__: Any) -> Any:
        """The next tool call, or the task's result as JSON.

        Raises:
            TaskFailedError: the runbook cannot go on.
        """
        self._run.check()
        try:
            return self._next()
        except TaskFailedError as error:
            self._run.fatal = error
            raise

    async def acall(self, messages: Any, tools: Any = None, *args: Any, **kwargs: Any) -> Any:
        return self.call(messages, tools, *args, **kwargs)

    def _next(self) -> Any:
        current = self._run.current
        assert current is not None
        definition = self._run.roles.definitions[current.task]
        if definition.runbook is None:
            raise TaskFailedError(
                f"task {current.task} has no runbook (no module tasks/{current.task}.py), so it needs a model: set "
                "MODEL and the provider's key, or remove the task from tasks.yaml"
            )
        book = definition.runbook(self._run.inputs())
        before, own = self._run.made()
        past = Past(before, own, same=self._run.is_same, writes=self._run.writes)
        asked = waits = 0
        try:
            wanted = next(book)
            while True:
                if isinstance(wanted, Wait):
                    self._run.wait(wanted, waits)
                    waits += 1
                    wanted = next(book)
                    continue
                found = past.take(wanted)
                if found is None:
                    return [_tool_request(wanted, asked)]
                asked += 1
                wanted = book.send(found)
        except StopIteration as done:
            result: TaskResult = done.value
            return result.model_dump_json()


class RunbookManagerLLM(RunbookLLM):
    """Answers for the manager of a hierarchical run: delegates the task, then passes the answer on."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)

    def call(self, messages: Any, tools: Any = None, *_: Any, **__: Any) -> Any:
        self._run.check()
        answers = [str(m.get("content")) for m in _as_list(messages) if m.get("role") == "tool"]
        if answers:
            return answers[-1]
        current = self._run.current
        assert current is not None
        task = self._run.roles.tasks[current.task]
        arguments = {
            "task": task.description.format_map(self._run.goal.placeholders()).strip(),
            "context": task.expected_output,
            "coworker": self._run.roles.agents[current.agent].role,
        }
        return [_request("delegate", DELEGATE, arguments)]


class ReasoningLLM(BaseLLM):
    """A real model; from its first failure in a task on, that task's runbook answers instead.

    Args:
        run: the run; counts tokens and knows which task is on.
        inner: the real model.
        runbook: what answers when the real one cannot.
        context_tokens: how much the real one reads at once; None: what CrewAI knows of it (8,192 where it does not).
    """

    llm_type: str = "reasoning"
    _run: Run = PrivateAttr()
    _inner: BaseLLM = PrivateAttr()
    _runbook: RunbookLLM = PrivateAttr()
    _context_tokens: int | None = PrivateAttr()

    def __init__(self, run: Run, inner: BaseLLM, runbook: RunbookLLM, context_tokens: int | None = None) -> None:
        super().__init__(model=inner.model, provider=getattr(inner, "provider", "openai"))
        self._run = run
        self._inner = inner
        self._runbook = runbook
        self._context_tokens = context_tokens

    def supports_function_calling(self) -> bool:
        """Always: a model that could only write its tool calls as text would end in its runbook at once."""
        return True

    def get_context_window_size(self) -> int:
        return self._context_tokens or self._inner.get_context_window_size()

    def get_input_tokens_count(self, messages: Any, tools: Any = None, response_model: Any = None) -> int:
        return len(str(messages)) // CHARS_PER_TOKEN

    def call(self, messages: Any, tools: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._run.check()
        current = self._run.current
        assert current is not None
        if current.mode == "runbook":
            self._run.take_over()
            return self._runbook.call(messages, tools)
        before = self._inner.get_token_usage_summary()
        try:
            answer = self._inner.call(messages, tools, *args, **kwargs)
            if answer is None or (isinstance(answer, str) and not answer.strip()):
                raise ValueError("the model gave an empty answer")
        except Exception as error:  # noqa: BLE001 - a provider may fail in any way; the reason is kept
            self._run.fall_back(f"{type(error).__name__}: {error}")
            self._run.take_over()
            return self._runbook.call(messages, tools)
        finally:
            after = self._inner.get_token_usage_summary()
            current.usage.calls += 1
            current.usage.prompt += after.prompt_tokens - before.prompt_tokens
            current.usage.completion += after.completion_tokens - before.completion_tokens
        return answer

    async def acall(self, messages: Any, tools: Any = None, *args: Any, **kwargs: Any) -> Any:
        return self.call(messages, tools, *args, **kwargs)


def _as_list(messages: Any) -> list[dict[str, Any]]:
    return messages if isinstance(messages, list) else [{"role": "user", "content": str(messages)}]


def _tool_request(wanted: ToolCall, index: int) -> dict[str, Any]:
    return _request(f"call_{index}", agent_tool_name(wanted.tool, wanted.action), wanted.arguments)


def _request(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments, default=str)},
    }
