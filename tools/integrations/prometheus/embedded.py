"""The embedded Prometheus: scrapes endpoints into the store and evaluates the supported PromQL over it."""

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tools.core.errors import FixableError, RetryableError
from tools.integrations.prometheus.evaluate import Value, evaluate
from tools.integrations.prometheus.promql import parse
from tools.integrations.prometheus.store import NAME, Labels, Point, Store

JOB = "mlops"
SCRAPE_TIMEOUT_S = 10.0
MAX_TIME_S = 1e11
MAX_SCRAPE_BYTES = 32 << 20
# No user, no password, nothing that could end a label's quotes.
_TARGET = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?"
    r"(?:/[A-Za-z0-9._~/%+-]*)?(?:\?[A-Za-z0-9._~/%+=&\[\]-]*)?",
    re.IGNORECASE,
)
MAX_POINTS = 11_000  # of one series, as in Prometheus


@dataclass(frozen=True)
class RangeSeries:
    """One series of a range query: (Unix seconds, value) in time order."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


def instance_of(target: str) -> str:
    """`host:port` of a target's URL, the value of its `instance` label.

    Raises:
        FixableError: not an http(s) URL.
    """
    found = _TARGET.fullmatch(target)
    port = int(found["port"] or (443 if found["scheme"].lower() == "https" else 80)) if found else 0
    if found is None or not 0 < port < 65536:
        # Without what may be a password.
        shown = re.sub(r"//[^/@]*@", "//...@", target[:200])
        raise FixableError(f"target must be a URL such as http://127.0.0.1:8000/metrics, got {shown!r}")
    return f"{found['host'].lower()}:{port}"


def range_times(start: float, end: float, step: float) -> Iterator[int]:
    """Times of a range query in Unix milliseconds.

    Raises:
        FixableError: the end is before the start, or there would be too many points.
    """
    t, last = _checked_ms(start, "start"), _checked_ms(end, "end")
    if not math.isfinite(step) or step <= 0:
        raise FixableError(f"step must be a number of seconds above 0, got {step}")
    if end < start:
        raise FixableError(f"end must not be before start, got start={start} and end={end}")
    if (end - start) / step > MAX_POINTS:
        raise FixableError(f"a step of {step} s makes more than {MAX_POINTS} points; use a longer step")
    step_ms = max(1, round(step * 1000))
    yield from range(t, last + 1, step_ms)


def _checked_ms(seconds: float, name: str) -> int:
    """Unix seconds as milliseconds. Raises `FixableError`: it is no time."""
    if not 0 <= seconds <= MAX_TIME_S:
        raise FixableError(f"{name} must be Unix seconds from 0 to {MAX_TIME_S:.0f}, got {seconds}")
    return round(seconds * 1000)


class EmbeddedPrometheus:
    """One store, scraped on demand."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)

    @property
    def where(self) -> str:
        """What a search looked at, for a `no_data` answer."""
        return f"the embedded store {self.store.path} with {self.store.count()} series (filled by scrape and watch)"

    def scrape(self, target: str) -> tuple[int, int]:
        """Read an endpoint once; the number of samples and the time in ms.

        As in Prometheus, every sample gets the labels `job` and `instance`, `up` tells whether it worked, and series
        that vanished are marked stale.

        Raises:
            RetryableError: it does not answer (recorded as up 0).
            FixableError: what it answers is no Prometheus text.
            FinalError: the store cannot be written.
        """
        where = {"job": JOB, "instance": instance_of(target)}
        now_ms = time.time_ns() // 1_000_000
        try:
            text = _read(target)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            self._record(where, [], now_ms, up=0.0)
            raise RetryableError(f"{target} could not be scraped: {_reason(error)}") from error
        try:
            samples = list(_samples(text, where, now_ms))
        except (ValueError, KeyError, IndexError) as error:
            self._record(where, [], now_ms, up=0.0)
            # Nothing of the answer: it may be of a server that is not ours to read.
            raise FixableError(f"{target} does not answer with Prometheus metrics") from error
        self._record(where, samples, now_ms, up=1.0)
        return len(samples), now_ms

    def _record(self, where: Labels, samples: list[tuple[dict[str, str], Point]], now_ms: int, up: float) -> None:
        samples = [*samples, ({NAME: "up", **where}, Point(now_ms, up))]
        present = {tuple(sorted(labels.items())) for labels, _ in samples}
        before = self.store.live(lambda labels: all(labels.get(key) == value for key, value in where.items()))
        vanished = [labels for labels in before if tuple(sorted(labels.items())) not in present]
        self.store.append([*samples, *((labels, Point(now_ms, math.nan, stale=True)) for labels in vanished)])

    def query(self, expr: str, time_s: float | None) -> tuple[list[Value], float]:
        """The value at one time (default now), and that time."""
        now_ms = time.time_ns() // 1_000_000 if time_s is None else _checked_ms(time_s, "time")
        value = evaluate(parse(expr), self.store, now_ms)
        return (value if isinstance(value, list) else [Value({}, value)]), now_ms / 1000.0

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[RangeSeries]:
        """The values from `start` to `end` inclusive, every `step` seconds."""
        node = parse(expr)
        found: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        for t_ms in range_times(start, end, step):
            value = evaluate(node, self.store, t_ms)
            for element in value if isinstance(value, list) else [Value({}, value)]:
                points = found.setdefault(tuple(sorted(element.labels.items())), [])
                points.append((t_ms / 1000.0, element.value))
        return [RangeSeries(dict(labels), points) for labels, points in found.items()]

    def names(self) -> list[str]:
        return self.store.names()

    def scrape_interval_s(self, instance: str) -> float:
        """0: `watch` scrapes by itself."""
        return 0.0


def _read(target: str) -> str:
    """What an address answers, within the time and the size of a scrape; redirects are not followed.

    Raises:
        httpx.HTTPError, httpx.InvalidURL: it does not answer well.
        TimeoutError: not in time.
    """
    deadline = time.monotonic() + SCRAPE_TIMEOUT_S
    body = b""
    accept = {"Accept": "text/plain;version=0.0.4"}
    with httpx.stream("GET", target, timeout=SCRAPE_TIMEOUT_S, headers=accept, trust_env=False) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_SCRAPE_BYTES:
                raise httpx.DecodingError(f"it answers with more than {MAX_SCRAPE_BYTES >> 20} MiB")
            if time.monotonic() > deadline:
                raise TimeoutError
    return body.decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"it answers HTTP {error.response.status_code}"
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no whole answer within {SCRAPE_TIMEOUT_S:g} s"
    return str(error) or "nothing answers"


def _samples(text: str, where: Labels, now_ms: int) -> Iterator[tuple[dict[str, str], Point]]:
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if value}
            clashing = {f"exported_{name}": labels.pop(name) for name in where if name in labels}
            yield {NAME: sample.name, **labels, **clashing, **where}, Point(now_ms, float(sample.value))
