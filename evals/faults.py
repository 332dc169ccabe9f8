"""What goes wrong while a run is under way: a registry that stops answering, a tool that fails at first."""

import contextlib
import dataclasses
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field

from tools.core.contract import Backend, CallContext
from tools.core.errors import RetryableError
from tools.core.journal import Record
from tools.registry import INTEGRATIONS, load_spec

SERVER_START_S = 240.0


class Outage(BaseModel):
    """The MLflow server, a real one, is killed once `after` (`integration.action`) has succeeded."""

    model_config = ConfigDict(extra="forbid")

    after: str


class Flaky(BaseModel):
    """The first `failures` calls of an action fail with a passing fault, as a dropped connection does."""

    model_config = ConfigDict(extra="forbid")

    integration: str
    action: str
    failures: int = Field(ge=1)


class Faults(BaseModel):
    """The faults of a case; none by default."""

    model_config = ConfigDict(extra="forbid")

    registry_outage: Outage | None = None
    flaky: list[Flaky] = Field(default_factory=list[Flaky])


@contextlib.contextmanager
def computing(count: int) -> Generator[None]:
    """So many processes that compute without end, meanwhile."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@contextlib.contextmanager
def under(faults: Faults, folder: Path) -> Generator[Callable[[Record], None]]:
    """Arrange the faults. Yields what must hear every journal record."""
    with contextlib.ExitStack() as stack:
        for flaky in faults.flaky:
            stack.enter_context(_failing_at_first(flaky))
        if faults.registry_outage is None:
            yield lambda record: None
        else:
            server = stack.enter_context(_mlflow_server(folder))
            yield _killer(server, faults.registry_outage.after)


def _killer(server: subprocess.Popen[bytes], after: str) -> Callable[[Record], None]:
    named: dict[str, str] = {}

    def hear(record: Record) -> None:
        if record["kind"] == "intent":
            named[record["call_id"]] = f"{record['server']}.{record['action']}"
        elif record["kind"] == "outcome" and record["status"] == "ok" and named.get(record["call_id"]) == after:
            _kill(server)

    return hear


def _kill(server: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait(10)


@contextlib.contextmanager
def _mlflow_server(folder: Path) -> Generator[subprocess.Popen[bytes]]:
    """A real MLflow server on loopback; MLFLOW_TRACKING_URI names it meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **settings}
        )
    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        deadline = time.monotonic() + SERVER_START_S
        while not _answers(url):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the MLflow server did not start; see {folder / 'server.log'}")
            time.sleep(0.2)
        os.environ["MLFLOW_TRACKING_URI"] = url
        yield server
    finally:
        if before is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before
        _kill(server)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1.0, trust_env=False).is_success
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def _failing_at_first(flaky: Flaky) -> Generator[None]:
    """The integration's spec names a backend whose action fails at first; everything else of it is as it was."""
    spec = load_spec(flaky.integration)
    spec.action(flaky.action)  # says so when there is none
    module = importlib.import_module(INTEGRATIONS[flaky.integration])
    name = f"Flaky_{flaky.integration}_{flaky.action}"
    backend_module, _, backend_name = spec.backend.partition(":")
    seen: Counter[str] = Counter()

    def make(settings: Any) -> Backend:
        backend: Backend = getattr(importlib.import_module(backend_module), backend_name)(settings)
        real = getattr(backend, flaky.action)

        def action(args: Any, ctx: CallContext) -> Any:
            seen[flaky.action] += 1
            if seen[flaky.action] <= flaky.failures:
                raise RetryableError(f"connection reset ({seen[flaky.action]} of {flaky.failures})")
            return real(args, ctx)

        setattr(backend, flaky.action, action)
        return backend

    globals()[name] = make
    module.SPEC = dataclasses.replace(spec, backend=f"{__name__}:{name}")  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.SPEC = spec  # type: ignore[attr-defined]
        del globals()[name]
