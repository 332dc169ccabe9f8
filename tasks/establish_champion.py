"""Make sure that a champion exists: the registry's, or a baseline trained on the reference slice."""

from pydantic import Field

from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect, succeed
from tasks.common import slices, training
from tools.core.grants import Grant, grant
from tools.core.results import Status
from tools.integrations.mlflow.spec import Champion, RegisteredVersion, TrainedModel

CALLS: dict[str, tuple[str, ...]] = {
    "mlflow.get_champion": (),
    "mlflow.train_model": (),
    "mlflow.register_model": (),
    "mlflow.promote_version": (),
}


class Result(TaskResult):
    version: int
    model_uri: str
    trained_now: bool = Field(description="true when there was none and a baseline was trained")
    usable: bool = Field(default=True, description="false: the baseline is too good to be believed")


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    name = goal.registered_model
    found = yield call("mlflow", "get_champion", name=name)
    if found.status is not Status.NO_DATA:
        champion = expect(found, Champion, "reading the champion")
        return Result(
            version=champion.version,
            model_uri=champion.model_uri,
            trained_now=False,
            summary=f"Version {champion.version} of {name} is the champion.",
        )
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
        (
            yield call(
                "mlflow",
                "register_model",
                model_uri=trained.model_uri,
                name=name,
                note="baseline trained on the reference data",
            )
        ),
        RegisteredVersion,
        "registering the baseline",
    )
    succeed(
        (
            yield call(
                "mlflow",
                "promote_version",
                name=name,
                version=registered.version,
                reason="first champion: there was none",
            )
        ),
        "making the baseline the champion",
    )
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
    if not done.ended("mlflow.get_champion", Status.NO_DATA):
        return found
    found.append(grant("mlflow.train_model", train=[slices(inputs)["reference"]]))
    trained = done.last("mlflow.train_model", TrainedModel)
    if trained is not None and _doubt(inputs, trained) is None:
        found.append(grant("mlflow.register_model", model_uri=trained.model_uri))
    if (registered := done.last("mlflow.register_model", RegisteredVersion)) is not None:
        found.append(grant("mlflow.promote_version", version=registered.version))
    return found


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    champion = evidence.last("mlflow.get_champion", Champion)
    trained = evidence.last("mlflow.train_model", TrainedModel)
    doubtful = champion is None and trained is not None and _doubt(evidence.inputs, trained) is not None
    if result.usable == doubtful:
        return [f"usable is {result.usable}, but the baseline is {'too good to be true' if doubtful else 'believable'}"]
    if doubtful:
        return []
    known = [found for found in (champion, evidence.last("mlflow.register_model", RegisteredVersion)) if found]
    if not known:
        return ["neither an existing champion was read nor a baseline registered"]
    if (result.version, result.model_uri) not in {(item.version, item.model_uri) for item in known}:
        return [f"version {result.version} with {result.model_uri!r} is not what the registry returned"]
    if champion is None and not evidence.succeeded("mlflow.promote_version"):
        return ["a baseline was registered but not promoted to champion"]
    return []
