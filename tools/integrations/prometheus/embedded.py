"""The embedded Prometheus: scrapes endpoints into the store and evaluates the supported PromQL over it."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tools.core.errors import FixableError, RetryableError
from tools.integrations.prometheus.evaluate import Value, evaluate
from tools.integrations.prometheus.promql import parse
from tools.integrations.prometheus.store import NAME, Labels, Point, Store

JOB = "mlops"
SCRAPE_TIMEOUT_S = 10.0
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
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FixableError(f"target must be a URL such as http://127.0.0.1:8000/metrics, got {target!r}")
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def range_times(start: float, end: float, step: float) -> Iterator[int]:
    """Times of a range query in Unix milliseconds.

    Raises:
        FixableError: the end is before the start, or there would be too many points.
    """
    if end < start:
        raise FixableError(f"end must not be before start, got start={start} and end={end}")
    if (end - start) / step > MAX_POINTS:
        raise FixableError(f"a step of {step} s makes more than {MAX_POINTS} points; use a longer step")
    t, last, step_ms = round(start * 1000), round(end * 1000), max(1, round(step * 1000))
    yield from range(t, last + 1, step_ms)


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
            response = httpx.get(target, timeout=SCRAPE_TIMEOUT_S, headers={"Accept": "text/plain;version=0.0.4"})
            response.raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._record(where, [], now_ms, up=0.0)
            raise RetryableError(f"{target} could not be scraped: {type(error).__name__}: {error}") from error
        try:
            samples = list(_samples(response.text, where, now_ms))
        except (ValueError, KeyError, IndexError) as error:
            self._record(where, [], now_ms, up=0.0)
            raise FixableError(f"{target} does not answer with Prometheus metrics ({error})") from error
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
        now_ms = time.time_ns() // 1_000_000 if time_s is None else round(time_s * 1000)
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


def _samples(text: str, where: Labels, now_ms: int) -> Iterator[tuple[dict[str, str], Point]]:
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if value}
            clashing = {f"exported_{name}": labels.pop(name) for name in where if name in labels}
            yield {NAME: sample.name, **labels, **clashing, **where}, Point(now_ms, float(sample.value))
