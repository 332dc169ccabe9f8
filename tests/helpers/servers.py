"""Real servers that tests start on loopback, where their programs are installed."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

START_TIMEOUT_S = 30.0


def free_port() -> int:
    """A port that was free a moment ago, for servers that cannot pick one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def prometheus_server(
    folder: Path, *, targets: Sequence[str] = (), interval_s: float = 1.0, openmetrics: str = ""
) -> Generator[str]:
    """A real Prometheus; yields its base URL. Skips the test where the program is not installed.

    Args:
        folder: for its configuration, data and log.
        targets: `host:port` of /metrics endpoints it scrapes, as job `mlops`.
        openmetrics: samples with timestamps that it holds from the start.
    """
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        pytest.skip("the programs prometheus and promtool are not installed (Debian: apt-get install prometheus)")
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "global": {
            "scrape_interval": f"{round(interval_s * 1000)}ms",
            "scrape_timeout": f"{round(interval_s * 1000)}ms",
        },
        "scrape_configs": [{"job_name": "mlops", "static_configs": [{"targets": list(targets)}]}] if targets else [],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    data = folder / "data"
    data.mkdir()
    if openmetrics:
        (folder / "samples.txt").write_text(openmetrics)
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "samples.txt"), str(data)]
        subprocess.run(command, check=True, capture_output=True)
    port = free_port()
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={data}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--storage.tsdb.retention.time=10y",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _ready(url):
            assert process.poll() is None, (folder / "log.txt").read_text()
            assert time.monotonic() < deadline, f"prometheus is not ready after {START_TIMEOUT_S} s"
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=1.0, trust_env=False).is_success
    except httpx.TransportError:
        return False
