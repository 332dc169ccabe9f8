"""Tests on disk: one folder each, with the definition, the outcomes in the order of their arrival, and a lock.

    <store>/<test>/test.json             definition, state, decision; replaced as a whole
    <store>/<test>/outcomes/000001.parquet   what one call recorded; never changed
    <store>/<test>/units.parquet         one row a unit, made again from the outcomes at every recording
    <store>/<test>/.lock                 held while a call changes the folder

A crash between two writes loses nothing: outcomes count once their file has its name, and units are made from them.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pandas as pd

from tools.core.errors import FixableError, NeedsPersonError, NoDataError, RetryableError
from tools.core.files import write_json
from tools.core.names import RULE, is_name
from tools.modeling.data import write_table

LOCK_WAIT_S = 30.0
LOCK_POLL_S = 0.02


class TestFolder:
    """One test. Reads need no lock, because every file is replaced as a whole; changes are made under `locked`."""

    def __init__(self, store: Path, test: str) -> None:
        if not is_name(test):
            raise FixableError(f"{test!r} is no name of a test; valid: {RULE}")
        self.store = store
        self.test = test
        self.path = store / test
        self.design = self.path / "test.json"
        self.units = self.path / "units.parquet"

    def read(self) -> dict[str, Any]:
        """The content of `test.json`.

        Raises:
            NoDataError: there is no such test; names those that exist.
            NeedsPersonError: the file is damaged.
        """
        found = self.find()
        if found is None:
            known = sorted(path.parent.name for path in self.store.glob("*/test.json"))
            raise NoDataError(
                f"there is no A/B test {self.test!r}; known tests: {', '.join(known) or 'none'}", tried=str(self.store)
            )
        return found

    def find(self) -> dict[str, Any] | None:
        try:
            return json.loads(self.design.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise NeedsPersonError(f"{self.design} is damaged: {error}; restore it or remove the folder") from error

    def write(self, content: dict[str, Any]) -> None:
        write_json(self.design, content, indent=1, durable=True)

    def outcomes(self) -> pd.DataFrame:
        """Every outcome, oldest first, with `batch`, the number of the call that brought it. Empty without any."""
        files = sorted((self.path / "outcomes").glob("[0-9]*.parquet"))
        frames = [pd.read_parquet(path).assign(batch=int(path.stem)) for path in files]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def add_outcomes(self, frame: pd.DataFrame) -> int:
        """Write one call's outcomes; the number of its batch."""
        folder = self.path / "outcomes"
        number = max((int(path.stem) for path in folder.glob("[0-9]*.parquet")), default=0) + 1
        write_table(frame, folder / f"{number:06d}.parquet")
        return number

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """The only one who changes this test, over all processes.

        Raises:
            RetryableError: another writer held the lock for half a minute.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            deadline = time.monotonic() + LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise RetryableError(f"another process is changing the A/B test {self.test}") from None
                    time.sleep(LOCK_POLL_S)
            yield
