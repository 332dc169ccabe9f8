"""What a run waits for without a process: a person, labels, traffic, a time. Kept in its journal as data."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

Kind = Literal["person", "labels", "traffic", "time"]


@dataclass(frozen=True)
class Wait:
    """Why a run is suspended, and when it may go on.

    Args:
        kind: for whom or what.
        what: one sentence for people, with how to end the wait.
        approval: of a question to a person: it is over once that is answered.
        path: it is over once this file, or a file in this folder, is newer than `seen_ns`.
        seen_ns: modification time that was seen last, nanoseconds; 0: there was no file.
        until_ts: Unix seconds when it is over in any case; None: never by itself.
        for_s: seconds from the beginning of the wait until then; a runbook knows no time.
    """

    kind: Kind
    what: str
    approval: str = ""
    path: str = ""
    seen_ns: int = 0
    until_ts: float | None = None
    for_s: float | None = None

    def begun(self, project: Path, now: float) -> "Wait":
        """The wait as it begins: with the file as it is now, and the time when it is over."""
        path = project / Path(self.path).expanduser() if self.path else None
        return replace(
            self,
            path=str(path) if path else "",
            seen_ns=newest_ns(path) if path else 0,
            until_ts=self.until_ts if self.for_s is None else now + self.for_s,
        )

    def over(self, now: float, is_answered: Callable[[str], bool]) -> str:
        """Why the wait is over, in a few words; empty: it goes on.

        Args:
            now: Unix seconds.
            is_answered: whether an approval needs no answer any more (answered, or expired).
        """
        if self.approval and is_answered(self.approval):
            return "the question is answered"
        if self.path and newest_ns(Path(self.path)) > self.seen_ns:
            return f"{Path(self.path).name} is newer"
        if self.until_ts is not None and now >= self.until_ts:
            return "the time has come"
        return ""

    def data(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Wait":
        """`data` undone; what a later version added is left out."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**known)


class Suspended(Exception):
    """The run goes on once `wait` is over; nothing further may be done in this process."""

    def __init__(self, wait: Wait, *, in_runbook: bool = False) -> None:
        super().__init__(wait.what)
        self.wait = wait
        self.in_runbook = in_runbook  # the runbook itself waits, and goes on behind the wait


def newest_ns(path: Path) -> int:
    """When a file, or the newest file in a folder, was changed last; nanoseconds, 0 where there is none."""
    try:
        if path.is_dir():
            return max((item.stat().st_mtime_ns for item in path.rglob("*") if item.is_file()), default=0)
        return path.stat().st_mtime_ns
    except OSError:
        return 0
