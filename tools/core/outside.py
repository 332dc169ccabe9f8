"""Loads a registered model from outside the configured store where the policy has a word for it and a person agrees.

An MLflow registry takes any address as a version's source, so a version of the configured registry may still be a
stranger's pickle. Loading it is refused by whoever would load it; here a person is asked, and the call is made once
more.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from tools.core.calls import Call
from tools.core.consent import Consent
from tools.core.contract import Answer
from tools.core.dispatch import failure
from tools.core.errors import DeniedError, FixableError
from tools.core.policy import Decision, Level, Verdict
from tools.core.results import ToolResult

Attempt = Callable[[Call, Answer | None], Awaitable[tuple[ToolResult, int]]]


class OutsideModels:
    """What may be loaded from outside the store, in one run.

    Args:
        word: what the policy says of it.
        level: in force for a server.
    """

    def __init__(
        self, word: Literal["deny", "ask"], consent: Consent, attempt: Attempt, level: Callable[[str], Level]
    ) -> None:
        self._word = word
        self._consent = consent
        self._attempt = attempt
        self._level = level
        self._let: set[str] = set()

    async def attempt(self, call: Call, answer: Answer | None) -> tuple[ToolResult, int]:
        """Make a call; where it would load a model from outside, ask, and make it again."""
        attempts = 0
        while True:
            call.outside_models = frozenset(self._let)
            result, made = await self._attempt(call, answer)
            attempts += made
            model = result.error.outside_model if result.error is not None else None
            if model is None or model in self._let or self._word == "deny":
                return result, attempts
            refused = await self._ask(call, model, result.message)
            if refused is not None:
                return refused, attempts
            self._let.add(model)

    async def _ask(self, call: Call, model: str, why: str) -> ToolResult | None:
        """None where a person agreed, else how the call ends."""
        level = self._level(call.server)
        # Its own question: a yes to the call itself is none to what it would load, nor the other way round.
        question = replace(call, arguments={**call.arguments, "load_from_outside": model}, asked=None, loads=model)
        rule = f"models.outside_store is ask: {why}"

        def anew(edits: Mapping[str, Any]) -> tuple[Call, Decision]:
            if edits:
                raise FixableError("whether to load this model is yes or no; nothing can be changed")
            return question, Decision(Verdict.ASK, rule, level)

        leave = await self._consent.ask(question, Decision(Verdict.ASK, rule, level), anew)
        if leave.decision.verdict is not Verdict.ALLOW:
            return failure(DeniedError(leave.decision.rule))
        try:
            self._consent.spend_on_model(leave.approval_id, question)
        except DeniedError as error:
            return failure(error)
        return None
