"""Reads a run's journal into calls and task steps. A journal that was cut, or damaged in the middle, still reads."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from crew.words import headline, sentence, title
from tools.core.journal import JournalError, read_journal, verify_journal
from tools.core.keys import KeyFileError

Record = dict[str, Any]
JOURNAL = "journal.jsonl"


@dataclass
class Call:
    """One tool call. `status` is `unfinished` when its outcome is not in the journal. Times are seconds of the run."""

    id: str
    server: str
    action: str
    arguments: dict[str, Any]
    role: str
    task: str
    effect: str
    decision: str
    rule: str
    level: str
    real: bool
    start_s: float
    duration_s: float | None = None
    status: str = "unfinished"
    message: str = ""
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    attempts: int = 0
    decided_by: str = ""  # the person who approved or rejected it
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.server}.{self.action}"

    @property
    def ok(self) -> bool:
        return self.status == "ok"


@dataclass
class Step:
    """One task of the loop. `state`: done, skipped, or unfinished (it began and has no result)."""

    task: str
    title: str
    agent: str
    agent_title: str
    mode: str
    state: str
    start_s: float
    duration_s: float | None = None
    summary: str = ""
    reason: str = ""  # why it was skipped
    tokens: dict[str, int] | None = None
    cost_usd: float | None = None
    fallback: str = ""
    calls: list[str] = field(default_factory=list[str])


@dataclass
class RecordedRun:
    """Everything a journal tells. `outcome` is `unfinished` without a last record, `calls` without a first one."""

    id: str
    folder: Path
    started: datetime | None
    duration_s: float | None
    goal: dict[str, Any]
    goal_path: str
    seed: int | None
    process: str
    mode: str
    model: str
    mode_note: str
    versions: dict[str, str]
    levels: dict[str, str]  # integration -> autonomy level
    outcome: str
    summary: str
    exit_code: int | None
    calls: list[Call]
    steps: list[Step]
    guardrails: list[Record]
    errors: list[str]
    records: int
    production: str  # what it serves after a run failed that had changed it; empty otherwise
    damage: str  # why the journal could not be read to its end or believed; empty when it could

    @property
    def goal_name(self) -> str:
        return str(self.goal.get("name") or "")

    @property
    def autonomy(self) -> str:
        """The autonomy levels in force, by integration where they differ."""
        levels = self.levels or {call.server: call.level for call in self.calls if call.level}
        most = sorted(set(levels.values()), key=lambda level: -list(levels.values()).count(level))
        others = (f"{name} {level}" for name, level in levels.items() if level != most[0])
        return ", ".join([*most[:1], *others])

    @property
    def headline(self) -> str:
        return headline(self.outcome, self.production)[0]

    def named(self, name: str, *, ok: bool = True) -> list[Call]:
        """Calls of `server.action`, oldest first; only those that returned data unless `ok` is False."""
        return [call for call in self.calls if call.name == name and (call.ok or not ok)]


def read_run(folder: Path, *, verify: bool = True) -> RecordedRun:
    """The run in `folder`.

    Args:
        verify: check the journal against its chain, too; its problems are the run's `damage`.

    Raises:
        FileNotFoundError: it holds no journal.
    """
    records, damage = _records(folder / JOURNAL, verify)
    started = _first(records, "run_started")
    finished = _first(records, "run_finished")
    times = [time for time in (_time(record) for record in records) if time is not None]
    begin = times[0] if times else None
    goal = started.get("goal")
    calls = _calls(records, begin)
    suspended = _suspended(records)
    outcome = _text(finished, "outcome") or ("suspended" if suspended else "unfinished" if started else "calls")
    elapsed = (times[-1] - begin).total_seconds() if begin else None
    return RecordedRun(
        id=_text(started, "run_id") or folder.name,
        folder=folder,
        started=begin,
        duration_s=_float(finished.get("duration_s"), elapsed),
        goal=goal if isinstance(goal, dict) else {},
        goal_path=_text(started, "goal_path"),
        seed=started.get("seed"),
        process=_text(started, "process"),
        mode=_text(started, "mode"),
        model=_text(started, "model"),
        mode_note=_text(started, "mode_note"),
        versions=_dict(started.get("versions")),
        levels=_dict(started.get("autonomy")),
        outcome=outcome,
        summary=_text(finished, "summary") or _text(_dict(suspended.get("wait")), "what"),
        exit_code=finished.get("exit_code"),
        calls=calls,
        steps=_steps(records, calls, begin),
        guardrails=[record for record in records if record.get("kind") == "guardrail"],
        errors=list(dict.fromkeys(_text(r, "message") for r in records if r.get("kind") == "error")),
        records=len(records),
        production=_text(finished, "production"),
        damage=damage,
    )


def _records(path: Path, verify: bool) -> tuple[list[Record], str]:
    records: list[Record] = []
    try:
        records.extend(read_journal(path))
    except JournalError as error:
        return records, f"{error}; what follows is not shown"
    if verify and (changed := _changed(path)):
        return records, changed
    if not path.read_bytes().endswith(b"\n"):
        return records, "the last record was cut off while it was written"
    return records, ""


def _changed(path: Path) -> str:
    """What was done to a journal after it was written; empty where it is intact, or of the format without a chain."""
    try:
        problems = verify_journal(path)
    except KeyFileError as error:
        return f"it cannot be verified: {error.message}"
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"{problems[0].message}{more}; what it says is no evidence" if problems else ""


def _calls(records: list[Record], begin: datetime | None) -> list[Call]:
    calls: dict[str, Call] = {}
    for record in records:
        call_id = _text(record, "call_id")
        kind = record.get("kind")
        if kind == "intent":
            calls[call_id] = Call(
                id=call_id, server=_text(record, "server"), action=_text(record, "action"),
                arguments=_dict(record.get("arguments")), role=_text(record, "role"), task=_text(record, "task"),
                effect=_text(record, "effect"), decision=_text(record, "decision"), rule=_text(record, "rule"),
                level=_text(record, "level"), real=bool(record.get("real")), start_s=_since(record, begin),
            )  # fmt: skip
            continue
        call = calls.get(call_id)
        if call is None:
            continue
        if kind == "outcome":
            call.status, call.message = _text(record, "status"), _text(record, "message")
            call.data = _dict(record.get("data"))
            call.duration_s = _float(record.get("duration_s"), None)
            call.attempts = int(_float(record.get("attempts"), 0) or 0)
        elif kind == "settled" and record.get("status") == "ok":
            call.status, call.message = "ok", _text(record, "reason")
            call.data = _dict(record.get("data"))
        elif kind == "approval_decided":
            call.decided_by = _text(record, "by") or "nobody"
            call.note = _text(record, "note")
    return list(calls.values())


def _steps(records: list[Record], calls: list[Call], begin: datetime | None) -> list[Step]:
    steps: list[Step] = []
    for record in records:
        kind, task = record.get("kind"), _text(record, "task")
        if kind == "task_started" and record.get("again") and any(step.task == task for step in steps):
            continue  # gone on with by another process: one step
        if kind in ("task_started", "task_skipped"):
            steps.append(
                Step(
                    task=task,
                    agent=_text(record, "agent"),
                    title=sentence(task),
                    agent_title=_text(record, "title") or title(_text(record, "agent")),
                    mode=_text(record, "mode"),
                    state="unfinished" if kind == "task_started" else "skipped",
                    start_s=_since(record, begin),
                    reason=_text(record, "reason"),
                )
            )
            continue
        step = next((s for s in reversed(steps) if s.task == task), None)
        if step is None:
            continue
        if kind == "fallback":
            step.fallback = _text(record, "reason")
        elif kind == "task_finished":
            step.state = "done"
            step.summary = str(_dict(record.get("result")).get("summary") or "")
            step.duration_s = _float(record.get("duration_s"), None)
            step.tokens = _dict(record.get("tokens")) or None
            step.cost_usd = _float(record.get("cost_usd"), None)
    for step in steps:
        step.calls = [call.id for call in calls if call.task == step.task]
    return steps


def _suspended(records: list[Record]) -> Record:
    """The record of the wait that a run is in; empty where it waits for nothing."""
    last = [record for record in records if record.get("kind") in ("run_suspended", "run_resumed")][-1:]
    return last[0] if last and last[0].get("kind") == "run_suspended" else {}


def _first(records: list[Record], kind: str) -> Record:
    return next((record for record in records if record.get("kind") == kind), {})


def _time(record: Record) -> datetime | None:
    try:
        return datetime.fromisoformat(str(record.get("ts")))
    except ValueError:
        return None


def _since(record: Record, begin: datetime | None) -> float:
    time = _time(record)
    return (time - begin).total_seconds() if time and begin else 0.0


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    return "" if value is None else str(value)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _float(value: Any, otherwise: float | None) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
