"""What the Optuna integration offers."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tools.core.arguments import Bound, Free
from tools.core.contract import Action, Args, Data, Effect, Integration, NoArgs, Setting
from tools.core.names import Name, NameOrEmpty
from tools.modeling.search import Index, Json, SearchArgs, SearchResult

SAMPLERS = ("evolution", "tpe")


def _known_sampler(value: str) -> str:
    if value not in SAMPLERS:
        raise ValueError(f"must be {' or '.join(SAMPLERS)}")
    return value


class ArchitectureArgs(SearchArgs):
    """A search over families, training windows and parameters."""

    study: Annotated[NameOrEmpty, Bound()] = Field(default_factory=str, description="resumes")
    window: Annotated[str, Bound()] = Field(default_factory=lambda: "all", description="tried first")
    # Not a Literal: a model would pay for both names twice.
    sampler: Annotated[str, AfterValidator(_known_sampler), Bound()] = Field(
        default_factory=lambda: SAMPLERS[0], description="evolution, tpe"
    )


class AskArgs(Args):
    study: Annotated[Name, Bound()] = Field(description="study name, created at index 0")
    index: Annotated[Index, Free("number of the trial")] = Field(description="trial number, from 0")
    space: Annotated[Json, Bound("goal.space")] = Field(
        description='JSON {name: {"type": float|int, low, high, log} | {"type": categorical, choices}}'
    )
    direction: Annotated[Literal["minimize", "maximize"], Bound("goal.direction")] = Field(
        "minimize", description="of the value"
    )
    seed: Annotated[Index, Bound("goal.seed")] = Field(0, description="random seed")


class Asked(Data):
    study: str
    index: int
    params: dict[str, Any]


class TellArgs(Args):
    study: Annotated[Name, Bound()] = Field(description="study name")
    index: Annotated[Index, Bound()] = Field(description="trial number")
    value: Annotated[float | None, Bound()] = Field(None, description="result; none if it failed")


class Told(Data):
    study: str
    index: int
    state: Literal["complete", "failed"]
    best_value: float | None
    best_index: int | None


class StudyArgs(Args):
    study: Annotated[Name, Bound()] = Field(description="study name")


class BestTrial(Data):
    """The best trial; `params` is the whole config where the study is an architecture search. `feasible`: it keeps to
    the constraints; where no trial does it is the one nearest to them."""

    study: str
    direction: Literal["minimize", "maximize"]
    index: int
    value: float
    feasible: bool
    params: dict[str, Any]
    completed: int
    failed: int


class StudySummary(Data):
    study: str
    direction: Literal["minimize", "maximize"]
    completed: int
    failed: int
    best_value: float | None


class Studies(Data):
    studies: list[StudySummary]
    message: str


SPEC = Integration(
    name="optuna",
    title="Optuna",
    summary="Searches model architectures and hyperparameters; studies persist and resume.",
    actions=(
        Action(
            name="search",
            summary="Search models.",
            args=ArchitectureArgs,
            result=SearchResult,
            effect=Effect.WRITE,
            idempotent=True,
            timeout_s=6 * 3600.0,
            key=(),
            repeatable=True,
        ),
        Action(
            name="ask",
            summary="Get parameters to try from a study.",
            args=AskArgs,
            result=Asked,
            effect=Effect.WRITE,
            idempotent=True,
            key=("study", "index"),
            repeatable=True,
        ),
        Action(
            name="tell",
            summary="Report the value of an asked trial.",
            args=TellArgs,
            result=Told,
            effect=Effect.WRITE,
            idempotent=True,
            key=("study", "index"),
            repeatable=True,
        ),
        Action(name="best_trial", summary="Best trial of a study.", args=StudyArgs, result=BestTrial),
        Action(name="list_studies", summary="Studies with their best values.", args=NoArgs, result=Studies),
    ),
    backend="tools.integrations.optuna.backend:OptunaBackend",
    requires=("optuna",),
    imports=("optuna", "scipy"),
    settings=(
        Setting(
            "OPTUNA_STORAGE",
            "address of a shared Optuna database (postgresql://.., mysql://.., sqlite:///..); "
            "unset: journal files under .mlops/optuna",
            secret=True,
            real=True,
        ),
    ),
)
