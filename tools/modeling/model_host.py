"""Runs models in processes of their own and asks them for predictions; the other end is `model_process`.

A model is a pickle more often than not: whoever loads it runs its author's code. So it is loaded where there is no
secret, no network and nothing to write to, as far as the platform gives it, and what it answers is read as data.
"""

import contextlib
import hashlib
import json
import math
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from tools.core.child_env import child_env
from tools.core.errors import FinalError
from tools.modeling.model_process import BAD, LATENCY, NUMERIC, PREDICT, UNDERSTAND
from tools.modeling.output import AS_IT_IS, Asked, OutputReading
from tools.modeling.own_time import starved
from tools.modeling.predictor import Predictions

START_TIMEOUT_S = 300.0  # importing the libraries takes minutes on a busy machine
PREDICT_TIMEOUT_S = 600.0
POLL_S = 0.2
MIN_STARVED_S = 0.01  # less is no reason to wait longer
MAX_ANSWER_BYTES = 1 << 31
# One row or one table at a time: threads inside a model only fight over the cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "DO_NOT_TRACK": "1",
    "PYTHONWARNINGS": "ignore",
}


class ModelLostError(Exception):
    """The model's process ended (status 503) or gave no answer in time (504); the text says which."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ModelHost:
    """The process that model processes are forked from. Started at the first use, and again when it was lost.

    Thread-safe. To be closed; it also ends, with every model, when this process is gone.

    Args:
        project: models may import modules from here, and read data there, but nothing hidden and no configuration.
        closed: folders that models never read: the state folder, folders of keys.
        stderr: where models' own output goes; nowhere by default.
    """

    def __init__(
        self, project: Path | None = None, closed: Iterable[Path] = (), stderr: IO[bytes] | int | None = None
    ) -> None:
        self._project = project
        self._closed = [str(path) for path in closed]
        self._stderr = subprocess.DEVNULL if stderr is None else stderr
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lock = threading.Lock()

    def warm(self) -> None:
        """Start it, so that it imports its libraries while the caller does something else."""
        with self._lock:
            self._ensure()

    def start(self, folder: Path, name: str, timeout_s: float = START_TIMEOUT_S) -> "IsolatedModel":
        """A process with the model in `folder` loaded; the folder must stay.

        Raises:
            FinalError: it cannot be loaded; says why.
        """
        digest, size = content_digest(folder)
        ours, theirs = socket.socketpair()
        scratch = Path(tempfile.mkdtemp(prefix="mlops-model-"))
        try:
            request = {"do": "start", "folder": str(folder.resolve()), "name": name, "scratch": str(scratch)}
            pid = int(self._ask(request, theirs.fileno())["pid"])
        except BaseException:  # whatever ends the start: neither connection nor folder is left
            ours.close()
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        finally:
            theirs.close()
        model = IsolatedModel(self, pid, Connection(ours.detach()), name, scratch)
        try:
            answer = model.receive(timeout_s)
        except ModelLostError as error:
            model.close()
            raise FinalError(f"cannot load the model {name}: {error}") from error
        if answer[:1] == BAD:
            model.close()
            raise FinalError(f"cannot load the model {name}: {_text(answer)}")
        model.not_isolated = tuple(json.loads(answer[1:]))
        model.digest, model.size_bytes = digest, size
        return model

    def exit_code(self, pid: int, *, kill: bool = False) -> int | None:
        """How a model's process ended; None: it runs, or nobody knows."""
        if self._process is None or self._process.poll() is not None:
            return None  # it took its models with it
        try:
            return self._ask({"do": "kill" if kill else "status", "pid": pid})["exit"]
        except FinalError:
            return None

    def close(self) -> None:
        """End it and every model."""
        with self._lock:
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._process is not None:
                try:
                    self._process.wait(2.0)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
                self._process = None

    def _ensure(self) -> socket.socket:
        if self._process is not None and self._process.poll() is None and self._control is not None:
            return self._control
        if self._control is not None:
            self._control.close()
        ours, theirs = socket.socketpair()
        paths = dict.fromkeys([path for path in sys.path if path] + ([str(self._project)] if self._project else []))
        values = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", **ONE_THREAD, **QUIET}
        command = [sys.executable, "-m", "tools.modeling.model_process", str(theirs.fileno())]
        self._process = subprocess.Popen(
            [*command, json.dumps([str(self._project) if self._project else "", self._closed])],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            cwd=tempfile.gettempdir(),
            env=child_env(values=values),
        )
        theirs.close()
        self._control = ours
        return ours

    def _ask(self, request: Mapping[str, Any], fd: int | None = None) -> dict[str, Any]:
        with self._lock:
            control = self._ensure()
            try:
                control.settimeout(START_TIMEOUT_S)
                message = json.dumps(request).encode() + b"\n"
                socket.send_fds(control, [message], [] if fd is None else [fd])
                reply = b""
                while not reply.endswith(b"\n"):
                    part = control.recv(65536)
                    if not part:
                        raise OSError("it ended")
                    reply += part
                return json.loads(reply)
            except OSError as error:
                self._control = None
                control.close()
                if self._process is not None:
                    self._process.kill()
                    self._process.wait()
                raise FinalError(f"the process that loads models could not be reached ({error}); try again") from error


class IsolatedModel:
    """A model in a process of its own. Used by one thread at a time; to be closed.

    `digest`: SHA-256 over names and content of its files, taken before it was loaded; `size_bytes`: of them together.
    `not_isolated`: what this platform could not take away from it, in words.
    """

    def __init__(self, host: ModelHost, pid: int, connection: Connection, name: str, scratch: Path) -> None:
        self.pid = pid
        self.name = name
        self.digest = ""
        self.size_bytes = 0
        self.not_isolated: tuple[str, ...] = ()
        self._host = host
        self._connection = connection
        self._scratch = scratch
        self._closed = False

    def predict(
        self, frame: pd.DataFrame, check: Callable[[], None] = lambda: None, reading: OutputReading = AS_IT_IS
    ) -> Predictions:
        """What the model says about the rows.

        Args:
            check: called several times a second while it is waited for; what it raises ends the model.
            reading: how its answers are read.

        Raises:
            FinalError: it does not predict these rows, ended, or does not answer; says which.
        """
        answer = self._asked(PREDICT + _line(reading) + pickle.dumps(frame, protocol=5), check)
        return _unpack(answer[1:], len(frame), self.name)

    def understood(
        self, frame: pd.DataFrame, asked: Asked, check: Callable[[], None] = lambda: None
    ) -> tuple[OutputReading, Predictions]:
        """How the model's answers are to be read, found out on these rows, and what it says about them.

        Raises:
            FinalError: as `predict`, or it has to be stated what its answers mean.
        """
        answer = self._asked(UNDERSTAND + _line(asked) + pickle.dumps(frame, protocol=5), check)
        head, _, body = answer[1:].partition(b"\n")
        try:
            reading = OutputReading.model_validate_json(head)
        except ValueError as error:
            raise FinalError(f"{self.name} does not answer with one prediction a row") from error
        return reading, _unpack(body, len(frame), self.name)

    def latencies_ms(
        self, rows: pd.DataFrame, check: Callable[[], None] = lambda: None, reading: OutputReading = AS_IT_IS
    ) -> np.ndarray:
        """Milliseconds of its own time for predicting each of the rows alone; shape (rows,)."""
        found = json.loads(self._asked(LATENCY + _line(reading) + pickle.dumps(rows, protocol=5), check)[1:])
        return np.array([float(value) for value in found])

    def _asked(self, message: bytes, check: Callable[[], None]) -> bytes:
        try:
            answer = self.ask(message, PREDICT_TIMEOUT_S, check)
        except ModelLostError as error:
            raise FinalError(f"{self.name} does not predict these rows: {error}") from error
        if answer[:1] == BAD:
            raise FinalError(f"{self.name} does not predict these rows: {_text(answer)}")
        return answer

    def ask(self, message: bytes, timeout_s: float, check: Callable[[], None] = lambda: None) -> bytes:
        """Send a message, and what came back. Time that the process waited for a core does not count: a busy machine
        makes no model a hanging one.

        Raises:
            ModelLostError: none within `timeout_s` (504), or the process ended (503). It is of no use any more.
        """
        try:
            self._connection.send_bytes(message)
        except (OSError, ValueError) as error:
            raise self._lost() from error
        try:
            return self.receive(timeout_s, check)
        except BaseException:  # whatever ends the wait: a model half asked is of no use any more
            self.close()
            raise

    def receive(self, timeout_s: float, check: Callable[[], None] = lambda: None) -> bytes:
        """The next message; see `ask`."""
        deadline, starved_s = time.monotonic() + timeout_s, starved(self.pid)
        try:
            while not self._connection.poll(min(POLL_S, max(0.0, deadline - time.monotonic()))):
                check()
                if time.monotonic() >= deadline:
                    starved_s, before_s = starved(self.pid), starved_s
                    if starved_s - before_s >= MIN_STARVED_S:
                        deadline += starved_s - before_s
                        continue
                    raise ModelLostError(504, f"no answer within {timeout_s:g} s")
            return self._connection.recv_bytes(MAX_ANSWER_BYTES)
        except (EOFError, OSError) as error:
            raise self._lost() from error

    def _lost(self) -> ModelLostError:
        code = None
        for _ in range(10):  # the end of the connection comes before the end of the process
            if (code := self._host.exit_code(self.pid)) is not None:
                break
            time.sleep(0.02)
        return ModelLostError(503, f"the model's process ended (exit code {code})")

    @property
    def alive(self) -> bool:
        return not self._closed

    def close(self) -> None:
        """End the process. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._host.exit_code(self.pid, kill=True)
        self._connection.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


def _line(how: OutputReading | Asked) -> bytes:
    return how.model_dump_json().encode() + b"\n"


def _text(answer: bytes) -> str:
    """A model's own words, as one line: they come from code of others."""
    return " ".join(answer[1:2000].decode("utf-8", "replace").split()) or "it gave no reason"


def _unpack(answer: bytes, rows: int, name: str) -> Predictions:
    """What `model_process.pack` made, checked: a model may send anything.

    Raises:
        FinalError: it is no prediction of so many rows.
    """
    try:
        head, _, body = answer.partition(b"\n")
        parts: list[np.ndarray | None] = []
        for given in json.loads(head):
            if given is None:
                parts.append(None)
            elif "items" in given:
                made = np.empty(len(given["items"]), dtype=object)
                made[:] = given["items"]
                parts.append(made)
            else:
                dtype, shape = np.dtype(str(given["dtype"])), tuple(int(size) for size in given["shape"])
                if dtype.kind not in NUMERIC or min(shape, default=0) < 0:
                    raise ValueError("not numbers")
                size = math.prod(shape) * dtype.itemsize
                parts.append(np.frombuffer(body[:size], dtype).reshape(shape).copy())
                body = body[size:]
        values, probabilities, classes = parts
        fits = values is not None and values.shape == (rows,) and (probabilities is None) == (classes is None)
        if probabilities is not None and classes is not None:
            fits = fits and probabilities.dtype.kind == "f" and probabilities.shape == (rows, *classes.shape)
        if values is None or not fits:
            raise ValueError("of another shape")
    except (ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise FinalError(f"{name} does not answer with one prediction a row") from error
    for part in (values, probabilities):
        if part is not None and part.dtype.kind == "f" and not np.isfinite(part).all():
            wrong = int((~np.isfinite(part)).reshape(rows, -1).any(axis=1).sum())
            raise FinalError(f"{name} answers NaN or infinity for {wrong} of {rows} rows")
    return Predictions(values, probabilities, classes)


def content_digest(folder: Path) -> tuple[str, int]:
    """SHA-256 over names and content of all files below a folder, and their bytes."""
    digest, size = hashlib.sha256(), 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
            size += len(content)
    return digest.hexdigest(), size


class ModelPool:
    """The models that were used last, each in its process, so that using one again costs nothing.

    Args:
        host: starts them.
        most: how many stay; the one that was not used for longest goes.
    """

    def __init__(self, host: ModelHost, most: int = 3) -> None:
        self._host = host
        self._most = most
        self._models: dict[str, tuple[IsolatedModel, Path]] = {}

    def use(self, name: str, fetch: Callable[[Path], Path]) -> tuple[IsolatedModel, int]:
        """A model, and its size in bytes. It is told from others by the content of its files.

        Args:
            fetch: puts its files below a folder, and says where.

        Raises:
            FinalError: it cannot be loaded; and what `fetch` raises.
        """
        folder = Path(tempfile.mkdtemp(prefix="mlops-files-"))
        try:
            self._host.warm()
            local = fetch(folder)
            key, size = content_digest(local)
            found = self._models.pop(key, None)
            if found is not None and not found[0].alive:
                shutil.rmtree(found[1], ignore_errors=True)
                found = None
            if found is None:
                found, folder = (self._host.start(local, name), folder), None
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        found[0].name = name
        self._models[key] = found
        while len(self._models) > self._most:
            self._drop(next(iter(self._models)))
        return found[0], size

    def _drop(self, key: str) -> None:
        model, folder = self._models.pop(key)
        with contextlib.suppress(OSError):
            model.close()
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End every model, and the host."""
        for key in list(self._models):
            self._drop(key)
        self._host.close()
