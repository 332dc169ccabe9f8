"""The serving backend: owns the engine process and steers it over its admin endpoints."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.core.contract import Backend, CallContext, NoArgs
from tools.core.errors import FixableError, NeedsPersonError, NoDataError, RetryableError
from tools.integrations.serving.spec import (
    CanaryArgs,
    DeployArgs,
    Production,
    PromoteArgs,
    RecordedLabels,
    RecordLabelsArgs,
    SendTrafficArgs,
    ServingStatus,
    SetTrafficArgs,
    Stopped,
    Traffic,
    VariantTraffic,
)

TRAFFIC, EVIDENCE = "traffic", "evidence-"


class ServingBackend(Backend):
    """One engine process at most, started by the first deployment, ended by `close`."""

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        super().__init__(settings)
        self._engine: Any = None
        self._served_from: Path | None = None
        self._port = _port(settings.get("SERVING_PORT"))
        self._challenger_timeout_s = _seconds(
            "SERVING_CHALLENGER_TIMEOUT_S", settings.get("SERVING_CHALLENGER_TIMEOUT_S") or "2"
        )

    def warm(self, ctx: CallContext) -> None:
        """Start the engine, so that its processes import their libraries while the caller does something else."""
        self._ensure_engine(ctx)

    def deploy_model(self, args: DeployArgs, ctx: CallContext) -> Production:
        uri = self._uri(args.model_uri, ctx)
        started = self._ensure_engine(ctx)
        began = time.perf_counter()
        answer = self._engine.admin(
            "deploy",
            name=args.name,
            model_uri=uri,
            version=args.version,
            outside=uri in ctx.outside_models,
            digest=args.digest,
        )
        said = "serves all traffic" if answer["changed"] else "already served all traffic"
        return self._production(answer, f"Version {args.version} of {args.name} {said}.", began, started)

    def start_canary(self, args: CanaryArgs, ctx: CallContext) -> Production:
        uri = self._uri(args.model_uri, ctx)
        started = self._ensure_engine(ctx)
        began = time.perf_counter()
        answer = self._engine.admin(
            "canary", model_uri=uri, version=args.version, percent=args.percent, seed=args.seed,
            outside=uri in ctx.outside_models, digest=args.digest,
        )  # fmt: skip
        message = f"Version {args.version} answers {args.percent:g} % of requests and shadow-scores the rest."
        return self._production(answer, message, began, started)

    def set_traffic(self, args: SetTrafficArgs, ctx: CallContext) -> Production:
        answer = self._running().admin("traffic", percent=args.percent)
        return self._production(answer, f"Version {answer['canary_version']} answers {args.percent:g} % of requests.")

    def promote_canary(self, args: PromoteArgs, ctx: CallContext) -> Production:
        if self._is_promoted_already(args, ctx):
            self._ensure_engine(ctx)  # it was promoted before the engine ended with its process
        answer = self._running().admin(
            "promote", version=args.version, keep_former=args.keep_former, digest=args.digest
        )
        former = answer["former_version"]
        shadow = f"; version {former} scores in the shadow" if former else ""
        message = f"Version {answer['champion_version']} is the champion and serves everything{shadow}."
        return self._production(answer, message)

    def end_probation(self, args: NoArgs, ctx: CallContext) -> Production:
        answer = self._running().admin("end_probation")
        said = "no longer scores in the shadow" if answer["changed"] else "did not score in the shadow"
        return self._production(
            answer, f"The former champion {said}; version {answer['champion_version']} serves everything."
        )

    def rollback_canary(self, args: NoArgs, ctx: CallContext) -> Production:
        if self._engine is None or self._engine.exit_code is not None:
            if _is_served_elsewhere(ctx):
                raise RetryableError(
                    "another process serves from this state folder, and its canary is its own to remove"
                )
            # Nothing runs, so no canary does; the state must not keep one either.
            return self._rolled_back_at_rest(ctx)
        answer = self._engine.admin("rollback")
        said = "The canary was removed" if answer["changed"] else "No canary was running"
        return self._production(answer, f"{said}; version {answer['champion_version']} serves everything.")

    def status(self, args: NoArgs, ctx: CallContext) -> ServingStatus:
        engine = self._engine
        if engine is None or engine.exit_code is not None:
            state = _load_state(ctx)
            if state.champion is None:
                raise NoDataError("nothing was ever deployed here", tried=str(ctx.home / "serving" / "state.json"))
            if _is_served_elsewhere(ctx):
                return _elsewhere(state)
            ended = "" if engine is None else f" (the engine ended with exit code {engine.exit_code})"
            return ServingStatus(
                running=False,
                url=None,
                metrics_url=None,
                pid=None,
                name=state.name,
                champion_version=state.champion.version,
                champion_uri=state.champion.uri,
                canary_version=None,
                canary_percent=0.0,
                challenger_state=None,
                message=f"Not serving{ended}; the next deployment starts from version {state.champion.version}.",
            )
        answer = engine.status()
        problem = answer["problem"]
        return ServingStatus(
            running=True,
            url=engine.url,
            metrics_url=f"{engine.url}/metrics",
            pid=engine.pid,
            name=answer["name"],
            champion_version=answer["champion_version"],
            champion_uri=answer["champion_uri"],
            canary_version=answer["canary_version"],
            canary_percent=answer["canary_percent"],
            champion_digest=answer["champion_digest"],
            canary_digest=answer["canary_digest"],
            former_version=answer["former_version"],
            challenger_state=answer["challenger_state"],
            message=f"Problem: {problem}." if problem else f"Serving version {answer['champion_version']}.",
        )

    def stop(self, args: NoArgs, ctx: CallContext) -> Stopped:
        was_running = self._engine is not None and self._engine.exit_code is None
        self.close()
        return Stopped(
            stopped=was_running, message="The engine was stopped." if was_running else "Nothing was running."
        )

    def send_traffic(self, args: SendTrafficArgs, ctx: CallContext) -> Traffic:
        import httpx
        import pandas as pd

        from tools.integrations.serving.labels import deliver, hide
        from tools.integrations.serving.traffic import (
            drained,
            evidence,
            in_canary_roles,
            json_rows,
            secret_ids,
            segments,
            send,
            told_fallbacks,
        )
        from tools.modeling.data import as_text, read_table, require_columns, write_table

        engine = self._running()
        source = ctx.path(args.data)
        table = read_table(source)
        named = [name for name in (args.unit, args.segment) if name]
        require_columns(table, [args.target, *named, *args.keep], args.data)
        chosen = table.iloc[args.start : args.start + args.rows]
        if chosen.empty:
            raise NoDataError(f"there is no row {args.start}", tried=f"{args.data} with {len(table)} rows")
        if chosen[args.target].isna().any():
            raise FixableError(f"{int(chosen[args.target].isna().sum())} of the rows have no {args.target}")
        if args.unit and chosen[args.unit].isna().any():
            raise FixableError(f"{int(chosen[args.unit].isna().sum())} of the rows have no {args.unit}")
        units = list(as_text(chosen[args.unit])) if args.unit else None
        before = engine.status()
        if before["champion_version"] is None:
            raise FixableError("no model is deployed; call deploy_model first")
        former = before["former_version"]
        canary = before["canary_version"] or former
        shadow_file = Path(before["shadow_file"])
        offset = shadow_file.stat().st_size if shadow_file.exists() else 0
        keys = [f"{args.seed}-{args.batch}-{row}" for row in range(args.start, args.start + len(chosen))]
        request_ids = secret_ids(keys)
        began = time.perf_counter()
        try:
            replies = send(
                engine.url,
                json_rows(chosen.drop(columns=[args.target])),
                request_ids,
                lambda done, total: ctx.progress(done, total, f"{done} of {total} requests"),
                units or keys,
            )
        except httpx.HTTPError as error:
            raise engine.lost(error) from error
        elapsed_s = time.perf_counter() - began
        shadow: Mapping[str, Any] | None = None
        if canary is not None:

            def drain(timeout_s: float) -> dict[str, Any]:
                state = engine.admin("drain", timeout_s=timeout_s)
                return {**state, "lost": state["lost"] - before["shadow_lost"]}

            shadow = drained(
                drain,
                shadow_file,
                offset,
                request_ids,
                lambda done, total: ctx.progress(done, total, f"{done} of {total} shadow scores"),
            )
        deadline_ms = self._challenger_timeout_s * 1000.0
        rows = evidence(replies, shadow, chosen[args.target], args.task, args.batch, deadline_ms, args.positive)
        if former:
            rows = in_canary_roles(rows)  # the model that was promoted stays the challenger of its evidence
        # The columns keep the canary's roles, also in the probation: what was promoted is their challenger.
        roles = ("former_digest", "champion_digest") if former else ("champion_digest", "canary_digest")
        rows["champion_digest"], rows["challenger_digest"] = (before[role] for role in roles)
        if args.segment:
            rows["segment"] = segments(list(table[args.segment]), args.segment)[args.start : args.start + len(rows)]
        watched = before["champion_version"] if former else canary or before["champion_version"]
        for name in args.keep:
            rows[f"kept_{name}"] = chosen[name].to_numpy()
        routed = ""
        if units is not None:
            rows["unit"], routed = units, "-by-unit"
        path = ctx.workspace / TRAFFIC / f"{EVIDENCE}{watched}{routed}.parquet"
        future = path.with_name(f"future-labels-{watched}.parquet")
        labels_path = path.with_name(f"labels-{watched}.parquet") if args.label_delay else None
        if labels_path is not None:
            rows = hide(rows, future)
        everything = rows
        if path.exists():
            earlier = pd.read_parquet(path)
            # A batch that is sent again replaces its earlier self.
            everything = pd.concat([earlier.loc[earlier["batch"] != args.batch, :], rows], ignore_index=True)
        write_table(everything, path)
        if labels_path is not None:
            deliver(list(everything["request_id"]), args.label_delay, future, labels_path)
        challenger = _variant_traffic(rows, "challenger") if canary is not None else None
        champion = _variant_traffic(rows, "champion")
        left = max(0, len(table) - args.start - len(chosen))
        failed = sum(reply.status != 200 for reply in replies)
        routed = int((rows["routed_to"] == "challenger").sum()) if canary is not None and not former else 0
        fell_back = rows.loc[rows["fallback"] != "", "fallback"]
        fallbacks = {str(reason): int(count) for reason, count in fell_back.value_counts().items()}
        message = (
            f"Rows {args.start} to {args.start + len(replies) - 1}: {len(replies)} requests in {elapsed_s:.1f} s, "
            f"{failed} without an answer; "
            f"champion {champion.errors} errors"
        )
        if challenger is not None:
            message += f", challenger {challenger.errors} errors"
            message += told_fallbacks(routed, fallbacks, champion.late, len(rows) - routed)
            left_out = champion.left_out + challenger.left_out
            message += f"; {left_out} shadow scores left out: too much was waiting" if left_out else ""
        message += "."
        return Traffic(
            evidence_path=ctx.show(path),
            labels_path=ctx.show(labels_path) if labels_path is not None else None,
            batch=args.batch,
            requests=len(replies),
            failed_requests=failed,
            rows_left=left,
            next_start=args.start + len(chosen),
            champion=champion,
            challenger=challenger,
            routed=routed,
            fallbacks=fallbacks,
            response_p50_ms=float(rows["response_ms"].quantile(0.5)),
            response_p95_ms=float(rows["response_ms"].quantile(0.95)),
            requests_per_s=len(replies) / elapsed_s,
            took_s=time.perf_counter() - began,
            message=message,
        )

    def record_labels(self, args: RecordLabelsArgs, ctx: CallContext) -> RecordedLabels:
        from tools.integrations.serving.labels import record
        from tools.modeling.data import read_table, require_columns, write_table
        from tools.modeling.reading.settings import ReadSettings

        path, source = ctx.path(args.evidence), ctx.path(args.labels)
        if not (ctx.roots.is_run_file(path) and path.parent.name == TRAFFIC and path.name.startswith(EVIDENCE)):
            raise FixableError(f"{args.evidence} is no evidence of a run; give an evidence_path of send_traffic")
        settings = ReadSettings.model_validate(args.read)
        table, labels = read_table(path), read_table(source, may_be_empty=True, settings=settings)
        require_columns(table, ["request_id", "y_true", "champion_prediction", "challenger_prediction"], args.evidence)
        require_columns(labels, ["request_id", "label"], args.labels)
        found = record(table, labels, args.task)
        if found.recorded:
            write_table(found.table, path)
        known = int(found.table["y_true"].notna().sum())
        others = "".join(
            f"; {count} {what}"
            for count, what in (
                (found.unknown, "of requests that are not in the evidence"),
                (found.changed, "differ from the label recorded before, which stands"),
            )
            if count
        )
        return RecordedLabels(
            evidence_path=ctx.show(path),
            recorded=found.recorded,
            labelled=known,
            requests=len(table),
            unknown=found.unknown,
            changed=found.changed,
            message=f"{found.recorded} new labels; {known} of {len(table)} requests have one{others}.",
        )

    def health(self, ctx: CallContext) -> str:
        folder = ctx.home / "serving"
        state = _load_state(ctx) if folder.exists() else None
        probe = folder if folder.exists() else ctx.home if ctx.home.exists() else ctx.project
        if not os.access(probe, os.W_OK):
            raise NeedsPersonError(f"no permission to write to {probe}, where the production state is kept")
        if self._engine is not None and self._engine.exit_code is None:
            return f"serving at {self._engine.url}"
        if state is not None and state.champion is not None:
            return f"embedded engine, not running; production is version {state.champion.version} of {state.name}"
        return "embedded engine, nothing deployed yet"

    def close(self) -> None:
        if self._engine is not None:
            from tools.modeling.serving_address import forget_address

            self._engine.close()
            self._engine = None
            if self._served_from is not None:
                forget_address(self._served_from)

    def _ensure_engine(self, ctx: CallContext) -> float | None:
        """Start the engine unless it runs; the seconds that took, or None."""
        if self._engine is not None and self._engine.exit_code is None:
            return None
        from tools.integrations.serving.process import EngineProcess
        from tools.modeling.model_store import absolute_address, store_credentials
        from tools.modeling.serving_address import ServingAddress, record_address

        self.close()
        registry = self.settings.get("MLFLOW_REGISTRY_URI")
        self._engine = EngineProcess.start(
            ctx.store("serving").resolve(),
            port=self._port,
            tracking_uri=self._tracking_uri(ctx),
            registry_uri=registry and absolute_address(registry, ctx.project),
            challenger_timeout_s=self._challenger_timeout_s,
            project=ctx.project.resolve(),
            home=ctx.home.resolve(),
            credentials=store_credentials(self.settings, self._tracking_uri(ctx)),
        )
        self._served_from = ctx.store("serving")
        record_address(self._served_from, ServingAddress(f"{self._engine.url}/metrics", self._engine.pid))
        self._engine.wait_restored()
        return self._engine.start_s

    def _is_promoted_already(self, args: PromoteArgs, ctx: CallContext) -> bool:
        if self._engine is not None and self._engine.exit_code is None:
            return False
        champion = _load_state(ctx).champion
        return champion is not None and bool(args.version) and champion.version == args.version

    def _running(self) -> Any:
        if self._engine is None:
            raise FixableError("nothing is being served; call deploy_model first")
        if self._engine.exit_code is not None:
            raise self._engine.lost(RuntimeError())
        return self._engine

    def _tracking_uri(self, ctx: CallContext) -> str:
        from tools.modeling.model_store import absolute_address

        embedded = f"sqlite:///{(ctx.home / 'mlflow' / 'mlflow.db').resolve()}"
        return absolute_address(self.settings.get("MLFLOW_TRACKING_URI") or embedded, ctx.project)

    def _uri(self, value: str, ctx: CallContext) -> str:
        """The address of a model, if there is a store to look it up in.

        Raises:
            FixableError: there is none yet.
        """
        database = ctx.home / "mlflow" / "mlflow.db"
        if not self.settings.get("MLFLOW_TRACKING_URI") and not database.is_file():
            raise FixableError(f"{value} cannot be looked up: there is no MLflow store yet at {database}")
        return value

    def _production(
        self, answer: dict[str, Any], message: str, began: float | None = None, started: float | None = None
    ) -> Production:
        loaded = answer["changed"] and began is not None
        return Production(
            url=self._engine.url,
            metrics_url=f"{self._engine.url}/metrics",
            name=answer["name"],
            champion_version=answer["champion_version"],
            champion_uri=answer["champion_uri"],
            canary_version=answer["canary_version"],
            canary_percent=answer["canary_percent"],
            champion_digest=answer["champion_digest"],
            canary_digest=answer["canary_digest"],
            former_version=answer["former_version"],
            changed=answer["changed"],
            start_s=started,
            load_s=time.perf_counter() - began if loaded and began is not None else None,
            message=message,
        )

    def _rolled_back_at_rest(self, ctx: CallContext) -> Production:
        from tools.integrations.serving.state import save_state

        state = _load_state(ctx)
        if state.champion is None:
            raise FixableError("nothing was ever deployed; there is nothing to roll back")
        changed = state.canary is not None
        if changed:
            save_state(ctx.store("serving"), state.without_canary())
        return Production(
            url="",
            metrics_url="",
            name=state.name,
            champion_version=state.champion.version,
            champion_uri=state.champion.uri,
            canary_version=None,
            canary_percent=0.0,
            changed=changed,
            message=f"The engine is not running; production is version {state.champion.version} alone.",
        )


def _is_served_elsewhere(ctx: CallContext) -> bool:
    """Whether an engine of another process holds the store."""
    import fcntl

    from tools.integrations.serving.engine import LOCK_FILE

    path = ctx.home / "serving" / LOCK_FILE
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _elsewhere(state: Any) -> ServingStatus:
    """What another process serves, by the state that its engine writes before every change."""
    canary = state.canary if state.canary is not None and not state.canary.former else None
    former = state.canary if state.canary is not None and state.canary.former else None
    share = f", and gives {canary.percent:g} % to version {canary.model.version}" if canary else ""
    return ServingStatus(
        running=True,
        url=None,
        metrics_url=None,
        pid=None,
        name=state.name,
        champion_version=state.champion.version,
        champion_uri=state.champion.uri,
        canary_version=canary.model.version if canary else None,
        canary_percent=canary.percent if canary else 0.0,
        former_version=former.model.version if former else None,
        challenger_state=None,
        message=f"Another process serves version {state.champion.version}{share}.",
    )


def _load_state(ctx: CallContext) -> Any:
    from tools.integrations.serving.state import BrokenStateError, load_state

    try:
        return load_state(ctx.home / "serving")
    except BrokenStateError as error:
        raise NeedsPersonError(f"{error}; restore the file or remove it, then deploy again") from error


def _variant_traffic(rows: Any, variant: str) -> VariantTraffic:
    from tools.integrations.serving.routing import NOT_ASKED

    good = rows[rows[f"{variant}_status"] == 200]
    left_out = int((rows[f"{variant}_status"] == NOT_ASKED).sum())

    def of(column: str, share: float | None = None) -> float | None:
        if good.empty:
            return None
        values = good[f"{variant}_{column}"].astype("float64")
        if values.isna().all():
            return None
        return float(values.mean() if share is None else values.quantile(share))

    return VariantTraffic(
        served=int(((rows["served_by"] == variant) & (rows[f"{variant}_status"] == 200)).sum()),
        scored=len(good),
        errors=len(rows) - len(good) - left_out,
        left_out=left_out,
        late=int((rows["late"] & (rows["routed_to"] == variant)).sum()),
        latency_p50_ms=of("latency_ms", 0.5),
        latency_p95_ms=of("latency_ms", 0.95),
        mean_loss=of("loss"),
        mean_error=of("error"),
    )


def _port(value: str | None) -> int:
    if not value:
        return 0
    if not value.isdecimal() or not 0 <= int(value) <= 65535:
        raise NeedsPersonError(f"SERVING_PORT must be a number from 0 to 65535, got {value!r}")
    return int(value)


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise NeedsPersonError(f"{name} must be a positive number of seconds, got {value!r}")
    return seconds
