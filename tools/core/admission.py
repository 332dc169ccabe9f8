"""Makes a `Call` of what somebody asks for: within bounds, validated, bound by goal and task, its paths looked at.

Nothing is decided or written here, and nobody is asked.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tools.core.bounds import check_arguments
from tools.core.calls import Call, Caller
from tools.core.contract import Action, Effect
from tools.core.dispatch import check_paths, validate_arguments
from tools.core.errors import FinalError, FixableError
from tools.core.grants import bind
from tools.core.policy import Policy
from tools.core.roots import Roots
from tools.core.stack import Stack

THIRD_PARTY_TIMEOUT_S = 120.0


class Admission:
    """Where every call begins.

    Args:
        is_stopping: true once no further call is to be made.
    """

    def __init__(self, stack: Stack, policy: Policy, roots: Roots, is_stopping: Callable[[], bool]) -> None:
        self._stack = stack
        self._policy = policy
        self._roots = roots
        self._is_stopping = is_stopping

    def prepare(self, call_id: str, tool: str, arguments: dict[str, Any], caller: Caller) -> Call:
        """Validate and bind.

        Raises:
            FixableError: an unknown tool or action, or wrong arguments.
            DeniedError: the call does not belong to the task, or asks for another value than a bound one.
        """
        if self._is_stopping():
            raise FinalError("the run is being stopped; no further call is made")
        check_arguments({"tool": tool, **arguments})
        if tool not in self._stack.names:
            raise FixableError(f"unknown tool {tool!r}; valid tools: {', '.join(self._stack.names)}")
        # A model that must fill every parameter sends null for those it leaves out.
        given = {key: value for key, value in arguments.items() if value is not None}
        action_name = given.pop("action", None)
        spec = self._stack.spec(tool)
        if spec is None:
            if not isinstance(action_name, str):
                raise FixableError(f"{tool}: 'action' must name one of the server's tools, got {action_name!r}")
            return Call(
                id=call_id, server=tool, action=action_name, caller=caller, arguments=given,
                effect=self._policy.effect_of(tool, action_name), limited={}, may_repeat=False,
                timeout_s=self._stack.timeout_s(tool) or THIRD_PARTY_TIMEOUT_S, definition=None,
            )  # fmt: skip
        action = spec.action(str(action_name))
        if caller.role is not None:
            given = bind(f"{tool}.{action.name}", action, given, caller.scope, lambda some: normal(action, some))
        typed = validate_arguments(action, given)
        check_paths(action, typed, self._roots)
        return Call(
            id=call_id, server=tool, action=action.name, caller=caller,
            arguments=typed.model_dump(mode="json", exclude_none=True), effect=action.effect, limited=action.limits(),
            may_repeat=action.effect is Effect.READ or action.idempotent, timeout_s=action.timeout_s, definition=action,
            asked=typed if action.asks else None,
        )  # fmt: skip


def normal(action: Action, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON, with the defaults filled in. Raises `FixableError` for what is not valid."""
    return validate_arguments(action, arguments).model_dump(mode="json", exclude_none=True)
