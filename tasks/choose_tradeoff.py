"""Choose between quality, latency, size and fairness, where the search found no model that is best in everything.

The options come from the search's Pareto front, by a tool; which one is taken is a person's, or the goal's where it
states a preference and the policy lets that decide. Without an answer nothing is trained: there is no default.
"""

from typing import Any

from pydantic import Field

from tasks import search_architecture
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect, returned
from tasks.common import unanswered
from tasks.goal import BALANCED, Goal
from tools.core.grants import Grant, grant
from tools.core.results import Status
from tools.integrations.people.spec import Choice, Weighed

TOPIC = "tradeoff"


CALLS: dict[str, tuple[str, ...]] = {
    "people.weigh_options": (),
    "people.choose": (),
}


class Result(TaskResult):
    """`open` is true when a person was to choose and nobody did; `option` and `config` are empty then."""

    open: bool
    option: str
    config: dict[str, Any]
    asked: bool = Field(description="false when one option was as good as any in everything")
    decided_by: str
    note: str
    latency_ms: float | None = None
    size_mib: float | None = None


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    found = inputs.need("search_architecture", search_architecture.Result)
    optional = {
        name: value
        for name, value in (("preference", goal.preference), ("min_metric", goal.constraints.min_metric))
        if value is not None
    }
    weighed = expect(
        (yield call("people", "weigh_options", trials_path=found.trials_path, objectives=goal.objectives, **optional)),
        Weighed,
        "weighing the options",
    )
    if len(weighed.options) == 1:
        only = weighed.options[0]
        return _taken(weighed, only.name, asked=False, by="the numbers", note="", summary=weighed.message)
    answered = yield call("people", "choose", **_question(weighed))
    if answered.status in (Status.NEEDS_APPROVAL, Status.DENIED):
        return Result(
            open=True,
            option="",
            config={},
            asked=True,
            decided_by="",
            note="",
            summary=f"{answered.message}. {open_words(goal)}",
        )
    choice = expect(answered, Choice, "asking a person")
    return _taken(weighed, choice.chosen, asked=True, by=choice.decided_by, note=choice.note, summary=choice.message)


def _question(weighed: Weighed) -> dict[str, Any]:
    """What a person is asked: the options as they were weighed."""
    return {
        "topic": TOPIC,
        "question": weighed.question,
        "options": [option.model_dump(mode="json") for option in weighed.options],
        "plot": weighed.plot_path,
    }


def _taken(weighed: Weighed, name: str, *, asked: bool, by: str, note: str, summary: str) -> Result:
    option = next(option for option in weighed.options if option.name == name)
    return Result(
        open=False,
        option=name,
        config=weighed.configs[name],
        asked=asked,
        decided_by=by,
        note=note,
        latency_ms=option.numbers.get("latency_ms"),
        size_mib=option.numbers.get("size_mib"),
        summary=summary,
    )


def open_words(goal: Goal) -> str:
    """What to do when nobody chose."""
    words = ", ".join([*goal.objectives, BALANCED])
    return unanswered(f"`preference` in the goal ({words})", "Nothing was trained; the champion stays.")


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    found = inputs.need("search_architecture", search_architecture.Result)
    weighed = done.last("people.weigh_options", Weighed)
    asked = [] if weighed is None or len(weighed.options) < 2 else [grant("people.choose", **_question(weighed))]
    return [grant("people.weigh_options", trials_path=found.trials_path), *asked]


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    weighed = evidence.last("people.weigh_options", Weighed)
    if weighed is None:
        return ["the options were not weighed (people weigh_options did not succeed)"]
    if len(weighed.options) == 1:
        expected = weighed.options[0].name
    else:
        asked = evidence.named("people.choose")
        if not asked:
            return ["nobody was asked (people choose was not called)"]
        arguments, answered = asked[-1]
        offered = _question(weighed)["options"]
        if arguments.get("topic") != TOPIC or _plain(arguments.get("options")) != _plain(offered):
            return ["the question was not asked with exactly the topic tradeoff and the options that were weighed"]
        choice = returned(answered, Choice)
        if choice is None:
            return [] if result.open else ["nobody chose: open must be true"]
        expected = choice.chosen
    if result.open or result.option != expected:
        return [f"the choice was {expected!r}, not {result.option!r}"]
    config = weighed.configs[expected]
    return [] if result.config == config else [f"config must be exactly that of the option {expected}: {config}"]


def _plain(options: Any) -> Any:
    """Options without what was left at its default, so that a model may leave it out."""
    if not isinstance(options, list):
        return options
    return [{k: v for k, v in option.items() if v not in ({}, [])} for option in options if isinstance(option, dict)]
