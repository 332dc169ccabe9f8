"""Who goes first where a model is busy: the request that somebody waits for; and what becomes of shadow scores then."""

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from tools.core.errors import FinalError
from tools.integrations.serving import router as router_module
from tools.integrations.serving import traffic
from tools.integrations.serving.lanes import Lanes
from tools.integrations.serving.router import Router
from tools.integrations.serving.routing import route
from tools.integrations.serving.state import ModelRef
from tools.integrations.serving.traffic import Reply, drained, evidence, told_fallbacks
from tools.integrations.serving.worker import ModelSource, Score, Variant, Worker

SEED, PERCENT = 0, 30.0
CHAMPIONS = [name for name in map(str, range(400)) if route(name, SEED, PERCENT) == "champion"]
CHALLENGERS = [name for name in map(str, range(400)) if route(name, SEED, PERCENT) == "challenger"]


class GatedWorker:
    """A model that answers once it may; remembers the order of what it was asked."""

    def __init__(self) -> None:
        self.digest = ""
        self.may = threading.Event()
        self.begun = threading.Event()
        self.order: list[str] = []

    def score(self, rows: list[dict[str, Any]], timeout_s: float) -> Score:
        self.order.append(str(rows[0]["name"]))
        self.begun.set()
        assert self.may.wait(60)
        return Score(200, 1.0, [0.0])

    def kill(self) -> None:
        pass


class Source:
    """Gives each version its gated worker."""

    def __init__(self) -> None:
        self.workers: dict[str, GatedWorker] = {"1": GatedWorker(), "2": GatedWorker()}

    def start(self, model: ModelRef) -> Worker:
        return cast(Worker, self.workers[model.version])


async def canary(folder: Path, source: Source, timeout_s: float = 60.0) -> Router:
    router = Router(folder, cast(ModelSource, source), timeout_s)
    await router.deploy("m", ModelRef("a", "1"))
    await router.start_canary(ModelRef("b", "2"), PERCENT, SEED)
    return router


async def ask(router: Router, name: str) -> Any:
    return await router.answer([{"name": name}], name)


def test_the_live_lane_goes_first_and_each_lane_in_its_order() -> None:
    lanes: Lanes[str, int] = Lanes()
    for k, name in enumerate("abcd"):
        assert lanes.put(name, k, live=name in "cd")
    assert lanes.waiting(live=True) == lanes.waiting(live=False) == 2
    assert lanes.move("b", live=True) and not lanes.move("b", live=True)
    assert lanes.move("c", live=False)
    lanes.close()
    assert not lanes.put("late", 9, live=True)
    assert [item[0] for item in iter(lanes.get, None)] == ["d", "b", "a", "c"]


def test_a_request_routed_to_the_challenger_goes_before_its_shadow_work(tmp_path: Path) -> None:
    source = Source()
    champion, challenger = source.workers["1"], source.workers["2"]
    champion.may.set()

    async def story() -> Any:
        router = await canary(tmp_path, source)
        for name in CHAMPIONS[:40]:
            assert (await ask(router, name)).served_by == "champion"
        waits = asyncio.create_task(ask(router, CHALLENGERS[0]))
        while not any(len(lane) for lane in [router._challenger._lanes._live]):  # type: ignore[union-attr]
            await asyncio.sleep(0)
        challenger.may.set()
        answer = await waits
        state = await router.drain(60.0)
        assert (state["pending"], state["recorded"], state["lost"]) == (0, 41, 0)
        return answer

    answer = asyncio.run(story())
    assert (answer.served_by, answer.routed_to, answer.fallback) == ("challenger", "challenger", "")
    # The one that was being scored, then the one that somebody waited for, then the others as they came.
    assert challenger.order == [CHAMPIONS[0], CHALLENGERS[0], *CHAMPIONS[1:40]]
    records = [json.loads(line) for line in (tmp_path / "shadow.jsonl").read_text().splitlines()]
    assert {record["request_id"] for record in records} == {*CHAMPIONS[:40], CHALLENGERS[0]}
    assert all(record["challenger"]["status"] == record["champion"]["status"] == 200 for record in records)


def test_a_challenger_that_is_too_slow_is_a_fallback_that_is_counted_and_yields(tmp_path: Path) -> None:
    source = Source()
    champion, challenger = source.workers["1"], source.workers["2"]
    champion.may.set()

    async def story() -> Any:
        router = await canary(tmp_path, source, timeout_s=0.05)
        for name in CHAMPIONS[:3]:
            await ask(router, name)
        answer = await ask(router, CHALLENGERS[0])
        assert router._challenger is not None and router._challenger._lanes.waiting(live=True) == 0
        challenger.may.set()
        await router.drain(60.0)
        return answer, router.metrics.exposition().decode()

    answer, metrics = asyncio.run(story())
    assert (answer.served_by, answer.routed_to, answer.fallback) == ("champion", "challenger", "slow")
    assert (
        'mlops_fallbacks_total{reason="slow"} 1.0' in metrics and 'mlops_fallbacks_total{reason="lost"} 0.0' in metrics
    )
    records = [json.loads(line) for line in (tmp_path / "shadow.jsonl").read_text().splitlines()]
    assert all(record["challenger"]["status"] == 200 for record in records), "it is scored all the same, without haste"


def test_shadow_scores_are_left_out_before_a_request_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_module, "MAX_SHADOW_ROWS", 5)
    source = Source()
    champion, challenger = source.workers["1"], source.workers["2"]
    champion.may.set()

    async def story() -> str:
        router = await canary(tmp_path, source, timeout_s=0.05)
        for name in CHAMPIONS[:20]:
            assert (await ask(router, name)).score.ok
        # The champion's score, left out at first, is made once it has to answer.
        assert (await ask(router, CHALLENGERS[0])).fallback == "slow"
        challenger.may.set()
        await router.drain(60.0)
        return router.metrics.exposition().decode()

    metrics = asyncio.run(story())
    records = [json.loads(line) for line in (tmp_path / "shadow.jsonl").read_text().splitlines()]
    statuses = [record["challenger"]["status"] for record in records]
    assert len(records) == 21 and set(statuses) == {0, 200}
    assert f'mlops_shadow_scores_left_out_total{{variant="challenger"}} {float(statuses.count(0))}' in metrics
    assert all(record["champion"]["status"] == 200 for record in records)


def test_a_variant_that_is_closed_answers_instead_of_leaving_its_caller_waiting() -> None:
    worker = GatedWorker()
    worker.may.set()
    variant = Variant(ModelRef("a", "1"), cast(Worker, worker), cast(ModelSource, Source()), timeout_s=1, restarts=None)
    variant.close()
    score: Future[Score] = variant.submit([{"name": "x"}], live=True)
    assert score.result(10).status == 503 and "not served any more" in score.result().error


# --- waiting for shadow scores


def drain_of(states: list[dict[str, Any]]) -> Callable[[float], dict[str, Any]]:
    left = iter(states)
    return lambda _: {"written": True, "lost": 0, "last_error": "", **next(left)}


def record(name: str) -> str:
    return json.dumps({"request_id": name}) + "\n"


def test_shadow_scores_are_waited_for_as_long_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 100))  # 100 s between two looks: far more than any wait without news
    monkeypatch.setattr(traffic.time, "monotonic", lambda: float(next(clock)))
    path, told = tmp_path / "shadow.jsonl", []
    path.write_text("".join(map(record, "ab")))
    states = [{"pending": 4 - k, "recorded": k} for k in range(1, 5)]

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 3:
            path.write_text("".join(map(record, "abcd")))

    found = drained(drain_of(states), path, 0, list("abcd"), progress)
    assert set(found) == set("abcd") and told == [(2, 4)] * 3


def test_shadow_scores_that_come_no_more_are_missing_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(traffic.time, "monotonic", lambda: float(next(clock)))
    path = tmp_path / "shadow.jsonl"
    path.write_text(json.dumps(scored("a", "challenger", 0.9)) + "\n")
    stuck = drain_of([{"pending": 1, "recorded": 1}] * 9)
    found = drained(stuck, path, 0, ["a", "b", "c"], lambda done, total: None)
    assert set(found) == {"a"}
    replies = [
        reply("a", "champion", "champion"),
        reply("b", "champion", "challenger", "slow"),
        reply("c", "challenger"),
    ]
    table = evidence(replies, found, pd.Series(["yes", "yes", "no"]), "binary", 0, 100.0)
    assert table["champion_status"].tolist() == [200, 200, 0]
    assert table["challenger_status"].tolist() == [200, 0, 200]
    assert table["challenger_loss"].isna().tolist() == [False, True, False]
    assert table["fallback"].tolist() == ["", "slow", ""] and table["late"].tolist() == [False, True, False]


def test_records_that_the_disk_does_not_take_are_an_error(tmp_path: Path) -> None:
    lost = drain_of([{"pending": 0, "recorded": 2, "lost": 2, "last_error": "no space"}])
    with pytest.raises(FinalError, match="2 shadow records could not be written no space"):
        drained(lost, tmp_path / "shadow.jsonl", 0, ["a"], lambda done, total: None)


def test_an_answer_of_the_champion_that_took_as_long_is_late_too() -> None:
    replies = [reply("a", "champion", engine_ms=150.0), reply("b", "champion", engine_ms=50.0)]
    table = evidence(replies, None, pd.Series(["yes", "no"]), "binary", 0, 100.0)
    assert table["late"].tolist() == [True, False]


def test_fallbacks_are_told_beside_what_the_champion_was() -> None:
    assert told_fallbacks(10, {}, 0, 90) == ""
    said = told_fallbacks(10, {"slow": 3, "lost": 1}, 40, 90)
    assert "answered 4 of the 10 requests" in said and "too slow 3, not running 1" in said and "90, 40 were" in said


def answer(chance: float) -> dict[str, Any]:
    said = ["yes" if chance > 0.5 else "no"]
    return {"predictions": said, "probabilities": [[1 - chance, chance]], "classes": ["no", "yes"]}


def scored(name: str, *_: Any) -> dict[str, Any]:
    good = {"status": 200, "latency_ms": 1.0, "error": "", **answer(0.8)}
    return {"request_id": name, "champion": good, "challenger": good}


def reply(name: str, served_by: str, routed_to: str = "", fallback: str = "", engine_ms: float = 1.0) -> Reply:
    body = {"served_by": served_by, "routed_to": routed_to or served_by, "fallback": fallback, "latency_ms": engine_ms}
    return Reply(name, 200, {**body, "score_latency_ms": 1.0, **answer(0.7)}, 2.0)
