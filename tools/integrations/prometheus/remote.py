"""A real Prometheus server over its HTTP API (https://prometheus.io/docs/prometheus/latest/querying/api/)."""

import re
import time
from typing import Any
from urllib.parse import urlsplit

import httpx

from tools.core.errors import FinalError, FixableError, NeedsPersonError, RetryableError
from tools.integrations.prometheus.embedded import MAX_TIME_S, RangeSeries, range_times
from tools.integrations.prometheus.evaluate import Value

TIMEOUT_S = 60.0
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class RemotePrometheus:
    """Read-only client of a server.

    Args:
        url: base URL, with the server's path prefix if it has one.
        token: bearer token, or None.
    """

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NeedsPersonError(f"PROMETHEUS_URL must be a URL such as http://host:9090, got {parts.path or url!r}")
        # Shown in messages: never with user and password.
        self.shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=url.rstrip("/") + "/", headers=headers, timeout=TIMEOUT_S)

    @property
    def where(self) -> str:
        """What a search looked at, for a `no_data` answer."""
        return f"the Prometheus server {self.shown}"

    def query(self, expr: str, time_s: float | None) -> tuple[list[Value], float]:
        """The value at one time (default the server's now), and that time."""
        t = time.time() if time_s is None else time_s
        if not 0 <= t <= MAX_TIME_S:
            raise FixableError(f"time must be Unix seconds from 0 to {MAX_TIME_S:.0f}, got {t}")
        data = self._get("api/v1/query", {"query": expr, "time": f"{t:.3f}"})
        match data["resultType"]:
            case "vector":
                return [Value(item["metric"], float(item["value"][1])) for item in data["result"]], t
            case "scalar":
                return [Value({}, float(data["result"][1]))], t
            case other:
                raise FixableError(f"{expr!r} gives a {other}; use an instant vector, or query_range")

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[RangeSeries]:
        """The values from `start` to `end` inclusive, every `step` seconds."""
        next(range_times(start, end, step))  # the same limits as embedded
        data = self._get("api/v1/query_range", {"query": expr, "start": start, "end": end, "step": step})
        return [
            RangeSeries(item["metric"], [(float(t), float(value)) for t, value in item["values"]])
            for item in data["result"]
        ]

    def names(self) -> list[str]:
        return list(self._get("api/v1/label/__name__/values", {}))

    def scrape_interval_s(self, instance: str) -> float:
        """How often the server scrapes an instance; 0 when it does not."""
        targets = self._get("api/v1/targets", {"state": "active"})["activeTargets"]
        for target in targets:
            if target["labels"].get("instance") == instance:
                found = re.findall(r"(\d+)(ms|s|m|h|d)", target.get("scrapeInterval", ""))
                return sum(int(number) * _UNIT_S[unit] for number, unit in found)
        return 0.0

    def version(self) -> str:
        return str(self._get("api/v1/status/buildinfo", {})["version"])

    def close(self) -> None:
        self._client.close()

    def _get(self, path: str, parameters: dict[str, Any]) -> Any:
        try:
            response = self._client.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise RetryableError(
                f"the Prometheus server {self.shown} (PROMETHEUS_URL) does not answer: {type(error).__name__}"
            ) from error
        if response.status_code in (401, 403):
            raise NeedsPersonError(f"{self.shown} refuses access (HTTP {response.status_code}); set PROMETHEUS_TOKEN")
        try:
            body = response.json()
            status = body["status"]
        except (ValueError, KeyError, TypeError) as error:
            if response.status_code >= 500:
                raise RetryableError(f"{self.shown} answers HTTP {response.status_code}") from error
            raise FinalError(
                f"{self.shown} is no Prometheus API (HTTP {response.status_code} for {path}); check PROMETHEUS_URL"
            ) from error
        if status == "success":
            return body["data"]
        message = f"{self.shown}: {body.get('error', 'unknown error')}"
        match body.get("errorType"):
            case "bad_data" | "execution":
                raise FixableError(message)
            case "timeout" | "unavailable" | "canceled":
                raise RetryableError(message)
            case _:
                raise FinalError(message)
