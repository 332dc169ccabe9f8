"""Do what the judge said, or what was chosen where it was not sure: promote in serving and registry, or roll back."""

from tasks import canary, establish_champion, register_challenger, settle_canary
from tasks.base import Evidence, Inputs, Runbook, TaskFailedError, TaskResult, call, data_of

ATOMIC = True


class Result(TaskResult):
    promoted: bool
    champion_version: int


def to_promote(inputs: Inputs) -> bool:
    """Whether the challenger is to be promoted: the judge's verdict, and where that is open what was chosen."""
    judged = inputs.need("canary", canary.Result)
    settled = inputs.get("settle_canary", settle_canary.Result)
    chosen = judged.verdict == "wait" and settled is not None and not settled.open and settled.choice == "promote"
    return judged.verdict == "promote" or chosen


def runbook(inputs: Inputs) -> Runbook:
    name = inputs.goal.registered_model
    judged = inputs.need("canary", canary.Result)
    champion = inputs.need("establish_champion", establish_champion.Result)
    challenger = inputs.need("register_challenger", register_challenger.Result)
    settled = inputs.get("settle_canary", settle_canary.Result)
    open_story = f" {settled.summary}" if settled else ""
    if not to_promote(inputs):
        data_of((yield call("serving", "rollback_canary")), "rolling the canary back")
        why = "was harmful" if judged.verdict == "rollback" else "was not proven safe with the requests there were"
        return Result(
            promoted=False,
            champion_version=champion.version,
            summary=f"The canary {why}: it was rolled back, and version {champion.version} serves all traffic."
            f"{open_story}",
        )
    promoted = yield call("serving", "promote_canary", version=str(challenger.version))
    if not promoted.ok:
        # A person may have refused, or the engine may be gone: nobody must be left with a canary.
        yield call("serving", "rollback_canary")
        data_of(promoted, "promoting the canary in serving")
    reason = f"{judged.summary}{open_story}"
    registered = yield call("mlflow", "promote_version", name=name, version=challenger.version, reason=reason)
    if not registered.ok:
        # Serving and registry must agree, so what serves goes back to the version the registry still names.
        back = yield call(
            "serving", "deploy_model", model_uri=champion.model_uri, version=str(champion.version), name=name
        )
        state = "serving went back to the old champion" if back.ok else f"and serving could not go back: {back.message}"
        raise TaskFailedError(f"promoting in the registry failed: {registered.message}; {state}")
    return Result(
        promoted=True,
        champion_version=challenger.version,
        summary=f"Version {challenger.version} of {name} is the champion and serves all traffic.{open_story}",
    )


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    judged = evidence.inputs.need("canary", canary.Result)
    wanted = to_promote(evidence.inputs)
    if result.promoted:
        if not wanted:
            return [f"promoted is true, but the judge said {judged.verdict!r} and nobody chose to promote"]
        missing = [
            what
            for what in (("serving", "promote_canary"), ("mlflow", "promote_version"))
            if not evidence.succeeded(*what)
        ]
        return [f"promoted is true, but {tool} {action} did not succeed" for tool, action in missing]
    if wanted:
        return ["it was decided to promote, but the challenger was not promoted"]
    if not evidence.succeeded("serving", "rollback_canary"):
        return ["the canary was not rolled back"]
    return []
