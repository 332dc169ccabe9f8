"""The engine's HTTP interface: predictions and metrics for everyone on this machine, the rest for the backend.

Who may ask, and how much, is settled by `tools.core.http_guard` before a request comes here. An answer to somebody
outside holds no path, no address of a store and no stack: those are in the engine's log and the shadow records.
"""

import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tools.core.http_guard import BodyError, Guard, own_names, read_json, without_paths
from tools.integrations.serving.router import NotServingError, OverloadedError, RefusedError, Router
from tools.integrations.serving.state import ModelRef
from tools.integrations.serving.worker import ModelLoadError

HOST = "127.0.0.1"
MAX_ROWS = 1_000
MAX_COLUMNS = 5_000
MAX_BODY_BYTES = 10 * 2**20
MAX_UNIT_CHARS = 500
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN_PATHS = frozenset({"/predict", "/healthz", "/metrics"})
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")
FORM = 'expected {"rows": [{"column": value, ...}, ...], "request_id": "optional", "unit": "optional"}'

_log = logging.getLogger(__name__)


class BadRequestError(Exception):
    """The request is not what the endpoint takes; the text says what it takes."""


def make_app(router: Router, token: str) -> Guard:
    """The engine's application.

    Args:
        token: bearer token of `/status` and the `/admin` endpoints.
    """

    async def predict(request: Request) -> Response:
        try:
            rows, request_id, unit = _prediction_request(await _body(request))
            answer = await router.answer(rows, request_id, unit)
        except BadRequestError as error:
            return _error(400, str(error))
        except (NotServingError, OverloadedError) as error:
            return _error(503, str(error))
        score = answer.score
        body: dict[str, Any] = {
            "request_id": request_id,
            "served_by": answer.served_by,
            "routed_to": answer.routed_to,
            "fallback": answer.fallback,
            "model": {"name": router.state.name, "version": answer.model.version},
            "latency_ms": answer.latency_ms,
            "score_latency_ms": score.latency_ms,
        }
        if not score.ok:
            return JSONResponse({**body, "error": without_paths(score.error)}, status_code=score.status)
        return JSONResponse(
            {
                **body,
                "predictions": score.predictions,
                "probabilities": score.probabilities,
                "classes": score.classes,
            }
        )

    async def healthz(_: Request) -> Response:
        problem = without_paths(router.problem())
        return _error(503, problem) if problem else JSONResponse({"status": "ok"})

    async def metrics(_: Request) -> Response:
        return Response(router.metrics.exposition(), media_type=METRICS_TYPE)

    async def status(_: Request) -> Response:
        return JSONResponse(_status(router))

    async def deploy(body: dict[str, Any]) -> dict[str, Any]:
        return {"changed": await router.deploy(str(body["name"]), _model(body))}

    async def canary(body: dict[str, Any]) -> dict[str, Any]:
        return {"changed": await router.start_canary(_model(body), _percent(body), int(body["seed"]))}

    async def traffic(body: dict[str, Any]) -> dict[str, Any]:
        return {"changed": await router.set_traffic(_percent(body))}

    async def promote(body: dict[str, Any]) -> dict[str, Any]:
        return {
            "changed": await router.promote(
                str(body["version"]), bool(body["keep_former"]), str(body.get("digest") or "")
            )
        }

    async def rollback(_: dict[str, Any]) -> dict[str, Any]:
        return {"changed": await router.rollback()}

    async def end_probation(_: dict[str, Any]) -> dict[str, Any]:
        return {"changed": await router.end_probation()}

    async def drain(body: dict[str, Any]) -> dict[str, Any]:
        return await router.drain(float(body["timeout_s"]))

    def admin(action: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            try:
                result = await action(await _body(request))
            except BadRequestError as error:
                return _error(400, str(error))
            except KeyError as error:
                return _error(400, f"the body has no {error.args[0]}")
            except (TypeError, ValueError) as error:
                return _error(400, f"the body holds a wrong value: {error}")
            except RefusedError as error:
                return _error(409, str(error))
            except ModelLoadError as error:
                return _error(422, str(error), outside=error.outside)
            except OSError as error:
                _log.error("the production state could not be written: %s", error)
                return _error(507, f"the production state could not be written: {error.strerror or 'no reason given'}")
            return JSONResponse({**result, **_status(router)})

        return handle

    app = Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/metrics", metrics),
            Route("/status", status),
            *(
                Route(f"/admin/{name}", admin(action), methods=["POST"])
                for name, action in (
                    ("deploy", deploy),
                    ("canary", canary),
                    ("traffic", traffic),
                    ("promote", promote),
                    ("rollback", rollback),
                    ("end_probation", end_probation),
                    ("drain", drain),
                )
            ),
        ]
    )
    return Guard(app, names=own_names(HOST), token=token, open_paths=OPEN_PATHS, max_body_bytes=MAX_BODY_BYTES)


def _error(status: int, message: str, **more: Any) -> Response:
    return JSONResponse({"error": message, **more}, status_code=status)


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = read_json(await request.body() or b"{}")
    except BodyError as error:
        raise BadRequestError(str(error)) from error
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    return body


def _prediction_request(body: dict[str, Any]) -> tuple[list[dict[str, Any]], str, str]:
    """Rows, request id and unit. A value is a number, a text, true, false or null: a table holds nothing else."""
    rows, request_id, unit = body.get("rows"), body.get("request_id"), body.get("unit")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and row for row in rows):
        raise BadRequestError(FORM)
    if len(rows) > MAX_ROWS:
        raise BadRequestError(f"{len(rows)} rows in one request; at most {MAX_ROWS}")
    columns = {name for row in rows for name in row}
    if len(columns) > MAX_COLUMNS:
        raise BadRequestError(f"{len(columns)} columns in one request; at most {MAX_COLUMNS}")
    nested = next((name for row in rows for name, value in row.items() if isinstance(value, list | dict)), None)
    if nested is not None:
        raise BadRequestError(f"the column {nested[:80]!r} holds a list or an object; {FORM}")
    if request_id is None:
        request_id = uuid.uuid4().hex
    elif not isinstance(request_id, str | int) or not REQUEST_ID.fullmatch(str(request_id)):
        raise BadRequestError("request_id must be 1 to 200 printable ASCII characters without a space")
    if unit is not None and (isinstance(unit, list | dict) or len(str(unit)) > MAX_UNIT_CHARS):
        raise BadRequestError(f"unit must be a text or a number of at most {MAX_UNIT_CHARS} characters")
    return rows, str(request_id), "" if unit is None else str(unit)


def _model(body: dict[str, Any]) -> ModelRef:
    return ModelRef(
        uri=str(body["model_uri"]),
        version=str(body["version"]),
        outside=bool(body.get("outside")),
        digest=str(body.get("digest") or ""),
    )


def _percent(body: dict[str, Any]) -> float:
    percent = float(body["percent"])
    if not 0.0 <= percent <= 100.0:
        raise BadRequestError(f"percent must be from 0 to 100, got {percent}")
    return percent


def _status(router: Router) -> dict[str, Any]:
    state = router.state
    canary, former = (None, state.canary) if state.canary and state.canary.former else (state.canary, None)
    return {
        "name": state.name,
        "champion_version": state.champion.version if state.champion else None,
        "champion_uri": state.champion.uri if state.champion else None,
        "canary_version": canary.model.version if canary else None,
        "canary_percent": canary.percent if canary else 0.0,
        "former_version": former.model.version if former else None,
        "champion_digest": state.champion.digest if state.champion else None,
        "canary_digest": canary.model.digest if canary else None,
        "former_digest": former.model.digest if former else None,
        "challenger_state": router.challenger_state,
        "restored": router.restored.is_set(),
        "problem": router.problem(),
        "shadow_file": str(router.recorder.path),
        "shadow_lost": router.recorder.lost,
    }
