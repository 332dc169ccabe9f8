"""Close the loop: retire what lost, check that registry and serving agree, sum up."""

from pydantic import Field

from tasks import (
    choose_tradeoff,
    establish_champion,
    register_challenger,
    release,
    restore_champion,
    train_challenger,
)
from tasks.base import Evidence, Inputs, Runbook, TaskFailedError, TaskResult, call, expect, succeed
from tasks.decision import decided
from tools.core.grants import Grant, grant
from tools.integrations.mlflow.spec import Champion, Retirement
from tools.integrations.serving.spec import ServingStatus

CALLS: dict[str, tuple[str, ...]] = {
    "mlflow.get_champion": (),
    "mlflow.retire_version": (),
    "serving.status": (),
}


class Result(TaskResult):
    champion_version: int
    retired_version: int | None = Field(description="the version that lost; null when there was none")


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    name = goal.registered_model
    before = inputs.need("establish_champion", establish_champion.Result)
    challenger = inputs.get("register_challenger", register_challenger.Result)
    version = expect((yield call("mlflow", "get_champion", name=name)), Champion, "reading the champion").version
    chosen = inputs.get("choose_tradeoff", choose_tradeoff.Result)
    if chosen is not None and chosen.open:
        return Result(
            champion_version=version,
            retired_version=None,
            summary=f"Version {version} stays the champion. {chosen.summary}",
        )
    if challenger is None:
        trained = inputs.need("train_challenger", train_challenger.Result)
        return Result(
            champion_version=version,
            retired_version=None,
            summary=f"Version {version} stays the champion. {trained.summary}",
        )
    judged = decided(inputs)
    done = inputs.need("release", release.Result)
    loser, inconclusive = _loser(before, challenger, version), _inconclusive(inputs)
    if not inconclusive:
        succeed(
            (yield call("mlflow", "retire_version", name=name, version=loser, reason=judged.summary)),
            "retiring the version that lost",
        )
    serving = expect((yield call("serving", "status")), ServingStatus, "reading what production serves")
    if serving.running and str(serving.champion_version) != str(version):
        raise TaskFailedError(
            f"the registry names version {version} as champion, but production serves {serving.champion_version}"
        )
    restored = inputs.get("restore_champion", restore_champion.Result)
    story = restored.summary if restored else done.summary
    fate = f"Version {loser} stays registered for another try." if inconclusive else f"Version {loser} was retired."
    return Result(
        champion_version=version,
        retired_version=None if inconclusive else loser,
        summary=f"{story} {fate} {judged.summary}",
    )


def _loser(before: establish_champion.Result, challenger: register_challenger.Result, champion: int) -> int:
    return before.version if champion == challenger.version else challenger.version


def _inconclusive(inputs: Inputs) -> bool:
    """Whether the challenger may be tried again."""
    return decided(inputs).verdict == "wait" and not inputs.need("release", release.Result).promoted


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    found = [grant("mlflow.get_champion"), grant("serving.status")]
    challenger = inputs.get("register_challenger", register_challenger.Result)
    champion = done.last("mlflow.get_champion", Champion)
    if challenger is None or champion is None or _inconclusive(inputs):
        return found
    before = inputs.need("establish_champion", establish_champion.Result)
    return [*found, grant("mlflow.retire_version", version=_loser(before, challenger, champion.version))]


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    champion = evidence.last("mlflow.get_champion", Champion)
    if champion is None:
        return ["the champion was not read back from the registry"]
    if result.champion_version != champion.version:
        return [f"champion_version is {result.champion_version}, the registry says {champion.version}"]
    retired = evidence.last("mlflow.retire_version", Retirement)
    if result.retired_version is not None and (retired is None or retired.version != result.retired_version):
        return [f"version {result.retired_version} was not retired"]
    return []
