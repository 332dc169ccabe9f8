"""The processes that models run in: `python -m tools.modeling.model_process`, started by `model_host`, never by hand.

One process imports the libraries and waits; for each model it forks a child, which gives up files, network and signals
(`tools.core.isolation`) before it loads anything, and then answers rows. Its environment never holds a secret.

A model is code of others, so what a child sends is data, never a pickle: JSON, and numbers as their bytes.
"""

import json
import os
import pickle
import re
import shutil
import signal
import socket
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tools.core.errors import shorten
from tools.modeling.own_time import OwnTime

PREDICT, UNDERSTAND, LATENCY, ROWS = b"P", b"U", b"L", b"R"
GOOD, BAD = b"+", b"-"
WARM_UP_CALLS = 3
MAX_ERROR_CHARS = 600
NUMERIC = "biuf"


def main() -> None:
    """Wait for models to start, and for the host to go away."""
    control = socket.socket(fileno=int(sys.argv[1]))
    project, closed = json.loads(sys.argv[2])
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal reaches the host, which decides

    from tools.core.isolation import python_files
    from tools.modeling import warm

    assert warm.__name__
    libraries = python_files(Path(project) if project else None, never=[Path(path) for path in closed])
    places = tuple(Path(entry) for entry in sys.path if entry and Path(entry).is_dir())  # modules are found by name
    children: dict[int, int | None] = {}
    scratch: list[str] = []
    while True:
        request, fds = _receive(control)
        _reap(children)
        if request is None:
            for child, code in children.items():
                if code is None:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
            for folder in scratch:  # the host removes those that it closes; it may have been killed
                shutil.rmtree(folder, ignore_errors=True)
            return
        if request["do"] == "start":
            child = os.fork()
            if child == 0:
                control.close()
                _run_model(fds[0], request, libraries, places)
            os.close(fds[0])
            children[child] = None
            scratch.append(request["scratch"])
            reply: dict[str, Any] = {"pid": child}
        elif request["do"] == "kill":
            if children.get(request["pid"], 0) is None:
                os.kill(request["pid"], signal.SIGKILL)
                children[request["pid"]] = os.waitstatus_to_exitcode(os.waitpid(request["pid"], 0)[1])
            reply = {"exit": children.pop(request["pid"], None)}
        else:
            reply = {"exit": children.get(request["pid"])}
        control.sendall(json.dumps(reply).encode() + b"\n")


def _receive(control: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    data, fds = b"", list[int]()
    while not data.endswith(b"\n"):
        part, given, _, _ = socket.recv_fds(control, 65536, 1)
        fds += given
        if not part:
            return None, fds
        data += part
    return json.loads(data), fds


def _reap(children: dict[int, int | None]) -> None:
    """Note how children ended that have ended."""
    for child, code in children.items():
        if code is None:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                children[child] = os.waitstatus_to_exitcode(status)


def _run_model(fd: int, request: dict[str, Any], libraries: tuple[Path, ...], places: tuple[Path, ...]) -> None:
    """The whole life of a model's process. Never returns."""
    try:
        connection = Connection(fd)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # what a model prints is its own business, and could fill a disk
            os.dup2(nowhere, stream)
        clock = OwnTime()
        scratch, folder = Path(request["scratch"]), Path(request["folder"])
        os.environ.update(HOME=str(scratch), TMPDIR=str(scratch))
        tempfile.tempdir = str(scratch)
        os.chdir(scratch)
        from tools.core.isolation import Sandbox, confine, devices

        missing = confine(Sandbox((*libraries, folder), (scratch, *devices()), names=places))
        from tools.modeling.opened_model import open_model

        try:
            model = open_model(folder)
        except Exception as error:  # noqa: BLE001 - a foreign model's load code may raise anything; the host reports it
            connection.send_bytes(BAD + _words(error).encode())
            os._exit(0)
        connection.send_bytes(GOOD + json.dumps(missing).encode())
        while True:
            connection.send_bytes(_answer(model, connection.recv_bytes(), clock))
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever a model raised: the host sees the connection end
        os._exit(1)


def _answer(model: Any, message: bytes, clock: OwnTime) -> bytes:
    """The answer to one message: its kind, a line that says how the model's answers are read (or what is to be found
    out of them), and the rows."""
    from tools.modeling.output import Asked, OutputReading

    try:
        kind = message[:1]
        how, _, body = message[1:].partition(b"\n")
        if kind == UNDERSTAND:
            reading, found = model.understood(pickle.loads(body), Asked.model_validate_json(how))
            return GOOD + reading.model_dump_json().encode() + b"\n" + pack(found)
        reading = OutputReading.model_validate_json(how)
        if kind == PREDICT:
            return GOOD + pack(model.predict(pickle.loads(body), reading))
        if kind == LATENCY:
            return GOOD + json.dumps(_latencies_ms(model, pickle.loads(body), reading, clock)).encode()
        return GOOD + json.dumps(_score(model, json.loads(body), reading, clock), default=str).encode()
    except Exception as error:  # noqa: BLE001 - a foreign model may raise anything; the host reports it
        return BAD + _words(error).encode()


def _latencies_ms(model: Any, rows: Any, reading: Any, clock: OwnTime) -> list[float]:
    """Milliseconds of its own time for predicting each of the rows alone."""
    for _ in range(WARM_UP_CALLS):
        model.predict(rows.iloc[[0]], reading)
    laps: list[float] = []
    for position in range(len(rows)):
        row = rows.iloc[[position]]
        started = clock.now()
        model.predict(row, reading)
        laps.append(1000.0 * (clock.now() - started))
    return laps


def _score(model: Any, rows: list[dict[str, Any]], reading: Any, clock: OwnTime) -> dict[str, Any]:
    """What a served model makes of the rows of one request: the fields of serving's `Score`."""
    started = clock.now()
    found = model.predict(table(rows), reading)
    elapsed = 1000.0 * (clock.now() - started)
    for part in (found.values, found.probabilities):
        if part is not None and part.dtype.kind == "f" and not np.isfinite(part).all():
            return {"status": 500, "latency_ms": elapsed, "error": "the model answered NaN or infinity"}
    return {
        "status": 200,
        "latency_ms": elapsed,
        "predictions": found.values.tolist(),
        "probabilities": None if found.probabilities is None else found.probabilities.tolist(),
        "classes": None if found.classes is None else found.classes.tolist(),
    }


def table(rows: list[dict[str, Any]]) -> Any:
    """JSON rows as a DataFrame. A column that is null in every row is a numeric null, as most models expect."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    for name in frame.columns[frame.isna().all()]:
        frame[name] = float("nan")
    return frame


def pack(predictions: Any) -> bytes:
    """Predictions as a line of JSON and the bytes of their numbers."""
    heads: list[Any] = []
    bodies: list[bytes] = []
    for part in (predictions.values, predictions.probabilities, predictions.classes):
        if part is None:
            heads.append(None)
        elif part.dtype.kind in NUMERIC:
            values = np.ascontiguousarray(part)
            heads.append({"dtype": values.dtype.str, "shape": values.shape})
            bodies.append(values.tobytes())
        else:
            heads.append({"items": part.tolist()})
    return json.dumps(heads, default=str).encode() + b"\n" + b"".join(bodies)


# MLflow puts the rows themselves before what is wrong with them.
_WITH_ROWS = re.compile(r"^Failed to enforce schema of data .*? Error: ")


def _words(error: BaseException) -> str:
    """Why a model could not be loaded or used, for people."""
    if isinstance(error, ModuleNotFoundError):
        text = f"it needs the module {error.name}, which is not installed here"
    elif isinstance(error, PermissionError):
        where = f" ({error.filename})" if error.filename else ""
        text = f"it tried to open a file or a connection that models may not{where}"
    else:
        message = getattr(error, "message", None) or str(error)
        text = " ".join(str(message).split()) or f"it ended with {type(error).__name__}"
        text = _WITH_ROWS.sub("", text)
    return shorten(text, MAX_ERROR_CHARS)


if __name__ == "__main__":
    main()
