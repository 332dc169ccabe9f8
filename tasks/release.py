"""Do what the judge said, or what was chosen where it was not sure: promote in serving and registry, or roll back."""

from tasks import canary, establish_champion, register_challenger, settle_canary
from tasks.base import Evidence, Inputs, Runbook, TaskFailedError, TaskResult, call, succeed
from tasks.decision import decided
from tools.core.grants import Grant, grant, way_back

ATOMIC = True
_BACK = ("serving.rollback_canary", "serving.deploy_model")

CALLS: dict[str, tuple[str, ...]] = {
    "serving.promote_canary": (),
    "serving.rollback_canary": (),
    "serving.deploy_model": (),
    "mlflow.promote_version": (),
}


class Result(TaskResult):
    promoted: bool
    champion_version: int


def runbook(inputs: Inputs) -> Runbook:
    name = inputs.goal.registered_model
    judged = decided(inputs)
    champion = inputs.need("establish_champion", establish_champion.Result)
    challenger = inputs.need("register_challenger", register_challenger.Result)
    settled = inputs.get("settle_canary", settle_canary.Result)
    open_story = f" {settled.summary}" if settled else ""
    if judged.verdict != "promote":
        succeed((yield call("serving", "rollback_canary")), "rolling the canary back")
        return Result(
            promoted=False,
            champion_version=champion.version,
            summary=f"The canary {judged.why}: it was rolled back, and version {champion.version} serves all traffic."
            f"{open_story}",
        )
    judged_model = inputs.need("canary", canary.Result).challenger_digest
    promoted = yield call("serving", "promote_canary", version=str(challenger.version), digest=judged_model)
    if not promoted.ok:
        # A person may have refused, or the engine may be gone: nobody must be left with a canary.
        yield call("serving", "rollback_canary")
        succeed(promoted, "promoting the canary in serving")
    reason = f"{judged.summary}{open_story}"
    registered = yield call(
        "mlflow", "promote_version", name=name, version=challenger.version, reason=reason, digest=judged_model
    )
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


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    """Nothing goes into production that was not decided to, serving first; back to the champion only what did not come
    through. What is done is done: no step is granted twice."""
    if decided(inputs).verdict != "promote":
        return [grant("serving.rollback_canary")]
    champion = inputs.need("establish_champion", establish_champion.Result)
    challenger = inputs.need("register_challenger", register_challenger.Result)
    digest = inputs.need("canary", canary.Result).challenger_digest
    if any(done.succeeded(name) for name in ("mlflow.promote_version", *_BACK)):
        return []
    if not done.succeeded("serving.promote_canary"):
        found = [grant("serving.promote_canary", version=str(challenger.version), digest=digest)]
        return [*found, grant("serving.rollback_canary")] if done.named("serving.promote_canary") else found
    found = [grant("mlflow.promote_version", version=challenger.version, digest=digest)]
    if done.failed_since("mlflow.promote_version", "serving.promote_canary"):
        found.append(way_back("serving.deploy_model", model_uri=champion.model_uri, version=str(champion.version)))
    return found


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    judged = decided(evidence.inputs)
    if result.promoted:
        if judged.verdict != "promote":
            return [f"promoted is true, but it was decided: {judged.verdict}"]
        missing = [
            what for what in ("serving.promote_canary", "mlflow.promote_version") if not evidence.succeeded(what)
        ]
        return [f"promoted is true, but {what.replace('.', ' ')} did not succeed" for what in missing]
    if judged.verdict == "promote":
        return ["it was decided to promote, but the challenger was not promoted"]
    if not evidence.succeeded("serving.rollback_canary"):
        return ["the canary was not rolled back"]
    return []
