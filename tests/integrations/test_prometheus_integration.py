"""The embedded Prometheus against the real one, and what a user may do wrong with either."""

# ruff: noqa: E501

import json
import math
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tests.helpers.servers import free_port, prometheus_server
from tools.core.errors import FixableError
from tools.core.results import Status
from tools.integrations.prometheus.promql import Selector, parse, quoted
from tools.integrations.prometheus.store import NAME, Point, Store

START = 1_700_000_000
END = START + 1_200


class Endpoint:
    """A /metrics endpoint of the serving engine's shape, with counters that the test moves."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("mlops_requests_total", "r", ["variant", "status"], registry=self.registry)
        self.latency = Histogram(
            "mlops_request_latency_seconds", "l", ["variant"], buckets=(0.01, 0.1, 1.0), registry=self.registry
        )
        self.share = Gauge("mlops_traffic_share", "s", ["variant"], registry=self.registry)
        self.text: str | None = None
        self.status = 200
        self.delay_s = 0.0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = endpoint.text
                time.sleep(endpoint.delay_s)
                body = generate_latest(endpoint.registry) if text is None else text.encode()
                self.send_response(endpoint.status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.instance = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.instance}/metrics"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, variant: str, status: int, seconds: float, times: int) -> None:
        for _ in range(times):
            self.requests.labels(variant, str(status)).inc()
            self.latency.labels(variant).observe(seconds)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    made = Endpoint()
    monkeypatch.setenv("PROMETHEUS_TARGETS", made.url)
    for variant in ("champion", "challenger"):
        made.requests.labels(variant, "200")
        made.requests.labels(variant, "500")
        made.latency.labels(variant)
    yield made
    made.server.shutdown()
    made.server.server_close()


def history() -> list[tuple[dict[str, str], int, float]]:
    """20 minutes of samples with what makes rates hard: a counter reset, a late start, an early end, uneven times."""
    rows: list[tuple[dict[str, str], int, float]] = []

    def add(name: str, labels: dict[str, str], t: int, value: float) -> None:
        rows.append(({NAME: name, **labels}, t, value))

    for k, t in enumerate(range(START, END, 15)):
        t += (k * 7) % 4
        add("hits_total", {"variant": "champion", "status": "200"}, t, 10.0 * k if k < 40 else 10.0 * (k - 40))
        add("hits_total", {"variant": "champion", "status": "500"}, t, float(k // 9))
        if k >= 20:
            add("hits_total", {"variant": "challenger", "status": "200"}, t, 3.0 * (k - 20))
        if k <= 50:
            add("load", {"host": "a"}, t, math.sin(k) * 5)
        add("load", {"host": "b"}, t, -1.5 * k)
        for le, share in (("0.1", 0.2), ("0.5", 0.7), ("1", 0.95), ("+Inf", 1.0)):
            add("wait_seconds_bucket", {"variant": "champion", "le": le}, t, math.floor(10 * k * share))
            add("wait_seconds_bucket", {"variant": "challenger", "le": le}, t, math.floor(k * min(1.0, share * 1.1)))
    return rows


def as_openmetrics(rows: list[tuple[dict[str, str], int, float]]) -> str:
    names = {"hits": "counter", "load": "gauge", "wait_seconds": "histogram"}
    lines: list[str] = []
    for family, kind in names.items():
        lines.append(f"# TYPE {family} {kind}")
        mine = [row for row in rows if row[0][NAME].startswith(family)]
        keys = dict.fromkeys(tuple(sorted((k, v) for k, v in labels.items() if k != "le")) for labels, _, _ in mine)
        for key in keys:
            for labels, t, value in mine:
                if tuple(sorted((k, v) for k, v in labels.items() if k != "le")) == key:
                    text = ",".join(f'{k}="{v}"' for k, v in labels.items() if k != NAME)
                    lines.append(f"{labels[NAME]}{{{text}}} {value} {t}")
    return "\n".join([*lines, "# EOF", ""])


QUERIES = [
    "hits_total",
    'hits_total{status="200"}',
    'hits_total{status!="200", variant=~"cha.*"}',
    '{__name__=~"hits_.*", variant!~".*enger"}',
    "rate(hits_total[5m])",
    "increase(hits_total[90s])",
    "increase(hits_total[1m30s])",
    "sum(rate(hits_total[2m]))",
    "sum by (variant) (rate(hits_total[3m]))",
    "sum(increase(hits_total[10m])) by (variant, missing)",
    "avg by (host) (load)",
    "max(load)",
    "min(load)",
    "count by (variant) (hits_total)",
    "histogram_quantile(0.95, sum by (le) (rate(wait_seconds_bucket[5m])))",
    "histogram_quantile(0.5, rate(wait_seconds_bucket[4m]))",
    "histogram_quantile(1.5, wait_seconds_bucket)",
    'sum(rate(hits_total{status!="200"}[5m])) / sum(rate(hits_total[5m]))',
    'sum by (variant) (rate(hits_total{status="200"}[5m])) / sum by (variant) (rate(hits_total[5m]))',
    "load * 2 + 1 > 0",
    "100 - load / 4",
    "-load ^ 2",
    "2 ^ 3 ^ 2 - 7 % 4",
    "load > load",
    "load >= 0",
    "rate(load[20s])",
    "nothing_of_that_name",
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real Prometheus and an embedded store that hold the same samples."""
    folder = tmp_path_factory.mktemp("same")
    rows = history()
    home = folder / ".mlops"
    (home / "prometheus").mkdir(parents=True)
    Store(home / "prometheus").append((labels, Point(t * 1000, value)) for labels, t, value in rows)
    with prometheus_server(folder / "server", openmetrics=as_openmetrics(rows)) as url:
        yield url, home


def values_of(result: Any) -> dict[str, float]:
    if result.status is Status.NO_DATA:
        return {}
    assert result.ok, result
    return {json.dumps(sample["labels"], sort_keys=True): _number(sample["value"]) for sample in result.data["samples"]}


def _number(value: float | None) -> float:
    return math.nan if value is None else value


@pytest.mark.parametrize("expr", QUERIES)
def test_embedded_store_gives_the_values_of_a_real_prometheus(
    expr: str, filled: tuple[str, Path], project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, home = filled
    object.__setattr__(project.ctx, "home", home)
    times = [START + 10, START + 333, START + 612.5, START + 900, END + 200]
    embedded = [values_of(project.call("prometheus", "query", expr=expr, time=t)) for t in times]
    del project.backends["prometheus"]
    monkeypatch.setenv("PROMETHEUS_URL", url)
    real = [values_of(project.call("prometheus", "query", expr=expr, time=t)) for t in times]
    assert [set(values) for values in embedded] == [set(values) for values in real]
    for ours, theirs in zip(embedded, real, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12, nan_ok=True)


def test_range_query_gives_the_points_of_a_real_prometheus(
    filled: tuple[str, Path], project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, home = filled
    object.__setattr__(project.ctx, "home", home)
    asked = {"expr": "sum by (variant) (rate(hits_total[2m]))", "start": START, "end": END, "step": 20}
    ours = project.ok("prometheus", "query_range", **asked)
    points = json.loads((project.root / ours["path"]).read_text())["series"]
    del project.backends["prometheus"]
    monkeypatch.setenv("PROMETHEUS_URL", url)
    theirs = project.ok("prometheus", "query_range", **asked)
    real = json.loads((project.root / theirs["path"]).read_text())["series"]
    assert ours["total"] == theirs["total"] == 2
    for mine, other in zip(points, real, strict=True):
        assert mine["labels"] == other["labels"]
        assert [t for t, _ in mine["points"]] == [t for t, _ in other["points"]]
        assert [v for _, v in mine["points"]] == pytest.approx([v for _, v in other["points"]], rel=1e-9)
    assert ours["series"][0]["points"] == len(points[0]["points"])
    assert ours["series"][0]["maximum"] == max(v for _, v in points[0]["points"])


def test_watch_agrees_with_a_real_prometheus_that_scrapes_the_same_endpoint(
    project: Any, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with prometheus_server(tmp_path / "server", targets=[endpoint.instance], interval_s=0.2) as url:
        project.ok("prometheus", "scrape", target=endpoint.url)
        embedded = project.backends.pop("prometheus")
        monkeypatch.setenv("PROMETHEUS_URL", url)
        up = f'up{{instance="{endpoint.instance}"}} == 1'
        wait_until(lambda: project.call("prometheus", "query", expr=up).ok)
        endpoint.serve("champion", 200, 0.05, 90)
        endpoint.serve("challenger", 200, 0.5, 6)
        endpoint.serve("challenger", 500, 0.5, 4)
        total = "sum(mlops_requests_total) == 100"
        wait_until(lambda: project.call("prometheus", "query", expr=total).ok)
        real = project.ok("prometheus", "watch", target=endpoint.url, seconds=0.5, lookback=60)
        project.backends["prometheus"].close()
        project.backends["prometheus"] = embedded
        ours = project.ok("prometheus", "watch", target=endpoint.url, seconds=0.5, interval=0.2, lookback=60)
    for result in (real, ours):
        champion = next(v for v in result["variants"] if v["variant"] == "champion")
        challenger = next(v for v in result["variants"] if v["variant"] == "challenger")
        assert champion["error_rate"] == 0.0
        assert challenger["error_rate"] == pytest.approx(0.4)
        assert result["error_rate"] == pytest.approx(0.04)
        # Interpolated inside the buckets (0.01, 0.1] and (0.1, 1.0].
        assert champion["latency_p95_ms"] == pytest.approx(95.5)
        assert challenger["latency_p95_ms"] == pytest.approx(955.0)
        assert result["latency_p95_ms"] == pytest.approx(550.0)
    assert real["scrapes"] == 0
    assert ours["scrapes"] >= 3


def wait_until(condition: Any, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not within the time"


def test_samples_survive_a_restart_and_carry_job_and_instance(project: Any, endpoint: Endpoint) -> None:
    endpoint.share.labels("challenger").set(0.05)
    scraped = project.ok("prometheus", "scrape", target=endpoint.url)
    assert scraped["samples"] > 4
    project.backends.pop("prometheus").close()
    found = project.ok("prometheus", "query", expr='mlops_traffic_share{variant="challenger"}')
    assert found["samples"] == [
        {
            "labels": {
                "__name__": "mlops_traffic_share",
                "instance": endpoint.instance,
                "job": "mlops",
                "variant": "challenger",
            },
            "value": 0.05,
        }
    ]
    assert "mlops_traffic_share" in project.ok("prometheus", "list_metrics", contains="share")["names"]


def test_series_that_vanished_from_the_endpoint_are_gone_from_later_queries(project: Any, endpoint: Endpoint) -> None:
    endpoint.text = "old 1\nkept 1\n"
    project.ok("prometheus", "scrape", target=endpoint.url)
    endpoint.text = "kept 2\n"
    project.ok("prometheus", "scrape", target=endpoint.url)
    assert project.ok("prometheus", "query", expr="kept")["samples"][0]["value"] == 2
    assert project.call("prometheus", "query", expr="old").status is Status.NO_DATA


def test_a_dead_target_is_an_error_and_recorded_as_down(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = f"http://127.0.0.1:{free_port()}/metrics"
    monkeypatch.setenv("PROMETHEUS_TARGETS", dead)
    result = project.call("prometheus", "scrape", target=dead)
    assert result.error.kind == "retry"
    assert dead in result.error.message
    assert project.ok("prometheus", "query", expr="up")["samples"][0]["value"] == 0
    watched = project.call("prometheus", "watch", target=dead, seconds=0.2, interval=0.1)
    assert watched.error.kind == "retry"


@pytest.mark.parametrize(("status", "text", "kind"), [(500, "", "retry"), (200, "<html>no</html>", "fixable")])
def test_an_endpoint_without_metrics_is_an_error(
    project: Any, endpoint: Endpoint, status: int, text: str, kind: str
) -> None:
    endpoint.status, endpoint.text = status, text
    assert project.call("prometheus", "scrape", target=endpoint.url).error.kind == kind


def test_a_target_that_is_no_url_is_refused(project: Any) -> None:
    result = project.call("prometheus", "scrape", target="localhost:9090")
    assert result.error.kind == "fixable"
    assert "http://" in result.error.message


def test_watching_without_traffic_reports_no_error_rate(project: Any, endpoint: Endpoint) -> None:
    watched = project.ok("prometheus", "watch", target=endpoint.url, seconds=0.3, interval=0.1)
    assert watched["requests"] == 0
    assert watched["error_rate"] is None
    assert "no requests arrived" in project.call("prometheus", "watch", target=endpoint.url, seconds=0.2).message


def test_a_target_that_answers_more_slowly_than_it_is_watched_is_still_judged(project: Any, endpoint: Endpoint) -> None:
    endpoint.delay_s = 0.5
    watched = project.ok("prometheus", "watch", target=endpoint.url, seconds=0.2, interval=0.1)
    assert (watched["scrapes"], watched["failed_scrapes"]) == (2, 0)
    assert watched["window_s"] > 1.0
    assert {variant["variant"] for variant in watched["variants"]} == {"champion", "challenger"}


def test_no_data_says_where_it_was_looked_for(project: Any) -> None:
    result = project.call("prometheus", "query", expr="nothing")
    assert result.status is Status.NO_DATA
    assert "metrics.db" in result.error.tried
    result = project.call("prometheus", "query_range", expr="nothing", start=0, end=10, step=1)
    assert result.status is Status.NO_DATA
    assert "0.000 to 10.000" in result.error.tried


@pytest.mark.parametrize(
    "expr",
    [
        "topk(3, hits_total)",
        "rate(hits_total)",
        "hits_total[5m]",
        "hits_total offset 5m",
        "sum without (a) (hits_total)",
        "a / on (x) b",
        "a and b",
        "rate(hits_total[5m:1m])",
        'hits_total{a="}',
        'hits_total{a=~"("}',
        "{}",
        "sum(",
        "sum(1)",
        "1 2",
        "",
    ],
)
def test_unsupported_or_broken_promql_says_what_is_supported(expr: str) -> None:
    with pytest.raises(FixableError, match="histogram_quantile"):
        parse(expr)


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [({"start": 10, "end": 0}, "before start"), ({"start": 0, "end": 1e6, "step": 1}, "longer step")],
)
def test_impossible_ranges_are_refused(project: Any, arguments: dict[str, float], needle: str) -> None:
    result = project.call("prometheus", "query_range", expr="up", **arguments)
    assert result.error.kind == "fixable"
    assert needle in result.error.message


def test_a_broken_store_is_one_clear_error(project: Any) -> None:
    (project.ctx.store("prometheus") / "metrics.db").write_bytes(b"not a database" * 100)
    result = project.call("prometheus", "query", expr="up")
    assert result.error.kind == "final"
    assert "metrics.db" in result.error.message


def test_a_real_server_explains_errors_and_does_not_scrape_on_demand(
    project: Any, filled: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", filled[0])
    assert project.call("prometheus", "query", expr="sum(").error.kind == "fixable"
    assert project.call("prometheus", "query", expr="hits_total[5m]").error.kind == "fixable"
    assert "PROMETHEUS_URL" in project.call("prometheus", "scrape", target=endpoint.url).error.message
    nobody = project.call("prometheus", "watch", target=endpoint.url, seconds=0)
    assert nobody.status is Status.NO_DATA
    assert "scrape_configs" in nobody.message
    assert project.backends["prometheus"].health(project.ctx).startswith("Prometheus 2.")


def test_an_unreachable_server_is_an_error_that_hides_the_password(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", f"http://user:hunter2@127.0.0.1:{free_port()}")
    result = project.call("prometheus", "query", expr="up")
    assert result.error.kind == "retry"
    assert "hunter2" not in result.error.message
    assert "PROMETHEUS_URL" in result.error.message


def test_a_server_that_is_no_prometheus_is_an_error(
    project: Any, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", f"http://{endpoint.instance}")
    assert "no Prometheus API" in project.call("prometheus", "query", expr="up").error.message


# --- whose address, and what is put into a query


def test_only_configured_addresses_and_the_local_engine_are_read(
    project: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    from tools.modeling.serving_address import ServingAddress, forget_address, record_address

    other = Endpoint()
    try:
        other.text = "aws_secret_access_key = hunter2hunter2"
        for action in ("scrape", "watch"):
            for target in (
                other.url,
                f"{endpoint.url}/../x",
                f"http://localhost:{endpoint.instance.split(':')[1]}/metrics",
            ):
                result = project.call("prometheus", action, target=target)
                assert result.error.kind == "fixable" and endpoint.url in result.message, result
                assert "may be watched" in result.message
        assert not project.call("prometheus", "query", expr="up").ok, "nothing was read"
        record_address(project.ctx.store("serving"), ServingAddress(other.url, os.getpid()))
        result = project.call("prometheus", "scrape", target=other.url)
        assert "does not answer with Prometheus metrics" in result.message and "hunter2" not in str(result)
        other.text = "a 1\n"
        assert project.ok("prometheus", "scrape", target=other.url)["samples"] == 1
        record_address(project.ctx.store("serving"), ServingAddress(other.url, 2**22 + 7))  # no such process
        assert not project.call("prometheus", "scrape", target=other.url).ok
        forget_address(project.ctx.store("serving"))
    finally:
        other.server.shutdown()
        other.server.server_close()


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:6379/_x", "http://user:hunter2@127.0.0.1:1/", "http://127.0.0.1:1/\r\nX: y",
     'http://x"} or up or z{a="/metrics', 'http://x",instance=~".*|x/metrics', "http://x:99999/", "http://x:y/", "http:///x", "http://x/#f", "http://x y/"],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused_before_anything(project: Any, target: str) -> None:
    result = project.call("prometheus", "watch", target=target, seconds=0, lookback=86400)
    assert result.error.kind == "fixable" and "must be a URL" in result.message
    assert "hunter2" not in result.message and "PromQL" not in result.message


def test_redirects_are_not_followed_and_answers_are_bounded(
    project: Any, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.status = 302
    assert "302" in project.call("prometheus", "scrape", target=endpoint.url).message
    endpoint.status = 200
    monkeypatch.setattr("tools.integrations.prometheus.embedded.MAX_SCRAPE_BYTES", 1 << 20)
    endpoint.text = "# x\n" * (1 << 19)
    assert "more than 1 MiB" in project.call("prometheus", "scrape", target=endpoint.url).message


@pytest.mark.parametrize("value", ['a"b', "a\\", "a\nb", '"} or up or z{a="', "plain"])
def test_a_value_in_a_query_stays_a_value(value: str) -> None:
    node = parse(f"up{{instance={quoted(value)}}}")
    assert isinstance(node, Selector) and node.matchers[1].value == value


@pytest.mark.parametrize(
    "expr",
    ["sum(" * 3000 + "up" + ")" * 3000, "up" + " + up" * 3000, "((((" * 5000, "-" * 3000 + "up", 'up{a=~"(a+)+$"}', 'up{a=~"(a|a)*b"}', 'up{a=~"a*a*a*a*a*b"}',
     'up{a=~"(?=a)a"}', "rate(up[9999999999d])", "rate(up[9999999999y])", "up offset -1e99d", "up[1y:1ms]", '{__name__=~".*"}', "'; DROP TABLE series;--"],
)  # fmt: skip
def test_what_could_take_for_ever_or_break_the_parser_is_refused(project: Any, expr: str) -> None:
    result = project.call("prometheus", "query", expr=expr)
    assert result.error.kind == "fixable" and len(result.message) < 1000, result
    assert "Recursion" not in result.message


@pytest.mark.parametrize("when", [math.nan, math.inf, -1.0, 1e300])
def test_a_time_that_is_none_is_refused(project: Any, when: float) -> None:
    assert "Unix seconds" in project.call("prometheus", "query", expr="up", time=when).message
    for given in ({"start": when, "end": 1.0}, {"start": 0.0, "end": when}):
        assert "Unix seconds" in project.call("prometheus", "query_range", expr="up", **given).message
