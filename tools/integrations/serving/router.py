"""Answers requests: champion or challenger by the canary's share, the other one in the shadow.

All methods run on the engine's event loop; models run in processes of their own (`worker`). A request waits for the
champion, or for a challenger that is healthy and in time; nothing else ever delays it: what is scored in the shadow
goes behind every request that somebody waits for. Where the champion answers in the challenger's place, that is a
fallback, which is counted with its reason.
"""

import asyncio
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tools.integrations.serving.metrics import EngineMetrics
from tools.integrations.serving.recorder import Recorder
from tools.integrations.serving.routing import CHALLENGER, CHAMPION, NOT_ASKED, route
from tools.integrations.serving.routing import Variant as VariantName
from tools.integrations.serving.state import BrokenStateError, Canary, ModelRef, ProductionState, load_state, save_state
from tools.integrations.serving.worker import ModelLoadError, ModelSource, Rows, Score, Ticket, Variant

CHAMPION_TIMEOUT_S = 30.0
CHALLENGER_RESTARTS = 2
MAX_PENDING_ROWS = 50_000  # of requests whose scores are not both there yet: memory is bounded, not only the queue
MAX_SHADOW_ROWS = 25_000  # of them: from there on shadow scores are left out, before any request is refused
FALLBACKS = {504: "slow", 500: "failed"}  # why the champion answered in its place; any other status: lost

_log = logging.getLogger(__name__)


class NotServingError(Exception):
    """Nothing is deployed."""


class OverloadedError(Exception):
    """More rows wait than the engine holds."""


class RefusedError(Exception):
    """An admin request that production's state does not allow; the text says why."""


@dataclass(frozen=True)
class Answer:
    """What a client gets for one request. `fallback`: why the challenger that it was routed to did not answer it."""

    score: Score
    served_by: VariantName
    routed_to: VariantName
    model: ModelRef
    latency_ms: float
    fallback: str = ""


@dataclass(frozen=True)
class _Asked:
    """Rows that a variant was given to score."""

    variant: Variant
    ticket: Ticket
    score: "asyncio.Future[Score]"


class Router:
    """Owns production: who serves, the state on disk, and every request's way.

    Args:
        folder: the store of the state file and of the shadow records.
        source: loads models.
        challenger_timeout_s: seconds until the champion answers in the challenger's place.
    """

    def __init__(self, folder: Path, source: ModelSource, challenger_timeout_s: float) -> None:
        self.metrics = EngineMetrics()
        self.recorder = Recorder(folder / "shadow.jsonl", self.metrics.shadow_lost.inc)
        self.state = ProductionState()
        self.restored = asyncio.Event()
        self._folder = folder
        self._source = source
        self._challenger_timeout_s = challenger_timeout_s
        self._champion: Variant | None = None
        self._challenger: Variant | None = None
        self._recording: set[asyncio.Task[None]] = set()
        self._recorded = 0
        self._pending_rows = 0
        self._changing = asyncio.Lock()
        self._restore_problem = ""

    @property
    def challenger_state(self) -> str | None:
        """State of the model in the shadow: the canary, or the former champion."""
        return self._challenger.state if self._challenger is not None else None

    def problem(self) -> str:
        """Why production cannot answer; empty when it can."""
        if self._restore_problem:
            return self._restore_problem
        if self._champion is None:
            return "no model is deployed" if self.restored.is_set() else "starting"
        return "" if self._champion.state == "ready" else f"the champion is {self._champion.state}"

    # --- requests

    async def answer(self, rows: list[dict[str, Any]], request_id: str, unit: str = "") -> Answer:
        """Score one request. With a `unit` the variant is the unit's, without one the request's own.

        Raises:
            NotServingError: no champion is deployed.
            OverloadedError: too many rows wait already.
        """
        started = time.perf_counter()
        champion, challenger, canary = self._champion, self._challenger, self.state.canary
        if champion is None:
            raise NotServingError("no model is deployed")
        if self._pending_rows + len(rows) > MAX_PENDING_ROWS:
            raise OverloadedError("too many rows are waiting for a model; send this request again later")
        if challenger is None or canary is None:
            score = await asyncio.shield(self._submit(champion, rows, live=True).score)
            self.metrics.scored(CHAMPION, score)
            return self._answered(score, CHAMPION, CHAMPION, champion, started)

        routed_to = route(unit or request_id, canary.seed, canary.percent)
        ours = self._submit(champion, rows, live=routed_to == CHAMPION)
        theirs = self._submit(challenger, rows, live=routed_to == CHALLENGER)
        served_by: VariantName = CHAMPION
        try:
            fallback = ""
            if routed_to == CHALLENGER:
                score = await self._challenger_score(theirs)
                if score.ok:
                    served_by = CHALLENGER
                    return self._answered(score, CHALLENGER, CHALLENGER, challenger, started)
                fallback = FALLBACKS.get(score.status, "lost")
                self.metrics.requests.labels(CHALLENGER, str(score.status)).inc()
                self.metrics.fallbacks.labels(fallback).inc()
                ours = self._wanted_after_all(ours, theirs, rows)
            score = await asyncio.shield(ours.score)
            return self._answered(score, CHAMPION, routed_to, champion, started, fallback)
        finally:
            record = {
                "request_id": request_id,
                "routed_to": routed_to,
                "served_by": served_by,
                "champion_version": champion.model.version,
                "challenger_version": challenger.model.version,
            }
            task = asyncio.create_task(self._record(record, ours.score, theirs.score))
            self._recording.add(task)
            task.add_done_callback(self._end_recording)

    def _end_recording(self, task: asyncio.Task[None]) -> None:
        self._recording.discard(task)
        self._recorded += 1

    def _submit(self, variant: Variant, rows: Rows, *, live: bool) -> _Asked:
        if not live and self._pending_rows + len(rows) > MAX_SHADOW_ROWS:
            ticket = Ticket()
            ticket.set_result(Score(NOT_ASKED, 0.0, error=f"more than {MAX_SHADOW_ROWS} rows are waiting"))
            return _Asked(variant, ticket, asyncio.wrap_future(ticket))

        def done(_: "asyncio.Future[Score]") -> None:
            self._pending_rows -= len(rows)

        self._pending_rows += len(rows)
        ticket = variant.submit(rows, live=live)
        asked = _Asked(variant, ticket, asyncio.wrap_future(ticket))
        asked.score.add_done_callback(done)
        return asked

    def _wanted_after_all(self, ours: _Asked, theirs: _Asked, rows: Rows) -> _Asked:
        """The champion's score is waited for now, the challenger's is not."""
        theirs.variant.prefer(theirs.ticket, live=False)
        if ours.ticket.done() and ours.ticket.result().left_out:
            return self._submit(ours.variant, rows, live=True)
        ours.variant.prefer(ours.ticket, live=True)
        return ours

    async def _challenger_score(self, asked: _Asked) -> Score:
        # Until a challenger that was lost answers again (in the shadow), nobody waits for it.
        if asked.variant.state != "ready" and not asked.ticket.done():
            return Score(503, 0.0, error=f"the challenger is {asked.variant.state}")
        try:
            return await asyncio.wait_for(asyncio.shield(asked.score), self._challenger_timeout_s)
        except TimeoutError:
            if asked.ticket.done():  # it is there, this loop only had no time to hear of it
                return asked.ticket.result()
            return Score(504, self._challenger_timeout_s * 1000.0, error="the challenger was too slow")

    def _answered(
        self,
        score: Score,
        served_by: VariantName,
        routed_to: VariantName,
        variant: Variant,
        started: float,
        fallback: str = "",
    ) -> Answer:
        elapsed_s = time.perf_counter() - started
        self.metrics.requests.labels(served_by, str(score.status)).inc()
        if score.ok:
            self.metrics.latency.labels(served_by).observe(elapsed_s)
        return Answer(score, served_by, routed_to, variant.model, elapsed_s * 1000.0, fallback)

    async def _record(
        self, record: dict[str, Any], ours: "asyncio.Future[Score]", theirs: "asyncio.Future[Score]"
    ) -> None:
        """Record both scores once both are there, after the answer has gone out."""
        mine, other = await asyncio.gather(ours, theirs)
        scores: dict[VariantName, Score] = {CHAMPION: mine, CHALLENGER: other}
        for variant, score in scores.items():
            self.metrics.scored(variant, score)
            if score.left_out:
                self.metrics.left_out.labels(variant).inc()
            elif variant != record["served_by"]:
                self.metrics.shadow_scores.labels(variant, str(score.status)).inc()
        self.metrics.compare(mine, other)
        self.recorder.add({**record, "champion": asdict(mine), "challenger": asdict(other)})

    # --- administration

    async def restore(self) -> None:
        """Serve what was in production when the last engine ended. An unfinished canary is not resumed: whoever judged
        it is gone, and starts it again. A former champion on probation scores on in the shadow; it answers nobody."""
        async with self._changing:
            try:
                state = load_state(self._folder)
                if state.canary is not None and not state.canary.former:
                    state = state.without_canary()
                    save_state(self._folder, state)
                if state.champion is not None:
                    self._champion = await self._load(state.champion, CHAMPION)
                    state = await self._restore_former(state)
                    self._apply(replace(state, champion=self._champion.model))
            except (BrokenStateError, ModelLoadError, OSError) as error:
                self._restore_problem = f"the last production state could not be restored: {error}"
                _log.error(self._restore_problem)
            finally:
                self.restored.set()

    async def _restore_former(self, state: ProductionState) -> ProductionState:
        """Load the former champion; one that cannot be loaded any more ends its probation."""
        if state.canary is None:
            return state
        try:
            self._challenger = await self._load(state.canary.model, CHALLENGER)
        except ModelLoadError as error:
            _log.warning("the former champion cannot be loaded: %s", error)
            state = state.without_canary()
            save_state(self._folder, state)
        return state

    async def deploy(self, name: str, model: ModelRef) -> bool:
        """Make a model the champion at 100 %; ends a canary. False: it already was so.

        Raises:
            ModelLoadError: production is what it was.
            OSError: the state could not be written; production is what it was.
        """
        async with self._changing:
            if self._champion is not None and self.state == ProductionState(name, model):
                _check_digest(self._champion.model, model.digest)
                return False
            shadow = self._challenger
            if shadow is not None and shadow.model == model and shadow.state == "ready":
                # The former champion comes back: it is loaded, so users wait for nothing.
                _check_digest(shadow.model, model.digest)
                self._commit(ProductionState(name, shadow.model), None, champion=shadow, challenger=None)
                shadow.timeout_s, shadow.restarts = CHAMPION_TIMEOUT_S, None
                return True
            variant = await self._load(model, CHAMPION)
            self._commit(ProductionState(name, variant.model), variant, champion=variant, challenger=None)
            return True

    async def start_canary(self, model: ModelRef, percent: float, seed: int) -> bool:
        """Run a challenger beside the champion; replaces another one. False: it already ran with this share.

        Raises:
            RefusedError: there is no champion, or the model is the champion.
            ModelLoadError, OSError: production is what it was.
        """
        async with self._changing:
            if self._champion is None:
                raise RefusedError("nothing is deployed; deploy a champion first")
            if model == self.state.champion:
                raise RefusedError(f"version {model.version} already is the champion; a canary must be another model")
            canary = Canary(model, percent, seed)
            running = self.state.canary
            if running is not None and running == canary:
                _check_digest(running.model, model.digest)
                return False
            keep = self._challenger if running is not None and running.model == model else None
            variant = keep if keep is not None and keep.state == "ready" else await self._load(model, CHALLENGER)
            _check_digest(variant.model, model.digest)
            state = ProductionState(self.state.name, self.state.champion, replace(canary, model=variant.model))
            self._commit(state, None if variant is keep else variant, champion=self._champion, challenger=variant)
            return True

    async def set_traffic(self, percent: float) -> bool:
        """Change the canary's share. False: it had this share.

        Raises:
            RefusedError: no canary is running.
        """
        async with self._changing:
            canary = self.state.canary
            if canary is None or canary.former:
                raise RefusedError("no canary is running; start one first")
            if canary.percent == percent:
                return False
            changed = Canary(canary.model, percent, canary.seed)
            state = ProductionState(self.state.name, self.state.champion, changed)
            self._commit(state, None, champion=self._champion, challenger=self._challenger)
            return True

    async def promote(self, version: str, keep_former: bool, digest: str = "") -> bool:
        """Make the canary the champion. False: `version` is the champion already.

        Args:
            keep_former: the former champion goes on scoring in the shadow, until the probation is ended.
            digest: of the files that were judged; any other canary is refused. Empty: not compared.

        Raises:
            RefusedError: no canary, another canary than `version` or `digest`, or one whose process is lost.
        """
        async with self._changing:
            canary, champion = self.state.canary, self.state.champion
            if canary is None or canary.former:
                if version and champion is not None and champion.version == version:
                    _check_digest(champion, digest)
                    return False
                raise RefusedError("no canary is running; there is nothing to promote")
            if version and canary.model.version != version:
                raise RefusedError(f"the canary is version {canary.model.version}, not {version}")
            _check_digest(canary.model, digest)
            if self._challenger is None or self._challenger.state != "ready":
                raise RefusedError(f"the canary is {self.challenger_state}: it lost its process and cannot be promoted")
            promoted, former = self._challenger, self._champion if keep_former else None
            shadow = Canary(champion, 0.0, canary.seed, former=True) if former is not None and champion else None
            state = ProductionState(self.state.name, canary.model, shadow)
            self._commit(state, None, champion=promoted, challenger=former)
            promoted.timeout_s, promoted.restarts = CHAMPION_TIMEOUT_S, None
            if former is not None:
                former.timeout_s, former.restarts = self._challenger_timeout_s, CHALLENGER_RESTARTS
            return True

    async def rollback(self) -> bool:
        """Remove the canary. False: there was none."""
        return await self._remove(former=False)

    async def end_probation(self) -> bool:
        """Stop the former champion's shadow scoring. False: there was none."""
        return await self._remove(former=True)

    async def _remove(self, *, former: bool) -> bool:
        async with self._changing:
            canary = self.state.canary
            if canary is None or canary.former != former:
                return False
            self._commit(self.state.without_canary(), None, champion=self._champion, challenger=None)
            return True

    async def drain(self, timeout_s: float) -> dict[str, Any]:
        """Wait until the shadow scores that are missing now are recorded. `recorded`: all that ever were."""
        deadline = time.monotonic() + timeout_s
        waiting = set(self._recording)
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_s)
        left = max(0.1, deadline - time.monotonic())
        flushed = await asyncio.to_thread(self.recorder.flush, left)
        return {
            "pending": len(waiting & self._recording),
            "recorded": self._recorded,
            "written": flushed,
            "lost": self.recorder.lost,
            "last_error": self.recorder.last_error,
        }

    async def _load(self, model: ModelRef, role: VariantName) -> Variant:
        worker = await asyncio.to_thread(self._source.start, model)
        model = replace(model, digest=worker.digest)
        if role == CHAMPION:
            return Variant(model, worker, self._source, timeout_s=CHAMPION_TIMEOUT_S, restarts=None)
        timeout_s = self._challenger_timeout_s
        return Variant(model, worker, self._source, timeout_s=timeout_s, restarts=CHALLENGER_RESTARTS)

    def _commit(
        self, state: ProductionState, loaded: Variant | None, *, champion: Variant | None, challenger: Variant | None
    ) -> None:
        """Write the state, then switch. What cannot be written does not happen."""
        try:
            save_state(self._folder, state)
        except OSError:
            if loaded is not None:
                loaded.close()
            raise
        for old in (self._champion, self._challenger):
            if old is not None and old is not champion and old is not challenger:
                old.close()
        self._champion, self._challenger = champion, challenger
        self._restore_problem = ""
        self._apply(state)

    def _apply(self, state: ProductionState) -> None:
        self.state = state
        canary = state.canary
        self.metrics.serve(
            state.name,
            state.champion.version if state.champion else None,
            canary.model.version if canary else None,
            canary.percent if canary else 0.0,
        )


def _check_digest(model: ModelRef, digest: str) -> None:
    """Raise `RefusedError` unless the model's files are those that the digest is of; an empty one says nothing."""
    if digest and model.digest != digest:
        raise RefusedError(
            f"version {model.version} is not the model that was judged: its files have the SHA-256 "
            f"{model.digest[:12]}…, expected was {digest[:12]}…"
        )
