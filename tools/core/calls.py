"""One call on its way through the gateway, as its parts hand it to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.core.channels import Channel
from tools.core.contract import Action, Effect, QuestionArgs
from tools.core.grants import Scope


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Args:
        role: of the agent, or of an outside client; None is a person, who is bound by nothing but the policy.
        task: in which task the role asks.
        granted: what the role's YAML names (`integration` or `integration.action`); a role without it may use nothing.
        scope: what the goal and the task bind, and which calls belong to the task.
        session: of an outside client; limits count by it.
        channels: by which the person behind an outside client is asked, beside those of the run.
    """

    role: str | None = None
    task: str | None = None
    granted: frozenset[str] | None = None
    scope: Scope = field(default_factory=Scope)
    session: str | None = None
    channels: tuple[Channel, ...] = field(default=(), compare=False)


PERSON = Caller()


@dataclass
class Call:
    """A call with its arguments validated and bound.

    Args:
        id: of the call in its run, also in the journal.
        effect: what it does to the world, by its spec or the policy.
        limited: argument name -> policy limit name.
        may_repeat: a repetition with the same arguments has no further effect.
        definition: None for a third-party tool.
        asked: the question, of a call that asks a person.
        key: of a write, once it begins; the same for a repetition of the same write.
        outside_models: see `CallContext`.
        loads: where a person is only asked whether code from outside the store may be loaded for it: which model's.
    """

    id: str
    server: str
    action: str
    caller: Caller
    effect: Effect
    arguments: dict[str, Any]
    limited: Mapping[str, str]
    may_repeat: bool
    timeout_s: float
    definition: Action | None
    asked: QuestionArgs | None = None
    key: str = ""
    outside_models: frozenset[str] = frozenset()
    loads: str = ""

    @property
    def name(self) -> str:
        return f"{self.server}.{self.action}"
