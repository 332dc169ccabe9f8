"""Before a run: do registry, serving and the journals agree? What disagrees is said; repaired where one direction is
provably right; otherwise a person decides, and the run does not begin.

The registry is the record of what was decided. Serving is put right by it where the registry's promotion is complete
and what serves is the champion before it. Anything else may be somebody's decision.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.base import TaskFailedError
from tools.core.contract import Effect
from tools.core.gateway import Gateway
from tools.core.journal import JournalError, Record, read_journal
from tools.core.results import Status
from tools.core.settle import past_calls

JOURNAL = "journal.jsonl"
Facts = dict[str, Any]


@dataclass(frozen=True)
class Unfinished:
    """A run that was cut off or suspended. `open_calls`: `integration.action` of what began and has no outcome."""

    run_id: str
    model: str
    open_calls: tuple[str, ...]
    touched_production: bool


@dataclass(frozen=True)
class Repair:
    """A call that puts right what disagrees, and why it is right."""

    server: str
    action: str
    arguments: dict[str, Any]
    why: str


@dataclass(frozen=True)
class Disagreement:
    """What does not agree, and what to do. `repair` is None where a person must decide."""

    what: str
    how: str
    repair: Repair | None = None


def compare(
    model: str, champion: Facts | None, status: Facts | None, unfinished: Iterable[Unfinished]
) -> list[Disagreement]:
    """What disagrees. Pure.

    Args:
        champion: what `mlflow.get_champion` says; None: the model has none.
        status: what `serving.status` says; None: nothing was ever deployed.
        unfinished: runs of any model that did not end.
    """
    found: list[Disagreement] = []
    ours = [run for run in unfinished if run.model == model]
    halfway = [run for run in ours if run.open_calls or run.touched_production]
    if champion is not None and champion.get("unfinished") and not halfway:
        version = champion["version"]
        reason = "the promotion was cut off before its record was complete"
        repair = Repair(
            "mlflow", "promote_version", {"name": model, "version": version, "reason": reason},
            "the alias is moved already; promoting again completes the record",
        )  # fmt: skip
        found.append(Disagreement(f"the promotion of version {version} of {model} is not complete", "", repair))
    if status is None or status.get("name") != model or champion is None:
        return found
    serves, named = str(status["champion_version"]), str(champion["version"])
    if serves == named:
        return found
    what = f"the registry names version {named} of {model} as champion, and production serves version {serves}"
    if halfway:
        runs = ", ".join(run.run_id for run in halfway)
        found.append(
            Disagreement(what, f"run {runs} did not end and may be why; go on with it: mlops-crew resume {runs}")
        )
    elif str(champion.get("previous")) == serves and champion.get("since"):
        arguments = {"model_uri": champion["model_uri"], "version": named, "name": model}
        why = f"version {named} was promoted at {champion['since']}, and {serves} was the champion before it"
        found.append(Disagreement(what, "", Repair("serving", "deploy_model", arguments, why)))
    else:
        how = (
            f"nothing tells which is right; a person says it with: mlops-crew reconcile {model} --keep registry (or "
            "serving), then run again"
        )
        found.append(Disagreement(what, how))
    return found


def look(gateway: Gateway, model: str, home: Path) -> list[Disagreement]:
    """Read what there is and compare it. Reads that the policy or the stack does not allow compare nothing."""
    unfinished = unfinished_runs(home, gateway.run_id)
    if not {"serving", "mlflow"} <= set(gateway.stack.own):
        return []
    status = gateway.call("serving", {"action": "status"})
    if not status.ok:
        return []  # nothing was ever deployed, or nobody may look
    champion = gateway.call("mlflow", {"action": "get_champion", "name": model})
    if not champion.ok and champion.status is not Status.NO_DATA:
        return []
    return compare(model, champion.data if champion.ok else None, status.data, unfinished)


def reconcile(gateway: Gateway, model: str, home: Path) -> None:
    """Say what disagrees, and repair what is provably wrong.

    Raises:
        TaskFailedError: something disagrees that a person must decide, or the repair did not succeed.
    """
    for found in look(gateway, model, home):
        if found.repair is None:
            gateway.journal.append("reconciled", what=found.what, repaired=False, how=found.how)
            raise TaskFailedError(f"{found.what}; {found.how}")
        repair = found.repair
        result = gateway.call(repair.server, {"action": repair.action, **repair.arguments})
        how = f"{repair.server}.{repair.action}: {result.message}"
        gateway.journal.append("reconciled", what=found.what, repaired=result.ok, how=how, why=repair.why)
        if not result.ok:
            raise TaskFailedError(f"{found.what}; putting it right failed: {result.message}")


def unfinished_runs(home: Path, but: str = "") -> list[Unfinished]:
    """The runs of the crew that did not end, oldest first, but for the one named."""
    found: list[Unfinished] = []
    for path in sorted((home / "runs").glob(f"*/{JOURNAL}")):
        if path.parent.name == but or path.parent.name.startswith("."):
            continue
        try:
            records = list(read_journal(path))
        except (JournalError, OSError):
            continue  # `audit verify` and `runs` tell what is wrong with it
        run = unfinished_in(path.parent.name, records)
        if run is not None:
            found.append(run)
    return found


def unfinished_in(run_id: str, records: list[Record]) -> Unfinished | None:
    """What is left of a run; None where it ended, or was none of the crew."""
    started = next((record for record in records if record["kind"] == "run_started"), None)
    if started is None or any(record["kind"] == "run_finished" for record in records):
        return None
    calls = past_calls(records)
    goal = started.get("goal") or {}
    return Unfinished(
        run_id=run_id,
        model=str(goal.get("model") or goal.get("name") or ""),
        open_calls=tuple(call.name for call in calls if call.is_unsettled),
        touched_production=any(call.effect == Effect.RISKY.value and call.begun is not None for call in calls),
    )
