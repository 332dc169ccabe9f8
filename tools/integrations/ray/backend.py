"""The Ray backend."""

import contextlib
import logging
import os
import shutil
import socket
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.core.child_env import child_env
from tools.core.contract import Backend, CallContext
from tools.core.errors import FinalError, RetryableError, shorten
from tools.integrations.ray.spec import ColumnCounts, CountArgs
from tools.modeling.search import SearchResult, TuneArgs

if TYPE_CHECKING:
    from tools.modeling.trial_runner import Tuning

MAX_CPUS = 2
CONNECT_TIMEOUT_S = 5.0
OWN_VARIABLES = ("RAY_", "TUNE_")
OBJECT_STORE_BYTES = 256 * 2**20
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # its workers would start through `uv run`, each installing for itself
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a table to stdout even when it is told to be quiet
}


class RayBackend(Backend):
    """Ray Tune and Ray Data, on local processes for the length of a call or on a running cluster."""

    def health(self, ctx: CallContext) -> str:
        """Reaches the cluster, where one is configured."""
        import importlib.metadata

        version = importlib.metadata.version("ray")
        address = self.settings.get("RAY_ADDRESS")
        if not address:
            return f"Ray {version}, local, {_local_cpus()} processes"
        with cluster(address) as ray:
            return f"Ray {version} at {address}, {ray.cluster_resources().get('CPU', 0):g} CPUs"

    def tune(self, args: TuneArgs, ctx: CallContext) -> SearchResult:
        """The given config and a Latin hypercube around it, all drawn before the first starts.

        Nothing depends on which trial ends first, so the seed alone decides the result, whatever the cluster.
        """
        from tools.modeling.trial_runner import prepare_tuning

        tuning = prepare_tuning(args, [ctx.path(path) for path in args.paths], ctx.progress)
        # The start runs here: wrong data or a wrong metric ends the call before a cluster is bothered.
        tuning.runner.run(tuning.config)
        tuning.runner.report()
        if tuning.runner.may_start:
            scratch = ctx.workspace / f"ray-{tuning.study}"
            try:
                with cluster(self.settings.get("RAY_ADDRESS")):
                    _run(tuning, scratch)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return tuning.runner.finish(tuning.study, "ray", ctx.workspace, ctx.show)

    def count_columns(self, args: CountArgs, ctx: CallContext) -> ColumnCounts:
        from tools.modeling.count_files import write_counts

        with cluster(self.settings.get("RAY_ADDRESS")):
            from tools.integrations.ray.column_counts import count_on_cluster

            counted = count_on_cluster(ctx.path(args.reference), ctx.path(args.current), args.exclude, ctx.progress)
        tables = counted.tables
        path = ctx.workspace / f"column_counts_{args.question_digest(8)}.json"
        write_counts(tables, path)
        error = max((column.distance_error for column in tables.columns), default=0.0)
        rows = tables.reference_rows + tables.current_rows
        return ColumnCounts(
            counts_path=ctx.show(path),
            columns=len(tables.columns),
            skipped=tables.skipped,
            reference_rows=tables.reference_rows,
            current_rows=tables.current_rows,
            largest_error=error,
            rows_by_node=counted.rows_by_node,
            message=f"Counted {len(tables.columns)} columns of {rows:,} rows on {len(counted.rows_by_node)} node(s); "
            f"distances are known to {error:.2%} of the rows.",
        )


def _run(tuning: "Tuning", scratch: Path) -> None:
    from ray import tune

    from tools.integrations.ray.progress import TrialProgress
    from tools.modeling.space import spread_tuning
    from tools.modeling.trial_runner import failed_trial, run_trial
    from tools.modeling.trials import Trial

    runner = tuning.runner
    configs = spread_tuning(tuning.config, runner.task, runner.remaining, runner.seed)
    total = runner.budget

    def train(config: dict[str, Any], split: Any, metric: str, seed: int, constraints: Any) -> None:
        job = config["job"]
        trial = run_trial(job["number"], job["config"], split, metric, seed, constraints)
        tune.report({"record": trial.model_dump(mode="json")})

    progress = TrialProgress(
        lambda ended: runner.tell_progress(1 + ended, total, f"{ended} of {len(configs)} Ray trials")
    )
    jobs = [{"number": number, "config": config} for number, config in enumerate(configs, start=1)]
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(
                train,
                split=runner.split,
                metric=runner.metric.name,
                seed=runner.seed,
                constraints=runner.constraints,
            ),
            {"cpu": 1},
        ),
        param_space={"job": tune.grid_search(jobs)},
        tune_config=tune.TuneConfig(
            time_budget_s=max(1.0, runner.remaining_s),
            reuse_actors=True,  # else every trial pays for importing the libraries
        ),
        run_config=tune.RunConfig(name="trials", storage_path=str(scratch.resolve()), verbose=0, callbacks=[progress]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = tuner.fit()
    found: dict[int, Trial] = {}
    for result in results:
        job = (result.config or {})["job"]
        if result.metrics and "record" in result.metrics:
            found[job["number"]] = Trial.model_validate(result.metrics["record"])
        elif result.error:
            problem = shorten(str(result.error).strip().splitlines()[-1], 200)
            found[job["number"]] = failed_trial(job["number"], job["config"], problem)
    # In the order they were drawn, not in the order they ended. Those that the time budget cut off are not in it.
    for number in sorted(found):
        runner.record(found[number])


@contextlib.contextmanager
def cluster(address: str | None) -> Generator[Any]:
    """Ray for the length of a call: local processes, or the cluster at `address`.

    A Ray that this process already uses is used and left running.

    Raises:
        RetryableError: the cluster does not answer.
        FinalError: Ray does not start on this machine.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    from ray._private import ray_constants

    # Read when Ray is imported, which another library may have done before the variable above was set.
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": True, "logging_level": logging.CRITICAL}
    if address:
        _require_answer(address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if address:
                import tools

                # Workers on other machines get this project's code along.
                package = str(Path(tools.__file__).parent)
                ray.init(address=address, runtime_env={"py_modules": [package]}, **quiet)
            else:
                ray.init(
                    address="local",  # else it would join a cluster that somebody has started on this machine
                    num_cpus=_local_cpus(),
                    num_gpus=0,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    runtime_env={"env_vars": _emptied()},
                    **quiet,
                )
    except Exception as error:  # Ray raises bare ones too; each becomes one of ours
        ray.shutdown()  # what did start of it
        text = shorten(" ".join(str(error).split()), 200)
        if address:
            raise RetryableError(f"no Ray cluster answers at {address}: {text}") from error
        raise FinalError(f"Ray does not start on this machine: {text}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _emptied() -> dict[str, str]:
    """What Ray's local workers would inherit of this process's environment and are not to know: secrets above all."""
    kept = child_env(network=True)
    return {name: "" for name in os.environ if name not in kept and not name.startswith(OWN_VARIABLES)}


def _require_answer(address: str) -> None:
    """Raise `RetryableError` unless something listens there: Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and names of other schemes are Ray's to resolve
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise RetryableError(f"no Ray cluster answers at {address}: {error}") from error


def _local_cpus() -> int:
    return min(MAX_CPUS, os.cpu_count() or 1)
