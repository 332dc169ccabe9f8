"""Bring the previous champion back when production is not healthy after a promotion."""

from tasks import establish_champion, watch_production
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, succeed
from tools.core.grants import Grant, way_back

ATOMIC = True


CALLS: dict[str, tuple[str, ...]] = {
    "serving.deploy_model": (),
    "mlflow.promote_version": (),
}


class Result(TaskResult):
    restored: bool
    champion_version: int


def runbook(inputs: Inputs) -> Runbook:
    champion = inputs.need("establish_champion", establish_champion.Result)
    name = inputs.goal.registered_model
    watched = inputs.get("watch_production", watch_production.Result)
    succeed(
        (yield call("serving", "deploy_model", model_uri=champion.model_uri, version=str(champion.version), name=name)),
        "serving the previous champion again",
    )
    succeed(
        (
            yield call(
                "mlflow",
                "promote_version",
                name=name,
                version=champion.version,
                reason=watched.summary if watched else "production was not healthy after the promotion",
            )
        ),
        "making the previous version the champion again",
    )
    return Result(
        restored=True,
        champion_version=champion.version,
        summary=f"Version {champion.version} is the champion again and serves all traffic.",
    )


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    champion = inputs.need("establish_champion", establish_champion.Result)
    return [
        way_back("serving.deploy_model", model_uri=champion.model_uri, version=str(champion.version)),
        way_back("mlflow.promote_version", version=champion.version),
    ]


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    needed = ("serving.deploy_model", "mlflow.promote_version")
    missing = [what.replace(".", " ") for what in needed if not evidence.succeeded(what)]
    return [f"restored is true, but {what} did not succeed" for what in missing] if result.restored else []
