"""Make sure that a champion exists: the registry's, or a baseline trained on the reference slice."""

from pydantic import Field

from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, data_of
from tasks.common import slices, training
from tools.core.grants import Grant, grant
from tools.core.results import Status

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


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    name = goal.registered_model
    found = yield call("mlflow", "get_champion", name=name)
    if found.status is not Status.NO_DATA:
        champion = data_of(found, "reading the champion")
        return Result(
            version=champion["version"],
            model_uri=champion["model_uri"],
            trained_now=False,
            summary=f"Version {champion['version']} of {name} is the champion.",
        )
    trained = data_of(
        (yield training(inputs, [slices(inputs)["reference"]], "baseline")),
        "training a baseline",
    )
    registered = data_of(
        (
            yield call(
                "mlflow",
                "register_model",
                model_uri=trained["model_uri"],
                name=name,
                note="baseline trained on the reference data",
            )
        ),
        "registering the baseline",
    )
    data_of(
        (
            yield call(
                "mlflow",
                "promote_version",
                name=name,
                version=registered["version"],
                reason="first champion: there was none",
            )
        ),
        "making the baseline the champion",
    )
    return Result(
        version=registered["version"],
        model_uri=registered["model_uri"],
        trained_now=True,
        summary=f"There was no champion of {name}: a baseline was trained on the reference data and is version "
        f"{registered['version']}.",
    )


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    found = [grant("mlflow.get_champion")]
    if not done.ended("mlflow.get_champion", Status.NO_DATA):
        return found
    found.append(grant("mlflow.train_model", train=[slices(inputs)["reference"]]))
    if (trained := done.latest("mlflow.train_model", "model_uri")) is not None:
        found.append(grant("mlflow.register_model", model_uri=trained))
    if (version := done.latest("mlflow.register_model", "version")) is not None:
        found.append(grant("mlflow.promote_version", version=version))
    return found


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    known = [
        found
        for found in (evidence.last("mlflow", "get_champion"), evidence.last("mlflow", "register_model"))
        if found is not None
    ]
    if not known:
        return ["neither an existing champion was read nor a baseline registered"]
    if (result.version, result.model_uri) not in {(item["version"], item["model_uri"]) for item in known}:
        return [f"version {result.version} with {result.model_uri!r} is not what the registry returned"]
    if evidence.last("mlflow", "get_champion") is None and not evidence.succeeded("mlflow", "promote_version"):
        return ["a baseline was registered but not promoted to champion"]
    return []
