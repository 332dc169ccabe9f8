"""`config/policy.yaml` as typed data: limits, what each integration allows, rules with conditions, freezes."""

from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tools.core.contract import Effect
from tools.core.policy.amounts import Limit
from tools.core.policy.proposal import Level

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PERSON_ROLE = "person"  # how a rule names a caller without a role
ENVIRONMENTS = ("sandbox", "staging", "production")
# Where a policy says nothing else: what ends a canary at 100 % stable.
TO_STABLE = {"serving": ("rollback_canary",)}
MINUTES_OF_A_DAY = 24 * 60


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _weekday(value: Any) -> Any:
    return str(value).strip().lower()[:3] if isinstance(value, str) else value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"unknown time zone {value!r}; a name like Europe/Berlin or UTC") from None
    return value


def _hours(value: str) -> str:
    minutes_of(value)
    return value


def minutes_of(hours: str) -> tuple[int, int]:
    """`16:00-24:00` as minutes of the day, the second one exclusive. `22:00-06:00` goes on over midnight.

    Raises:
        ValueError: not of that form, or empty.
    """
    parts = hours.split("-")
    clock = [part.strip().split(":") for part in parts]
    if len(clock) != 2 or any(len(c) != 2 or not all(p.isascii() and p.isdigit() for p in c) for c in clock):
        raise ValueError(f"hours must be like 16:00-24:00, got {hours!r}")
    (h1, m1), (h2, m2) = ((int(h), int(m)) for h, m in clock)
    start, end = h1 * 60 + m1, h2 * 60 + m2
    if m1 > 59 or m2 > 59 or start >= MINUTES_OF_A_DAY or end > MINUTES_OF_A_DAY or start == end:
        raise ValueError(f"hours must be two different times from 00:00 to 24:00, got {hours!r}")
    return start, end


Names = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
Effects = Annotated[list[Effect], BeforeValidator(_listed), Field(min_length=1)]
Weekday = Annotated[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], BeforeValidator(_weekday)]
Weekdays = Annotated[list[Weekday], BeforeValidator(_listed), Field(min_length=1)]
Hours = Annotated[list[Annotated[str, AfterValidator(_hours)]], BeforeValidator(_listed), Field(min_length=1)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
Scalar = bool | int | float | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Bounds(_Strict):
    """A condition on one value; every part that is given must hold. `like` takes `*` and `?`, no regular expression."""

    above: float | None = Field(default=None, allow_inf_nan=False)
    below: float | None = Field(default=None, allow_inf_nan=False)
    equals: Scalar | None = None
    one_of: list[Scalar] | None = Field(default=None, min_length=1)
    like: str | None = None

    @model_validator(mode="after")
    def _can_hold(self) -> "Bounds":
        if not self.model_fields_set:
            raise ValueError("must give above, below, equals, one_of or like")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(f"nothing is above {self.above:g} and below {self.below:g}")
        return self


class When(_Strict):
    """When a rule applies: all conditions that are given hold; one that lists several values holds for any of them.

    Args:
        environment: names of `environments`.
        integration, action (`integration.action`), effect, role, task: of the call. Role `person`: no agent.
        real: it goes to a real system, or an embedded one.
        weekdays, hours: at the time of the call, in `timezone` (the policy's where it is not given).
        arguments: argument name -> bounds; does not hold where the argument is left out.
        amounts: limit name -> bounds, whatever the argument is called.
    """

    environment: Names | None = None
    integration: Names | None = None
    action: Names | None = None
    effect: Effects | None = None
    role: Names | None = None
    task: Names | None = None
    real: bool | None = None
    weekdays: Weekdays | None = None
    hours: Hours | None = None
    timezone: TimeZone | None = None
    arguments: dict[str, Bounds] | None = None
    amounts: dict[str, Bounds] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "When":
        if not self.model_fields_set - {"timezone"}:
            raise ValueError("a rule needs at least one condition")
        for action in self.action or ():
            if "." not in action:
                raise ValueError(f"action must be integration.action, got {action!r}")
        return self

    @property
    def timed(self) -> bool:
        return self.weekdays is not None or self.hours is not None


class Rule(_Strict):
    """`then` for the calls that `when` describes. `allow` is as if the integration's block listed the action."""

    name: str = Field(min_length=1, max_length=120)
    when: When
    then: Literal["allow", "ask", "deny"]


class Freeze(_Strict):
    """Days on which calls of `effects` do not happen, both included, in `timezone` (the policy's where not given).

    `allow` names exceptions as `integration.action`; what only goes back to stable is never frozen.
    """

    start: date = Field(alias="from")
    to: date
    reason: str = Field(min_length=1, max_length=200)
    allow: list[str] = Field(default_factory=list[str])
    effects: Effects = Field(default_factory=lambda: [Effect.RISKY])
    environment: Names | None = None
    timezone: TimeZone | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "Freeze":
        if self.start > self.to:
            raise ValueError(f"from {self.start} is after to {self.to}")
        if Effect.READ in self.effects:
            raise ValueError("reads are never frozen; effects may be write and risky")
        return self


class IntegrationPolicy(BaseModel):
    """What may be called on one integration.

    `allow`: "*" or action names. `forbid` and `ask` name actions and beat `allow`, `forbid` first. `autonomy`
    overrides the policy's level for this integration. `effects` classifies the tools of a third-party MCP server,
    whose own annotations are not trusted; one that is not named counts as risky. `to_stable` names the actions that
    only bring production back to what it safely served: no freeze, hour, stop or used-up budget blocks them.
    """

    model_config = ConfigDict(extra="forbid")

    allow: Literal["*"] | list[str] = Field(default_factory=list[str])
    forbid: list[str] = Field(default_factory=list[str])
    ask: list[str] = Field(default_factory=list[str])
    autonomy: Level | None = None
    effects: dict[str, Effect] = Field(default_factory=dict[str, Effect])
    to_stable: list[str] | None = None


class ModelsPolicy(_Strict):
    """`outside_store`: what becomes of a registered model whose files lie outside the configured store. Loading it runs
    the code of whoever put them there: `deny`, or `ask` a person, once for each model and run."""

    outside_store: Literal["deny", "ask"] = "deny"


class PolicyFile(BaseModel):
    """`config/policy.yaml`.

    `environment`: one of `environments`; the setting MLOPS_ENVIRONMENT beats it. `timezone`: of hours and days.
    """

    model_config = ConfigDict(extra="forbid")

    autonomy: Literal["auto", "observe", "supervised", "autonomous"] = "auto"
    default: Literal["deny"] = "deny"
    approval_timeout_s: float = Field(default=900, ge=0)
    environments: Names = Field(default_factory=lambda: list(ENVIRONMENTS))
    environment: str = ""
    timezone: TimeZone = "UTC"
    limits: dict[str, Limit] = Field(default_factory=dict[str, Limit])
    integrations: dict[str, IntegrationPolicy] = Field(default_factory=dict[str, IntegrationPolicy])
    rules: list[Rule] = Field(default_factory=list[Rule])
    freeze: list[Freeze] = Field(default_factory=list[Freeze])
    models: ModelsPolicy = Field(default_factory=ModelsPolicy)

    @model_validator(mode="after")
    def _names_make_sense(self) -> "PolicyFile":
        known = ", ".join(self.environments)
        if self.environment and self.environment not in self.environments:
            raise ValueError(f"environment {self.environment!r} is not one of environments: {known}")
        seen: set[str] = set()
        for rule in self.rules:
            if rule.name in seen:
                raise ValueError(f"two rules are named {rule.name!r}")
            seen.add(rule.name)
        return self

    def to_stable(self, integration: str) -> tuple[str, ...]:
        """The actions of an integration that only go back to stable."""
        block = self.integrations.get(integration)
        if block is not None and block.to_stable is not None:
            return tuple(block.to_stable)
        return TO_STABLE.get(integration, ())
