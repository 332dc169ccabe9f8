"""Collects the records of a made-up run, with the times and ids that a gateway would give."""

# fmt: off
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from crew.words import title

RUN_ID = "20261123-142501-3f2a"
START = datetime(2026, 11, 23, 14, 25, 1, tzinfo=UTC)


@dataclass
class Example:
    """Collects the records of a made-up run."""

    folder: Path
    project: Path
    seconds: float = 0.0
    records: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    calls: int = 0
    role: str = ""
    task: str = ""
    listener: Callable[[dict[str, Any]], None] = lambda record: None

    def add(self, kind: str, *, wait: float = 0.0, **fields: Any) -> dict[str, Any]:
        self.seconds += wait
        ts = (START + timedelta(seconds=self.seconds)).isoformat(timespec="milliseconds")
        record = {"v": 1, "seq": len(self.records), "ts": ts, "kind": kind, **fields}
        self.records.append(record)
        self.listener(record)
        return record

    def begin(self, task: str, role: str, mode: str = "runbook") -> None:
        self.task, self.role = task, role
        self.add("task_started", wait=0.05, task=task, agent=role, title=title(role), mode=mode)

    def end(
        self, summary: str, took: float, mode: str = "runbook", tokens: dict[str, int] | None = None, **more: Any
    ) -> None:
        self.add(
            "task_finished", wait=0.02, task=self.task, agent=self.role, mode=mode,
            result={"summary": summary, **more}, duration_s=took, tokens=tokens,
            cost_usd=0.0031 if tokens else None,
        )

    def skip(self, task: str, role: str, reason: str) -> None:
        self.add("task_skipped", wait=0.01, task=task, agent=role, reason=reason)

    def call(
        self, server: str, action: str, data: dict[str, Any], took: float, /, *, effect: str = "read",
        decision: str = "allow", status: str = "ok", message: str = "", progress: tuple[int, str] | None = None,
        attempts: int = 1, approved_by: str = "", **arguments: Any,
    ) -> str:
        self.calls += 1
        call_id = f"c{self.calls:04d}"
        self.add(
            "intent", wait=0.03, call_id=call_id, server=server, action=action, arguments=arguments, role=self.role,
            task=self.task, effect=effect, decision=decision, rule="autonomous: inside the limits",
            level="autonomous", real=False,
        )
        if approved_by:
            approval = {
                "id": f"{RUN_ID}-{call_id}", "run_id": RUN_ID, "integration": server, "action": action,
                "arguments": arguments, "role": self.role, "reason": "supervised: risky writes wait for a person",
            }
            self.add("approval_requested", call_id=call_id, approval=approval)
            self.add(
                "approval_decided", wait=4.0, call_id=call_id, approval_id=approval["id"], state="approved",
                by=approved_by, note="looks right",
            )
        if progress:
            for done in range(1, progress[0] + 1):
                self.listener({
                    "kind": "progress", "call_id": call_id, "server": server, "action": action, "done": done,
                    "total": progress[0], "message": progress[1].format(n=done),
                })
        error = None if status == "ok" else {"kind": "final", "message": message}
        self.add(
            "outcome", wait=took, call_id=call_id, status=status, message=message or data.get("message", ""),
            data=data if status == "ok" else None, error=error, duration_s=took, attempts=attempts,
        )
        return call_id

    def file(self, name: str, content: Any) -> str:
        """Write a file into the run's workspace; its path as a result would name it."""
        path = self.folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path.relative_to(self.project))

    def write(self) -> Path:
        """The journal on disk; returns the run's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(record) + "\n" for record in self.records)
        (self.folder / "journal.jsonl").write_text(text, encoding="utf-8")
        return self.folder
