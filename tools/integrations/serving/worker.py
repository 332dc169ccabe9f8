"""One process per model, so that a model that hangs, crashes or eats its core never takes another one with it.

`tools.modeling.model_process` runs in the child, without secrets and network; `Worker` is the engine's handle on one
child; `Variant` is a worker with a queue and a thread of its own, which restarts the worker when it was lost. In that
queue a request whose sender waits goes before all that is scored in the shadow (`lanes`).
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from tools.core.errors import OutsideStoreError, ToolError, shorten
from tools.integrations.serving.lanes import Lanes
from tools.integrations.serving.routing import NOT_ASKED
from tools.integrations.serving.state import ModelRef
from tools.modeling.model_host import IsolatedModel, ModelHost, ModelLostError
from tools.modeling.model_process import BAD, ROWS
from tools.modeling.model_store import fetch_model, import_libraries
from tools.modeling.output import AS_IT_IS, OutputReading
from tools.modeling.readings import kept_reading

LOAD_TIMEOUT_S = 120.0
QUEUE_LIMIT = 5_000  # of either lane
MAX_ERROR_CHARS = 300

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """What one variant made of the rows of one request.

    Args:
        status: 200, 500 (the model raised), 503 (lost, disabled or overloaded), 504 (too slow), 0 (left out: a shadow
            score for which there was no room, which says nothing on the model).
        predictions: one label or number a row.
        probabilities: rows x classes; None for regressions and models without them.
        latency_ms: building the table and predicting, inside the model's process; waiting in a queue, or for a core of
            a busy machine, is not included.
        error: why, when the status is not 200.
    """

    status: int
    latency_ms: float
    predictions: list[Any] | None = None
    probabilities: list[list[float]] | None = None
    classes: list[Any] | None = None
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def left_out(self) -> bool:
        return self.status == NOT_ASKED


class ModelLoadError(Exception):
    """The model cannot be loaded; the text says why. `outside`: its files lie outside the store, and nobody let it."""

    def __init__(self, message: str, *, outside: bool = False) -> None:
        super().__init__(message)
        self.outside = outside


class ModelSource:
    """Where models come from: fetches their files with the store's credentials, and loads them where there are none.

    Args:
        project: models may import modules from here; None: from nowhere but the installation.
        closed: folders that no model reads.
        home: the state folder, which holds how the answers of each model are read; None: as the model itself says.
    """

    def __init__(
        self,
        tracking_uri: str,
        registry_uri: str | None,
        project: Path | None = None,
        closed: Iterable[Path] = (),
        home: Path | None = None,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.registry_uri = registry_uri
        self._home = home
        self._host = ModelHost(project, closed, stderr=sys.stderr.fileno())
        # Both import their libraries while the engine, and its caller, do something else.
        self._host.warm()
        threading.Thread(target=import_libraries, name="import-libraries", daemon=True).start()

    def start(self, model: ModelRef) -> "Worker":
        """A worker with the model loaded.

        Raises:
            ModelLoadError: it cannot be loaded, or its files are not those that its digest is of.
        """
        try:
            folder = fetch_model(model.uri, self.tracking_uri, self.registry_uri, outside=model.outside)
            loaded = self._host.start(folder, model.uri, LOAD_TIMEOUT_S)
        except OutsideStoreError as error:
            raise ModelLoadError(error.message, outside=True) from error
        except ToolError as error:
            raise ModelLoadError(error.message) from error
        if model.digest and loaded.digest != model.digest:
            loaded.close()
            raise ModelLoadError(
                f"the files of {model.uri} are not those that were judged: their SHA-256 is {loaded.digest[:12]}…, "
                f"expected was {model.digest[:12]}…"
            )
        return Worker(loaded, AS_IT_IS if self._home is None else kept_reading(self._home, loaded.digest))


class Worker:
    """The engine's end of one model process, whose answers are read as `reading` says. Used by one thread at a time."""

    def __init__(self, model: IsolatedModel, reading: OutputReading = AS_IT_IS) -> None:
        self._model = model
        self._how = reading.model_dump_json().encode() + b"\n"
        self.digest = model.digest

    def score(self, rows: list[dict[str, Any]], timeout_s: float) -> Score:
        """Score the rows.

        Raises:
            ModelLostError: no answer within `timeout_s` (504), or the process ended (503).
        """
        answer = self._model.ask(ROWS + self._how + json.dumps(rows).encode(), timeout_s)
        return _score(answer, len(rows))

    def kill(self) -> None:
        self._model.close()


def _score(answer: bytes, rows: int) -> Score:
    """What a model's process sent, checked: a model may send anything."""
    if answer[:1] == BAD:
        return Score(500, 0.0, error=shorten(answer[1:].decode("utf-8", "replace"), MAX_ERROR_CHARS))
    try:
        score = _SENT.validate_json(answer[1:])
        if score.ok:
            fits = score.predictions is not None and len(score.predictions) == rows
            if score.probabilities is not None:
                width = len(score.classes or [])
                fits = fits and len(score.probabilities) == rows
                fits = fits and all(len(row) == width for row in score.probabilities)
            if not fits:
                raise ValueError("of another shape")
    except ValueError:
        return Score(500, 0.0, error="the model did not answer with one prediction a row")
    return score


_SENT = TypeAdapter(Score)
Rows = list[dict[str, Any]]
Ticket = Future[Score]


class Variant:
    """A served model: a queue, and a thread that passes the queue to the model's process, one request at a time.

    Args:
        model: what it serves.
        worker: the model, loaded.
        source: makes a new worker when this one is lost.
        timeout_s: seconds for one answer; a slower process is killed and replaced. Time that it waited for a core is
            the machine's and does not count.
        restarts: how many losses in a row end it; None: it is always started again.
    """

    def __init__(
        self, model: ModelRef, worker: Worker, source: ModelSource, *, timeout_s: float, restarts: int | None
    ) -> None:
        self.model = model
        self.timeout_s = timeout_s
        self.restarts = restarts
        self.state: Literal["ready", "unhealthy", "disabled"] = "ready"
        self._worker: Worker | None = worker
        self._source = source
        self._losses = 0
        self._lanes: Lanes[Ticket, Rows] = Lanes()
        self._thread = threading.Thread(target=self._run, name=f"variant-{model.version}", daemon=True)
        self._thread.start()

    def submit(self, rows: Rows, *, live: bool) -> Ticket:
        """Score rows in the background. The future never raises: every failure is a `Score`.

        Args:
            live: somebody waits for the answer; without it they are scored when nobody waits.
        """
        ticket = Ticket()
        if self.state == "disabled":
            ticket.set_result(Score(503, 0.0, error=f"disabled after {self._losses} losses in a row"))
        elif self._lanes.waiting(live=live) >= QUEUE_LIMIT:
            ticket.set_result(Score(503 if live else NOT_ASKED, 0.0, error=f"more than {QUEUE_LIMIT} are waiting"))
        elif not self._lanes.put(ticket, rows, live=live):
            ticket.set_result(Score(503, 0.0, error=f"version {self.model.version} is not served any more"))
        return ticket

    def prefer(self, ticket: Ticket, *, live: bool) -> None:
        """Somebody waits for it now, or nobody does any more. Nothing happens to what is being scored already."""
        self._lanes.move(ticket, live=live)

    def close(self) -> None:
        """End after what already waits was scored. Does not block."""
        self._lanes.close()

    def _run(self) -> None:
        while (item := self._lanes.get()) is not None:
            ticket, rows = item
            ticket.set_result(self._score(rows))
        if self._worker is not None:
            self._worker.kill()

    def _score(self, rows: list[dict[str, Any]]) -> Score:
        if self.state == "disabled":
            return Score(503, 0.0, error=f"disabled after {self._losses} losses in a row")
        started = time.perf_counter()
        try:
            if self._worker is None:
                self._worker = self._source.start(self.model)
            score = self._worker.score(rows, self.timeout_s)
        except ModelLoadError as error:
            return self._lost(503, str(error), started)
        except ModelLostError as error:
            return self._lost(error.status, str(error), started)
        self._losses = 0
        self.state = "ready"
        return score

    def _lost(self, status: int, message: str, started: float) -> Score:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None
        self._losses += 1
        disabled = self.restarts is not None and self._losses > self.restarts
        self.state = "disabled" if disabled else "unhealthy"
        _log.error("model %s lost (%s): %s", self.model.version, self.state, message)
        return Score(status, (time.perf_counter() - started) * 1000.0, error=shorten(message, MAX_ERROR_CHARS))
