"""A run that is gone on with: what its journal holds, and how production is brought back to where the run was.

Finished tasks keep their typed results and skipped ones stay skipped. The open task replays its runbook over the
recorded calls; calls that had begun are settled by their read back first, and what ended with its process is made
again.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.base import TaskResult
from tools.core.gateway import Gateway
from tools.core.journal import JournalError, Record, read_journal
from tools.core.results import Status
from tools.core.settle import Past
from tools.core.waiting import Suspended, Wait

JOURNAL = "journal.jsonl"
RETRY_S = 60.0
Answered = Literal["happened", "not_happened"]


class NotResumable(Exception):
    """The run is finished, unknown, or was none of the crew; the message says which."""


@dataclass(frozen=True)
class Recorded:
    """What a journal holds of a run that has not ended.

    Args:
        started: its `run_started`.
        results: task -> its result, as JSON.
        open_task: the task under way when the process ended; None between two tasks.
        wait: what it is suspended for; None: it was cut off.
        waits: task -> how many of its own waits are over, that of `wait` included.
    """

    run_id: str
    started: Record
    results: dict[str, dict[str, Any]]
    skipped: frozenset[str]
    open_task: str | None
    wait: Wait | None
    waits: dict[str, int] = field(default_factory=dict[str, int])

    def result(self, task: str, kind: type[TaskResult]) -> TaskResult | None:
        """The result of a finished task."""
        found = self.results.get(task)
        return None if found is None else kind.model_validate(found)


def read_recorded(folder: Path) -> Recorded:
    """What is left to be gone on with.

    Raises:
        NotResumable: there is no such run, it is no run of the crew, or it has ended.
        JournalError: the journal is damaged.
    """
    path = folder / JOURNAL
    if not path.is_file():
        raise NotResumable(f"there is no run {folder.name}; mlops-crew runs lists them")
    return recorded_in(folder.name, list(read_journal(path)))


def recorded_in(run_id: str, records: Iterable[Record]) -> Recorded:
    """`read_recorded` of records."""
    started: Record | None = None
    results: dict[str, dict[str, Any]] = {}
    skipped: set[str] = set()
    waits: dict[str, int] = {}
    task: str | None = None
    wait: Wait | None = None
    for record in records:
        match record["kind"]:
            case "run_started":
                started = record
            case "task_started":
                task = str(record["task"])
            case "task_finished":
                results[str(record["task"])] = record["result"]
                task = None
            case "task_skipped":
                skipped.add(str(record["task"]))
            case "run_suspended":
                wait = Wait.from_data(record["wait"])
                if record.get("in_runbook") and task is not None:
                    waits[task] = waits.get(task, 0) + 1
            case "run_resumed":
                wait = None
            case "run_finished":
                told = record.get("summary") or record.get("outcome")
                raise NotResumable(f"run {run_id} has ended: {told} There is nothing to resume.")
            case _:
                pass
    if started is None:
        raise NotResumable(f"{run_id} is no run of the crew (single tool calls, say); there is nothing to resume")
    return Recorded(run_id, started, results, frozenset(skipped), task, wait, waits)


def suspended_runs(home: Path, is_answered: Callable[[str], bool]) -> list[tuple[Recorded, str]]:
    """The suspended runs of a project, oldest first, each with why its wait is over (empty: it is not)."""
    found: list[tuple[Recorded, str]] = []
    for folder in sorted(path.parent for path in (home / "runs").glob(f"*/{JOURNAL}")):
        try:
            recorded = read_recorded(folder)
        except (NotResumable, JournalError):
            continue  # it has ended, or only a person can tell; `runs` shows it
        if recorded.wait is not None:
            found.append((recorded, recorded.wait.over(time.time(), is_answered)))
    return found


def pick_up(gateway: Gateway, recorded: Recorded, said: dict[str, Answered]) -> None:
    """Settle what had begun, and bring back what ended with the process that did it.

    Args:
        said: call id -> what a person says of a call whose read back does not tell.

    Raises:
        Suspended: whether a call happened is not known and a person must look, or production cannot be brought back.
    """
    for found in gateway.settle_past():
        if found.status is not Status.UNKNOWN:
            continue
        answer = said.get(found.call.id)
        if answer is None:
            how = f"mlops-crew resume {recorded.run_id} --happened {found.call.id}, or --not-happened {found.call.id}"
            raise Suspended(Wait("person", f"{found.reason} Call {found.call.id}; then say: {how}"))
        gateway.settle_by_person(found.call, happened=answer == "happened")
    for past in left_behind(gateway, recorded.open_task):
        result = gateway.make_again(past)
        if not result.ok:
            what = f"{past.name} is to be made again before the run goes on, and failed: {result.message}"
            raise Suspended(Wait("time", what, until_ts=time.time() + RETRY_S))


def left_behind(gateway: Gateway, open_task: str | None) -> list[Past]:
    """What was in force when the process ended and ended with it, but for the open task's: its replay does those."""
    return [past for past in gateway.recall.standing(gateway.action_of) if past.task != open_task or open_task is None]


def changed_goal(recorded: Recorded, goal_now: dict[str, Any] | None) -> list[str]:
    """The keys in which the goal file differs from the goal that the run was started with."""
    then = json.loads(json.dumps(recorded.started["goal"]))
    if goal_now is None:
        return []
    return sorted(key for key in then.keys() | goal_now.keys() if then.get(key) != goal_now.get(key))
