"""Turns journal records into the lines a person reads while the crew works. Pure: no terminal, no clock, no colours.

A record that lacks a field, or holds another type than expected, still gives a line: a display must not end a run.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from crew.words import Tone, headline, number, sentence, title

Mark = Literal["run", "task", "ok", "failed", "denied", "waiting", "done", "skipped", "warning", "progress", "error"]
Record = dict[str, Any]

_MARK_OF_STATUS: dict[str, Mark] = {"ok": "ok", "no_data": "ok", "denied": "denied", "needs_approval": "denied"}
_STATUS_WORDS = {
    "failed": "",
    "no_data": "no data: ",
    "unknown": "outcome not known: ",
    "denied": "denied: ",
    "needs_approval": "not approved: ",
}


@dataclass(frozen=True)
class Line:
    """One event. `level` 0 belongs to the run or a task, 1 to a call in it; `whole` text is wrapped, else shortened."""

    mark: Mark
    text: str
    label: str = ""
    took_s: float | None = None
    level: int = 0
    tone: Tone = "neutral"
    whole: bool = False


@dataclass
class Running:
    """A call between its intent and its outcome; `done` of `total` as it last reported."""

    call_id: str
    label: str
    begun: float
    shown: float  # when a progress line was last given out
    done: float = 0.0
    total: float | None = None
    message: str = ""
    waiting: bool = False  # for a person


@dataclass(frozen=True)
class Ending:
    """What the run came to, for the block at the end."""

    outcome: str
    summary: str
    exit_code: int
    took_s: float | None
    errors: tuple[str, ...]
    production: str = ""  # what it serves after a run failed that had changed it


@dataclass
class Narrator:
    """Keeps what is under way and says what happened. Not thread-safe: the display holds a lock.

    Args:
        progress_every_s: least time between two progress lines of one call; None gives none out.
    """

    progress_every_s: float | None
    run_id: str = ""
    started: bool = False
    task: str = ""
    verdict: str = ""  # the canary judge's latest
    running: dict[str, Running] = field(default_factory=dict[str, Running])
    intents: dict[str, Record] = field(default_factory=dict[str, Record])
    ending: Ending | None = None
    _errors: list[str] = field(default_factory=list[str])

    def lines(self, record: Record, now: float) -> list[Line]:
        """The lines for one record; `now` in seconds, from any start."""
        match record.get("kind"):
            case "run_started":
                return self._run_started(record)
            case "task_started":
                self.task = f"{_who(record)}: {_what(record)}"
                return [Line("task", _what(record), _who(record), whole=True)]
            case "task_finished":
                return self._task_finished(record)
            case "task_skipped":
                why = _text(record, "reason") or "not needed"
                return [Line("skipped", f"{_what(record)}: skipped, {why}", _who(record), whole=True)]
            case "intent":
                self._intent(record, now)
                return []
            case "progress":
                return self._progress(record, now)
            case "outcome":
                return self._outcome(record)
            case "approval_requested" | "approval_decided" as kind:
                return self._approval(record, asked=kind == "approval_requested")
            case "guardrail":
                if record.get("ok"):
                    return []
                text = f"the answer was sent back: {_text(record, 'reason')} (attempt {number(record.get('attempt'))})"
                return [Line("warning", text, "guardrail", level=1, tone="warn", whole=True)]
            case "fallback":
                text = f"finished by its runbook instead of the LLM: {_text(record, 'reason')}"
                return [Line("warning", text, "fallback", level=1, tone="warn", whole=True)]
            case "server":
                why = _text(record, "left_out")
                text = f"the MCP server {_text(record, 'server')} " + (
                    f"is left out: {why}" if why else "answers again"
                )
                return [Line("warning", text, "server", level=1, tone="warn", whole=True)]
            case "lock":
                text = f"the lock of {_text(record, 'model')} was left by {_text(record, 'taken_over')}, which is dead"
                return [Line("warning", text, "lock", level=1, tone="warn", whole=True)]
            case "reconciled":
                done = f"repaired, {_text(record, 'how')}" if record.get("repaired") else _text(record, "how")
                text = f"{_text(record, 'what')}: {done}"
                return [Line("warning", text, "reconcile", level=1, tone="warn", whole=True)]
            case "run_resumed":
                return self._run_resumed(record)
            case "settled":
                return [
                    Line(
                        "ok", f"{_text(record, 'reason')} ({_text(record, 'call_id')})", "settled", level=1, whole=True
                    )
                ]
            case "run_suspended":
                wait = record.get("wait")
                summary = str(wait.get("what") or "") if isinstance(wait, dict) else ""
                self.ending = Ending("suspended", f"{summary} Then: mlops-crew resume {self.run_id}", 5, None, ())
                return []
            case "error":
                self._errors.append(_text(record, "message"))
                return [Line("error", _text(record, "message"), tone="bad", whole=True)]
            case "run_finished":
                self.ending = Ending(
                    outcome=_text(record, "outcome") or "failed",
                    summary=_text(record, "summary"),
                    exit_code=int(_float(record.get("exit_code")) or 0),
                    took_s=_float(record.get("duration_s")),
                    errors=tuple(self._errors),
                    production=_text(record, "production"),
                )
                return []
            case _:
                return []

    def unfinished(self) -> Ending:
        """The ending of a run that stopped without a `run_finished` record."""
        summary = "The run ended without a result. What it did until then is in its journal."
        return Ending("unfinished", summary, 1, None, tuple(self._errors))

    def _run_started(self, record: Record) -> list[Line]:
        self.started = True
        self.run_id = _text(record, "run_id")
        goal = record.get("goal")
        goal = goal if isinstance(goal, dict) else {}
        told = [str(goal[key]) for key in ("name", "task", "metric", "direction") if isinstance(goal.get(key), str)]
        model = _text(record, "model")
        how = "agents follow their runbooks" if record.get("mode") == "runbook" else f"agents reason with {model}"
        lines = [
            Line("run", f"run {self.run_id}", "mlops-crew", whole=True),
            Line("run", f"{', '.join(told) or _text(record, 'goal_path')}", "goal", level=1, whole=True),
            Line("run", f"{how}; {_text(record, 'process')}; seed {record.get('seed')}", "how", level=1, whole=True),
        ]
        note = _text(record, "mode_note")
        return [*lines, Line("run", note, "note", level=1, whole=True)] if note else lines

    def _run_resumed(self, record: Record) -> list[Line]:
        self.started = True
        self.run_id = _text(record, "run_id")
        lines = [Line("run", f"run {self.run_id} goes on", "mlops-crew", whole=True)]
        changed = record.get("changed_goal")
        if isinstance(changed, list) and changed:
            keys = ", ".join(map(str, changed))
            text = f"the goal file has changed since ({keys}); the run keeps the goal it began with"
            lines.append(Line("warning", text, "goal", level=1, tone="warn", whole=True))
        return lines

    def _task_finished(self, record: Record) -> list[Line]:
        self.task = ""
        result = record.get("result")
        summary = str(result.get("summary") or "") if isinstance(result, dict) else ""
        tokens = record.get("tokens")
        if isinstance(tokens, dict):
            used = sum(int(_float(tokens.get(key)) or 0) for key in ("prompt", "completion"))
            summary = f"{summary} ({used:,} tokens)".strip()
        return [Line("done", summary or "done", "", _float(record.get("duration_s")), level=1, whole=True)]

    def _intent(self, record: Record, now: float) -> None:
        call_id = _text(record, "call_id")
        self.intents[call_id] = record
        label = f"{_text(record, 'server')}.{_text(record, 'action')}"
        self.running[call_id] = Running(call_id, label, begun=now, shown=now)

    def _progress(self, record: Record, now: float) -> list[Line]:
        running = self.running.get(_text(record, "call_id"))
        if running is None:
            return []
        running.done = _float(record.get("done")) or 0.0
        running.total = _float(record.get("total"))
        running.message = _text(record, "message")
        if self.progress_every_s is None or now - running.shown < self.progress_every_s:
            return []
        running.shown = now
        return [Line("progress", self.progress_text(running), running.label, level=1)]

    def progress_text(self, running: Running) -> str:
        """How far a call is: `12/40, trial 12: ...`."""
        parts = [f"{number(running.done)}/{number(running.total)}" if running.total else ""]
        if running.label.endswith(".send_traffic") and self.verdict:
            parts.append(f"verdict so far {self.verdict}")
        return ", ".join(part for part in (*parts, running.message) if part)

    def _outcome(self, record: Record) -> list[Line]:
        call_id, status = _text(record, "call_id"), _text(record, "status")
        running = self.running.pop(call_id, None)
        intent = self.intents.get(call_id, {})
        label = running.label if running else f"{_text(intent, 'server')}.{_text(intent, 'action')}"
        data = record.get("data")
        text = _text(record, "message")
        mark, tone = _MARK_OF_STATUS.get(status, "failed"), "neutral"
        if mark != "ok":
            tone = "bad" if mark == "failed" else "warn"
            text = f"{_STATUS_WORDS.get(status, f'{status}: ')}{text}"
        elif isinstance(data, dict) and label == "judge.judge_canary":
            self.verdict = str(data.get("verdict") or "")
            tone = {"promote": "good", "rollback": "bad"}.get(self.verdict, "warn")
            text = f"verdict: {text}"
        attempts = _float(record.get("attempts")) or 1
        if attempts > 1:
            text = f"{text} ({attempts:.0f} attempts)"
        took = _float(record.get("duration_s"))
        whole = mark != "ok" or tone != "neutral"
        return [Line(mark, text, label, took, level=1, tone=tone, whole=whole)]  # pyright: ignore[reportArgumentType]

    def _approval(self, record: Record, *, asked: bool) -> list[Line]:
        running = self.running.get(_text(record, "call_id"))
        if running is not None:
            running.waiting = asked
        if not asked:
            by = _text(record, "by")
            note = _text(record, "note")
            text = f"{_text(record, 'state')}{f' by {by}' if by else ''}{f': {note}' if note else ''}"
            if _text(record, "chosen"):
                text = f"{_text(record, 'chosen')} chosen by {by}{f': {note}' if note else ''}"
            good = record.get("state") in ("approved", "chosen")
            return [Line("ok" if good else "denied", text, "a person", level=1, tone="good" if good else "warn")]
        approval = record.get("approval")
        approval = approval if isinstance(approval, dict) else {}
        call = f"{_text(approval, 'integration')}.{_text(approval, 'action')}"
        how = "choose" if approval.get("asks") else "approve"
        text = f"{call} waits for a person: mlops-crew {how} {_text(approval, 'id')}"
        return [Line("waiting", text, "", level=1, tone="warn", whole=True)]


def ending_text(ending: Ending) -> tuple[str, Tone]:
    """The headline of the block at the end, and its tone."""
    words, tone = headline(ending.outcome, ending.production)
    is_error = tone == "bad" or (ending.exit_code and ending.outcome != "suspended")
    return (f"ERROR. {words}", "bad") if is_error else (words, tone)


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    return "" if value is None else str(value)


def _what(record: Record) -> str:
    return sentence(_text(record, "task"))


def _who(record: Record) -> str:
    """The agent's title; a skipped task has only its name."""
    return _text(record, "title") or title(_text(record, "agent"))


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
