"""What Prometheus ships to the contract suite: embedded examples, and those that its HTTP API answers."""

from typing import Any

from tools.core.contract_suite import Example
from tools.core.errors import ErrorKind
from tools.core.results import Status
from tools.core.standin import Exchange, Reply, StandIn

_TOKEN = "token-of-the-stand-in-9090"
_KINDS = {400: "bad_data", 422: "execution", 503: "unavailable", 500: "internal", 404: "not_found"}


def _error(status: int, text: str) -> dict[str, Any]:
    """How Prometheus reports an error."""
    return {"status": "error", "errorType": _KINDS.get(status, "internal"), "error": text}


def _success(data: Any) -> Reply:
    return Reply(200, {"status": "success", "data": data})


STANDIN = StandIn(
    # A server may be behind a path of its own.
    settings={"PROMETHEUS_URL": "{url}/prom", "PROMETHEUS_TOKEN": _TOKEN, "PROMETHEUS_TIMEOUT_S": "0.3"},
    auth={"Authorization": f"Bearer {_TOKEN}"},
    error=_error,
    errors=(400, 401, 403, 404, 422, 429, 500, 503),
    health=(Exchange("GET", "/prom/api/v1/status/buildinfo", _success({"version": "2.42.0"})),),
)

_ALL_PATHS_ARE_KNOWN = {"404": "every Prometheus knows the path, so what answers is none: final, check the address"}
_LABELS = {"__name__": "up", "job": "mlops"}

EXAMPLES = (
    Example("list_metrics", status=Status.NO_DATA),
    Example("query", {"expr": "sum(("}, status=Status.FAILED, error=ErrorKind.FIXABLE),
    Example(
        "list_metrics",
        {"contains": "mlops"},
        exchanges=(Exchange("GET", "/prom/api/v1/label/__name__/values", _success(["mlops_requests_total", "up"])),),
        handles=_ALL_PATHS_ARE_KNOWN,
    ),
    Example(
        "query",
        {"expr": "up", "time": 1_700_000_000},
        exchanges=(
            Exchange(
                "GET",
                "/prom/api/v1/query",
                _success({"resultType": "vector", "result": [{"metric": _LABELS, "value": [1_700_000_000, "1"]}]}),
                query={"query": "up", "time": "1700000000.000"},
            ),
        ),
        handles=_ALL_PATHS_ARE_KNOWN,
    ),
    Example(
        "query",
        {"expr": "up{", "time": 1_700_000_000},
        status=Status.FAILED,
        error=ErrorKind.FIXABLE,
        exchanges=(
            Exchange(
                "GET",
                "/prom/api/v1/query",
                Reply(400, _error(400, "1:4: parse error: unexpected end of input")),
                query={"query": "up{", "time": "1700000000.000"},
            ),
        ),
    ),
    Example(
        "query_range",
        {"expr": "up", "start": 1_700_000_000, "end": 1_700_000_030, "step": 15},
        exchanges=(
            Exchange(
                "GET",
                "/prom/api/v1/query_range",
                _success(
                    {
                        "resultType": "matrix",
                        "result": [{"metric": _LABELS, "values": [[1_700_000_000, "1"], [1_700_000_015, "0"]]}],
                    }
                ),
                query={"query": "up", "start": "1700000000.0", "end": "1700000030.0", "step": "15.0"},
            ),
        ),
        handles=_ALL_PATHS_ARE_KNOWN,
    ),
)
