"""Make sure that there is a champion: the one that the registry names, the one that a person names where versions exist
and none is named, or, where there is no version at all, a baseline trained on the reference slice.

Versions of others are never passed over: without a person's word nothing is trained and nothing promoted.
"""

from typing import Any

from pydantic import Field

from tasks.base import Evidence, Inputs, Runbook, Steps, TaskResult, call, expect, returned, succeed
from tasks.common import slices, training, unanswered
from tools.core.errors import shorten
from tools.core.grants import Grant, grant
from tools.core.results import Status, ToolResult
from tools.integrations.mlflow.spec import Champion, ReadOutput, RegisteredVersion, TrainedModel, VersionInfo, Versions
from tools.integrations.people.spec import Choice

TOPIC = "champion"
NONE = "none_of_them"
OFFERED = 3  # versions that a question can offer beside none of them
BASELINE = "baseline trained on the reference data"

CALLS: dict[str, tuple[str, ...]] = {
    "mlflow.get_champion": (),
    "mlflow.list_versions": (),
    "people.choose": (),
    "mlflow.read_output": (),
    "mlflow.train_model": (),
    "mlflow.register_model": (),
    "mlflow.promote_version": (),
}


class Result(TaskResult):
    """`open` is true when a person was to say which version is the champion and nobody did, or none of them is;
    `version` is 0 then, `model_uri` empty, and nothing was trained."""

    version: int
    model_uri: str
    trained_now: bool = Field(description="true when there was none and a baseline was trained")
    usable: bool = Field(default=True, description="false: the baseline is too good to be believed")
    open: bool = Field(default=False, description="true when nobody said which version is the champion")


def runbook(inputs: Inputs) -> Runbook:
    name = inputs.goal.registered_model
    found = yield call("mlflow", "get_champion", name=name)
    if found.status is not Status.NO_DATA:
        champion = expect(found, Champion, "reading the champion")
        told = yield from _understood(inputs, champion.model_uri)
        by = "" if champion.named_by == "alias champion" else f", by its {champion.named_by}"
        said = f"Version {champion.version} of {name} is the champion{by}.{told}"
        return _is_champion(champion.version, champion.model_uri, said)
    listed = yield call("mlflow", "list_versions", name=name)
    others = _others(listed)
    if others:
        return (yield from _named_by_a_person(inputs, others))
    if listed.status is not Status.NO_DATA:
        succeed(listed, "listing the versions")
    return (yield from _baseline(inputs))


def _others(listed: ToolResult) -> list[VersionInfo]:
    """The versions that may be in production somewhere: all but retired ones and a baseline of ours, newest first."""
    versions = returned(listed, Versions)
    if versions is None:
        return []
    return [version for version in versions.versions if not version.retired and version.note != BASELINE]


def _named_by_a_person(inputs: Inputs, others: list[VersionInfo]) -> Steps[Result]:
    answered = yield call("people", "choose", **_question(inputs, others))
    name = inputs.goal.registered_model
    if answered.status in (Status.NEEDS_APPROVAL, Status.DENIED):
        kept = "Nothing was trained, and no version was changed."
        told = unanswered("`champion` in the goal (the number of a version, an alias or a stage)", kept)
        said = f"{name} has {_counted(others)}, and none is named its champion. {answered.message}. {told}"
        return Result(version=0, model_uri="", trained_now=False, open=True, summary=said)
    choice = expect(answered, Choice, "asking which version is the champion")
    chosen = next((version for version in others if _option_name(version) == choice.chosen), None)
    if chosen is None:
        said = (
            f"{choice.message} Nothing was trained. State `champion` in the goal (the number of a version, an alias "
            "or a stage), or another `model` for a model of its own."
        )
        return Result(version=0, model_uri="", trained_now=False, open=True, summary=said)
    told = yield from _understood(inputs, chosen.model_uri)
    promoted = yield call("mlflow", "promote_version", name=name, version=chosen.version, reason=choice.message)
    succeed(promoted, "naming the champion")
    said = f"Version {chosen.version} of {name} is the champion, as {choice.decided_by} said.{told}"
    return _is_champion(chosen.version, chosen.model_uri, said)


def _question(inputs: Inputs, others: list[VersionInfo]) -> dict[str, Any]:
    """What a person is asked: which of the newest versions is in production."""
    name = inputs.goal.registered_model
    more = f" The newest {OFFERED} are offered; any other: `champion` in the goal." if len(others) > OFFERED else ""
    asked = f"{name} has {_counted(others)} and none is named its champion: which one is in production?{more}"
    options = [
        {
            "name": _option_name(version),
            "title": f"Version {version.version}",
            "consequences": f"It becomes the champion that others are compared with. {_described(version)}",
        }
        for version in others[:OFFERED]
    ]
    none = "Nothing is trained and nothing changed: the run ends here."
    return {
        "topic": TOPIC,
        "question": asked,
        "options": [*options, {"name": NONE, "title": "None of them", "consequences": none}],
    }


def _option_name(version: VersionInfo) -> str:
    return f"version_{version.version}"


def _counted(others: list[VersionInfo]) -> str:
    return f"{len(others)} version{'' if len(others) == 1 else 's'}"


def _described(version: VersionInfo) -> str:
    beside = [f"stage {version.stage}"] if version.stage else []
    beside += [f"alias {alias}" for alias in version.aliases[:5]]
    note = f" {shorten(version.note, 200)}" if version.note else ""
    return f"Made {version.created[:10]}{''.join(f', {name}' for name in beside)}.{note}"


def _understood(inputs: Inputs, model_uri: str) -> Steps[str]:
    """Find out what the champion's answers mean, before anything rests on them; what a person should know of it."""
    asked = yield call("mlflow", "read_output", model_uri=model_uri, **_asked(inputs))
    found = expect(asked, ReadOutput, "finding out what the champion answers")
    return f" {found.message}" if found.supposed or found.kind == "labels" else ""


def _asked(inputs: Inputs) -> dict[str, Any]:
    goal, paths = inputs.goal, slices(inputs)
    return {
        "data": [paths["reference_all"], paths["current_all"]],
        "target": goal.target,
        "task": goal.task,
        "drop": goal.dropped,
    }


def _is_champion(version: int, model_uri: str, summary: str) -> Result:
    return Result(version=version, model_uri=model_uri, trained_now=False, summary=summary)


def _baseline(inputs: Inputs) -> Steps[Result]:
    name = inputs.goal.registered_model
    trained = expect(
        (yield training(inputs, [slices(inputs)["reference"]], "baseline")), TrainedModel, "training a baseline"
    )
    if (doubt := _doubt(inputs, trained)) is not None:
        return Result(
            version=0,
            model_uri="",
            trained_now=True,
            usable=False,
            summary=f"There was no champion of {name}, and the baseline that was trained is not made one. {doubt}",
        )
    registered = expect(
        (yield call("mlflow", "register_model", model_uri=trained.model_uri, name=name, note=BASELINE)),
        RegisteredVersion,
        "registering the baseline",
    )
    promoted = yield call(
        "mlflow",
        "promote_version",
        name=name,
        version=registered.version,
        reason="first champion: there was none",
    )
    succeed(promoted, "making the baseline the champion")
    return Result(
        version=registered.version,
        model_uri=registered.model_uri,
        trained_now=True,
        summary=f"There was no champion of {name}: a baseline was trained on the reference data and is version "
        f"{registered.version}.",
    )


def _doubt(inputs: Inputs, trained: TrainedModel) -> str | None:
    """Why a baseline is not believed; None where it is, or the goal accepts that."""
    return trained.too_good if trained.too_good and not inputs.goal.accepts("perfect_score") else None


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    found = [grant("mlflow.get_champion")]
    if (champion := done.last("mlflow.get_champion", Champion)) is not None:
        return [*found, _read(inputs, champion.model_uri)]
    if not done.ended("mlflow.get_champion", Status.NO_DATA):
        return found
    found.append(grant("mlflow.list_versions"))
    listed = done.named("mlflow.list_versions")
    if not listed:
        return found
    if others := _others(listed[-1][1]):
        found.append(grant("people.choose", **_question(inputs, others)))
        chosen = _chosen(done, others)
        promotion = [] if chosen is None else [grant("mlflow.promote_version", version=chosen.version)]
        return [*found, *([] if chosen is None else [_read(inputs, chosen.model_uri)]), *promotion]
    found.append(grant("mlflow.train_model", train=[slices(inputs)["reference"]]))
    trained = done.last("mlflow.train_model", TrainedModel)
    if trained is not None and _doubt(inputs, trained) is None:
        # The note is what tells a baseline of ours from a version of others, so it is no caller's choice.
        found.append(grant("mlflow.register_model", model_uri=trained.model_uri, note=BASELINE))
    if (registered := done.last("mlflow.register_model", RegisteredVersion)) is not None:
        found.append(grant("mlflow.promote_version", version=registered.version))
    return found


def _read(inputs: Inputs, model_uri: str) -> Grant:
    return grant("mlflow.read_output", model_uri=model_uri, data=_asked(inputs)["data"])


def _chosen(done: Evidence, others: list[VersionInfo]) -> VersionInfo | None:
    """The version that a person named; None: nobody named one."""
    choice = done.last("people.choose", Choice)
    named = None if choice is None or choice.topic != TOPIC else choice.chosen
    return next((version for version in others if _option_name(version) == named), None)


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    champion = evidence.last("mlflow.get_champion", Champion)
    trained = evidence.last("mlflow.train_model", TrainedModel)
    doubtful = champion is None and trained is not None and _doubt(evidence.inputs, trained) is not None
    if result.usable == doubtful:
        return [f"usable is {result.usable}, but the baseline is {'too good to be true' if doubtful else 'believable'}"]
    if doubtful:
        return []
    listed = evidence.named("mlflow.list_versions")
    others = _others(listed[-1][1]) if champion is None and listed else []
    if others:
        chosen = _chosen(evidence, others)
        if not evidence.named("people.choose"):
            return ["versions exist and none is named champion, but nobody was asked (people choose was not called)"]
        if chosen is None:
            return [] if result.open else ["nobody named a version: open must be true"]
        if result.open or (result.version, result.model_uri) != (chosen.version, chosen.model_uri):
            return [f"version {chosen.version} with {chosen.model_uri!r} was named, not {result.version}"]
    else:
        known = [found for found in (champion, evidence.last("mlflow.register_model", RegisteredVersion)) if found]
        if not known:
            return ["neither an existing champion was read nor a baseline registered"]
        if result.open or (result.version, result.model_uri) not in {(item.version, item.model_uri) for item in known}:
            return [f"version {result.version} with {result.model_uri!r} is not what the registry returned"]
    if champion is None and not evidence.succeeded("mlflow.promote_version"):
        return ["the champion was registered or named, but not promoted"]
    if (champion is not None or others) and not evidence.succeeded("mlflow.read_output"):
        return ["it was not found out what the champion answers (mlflow read_output did not succeed)"]
    return []
