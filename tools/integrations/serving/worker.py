"""One process per model, so that a model that hangs, crashes or eats its core never takes another one with it.

`worker_main` runs in the child; `Worker` is the engine's handle on one child; `Variant` is a worker with a queue and a
thread of its own, which restarts the worker when it was lost. Children are forked from one clean process that has
imported MLflow and scikit-learn already (multiprocessing's fork server), so a new one is there in milliseconds.
"""

import logging
import math
import multiprocessing
import os
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from typing import Any, Literal

from tools.integrations.serving.state import ModelRef

PRELOAD = ["tools.integrations.serving.warm"]
LOAD_TIMEOUT_S = 120.0
QUEUE_LIMIT = 5_000
MAX_ERROR_CHARS = 300

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """What one variant made of the rows of one request.

    Args:
        status: 200, 500 (the model raised), 503 (lost, disabled or overloaded), 504 (too slow).
        predictions: one label or number a row.
        probabilities: rows x classes; None for regressions and models without them.
        latency_ms: building the table and predicting, inside the model's process; waiting in a queue not included.
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


class ModelLoadError(Exception):
    """The model cannot be loaded; the text says why."""


class WorkerLostError(Exception):
    """The model's process ended or hung."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def worker_main(connection: Connection, uri: str, tracking_uri: str, registry_uri: str | None) -> None:
    """Load the model, say whether that worked, then answer rows until the engine is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a child of the engine only"
    sentinel = parent.sentinel

    def follow_engine() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=follow_engine, daemon=True).start()
    try:
        from tools.modeling.predictor import load_predictor

        predictor = load_predictor(uri, tracking_uri, registry_uri)
    except Exception as error:  # noqa: BLE001 - a foreign model's load code may raise anything; the engine reports it
        connection.send(_describe(error))
        return
    connection.send("")
    while True:
        try:
            rows: list[dict[str, Any]] = connection.recv()
        except EOFError:
            return
        connection.send(_score(predictor, rows))


def _score(predictor: Any, rows: list[dict[str, Any]]) -> Score:
    started = time.perf_counter()
    try:
        result = predictor.predict(table(rows))
        elapsed = _ms_since(started)
        probabilities, classes = result.probabilities, result.classes
        for part in (result.values, probabilities):
            if part is not None and part.dtype.kind == "f" and not math.isfinite(part.sum()):
                return Score(status=500, latency_ms=elapsed, error="the model answered NaN or infinity")
        return Score(
            status=200,
            latency_ms=elapsed,
            predictions=result.values.tolist(),
            probabilities=probabilities.tolist() if probabilities is not None else None,
            classes=classes.tolist() if classes is not None else None,
        )
    except Exception as error:  # noqa: BLE001 - a foreign model may raise anything; that request's status is 500
        return Score(status=500, latency_ms=_ms_since(started), error=_describe(error))


def table(rows: list[dict[str, Any]]) -> Any:
    """JSON rows as a DataFrame. A column that is null in every row is a numeric null, as most models expect."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    for name in frame.columns[frame.isna().all()]:
        frame[name] = float("nan")
    return frame


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000.0


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"[:MAX_ERROR_CHARS]


class ModelSource:
    """Where models come from; makes workers."""

    def __init__(self, tracking_uri: str, registry_uri: str | None) -> None:
        self.tracking_uri = tracking_uri
        self.registry_uri = registry_uri
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        ensure_running()  # it imports the libraries while the engine, and its caller, do something else

    def start(self, model: ModelRef) -> "Worker":
        """A worker with the model loaded.

        Raises:
            ModelLoadError: it cannot be loaded.
        """
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=worker_main, args=(theirs, model.uri, self.tracking_uri, self.registry_uri), daemon=True
        )
        process.start()
        theirs.close()
        worker = Worker(process, ours)
        try:
            problem = worker.receive(LOAD_TIMEOUT_S)
        except WorkerLostError as error:
            worker.kill()
            raise ModelLoadError(f"cannot load the model {model.uri}: {error}") from error
        if problem:
            worker.kill()
            raise ModelLoadError(problem)
        return worker


class Worker:
    """The engine's end of one model process. Used by one thread at a time."""

    def __init__(self, process: Any, connection: Connection) -> None:
        self._process = process
        self._connection = connection

    def receive(self, timeout_s: float) -> Any:
        """The next message.

        Raises:
            WorkerLostError: none within `timeout_s` (504), or the process ended (503).
        """
        try:
            if not self._connection.poll(timeout_s):
                raise WorkerLostError(504, f"no answer within {timeout_s:g} s")
            return self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(1.0)
            raise WorkerLostError(503, f"the model's process ended (exit code {self._process.exitcode})") from error

    def score(self, rows: list[dict[str, Any]], timeout_s: float) -> Score:
        """Score the rows; see `receive` for what it raises."""
        try:
            self._connection.send(rows)
        except OSError as error:
            self._process.join(1.0)
            raise WorkerLostError(503, f"the model's process ended (exit code {self._process.exitcode})") from error
        return self.receive(timeout_s)

    def kill(self) -> None:
        self._process.kill()
        self._process.join(5.0)
        self._connection.close()


_Item = tuple[list[dict[str, Any]], "Future[Score]"] | None


class Variant:
    """A served model: a queue, and a thread that passes the queue to the model's process, one request at a time.

    Args:
        model: what it serves.
        worker: the model, loaded.
        source: makes a new worker when this one is lost.
        timeout_s: seconds for one answer; a slower process is killed and replaced.
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
        self._queue: queue.Queue[_Item] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name=f"variant-{model.version}", daemon=True)
        self._thread.start()

    def submit(self, rows: list[dict[str, Any]]) -> "Future[Score]":
        """Score rows in the background. The future never raises: every failure is a `Score`."""
        future: Future[Score] = Future()
        if self.state == "disabled":
            future.set_result(Score(503, 0.0, error=f"disabled after {self._losses} losses in a row"))
        elif self._queue.qsize() >= QUEUE_LIMIT:
            future.set_result(Score(503, 0.0, error=f"more than {QUEUE_LIMIT} requests are waiting"))
        else:
            self._queue.put((rows, future))
        return future

    def close(self) -> None:
        """End after what already waits was scored. Does not block."""
        self._queue.put(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            rows, future = item
            future.set_result(self._score(rows))
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
        except WorkerLostError as error:
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
        return Score(status, _ms_since(started), error=message[:MAX_ERROR_CHARS])
