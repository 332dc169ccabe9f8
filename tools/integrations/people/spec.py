"""What the people integration offers: the options of a trade-off, and a person's choice between options."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tools.core.arguments import Bound, ReadPath
from tools.core.contract import Action, Args, Data, Integration, Option, QuestionArgs

OBJECTIVES = ("quality", "latency", "size", "fairness")
BALANCED = "balanced"


def _objectives(value: list[str]) -> list[str]:
    if not value or set(value) - set(OBJECTIVES) or len(set(value)) != len(value) or "quality" not in value:
        raise ValueError(f"must be quality and some of {', '.join(OBJECTIVES[1:])}, each once")
    return value


class WeighArgs(Args):
    trials_path: Annotated[ReadPath, Bound()] = Field(description="trials JSON of a search")
    objectives: Annotated[list[str], AfterValidator(_objectives), Bound("goal.objectives")] = Field(
        description="quality, latency, size, fairness"
    )
    preference: Annotated[str, Bound("goal.preference")] = Field("", description="the goal's")
    min_metric: Annotated[float | None, Bound("goal.min_metric")] = Field(None, description="goal's minimum")


class Weighed(Data):
    """What is left to choose. One option: it is as good as any other in every objective, nothing needs to be asked.

    Args:
        question: what to ask; empty where there is one option.
        configs: option -> the model config of its trial.
        trials: option -> the number of its trial.
        candidates: trials that keep the goal's bounds and have all the numbers.
        dropped: why other trials of note are no options, in words.
    """

    question: str
    options: list[Option]
    configs: dict[str, dict[str, Any]]
    trials: dict[str, int]
    metric: str
    direction: Literal["maximize", "minimize"]
    objectives: list[str]
    candidates: int
    dropped: list[str]
    plot_path: str
    message: str


class ChooseArgs(QuestionArgs):
    """A question to a person."""


class Choice(Data):
    """What was chosen, by whom, why and when (ISO 8601, UTC). `by_preference`: nobody was asked, because the goal
    states what it prefers and the policy lets that decide."""

    topic: str
    chosen: str
    title: str
    consequences: str
    decided_by: str
    by_preference: bool
    note: str
    at: str
    message: str


SPEC = Integration(
    name="people",
    title="People",
    summary="Options of a trade-off, and a person's choice between options.",
    actions=(
        Action(
            name="choose",
            summary="Have a person choose one of the options.",
            args=ChooseArgs,
            result=Choice,
            asks=True,
        ),
        Action(
            name="weigh_options",
            summary="Options of a search's trade-off, with a plot.",
            args=WeighArgs,
            result=Weighed,
        ),
    ),
    backend="tools.integrations.people.backend:PeopleBackend",
    requires=("scipy",),
    imports=("scipy",),
)
