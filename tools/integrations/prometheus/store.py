"""An append-only time-series store in one SQLite file."""

import json
import math
import sqlite3
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.core.errors import FinalError

Labels = Mapping[str, str]
NAME = "__name__"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, name TEXT NOT NULL, labels TEXT NOT NULL UNIQUE);
CREATE INDEX IF NOT EXISTS series_name ON series (name);
CREATE TABLE IF NOT EXISTS samples (
    series INTEGER NOT NULL, t_ms INTEGER NOT NULL, value REAL, stale INTEGER NOT NULL, PRIMARY KEY (series, t_ms)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Point:
    """One sample. `stale` marks the end of a series (its target no longer exposes it); the value then means nothing."""

    t_ms: int
    value: float
    stale: bool = False


@dataclass(frozen=True)
class Series:
    """Points of one series in time order; `labels` include `__name__`."""

    labels: dict[str, str]
    points: list[Point]


class Store:
    """Samples by series. Nothing is ever changed or removed; a second sample of the same time is ignored.

    Several processes may use the same file. SQLite writes whole transactions: a crash loses at most the last one.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.db"
        self._ready = False

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=10.0)
            try:
                if not self._ready:
                    connection.execute("PRAGMA journal_mode=WAL")
                    connection.executescript(_SCHEMA)
                    self._ready = True
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            raise FinalError(
                f"the embedded metric store {self.path} cannot be used: {error} (full disk, no permission or a broken "
                "file?); moving the file away starts an empty one"
            ) from error

    def append(self, samples: Iterable[tuple[Labels, Point]]) -> None:
        """Add samples, all or none.

        Raises:
            FinalError: the file cannot be written.
        """
        with self._open() as db:
            ids = dict(db.execute("SELECT labels, id FROM series"))
            rows: list[tuple[int, int, float | None, int]] = []
            for labels, point in samples:
                key = json.dumps(dict(sorted(labels.items())))
                if key not in ids:
                    cursor = db.execute("INSERT INTO series (name, labels) VALUES (?, ?)", (labels[NAME], key))
                    ids[key] = cursor.lastrowid
                # SQLite has no NaN: it is stored as NULL.
                value = None if math.isnan(point.value) else point.value
                rows.append((ids[key], point.t_ms, value, int(point.stale)))
            db.executemany("INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?)", rows)

    def select(self, name: str | None, accept: Callable[[Labels], bool], t_min: int, t_max: int) -> list[Series]:
        """Series whose labels are accepted, with their points of t_min <= t_ms <= t_max; without points: left out.

        Args:
            name: the metric's name, when it is known (a quicker way); None: any.
        """
        with self._open() as db:
            where, values = ("WHERE name = ?", (name,)) if name is not None else ("", ())
            chosen = [
                (number, labels)
                for number, text in db.execute(f"SELECT id, labels FROM series {where}", values)
                if accept(labels := json.loads(text))
            ]
            found: list[Series] = []
            for number, labels in chosen:
                rows = db.execute(
                    "SELECT t_ms, value, stale FROM samples WHERE series = ? AND t_ms BETWEEN ? AND ? ORDER BY t_ms",
                    (number, t_min, t_max),
                )
                points = [Point(t, math.nan if value is None else value, bool(stale)) for t, value, stale in rows]
                if points:
                    found.append(Series(labels, points))
        return found

    def live(self, accept: Callable[[Labels], bool]) -> list[dict[str, str]]:
        """Labels of the accepted series whose last sample is not a stale mark."""
        with self._open() as db:
            rows = db.execute(
                "SELECT labels, (SELECT stale FROM samples WHERE series = id ORDER BY t_ms DESC LIMIT 1) FROM series"
            )
            return [labels for text, stale in rows if stale == 0 and accept(labels := json.loads(text))]

    def names(self) -> list[str]:
        """Names of all metrics, sorted."""
        with self._open() as db:
            return [name for (name,) in db.execute("SELECT DISTINCT name FROM series ORDER BY name")]

    def count(self) -> int:
        """How many series there are."""
        with self._open() as db:
            return int(db.execute("SELECT COUNT(*) FROM series").fetchone()[0])
