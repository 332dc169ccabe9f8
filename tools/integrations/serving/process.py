"""The backend's end of the engine process: start it, talk to it, and leave nothing behind."""

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tools.core.child_env import child_env
from tools.core.errors import (
    FinalError,
    FixableError,
    NeedsPersonError,
    OutsideStoreError,
    RetryableError,
    ToolError,
    shorten,
)
from tools.core.files import open_private
from tools.integrations.serving.engine import HOST, EngineConfig

START_TIMEOUT_S = 150.0  # one that fails is noticed at once; a busy machine only takes long
STOP_TIMEOUT_S = 5.0
GROUP_TIMEOUT_S = 2.0  # reached only where nobody collects ended orphans (a container without init)
ADMIN_TIMEOUT_S = 150.0
LOG_FILE = "engine.log"
PROJECT_ROOT = Path(__file__).resolve().parents[3]


class EngineProcess:
    """A running engine. Ended by `close`, or by itself when this process is gone.

    Args:
        process: the child; it leads a process group of its own, with its model processes.
        port: where it listens on 127.0.0.1.
        token: of its admin endpoints.
        start_s: seconds from the start to accepting requests (loading models not included).
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, token: str, start_s: float) -> None:
        self.pid = process.pid
        self.url = f"http://{HOST}:{port}"
        self.start_s = start_s
        self._process = process
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(ADMIN_TIMEOUT_S, connect=5.0),
            trust_env=False,
        )

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        port: int,
        tracking_uri: str,
        registry_uri: str | None,
        challenger_timeout_s: float,
        project: Path,
        home: Path,
        credentials: Mapping[str, str],
    ) -> "EngineProcess":
        """Start an engine over the store in `folder`.

        Raises:
            NeedsPersonError: the port is taken or forbidden; says how to choose another.
            RetryableError: another engine uses the store.
            FinalError: it did not start; names the log.
        """
        started = time.perf_counter()
        token = secrets.token_urlsafe(24)
        config = EngineConfig(
            str(folder), port, token, tracking_uri, registry_uri, challenger_timeout_s, str(project), (str(home),),
            str(home), dict(credentials),
        )  # fmt: skip
        log = folder / LOG_FILE
        with open_private(log) as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "tools.integrations.serving.engine"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                # A group of its own: Ctrl-C in the terminal reaches the run, which then decides about production.
                start_new_session=True,
                cwd=folder,
                env=_environment(),
            )
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(config.line())
            report = json.loads(_read_line(process, START_TIMEOUT_S))
        except (OSError, ValueError) as error:
            _end(process)
            raise FinalError(f"the serving engine did not start; its log is {log} ({_tail(log)})") from error
        except BaseException:  # whatever ends the start, Ctrl-C too: no engine is left behind
            _end(process)
            raise
        finally:
            process.stdout.close()
        if "port" not in report:
            _end(process)
            raise _start_error(report, port)
        return cls(process, int(report["port"]), token, time.perf_counter() - started)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.poll()

    def admin(self, action: str, **body: Any) -> dict[str, Any]:
        """Call an admin endpoint; the answer holds the new status.

        Raises:
            FixableError: refused as things stand.
            OutsideStoreError: the model's files lie outside the store, and nobody let it be loaded.
            FinalError: the model cannot be loaded, or the state not written; production is what it was.
            RetryableError: the engine ended or does not answer.
        """
        try:
            response = self._client.post(f"/admin/{action}", json=body)
        except httpx.HTTPError as error:
            raise self.lost(error) from error
        if response.is_success:
            return response.json()
        message, is_outside = _refusal(response)
        match response.status_code:
            case 409 | 400:
                raise FixableError(message)
            case 422 if is_outside:
                raise OutsideStoreError(f"{message}; production is unchanged", model=str(body["model_uri"]))
            case 422:
                raise FinalError(f"{message}; production is unchanged")
            case _:
                raise FinalError(f"{message} (HTTP {response.status_code}); production is unchanged")

    def status(self) -> dict[str, Any]:
        """What it serves. Raises `RetryableError` when it does not answer."""
        try:
            return self._client.get("/status").raise_for_status().json()
        except httpx.HTTPError as error:
            raise self.lost(error) from error

    def wait_restored(self) -> None:
        """Return once the production state of the last engine is served again (or cannot be)."""
        deadline = time.monotonic() + ADMIN_TIMEOUT_S
        while not self.status()["restored"]:
            if time.monotonic() > deadline:
                raise RetryableError(f"the serving engine did not restore production within {ADMIN_TIMEOUT_S:g} s")
            time.sleep(0.05)

    def lost(self, error: Exception) -> ToolError:
        """The error that tells a caller that the engine does not answer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        code = self.exit_code
        if code is None:
            return RetryableError(f"the serving engine at {self.url} does not answer ({type(error).__name__})")
        return RetryableError(
            f"the serving engine ended unexpectedly (exit code {code}); the production state is intact, "
            "deploy_model starts it again"
        )

    def close(self) -> None:
        """End the engine and its model processes, and wait for them."""
        self._client.close()
        _end(self._process)


def _refusal(response: httpx.Response) -> tuple[str, bool]:
    """What the engine says is wrong, and whether it refused a model because of where its files are."""
    try:
        told = response.json()
        return shorten(str(told["error"]), 400), bool(told.get("outside"))
    except (ValueError, KeyError, TypeError):  # not one of our answers
        return shorten(response.text, 400) or "no reason given", False


def _environment() -> dict[str, str]:
    values = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])),
        # One row a request: threads inside a model only cost (8 ms a row instead of 2 with scikit-learn's boosting).
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow refuses the folders of its older versions otherwise
        "DO_NOT_TRACK": "1",
        "PROMETHEUS_DISABLE_CREATED_SERIES": "true",
        "PYTHONWARNINGS": "ignore",
    }
    return child_env(network=True, values=values)


def _read_line(process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
    assert process.stdout is not None
    deadline = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not chunk:
            raise ValueError("no handshake")
        line += chunk
    return line


def _start_error(report: dict[str, Any], port: int) -> ToolError:
    if report["error"] == "locked":
        return RetryableError(
            f"{report['message']}: another run serves from this state folder; wait for it, or set MLOPS_HOME"
        )
    return NeedsPersonError(
        f"port {port} cannot be used ({report['message']}); set SERVING_PORT to a free port, "
        "or leave it unset to let the system pick one",
        tried=f"{HOST}:{port}",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()  # the engine ends at this, after writing what it still holds
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    # What may outlive it for a moment: model processes. They are no children of ours, so only their group can be asked.
    deadline = time.monotonic() + GROUP_TIMEOUT_S
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.005)
    process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return shorten(lines[-1], 200) if lines else "empty"
