"""A run that is cut off: copies of its state, each as it was right before a record was written.

The effect before that record, if any, is done, and nothing after it is: what a kill at that moment leaves. So the
copies stand for kills between any two records, and between an effect and its record.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from tools.core.journal import Journal, Record


def _all(_: str, __: dict[str, Any]) -> bool:
    return True


class Cuts:
    """Args:
    home: the state folder that is copied.
    folder: where the copies go.
    wanted: of (kind, fields) of a record: whether a copy is made before it; None: before every one.
    """

    def __init__(self, home: Path, folder: Path, wanted: Callable[[str, dict[str, Any]], bool] | None = None) -> None:
        self.home, self.folder, self._wanted = home, folder, wanted or _all
        self.records: list[Record] = []
        self.points: list[int] = []

    @contextlib.contextmanager
    def taken(self) -> Generator[None]:
        """While a run goes on in this process."""
        append = Journal.append

        def copying(journal: Journal, kind: str, **fields: Any) -> Record:
            if self._wanted(kind, fields):
                self.points.append(len(self.records))
                for name, folder in self._folders():
                    shutil.copytree(folder, self.folder / str(len(self.records)) / name, symlinks=True)
            record = append(journal, kind, **fields)
            self.records.append(record)
            return record

        Journal.append = copying  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield
        finally:
            Journal.append = append

    def back_to(self, point: int) -> Record:
        """Put the state folder back as it was then; returns the record that was not written any more."""
        for name, folder in self._folders():
            shutil.rmtree(folder)
            shutil.copytree(self.folder / str(point) / name, folder, symlinks=True)
        return self.records[point]

    def _folders(self) -> list[tuple[str, Path]]:
        """The state, and what is kept apart from it: the heads of the journals."""
        return [("home", self.home), ("keys", Path(os.environ["MLOPS_KEYS"]))]
