"""Register the challenger as a new version."""

from tasks import train_challenger
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect
from tools.core.grants import Grant, grant
from tools.integrations.mlflow.spec import RegisteredVersion

CALLS: dict[str, tuple[str, ...]] = {
    "mlflow.register_model": (),
}


class Result(TaskResult):
    version: int
    model_uri: str


def runbook(inputs: Inputs) -> Runbook:
    trained = inputs.need("train_challenger", train_challenger.Result)
    name = inputs.goal.registered_model
    registered = expect(
        (yield call("mlflow", "register_model", model_uri=trained.model_uri, name=name, note=trained.summary)),
        RegisteredVersion,
        "registering the challenger",
    )
    return Result(
        version=registered.version,
        model_uri=registered.model_uri,
        summary=f"The challenger is version {registered.version} of {name}.",
    )


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    return [
        grant("mlflow.register_model", model_uri=inputs.need("train_challenger", train_challenger.Result).model_uri)
    ]


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    registered = evidence.last("mlflow.register_model", RegisteredVersion)
    if registered is None:
        return ["nothing was registered (mlflow register_model did not succeed)"]
    if result.version != registered.version:
        return [f"version is {result.version}, the registry returned {registered.version}"]
    return []
