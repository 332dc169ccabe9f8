"""A case's expectations, and how a finished run is scored by them. Pure: records in, a score out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from evals.faults import Faults
from evals.world import AnyChange
from tools.core.journal import Record


class Place(BaseModel):
    """Where in the record of a run something must be: in the result of `task`, or in the failed call of `call`.

    `field` and `value`: a field of the task's typed result and what it must be; `words`: all must occur in the result
    (as JSON), or in the message of the call.
    """

    model_config = ConfigDict(extra="forbid")

    task: str = ""
    call: str = ""
    field: str = ""
    value: Any = None
    words: list[str] = Field(default_factory=list[str])


class Expectation(BaseModel):
    """What a good run does.

    Args:
        detected: any of these places holds; empty where there is nothing to detect, and then nothing of `silent` may
            hold.
        silent: places that would be a false alarm.
        located: any of these places holds: the column, segment or part that is in trouble is named.
        outcomes: the decisions that are right.
        champion: the registered version that must be in production at the end; None: none is needed.
        gap: the champion's AUC on fresh rows is at most so far below what is attainable; None: not asked.
        forbidden: `integration.action` whose success is a false action.
    """

    model_config = ConfigDict(extra="forbid")

    detected: list[Place] = Field(default_factory=list[Place])
    silent: list[Place] = Field(default_factory=list[Place])
    located: list[Place] = Field(default_factory=list[Place])
    outcomes: list[str] = Field(min_length=1)
    champion: int | None = None
    gap: float | None = None
    forbidden: list[str] = Field(default_factory=list[str])


class Case(BaseModel):
    """One case. The crew sees the tables and the goal; everything else is for the evaluation alone."""

    model_config = ConfigDict(extra="forbid")

    story: str
    group: str
    reference_rows: int = 1500
    current_rows: int = 4000
    label_noise: float = 0.0
    changes: list[AnyChange] = Field(default_factory=list[AnyChange])
    faults: Faults = Faults()
    goal: dict[str, Any] = Field(default_factory=dict[str, Any])
    expect: Expectation


@dataclass(frozen=True)
class Played:
    """What the scoring knows of a run.

    Args:
        results: task -> its result as JSON.
        champion: version the registry names at the end, None when there is none.
        serving: version that production serves, None when nothing was served.
        value: AUC of the champion on fresh rows, None when there is no champion.
    """

    outcome: str
    records: Sequence[Record]
    results: Mapping[str, Mapping[str, Any]]
    champion: int | None
    serving: int | None
    value: float | None
    attainable: float
    seconds: float


@dataclass(frozen=True)
class Score:
    """True where the run did right; `located` is None where there is nothing to locate.

    `own` is the share of the tasks that the model finished itself, not the runbook for it; None in runbook mode.
    """

    detected: bool
    located: bool | None
    decided: bool
    recovered: bool
    false_actions: int
    seconds: float
    calls: int
    own: float | None
    tokens: int
    outcome: str
    notes: list[str]

    @property
    def passed(self) -> bool:
        return (
            self.detected and self.located is not False and self.decided and self.recovered and not self.false_actions
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def score(expect: Expectation, played: Played) -> Score:
    """Score a run."""
    notes: list[str] = []
    names = {r["call_id"]: f"{r['server']}.{r['action']}" for r in played.records if r["kind"] == "intent"}
    outcomes = [r for r in played.records if r["kind"] == "outcome"]
    failed = [(names[r["call_id"]], str(r["message"])) for r in outcomes if r["status"] != "ok"]

    def found(place: Place) -> bool:
        if place.call:
            return any(name == place.call and all(w in text for w in place.words) for name, text in failed)
        result = played.results.get(place.task)
        if result is None or (place.field and result.get(place.field) != place.value):
            return False
        text = json.dumps(result)
        return all(word in text for word in place.words)

    alarms = [place for place in expect.silent if found(place)]
    notes += [f"false alarm: {place.task or place.call} {place.field}" for place in alarms]
    detected = any(found(place) for place in expect.detected) if expect.detected else not alarms
    located = any(found(place) for place in expect.located) if expect.located else None
    if not detected and expect.detected:
        notes.append("not detected")
    if located is False:
        notes.append("not located")
    decided = played.outcome in expect.outcomes
    if not decided:
        notes.append(f"outcome {played.outcome}, expected {' or '.join(expect.outcomes)}")
    done = [names[r["call_id"]] for r in outcomes if r["status"] == "ok"]
    false = [name for name in done if name in expect.forbidden]
    notes += [f"false action: {name}" for name in dict.fromkeys(false)]
    recovered = _recovered(expect, played, notes)
    finished = [r for r in played.records if r["kind"] == "task_finished"]
    asked = [r for r in finished if r["tokens"] is not None]
    return Score(
        detected=detected,
        located=located,
        decided=decided,
        recovered=recovered,
        false_actions=len(false),
        seconds=played.seconds,
        calls=len(names),
        own=sum(r["mode"] == "llm" for r in finished) / len(finished) if asked else None,
        tokens=sum(sum(r["tokens"].values()) for r in asked),
        outcome=played.outcome,
        notes=notes,
    )


def _recovered(expect: Expectation, played: Played, notes: list[str]) -> bool:
    """Whether production is as it should be afterwards."""
    before = len(notes)
    if expect.champion is not None and played.champion != expect.champion:
        notes.append(f"champion is version {played.champion}, expected {expect.champion}")
    if played.serving is not None and played.serving != played.champion:
        notes.append(f"production serves version {played.serving}, the registry names {played.champion}")
    if expect.gap is not None and (played.value is None or played.value < played.attainable - expect.gap):
        shown = "no champion" if played.value is None else f"AUC {played.value:.3f}"
        notes.append(f"{shown} on fresh rows, {played.attainable:.3f} is attainable")
    return len(notes) == before
