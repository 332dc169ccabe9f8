"""A person at another terminal: answers every question that a run asks."""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.core.approval import ApprovalError, ApprovalStore
from tools.core.journal import Record

LONGEST_S = 60.0
POLL_S = 0.05


def answering(home: Path, option: str = "blue", asked: list[Record] | None = None) -> Callable[[Record], None]:
    """A listener that approves what is asked, and chooses `option` where it is a choice. `asked`: gets the records."""

    def answer(question: dict[str, Any]) -> None:
        store, until = ApprovalStore(home / "approvals"), time.monotonic() + LONGEST_S
        while time.monotonic() < until:  # the record comes before the question is put
            with contextlib.suppress(ApprovalError):
                if store.get(question["id"]).state != "pending":
                    return  # answered before the process ended
                if question["asks"]:
                    store.choose(question["id"], option, by="ann")
                else:
                    store.decide(question["id"], "approved", by="ann")
                return
            time.sleep(POLL_S)

    def listen(record: Record) -> None:
        if record["kind"] == "approval_requested":
            if asked is not None:
                asked.append(record)
            threading.Thread(target=answer, args=[record["approval"]], daemon=True).start()

    return listen
