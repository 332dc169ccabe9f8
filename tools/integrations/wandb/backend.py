"""The W&B backend: offline runs in the state folder, or runs on the configured server."""

import contextlib
import hashlib
import json
import math
import os
import subprocess
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.core.contract import Backend, CallContext
from tools.core.errors import FinalError, FixableError, NeedsPersonError, NoDataError, RetryableError
from tools.integrations.wandb.spec import (
    ListRunsArgs,
    LoggedMetrics,
    LoggedStudy,
    LogMetricsArgs,
    LogTrialsArgs,
    ReadRunArgs,
    RunContent,
    RunInfo,
    Runs,
)
from tools.modeling.trials import Trial, Trials, flatten, read_trials

MODES = ("offline", "online")
# A server that does not answer fails a call within these, instead of W&B's own 90 s and endless retries.
KEY = "_mlops_key"  # the idempotency key of the call that logged a step
INIT_TIMEOUT_S = 20
REQUEST_TIMEOUT_S = 5
READ_TIMEOUT_S = 60


class WandbBackend(Backend):
    """Writes each run in one go, so nothing is pending between calls; reads runs from their local transaction log."""

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        super().__init__(settings)
        self._used = False
        # Read when wandb is imported; stdout belongs to MCP and stderr to the live display.
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

    def health(self, ctx: CallContext) -> str:
        mode = self._mode()
        if mode == "online":
            with self._run(ctx, self._project(""), "health", job_type="health"):
                pass
            return f"online as {self.settings.get('WANDB_ENTITY') or 'the default entity'} at {self._server()}"
        count = len(_logs(ctx))
        return f"offline in {ctx.show(ctx.store('wandb'))}, {count} run{'' if count == 1 else 's'}"

    def close(self) -> None:
        """Stop the wandb-core service, unless somebody else in this process has a W&B run going."""
        if not self._used:
            return
        import wandb

        if wandb.run is None:
            wandb.teardown()
        self._used = False

    def log_trials(self, args: LogTrialsArgs, ctx: CallContext) -> LoggedStudy:
        trials = read_trials(ctx.path(args.trials_path))
        project = self._project(args.project)
        best = trials.best_trial()
        config = trials.model_dump(include={"study", "metric", "direction", "seed", "engine"})
        # Under its key a study is one W&B run: logged again, it goes on where a process that ended left it.
        key = ctx.idempotency_key
        last = _last_step(ctx, key) if key else -1
        own = {"id": key, "resume": "allow"} if key else {}
        with self._run(ctx, project, trials.study, config=config, group=ctx.run_id, job_type="search", **own) as run:
            for step, row in enumerate(_rows(trials)):
                if step > last:
                    run.log(row, step=step)
            run.summary.update(_summary(trials, best))
        value = best.value if best else None
        return LoggedStudy(
            run_id=run.id,
            run_name=trials.study,
            project=project,
            mode=self._mode(),
            trials=len(trials.trials),
            best_value=value,
            run_dir=ctx.show(Path(run.dir).parent),
            url=run.url or None,
            message=f"{len(trials.trials)} trials of {trials.study} are in W&B ({self._mode()}) as run {run.id}"
            + ("." if value is None else f"; best {trials.metric} {value:.4g}."),
        )

    def log_metrics(self, args: LogMetricsArgs, ctx: CallContext) -> LoggedMetrics:
        if not args.metrics or not args.run_name:
            raise FixableError("log_metrics needs a run_name and at least one metric, for example {'error_rate': 0.02}")
        wrong = [name for name, value in args.metrics.items() if not math.isfinite(value)]
        if wrong:
            raise FixableError(f"metrics must be finite numbers; got {', '.join(wrong)} = NaN or infinite")
        project = self._project(args.project)
        # One identity per run of ours, project and name: later calls extend the same W&B run.
        run_id = hashlib.sha256(f"{ctx.run_id}\0{project}\0{args.run_name}".encode()).hexdigest()[:12]
        logged = [row for log in _logs(ctx, run_id) for row in _history(log)]
        key = ctx.idempotency_key
        before = next((row["_step"] for row in logged if key and row.get(KEY) == key), None)
        if before is not None:
            return self._metrics_logged(args, project, run_id, before, None)
        last = max((row["_step"] for row in logged), default=-1)
        step = last + 1 if args.step < 0 else args.step
        if step <= last:
            raise FixableError(f"step {step} of {args.run_name} was passed already; valid: {last + 1} or higher, or -1")
        with self._run(ctx, project, args.run_name, id=run_id, resume="allow", group=ctx.run_id) as run:
            run.log({**args.metrics, **({KEY: key} if key else {})}, step=step)
        return self._metrics_logged(args, project, run_id, step, run.url or None)

    def _metrics_logged(
        self, args: LogMetricsArgs, project: str, run_id: str, step: int, url: str | None
    ) -> LoggedMetrics:
        return LoggedMetrics(
            run_id=run_id,
            project=project,
            mode=self._mode(),
            step=step,
            url=url,
            message=f"{', '.join(args.metrics)} logged to W&B run {args.run_name} at step {step} ({self._mode()}).",
        )

    def list_runs(self, args: ListRunsArgs, ctx: CallContext) -> Runs:
        runs: list[RunInfo] = []
        seen: set[str] = set()
        for log in reversed(_logs(ctx)):
            if len(runs) == args.limit:
                break
            info = _inspect_summary(log)
            if info["run_id"] in seen or (args.project and info["project"] != args.project):
                continue
            seen.add(info["run_id"])
            runs.append(
                RunInfo(
                    run_id=info["run_id"] or log.stem.removeprefix("run-"),
                    run_name=info["name"],
                    project=info["project"],
                    state=info["state"],
                    started=info["start_time"] or "",
                    run_dir=ctx.show(log.parent),
                )
            )
        if not runs:
            of = f" of project {args.project}" if args.project else ""
            raise NoDataError(f"no W&B runs{of} yet", tried=f"run folders in {ctx.show(ctx.store('wandb'))}")
        return Runs(runs=runs, message=f"{len(runs)} W&B run{'' if len(runs) == 1 else 's'} on this machine.")

    def read_run(self, args: ReadRunArgs, ctx: CallContext) -> RunContent:
        logs = _logs(ctx, args.run_id)
        if not logs:
            raise NoDataError(
                f"no W&B run {args.run_id} on this machine; list_runs shows those there are",
                tried=f"run folders in {ctx.show(ctx.store('wandb'))}",
            )
        parts = [_inspect_summary(log) for log in logs]
        if not parts[-1]["run_id"]:
            raise FinalError(f"the log of W&B run {args.run_id} cannot be read", tried=str(logs[-1]))
        history = [row for log in logs for row in _history(log)]
        out = ctx.workspace / f"wandb_{args.run_id}_history.jsonl"
        out.write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
        merged: dict[str, Any] = {}
        for part in parts:
            merged |= part["summary"]
        name, project, state = (parts[-1][key] for key in ("name", "project", "state"))
        return RunContent(
            run_id=args.run_id,
            run_name=name,
            project=project,
            state=state,
            config={key: value for part in parts for key, value in part["config"].items() if not key.startswith("_")},
            summary={key: value for key, value in merged.items() if not key.startswith("_")},
            steps=len(history),
            history_path=ctx.show(out),
            message=f"W&B run {name} of project {project}: {state}, {len(history)} steps.",
        )

    def _mode(self) -> str:
        """`offline` or `online`.

        Raises:
            FixableError: WANDB_MODE is neither.
            NeedsPersonError: online without a key.
        """
        key = self.settings.get("WANDB_API_KEY")
        mode = self.settings.get("WANDB_MODE") or ("online" if key else "offline")
        if mode not in MODES:
            raise FixableError(f"WANDB_MODE is {mode!r}; valid: {', '.join(MODES)}")
        if mode == "online" and not key:
            raise NeedsPersonError(
                "W&B online mode needs the setting WANDB_API_KEY (W&B API key)",
                tried="environment variable WANDB_API_KEY and WANDB_API_KEY in .env",
            )
        return mode

    def _server(self) -> str:
        return self.settings.get("WANDB_BASE_URL") or "https://api.wandb.ai"

    def _project(self, asked: str) -> str:
        return asked or self.settings.get("WANDB_PROJECT") or "mlops-crew"

    @contextlib.contextmanager
    def _run(self, ctx: CallContext, project: str, name: str, **options: Any) -> Generator[Any]:
        """A W&B run of our own, finished on the way out, whatever run the user's own code may have open.

        Raises:
            NeedsPersonError: the server refuses the key.
            RetryableError: the server does not answer.
            FinalError: W&B cannot start or write here.
        """
        import wandb
        from wandb.errors import AuthenticationError, Error, UsageError

        mode = self._mode()
        store = ctx.store("wandb")
        chosen: dict[str, Any] = {
            "mode": mode,
            "root_dir": str(store),
            "reinit": "create_new",
            "silent": True,
            "console": "off",
            # What would read the machine, the repository or the network for nothing.
            "disable_git": True,
            "disable_code": True,
            "save_code": False,
            "x_disable_meta": True,
            "x_disable_stats": True,
            "x_disable_machine_info": True,
            "x_save_requirements": False,
            "init_timeout": INIT_TIMEOUT_S,
            "x_graphql_timeout_seconds": REQUEST_TIMEOUT_S,
            "x_graphql_retry_max": 1,
            "x_file_stream_timeout_seconds": REQUEST_TIMEOUT_S,
            "x_file_stream_retry_max": 3,
            "x_file_transfer_retry_max": 3,
        }
        if mode == "online":
            chosen |= {"api_key": self.settings.get("WANDB_API_KEY"), "base_url": self._server()}
        self._used = True
        try:
            run = wandb.init(
                project=project,
                name=name,
                entity=self.settings.get("WANDB_ENTITY") if mode == "online" else None,
                dir=str(store),
                settings=wandb.Settings(**chosen),
                **options,
            )
        except AuthenticationError as error:
            raise NeedsPersonError(f"W&B at {self._server()} refuses the WANDB_API_KEY: {error}") from error
        except UsageError as error:
            raise FixableError(f"W&B refuses the run: {_first_line(error)}") from error
        except Error as error:
            if mode == "online":
                raise RetryableError(f"W&B at {self._server()} does not answer: {_first_line(error)}") from error
            raise FinalError(f"W&B cannot write to {store}: {_first_line(error)}") from error
        try:
            yield run
        except BaseException:  # whatever ends the call, Ctrl-C too: the run is closed as failed
            run.finish(exit_code=1)
            raise
        run.finish()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _last_step(ctx: CallContext, run_id: str) -> int:
    """The last step of a run on this machine; -1 where there is none that can be read."""
    try:
        return max((row["_step"] for log in _logs(ctx, run_id) for row in _history(log)), default=-1)
    except FinalError:  # cut off before anything of it was on disk
        return -1


def _rows(trials: Trials) -> Iterator[dict[str, Any]]:
    """One W&B step per trial: its value, its costs, its configuration, and the best value so far."""
    better = max if trials.direction == "maximize" else min
    best: float | None = None
    for trial in trials.trials:
        row: dict[str, Any] = {"trial": trial.number, "state": trial.state}
        if trial.value is not None and math.isfinite(trial.value):
            best = trial.value if best is None else better(best, trial.value)
            row |= {trials.metric: trial.value, f"best_{trials.metric}": best}
        costs = trial.model_dump(include={"duration_s", "latency_ms", "size_bytes", "fairness_gap"}, exclude_none=True)
        settings = {f"config.{name}": value for name, value in flatten(trial.config).items()}
        yield row | costs | settings


def _summary(trials: Trials, best: Trial | None) -> dict[str, Any]:
    failed = sum(trial.value is None for trial in trials.trials)
    summary: dict[str, Any] = {"trials": len(trials.trials), "failed_trials": failed}
    if best is not None:
        summary |= {"best_trial": best.number, "best_value": best.value}
        summary |= {f"best_config.{name}": value for name, value in flatten(best.config).items()}
    return summary


def _logs(ctx: CallContext, run_id: str = "*") -> list[Path]:
    """The transaction logs of a run (or of all), oldest first: folder names start with the time."""
    found = (ctx.store("wandb") / "wandb").glob(f"*run-*/run-{run_id}.wandb")
    return sorted(found, key=lambda log: log.parent.name.removeprefix("offline-"))


def _inspect(log: Path, *options: str) -> str:
    """What W&B's own reader prints for a log. Raises FinalError when it refuses."""
    from wandb.util import get_core_path

    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", *options]
    command += ["--run-file", str(log), str(log.parent.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=READ_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise FinalError(f"W&B cannot read {log}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _inspect_summary(log: Path) -> dict[str, Any]:
    return json.loads(_inspect(log, "--summary"))


def _history(log: Path) -> list[dict[str, Any]]:
    records = (json.loads(line) for line in _inspect(log).splitlines() if line)
    return [record["history"]["item"] for record in records if record["type"] == "history"]
