"""A real Prometheus server over its HTTP API (https://prometheus.io/docs/prometheus/latest/querying/api/)."""

import re
import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from tools.core.errors import FinalError, FixableError, NoDataError
from tools.integrations.prometheus.embedded import MAX_TIME_S, RangeSeries, range_times
from tools.integrations.prometheus.evaluate import Value
from tools.rest import Bearer, RestClient, Service

SERVICE = Service(
    title="Prometheus",
    url="PROMETHEUS_URL",
    auth=Bearer("PROMETHEUS_TOKEN"),
    timeout="PROMETHEUS_TIMEOUT_S",
    total_s=300.0,
    max_bytes=64 * 2**20,
)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _Response(BaseModel):
    """The envelope of every answer that is not an error."""

    status: Literal["success"]
    data: Any


class RemotePrometheus:
    """Read-only client of the server that the settings name."""

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        self._client = RestClient(SERVICE, settings)

    @property
    def shown(self) -> str:
        return self._client.shown

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
            return self._client.get(path, query=parameters).model(_Response).data
        except (NoDataError, FinalError) as error:  # every Prometheus knows these paths, and answers in JSON
            raise FinalError(
                f"{self.shown} is no Prometheus API; check PROMETHEUS_URL ({error.message})", tried=error.tried
            ) from error
