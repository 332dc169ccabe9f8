"""Settle a canary that the judge could not decide by its deadline: a person chooses, or the goal's stated preference.

Apart from the release, which must not be interrupted: while a person thinks, a run may be stopped. Without an answer
the champion stays, which is the safe state.
"""

from typing import Any, Literal

from tasks import canary, establish_champion, register_challenger
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect, returned
from tasks.common import unanswered
from tools.core.grants import Grant, grant
from tools.core.results import Status
from tools.integrations.people.spec import Choice

TOPIC = "canary_deadline"
KEEP, PROMOTE = "keep_champion", "promote"
TITLES = {KEEP: "Keep the champion", PROMOTE: "Promote the challenger without proof"}


CALLS: dict[str, tuple[str, ...]] = {
    "people.choose": (),
}


class Result(TaskResult):
    """`open` is true when a person was to choose and nobody did; `choice` is then to keep the champion."""

    choice: Literal["keep_champion", "promote"]
    open: bool
    decided_by: str
    note: str


def options(inputs: Inputs) -> list[dict[str, Any]]:
    """What may be done, with the evidence there is."""
    judged = inputs.need("canary", canary.Result)
    champion = inputs.need("establish_champion", establish_champion.Result)
    challenger = inputs.need("register_challenger", register_challenger.Result)
    numbers = {"requests": judged.requests}
    values = {"champion": judged.champion_value, "challenger": judged.challenger_value}
    numbers |= {f"{name}_value": float(f"{value:.4g}") for name, value in values.items() if value is not None}
    seen = f"after {judged.requests} requests the judge is not sure"
    if judged.champion_value is not None and judged.challenger_value is not None:
        seen += f" (challenger {judged.challenger_value:.4g}, champion {judged.champion_value:.4g}, same requests)"
    said = {
        KEEP: f"The canary is rolled back and version {champion.version} serves all traffic. Version "
        f"{challenger.version} stays registered for another try.",
        PROMOTE: f"Version {challenger.version} serves all traffic, although {seen}. It is watched, and version "
        f"{champion.version} comes back if it is not healthy.",
    }
    return [
        {"name": name, "title": TITLES[name], "consequences": said[name], "numbers": numbers}
        for name in (KEEP, PROMOTE)
    ]


def runbook(inputs: Inputs) -> Runbook:
    answered = yield call("people", "choose", **_question(inputs))
    if answered.status in (Status.NEEDS_APPROVAL, Status.DENIED):
        told = unanswered("`canary.at_deadline` in the goal (keep_champion, promote)", "The champion stays.")
        return Result(choice=KEEP, open=True, decided_by="", note="", summary=f"{answered.message}. {told}")
    choice = expect(answered, Choice, "asking a person")
    return Result(
        choice=PROMOTE if choice.chosen == PROMOTE else KEEP,
        open=False,
        decided_by=choice.decided_by,
        note=choice.note,
        summary=choice.message,
    )


def _question(inputs: Inputs) -> dict[str, Any]:
    """What a person is asked, from what the canary recorded."""
    judged = inputs.need("canary", canary.Result)
    why = judged.reasons[0] if judged.reasons else "the evidence does not decide"
    asked = f"The canary is at its deadline and not proven: {why[:300]} What becomes of the challenger?"
    return {"topic": TOPIC, "question": asked, "options": options(inputs)}


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    return [grant("people.choose", **_question(inputs))]


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    asked = evidence.named("people.choose")
    if not asked:
        return ["nobody was asked (people choose was not called)"]
    arguments, answered = asked[-1]
    offered = arguments.get("options")
    named = {o.get("name"): o.get("title") for o in offered} if isinstance(offered, list) else {}
    if arguments.get("topic") != TOPIC or named != TITLES:
        return [f"the question must have the topic {TOPIC} and exactly the options (name: title) {TITLES}"]
    if (choice := returned(answered, Choice)) is not None:
        chosen = choice.chosen
        return [] if not result.open and result.choice == chosen else [f"the choice was {chosen!r}: {result.choice!r}"]
    return [] if result.open and result.choice == KEEP else ["nobody chose, so the champion stays"]
