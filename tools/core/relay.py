"""What an outside client is told while its call is under way: how far it is, that it waits for a person, that it lives.

Clients give up on a call of which they hear nothing (many after 60 seconds), and the first call of an integration may
load libraries for longer than that. So a call never stays silent for more than `SILENCE_S`.
"""

import threading
import time
from collections.abc import Callable

from tools.core.journal import Record

SILENCE_S = 4.0
NUDGE = 1e-6  # progress must grow with each notification, also with one that tells of none

Send = Callable[[float, float | None, str], None]


class Relay:
    """A journal listener that passes on one call's progress.

    Args:
        task: by which the journal tells the call apart.
        name: of the call, for people.
        send: (done, total, message); `done` grows from one to the next.
        only_questions: nothing but that a person is waited for, and where they answer.
    """

    def __init__(
        self,
        task: str,
        name: str,
        send: Send,
        clock: Callable[[], float] = time.monotonic,
        *,
        only_questions: bool = False,
    ) -> None:
        self._only_questions = only_questions
        self._task = task
        self._name = name
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()  # records come from the gateway's threads, beats from the server's loop
        self._call_id: str | None = None
        self._question = ""
        self._done = 0.0
        self._total: float | None = None
        self._began = self._said_at = clock()

    def __call__(self, record: Record) -> None:
        kind = record["kind"]
        if kind == "intent" and record.get("task") == self._task:
            self._call_id = record["call_id"]
        elif self._call_id is None or record.get("call_id") != self._call_id:
            return
        elif kind == "approval_requested":
            how = "choose" if record["approval"].get("asks") else "approve"
            self._question = f"waits for a person: mlops-crew {how} {record['approval']['id']}"
            self._nudge(self._question)
        elif kind == "approval_decided":
            self._question = ""
        elif kind == "progress" and self._question:  # a reminder: seconds of waiting are no progress of the call
            self._nudge(str(record["message"]))
        elif kind == "progress" and not self._only_questions:
            self._say(float(record["done"]), record["total"], str(record["message"]))

    def beat(self) -> None:
        """Say that the call is under way, unless something was said lately. To be called every second or so."""
        if not self._only_questions and self._clock() - self._said_at >= SILENCE_S:
            waited_s = self._clock() - self._began
            self._nudge(self._question or f"{self._name} is under way, {waited_s:.0f} s")

    def _nudge(self, message: str) -> None:
        self._say(0.0, self._total, message)

    def _say(self, done: float, total: float | None, message: str) -> None:
        with self._lock:
            self._done = max(done, self._done + NUDGE)
            self._total = total
            self._said_at = self._clock()
            self._send(self._done, total, message)
