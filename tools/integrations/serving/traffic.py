"""Sends labelled rows as real HTTP requests and turns what came back into evidence, one row a request.

Anybody on this machine may send requests too, under any id. Only requests of this sender are evidence: their ids end in
a secret of the batch, which nobody can know before the batch is over.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

from tools.core.errors import FinalError, FixableError
from tools.integrations.serving.routing import CHALLENGER, CHAMPION, NOT_ASKED
from tools.modeling.data import Task, as_text
from tools.modeling.metrics import row_losses
from tools.modeling.predictor import Predictions

CONCURRENCY = 4
REPORT_EVERY = 50
REQUEST_TIMEOUT_S = 60.0
MAX_SEGMENTS = 50
REASONS = {"slow": "too slow", "failed": "failed", "lost": "not running"}
DRAIN_STEP_S = 5.0
STUCK_S = 120.0  # without one more shadow score; a challenger that restarts, on a busy machine, takes less
DRAIN_LIMIT_S = 1_200.0


@dataclass(frozen=True)
class Reply:
    """One request as the client saw it.

    Args:
        status: HTTP status.
        body: the engine's JSON.
        latency_ms: whole round trip.
    """

    request_id: str
    status: int
    body: dict[str, Any]
    latency_ms: float


def json_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values: nulls as None, times as ISO text, everything exact (no rounding of floats)."""
    columns = {str(name): [_json_value(value) for value in frame[name]] for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _json_value(value: Any) -> Any:
    if pd.isna(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)


def send(
    url: str,
    rows: list[dict[str, Any]],
    request_ids: list[str],
    progress: Callable[[int, int], None],
    units: list[str],
) -> list[Reply]:
    """Send each row as a request, `CONCURRENCY` at a time; replies in the order of the rows.

    Args:
        progress: called every `REPORT_EVERY` replies with (done, total); what it raises stops the sending.
        units: what each request is routed by.

    Raises:
        httpx.HTTPError: the engine cannot be reached.
    """
    replies: dict[int, Reply] = {}
    pool = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="traffic")
    with httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
        try:
            futures: dict[Future[Reply], int] = {
                pool.submit(_send_one, client, row, request_id, unit): k
                for k, (row, request_id, unit) in enumerate(zip(rows, request_ids, units, strict=True))
            }
            for done, future in enumerate(as_completed(futures), start=1):
                replies[futures[future]] = future.result()
                if done % REPORT_EVERY == 0 or done == len(rows):
                    progress(done, len(rows))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return [replies[k] for k in range(len(rows))]


def _send_one(client: httpx.Client, row: dict[str, Any], request_id: str, unit: str) -> Reply:
    started = time.perf_counter()
    response = client.post("/predict", json={"rows": [row], "request_id": request_id, "unit": unit})
    elapsed_ms = (time.perf_counter() - started) * 1000.0
    return Reply(request_id, response.status_code, response.json(), elapsed_ms)


def secret_ids(keys: Sequence[str]) -> list[str]:
    """Request ids: each key (what its request is routed by, the same in every run) and a secret of the batch."""
    nonce = secrets.token_hex(16)
    return [f"{key}-{nonce}" for key in keys]


def records_of(records: Iterable[Mapping[str, Any]], request_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Request id -> shadow record, of these requests; others are somebody else's and no evidence.

    Raises:
        FinalError: an id was answered twice, so that it cannot be told which of the two is ours.
    """
    ours = set(request_ids)
    found: dict[str, Mapping[str, Any]] = {}
    for record in records:
        name = str(record.get("request_id"))
        if name in ours and name in found:
            raise FinalError(
                f"the engine answered two requests under the id {name}: somebody else sent one of them, so this batch "
                "is no evidence; send it again"
            )
        if name in ours:
            found[name] = record
    return found


def shadow_records(path: Path, offset: int) -> Iterator[dict[str, Any]]:
    """The records after `offset` bytes. A line cut by a full disk is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def drained(
    drain: Callable[[float], Mapping[str, Any]],
    path: Path,
    offset: int,
    request_ids: Sequence[str],
    progress: Callable[[int, int], None],
) -> dict[str, Mapping[str, Any]]:
    """The shadow records of these requests, once all are there: request id -> record.

    A busy machine lags, so what ends the waiting early is that nothing moves any more (`STUCK_S`), or a limit that no
    machine reaches that still works; then some are missing in what is returned, which the evidence counts.

    Args:
        drain: waits up to some seconds; `pending`, `recorded`, `written`, `lost` and `last_error` of the engine.
        progress: called with (there, wanted) every `DRAIN_STEP_S`; what it raises stops the waiting.

    Raises:
        FinalError: a record was not written; see `records_of` too.
    """
    began = moved = time.monotonic()
    recorded = -1
    while True:
        state = drain(DRAIN_STEP_S)
        lost = int(state["lost"])
        if lost:
            raise FinalError(f"{lost} shadow records could not be written {state['last_error']}".strip())
        now = time.monotonic()
        if state["recorded"] != recorded:
            recorded, moved = state["recorded"], now
        if state["written"]:
            found = records_of(shadow_records(path, offset), request_ids)
            if not state["pending"] or len(found) == len(request_ids):
                return found
            progress(len(found), len(request_ids))
        if now - moved > STUCK_S or now - began > DRAIN_LIMIT_S:
            if not state["written"]:
                raise FinalError(f"the disk takes no shadow records any more: {path}")
            return records_of(shadow_records(path, offset), request_ids)


def evidence(
    replies: list[Reply],
    shadow: Mapping[str, Mapping[str, Any]] | None,
    truth: pd.Series,
    task: Task,
    batch: int,
    deadline_ms: float,
    positive: str = "",
) -> pd.DataFrame:
    """The evidence table: one row a request, in the order of the replies.

    A variant's status is 0 where it was not asked, or its shadow score was left out or is missing: whether that is so
    depends on how much was waiting, not on what it would have said, so nothing is compared there, and nothing is wrong.

    Args:
        shadow: request id -> shadow record; None without a canary: the challenger was not asked then.
        truth: the true labels, as many as replies.
        deadline_ms: after which the champion answers in the challenger's place.
        positive: the positive class of a binary task, where it is stated.
    """
    table = pd.DataFrame(
        {
            "request_id": [reply.request_id for reply in replies],
            "served_by": [reply.body.get("served_by", CHAMPION) for reply in replies],
            "y_true": truth.to_numpy(),
        }
    )
    scores: dict[str, list[Mapping[str, Any]]] = {
        variant: [
            shadow[reply.request_id][variant] if shadow and reply.request_id in shadow else _replied(reply, variant)
            for reply in replies
        ]
        for variant in (CHAMPION, CHALLENGER)
    }
    parts = {variant: _variant_columns(rows, truth, task, positive) for variant, rows in scores.items()}
    for column in ("prediction", "probability", "loss", "error", "latency_ms", "status"):
        for variant, part in parts.items():
            table[f"{variant}_{column}"] = part[column].to_numpy()
    table["batch"] = batch
    table["routed_to"] = [reply.body.get("routed_to", CHAMPION) for reply in replies]
    table["response_ms"] = [reply.latency_ms for reply in replies]
    # Whether the variant that a request was routed to answered it in time: both are held to the same.
    table["fallback"] = [str(reply.body.get("fallback") or "") for reply in replies]
    table["engine_ms"] = np.array([reply.body.get("latency_ms") for reply in replies], dtype="float64")
    table["late"] = (table["fallback"] != "") | (table["engine_ms"] > deadline_ms)
    for variant, rows in scores.items():
        # What a loss is computed from when the label comes late: a class's probability, and which class it is.
        table[f"{variant}_classes"] = [_texts(row.get("classes")) for row in rows]
        table[f"{variant}_probabilities"] = [(row.get("probabilities") or [None])[0] for row in rows]
    return table


def told_fallbacks(routed: int, fallbacks: Mapping[str, int], champion_late: int, champion_routed: int) -> str:
    """The fallbacks of a batch in words, beside how often the champion was as late; empty where there were none."""
    count = sum(fallbacks.values())
    if not count:
        return ""
    why = ", ".join(f"{REASONS[name]} {times}" for name, times in fallbacks.items())
    compared = f"of its own {champion_routed}, {champion_late} were as late"
    return f"; the champion answered {count} of the {routed} requests routed to the challenger ({why}; {compared})"


def _replied(reply: Reply, variant: str) -> Mapping[str, Any]:
    """A variant's score as the client saw it: of the one that answered."""
    if variant != reply.body.get("served_by", CHAMPION):
        return {"status": NOT_ASKED, "latency_ms": None}
    return {**reply.body, "status": reply.status, "latency_ms": reply.body.get("score_latency_ms")}


def _texts(classes: Any) -> list[str] | None:
    return [str(text) for text in as_text(classes)] if classes else None


def in_canary_roles(table: pd.DataFrame) -> pd.DataFrame:
    """Evidence of a probation in the roles of the canary before it: the champion is its challenger still."""
    other: dict[str, str] = {CHAMPION: CHALLENGER, CHALLENGER: CHAMPION}
    names = {f"{a}_": f"{b}_" for a, b in other.items()}
    renamed = {c: b + str(c)[len(a) :] for c in table.columns for a, b in names.items() if str(c).startswith(a)}
    swapped = table.rename(columns=renamed)[list(table.columns)]
    turned = {column: [other[name] for name in table[column]] for column in ("served_by", "routed_to")}
    return swapped.assign(**turned)


def segments(values: list[Any], name: str) -> list[str]:
    """The segment of each row, as text.

    Raises:
        FixableError: so many values that no segment could ever be judged.
    """
    texts = [text or "none" for text in as_text(values)]
    count = len(set(texts))
    if count > MAX_SEGMENTS:
        raise FixableError(
            f"the column {name!r} has {count} values; a segment needs many requests, so at most {MAX_SEGMENTS} are "
            "allowed: name a column of groups"
        )
    return texts


def _variant_columns(rows: list[Mapping[str, Any]], truth: pd.Series, task: Task, positive: str) -> pd.DataFrame:
    status = np.array([int(row["status"]) for row in rows])
    part = pd.DataFrame(
        {
            "prediction": pd.Series([None] * len(rows), dtype="float64" if task == "regression" else "object"),
            "probability": np.nan,
            "loss": np.nan,
            "error": np.nan,
            "latency_ms": np.array([row["latency_ms"] for row in rows], dtype="float64"),
            "status": status,
        }
    )
    good = np.flatnonzero(status == 200)
    if not len(good):
        return part
    answered = [rows[k] for k in good]
    classes = answered[0].get("classes")
    predictions = Predictions(
        values=np.array([row["predictions"][0] for row in answered]),
        probabilities=np.array([row["probabilities"][0] for row in answered]) if classes else None,
        classes=np.array(classes) if classes else None,
    ).read_as(truth, task, positive)
    loss, error = row_losses(task, truth.to_numpy()[good], predictions)
    values = predictions.values.astype("float64") if task == "regression" else predictions.values.astype(str)
    part.loc[good, "prediction"] = values
    part.loc[good, "loss"] = loss
    part.loc[good, "error"] = error
    if predictions.positive_probability is not None:
        part.loc[good, "probability"] = predictions.positive_probability
    return part
