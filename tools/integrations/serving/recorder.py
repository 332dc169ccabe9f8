"""Appends shadow scores to a JSONL file from a thread of its own, so that a slow or full disk delays no answer."""

import json
import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.core.files import open_private

MAX_WAITING = 20_000  # records that a stuck disk keeps in memory; further ones are lost, and counted

_log = logging.getLogger(__name__)


class Recorder:
    """One line per record, in the order of `add`. Thread-safe. A failed write is counted, never raised.

    Args:
        on_lost: called with the number of records that could not be written.
    """

    def __init__(self, path: Path, on_lost: Callable[[int], None]) -> None:
        self.path = path
        self.lost = 0
        self.last_error = ""
        self._on_lost = on_lost
        self._counting = threading.Lock()
        self._queue: queue.SimpleQueue[dict[str, Any] | threading.Event] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="recorder", daemon=True).start()

    def add(self, record: dict[str, Any]) -> None:
        if self._queue.qsize() >= MAX_WAITING:
            self._lose(1, f"{self.path}: more than {MAX_WAITING} records wait for the disk")
        else:
            self._queue.put(record)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything added so far was written or lost. False: not within `timeout_s`."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout_s)

    def _lose(self, count: int, why: str) -> None:
        with self._counting:
            self.lost += count
        self._on_lost(count)
        self.last_error = why
        _log.error("%d shadow records lost: %s", count, why)

    def _run(self) -> None:
        while True:
            # Everything that waits is written with one open and one write.
            items = [self._queue.get()]
            while not self._queue.empty():
                items.append(self._queue.get())
            records = [item for item in items if isinstance(item, dict)]
            try:
                if records:
                    with open_private(self.path) as file:
                        file.write("".join(json.dumps(record) + "\n" for record in records).encode())
            except OSError as error:
                self._lose(len(records), f"{self.path}: {error.strerror}")
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()
