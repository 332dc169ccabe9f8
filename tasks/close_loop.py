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
from tasks.base import Evidence, Inputs, Runbook, TaskFailedError, TaskResult, call, data_of
from tasks.decision import decided

RISKY = ("mlflow.retire_version",)


class Result(TaskResult):
    champion_version: int
    retired_version: int | None = Field(description="the version that lost; null when there was none")


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    name = goal.registered_model
    before = inputs.need("establish_champion", establish_champion.Result)
    challenger = inputs.get("register_challenger", register_challenger.Result)
    champion = data_of((yield call("mlflow", "get_champion", name=name)), "reading the champion")
    version = int(champion["version"])
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
    loser = before.version if version == challenger.version else challenger.version
    done = inputs.need("release", release.Result)
    inconclusive = judged.verdict == "wait" and not done.promoted
    if not inconclusive:
        data_of(
            (yield call("mlflow", "retire_version", name=name, version=loser, reason=judged.summary)),
            "retiring the version that lost",
        )
    serving = data_of((yield call("serving", "status")), "reading what production serves")
    if serving["running"] and str(serving["champion_version"]) != str(version):
        raise TaskFailedError(
            f"the registry names version {version} as champion, but production serves {serving['champion_version']}"
        )
    restored = inputs.get("restore_champion", restore_champion.Result)
    story = restored.summary if restored else done.summary
    fate = f"Version {loser} stays registered for another try." if inconclusive else f"Version {loser} was retired."
    return Result(
        champion_version=version,
        retired_version=None if inconclusive else loser,
        summary=f"{story} {fate} {judged.summary}",
    )


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    champion = evidence.last("mlflow", "get_champion")
    if champion is None:
        return ["the champion was not read back from the registry"]
    if result.champion_version != champion["version"]:
        return [f"champion_version is {result.champion_version}, the registry says {champion['version']}"]
    retired = evidence.last("mlflow", "retire_version")
    if result.retired_version is not None and (retired is None or retired["version"] != result.retired_version):
        return [f"version {result.retired_version} was not retired"]
    return []
