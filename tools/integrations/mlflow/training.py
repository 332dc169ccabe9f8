"""Training into an MLflow run: the built-in tabular trainer, or the user's own.

The contract of the user's own trainer, `module:function` or `command: ...`:

- It runs in a process of its own, in the project folder (`module:function` with this environment's Python), and sees
  of the environment what `tools.core.child_env` lists. Files of its own go below `MLOPS_OUTPUT` or `TMPDIR`.
- Its environment holds `MLFLOW_TRACKING_URI`, `MLFLOW_REGISTRY_URI`, `MLFLOW_EXPERIMENT_NAME` and `MLFLOW_RUN_ID`: the
  run exists already, and `mlflow.start_run()` resumes it.
- The task is in `MLOPS_TRAIN_DATA` (paths joined by `os.pathsep`, oldest first), `MLOPS_TARGET`, `MLOPS_TASK`,
  `MLOPS_METRIC`, `MLOPS_SEED`, `MLOPS_DROP` and `MLOPS_PARAMS` (JSON objects); a function gets the same as keywords:
  `train_data`, `target`, `task`, `metric`, `seed`, `drop`, `params`.
- It logs a model (`mlflow.<flavor>.log_model(model, name=...)`), exits with 0, and may log the metric under its name.
"""

import contextlib
import tempfile
import time
import warnings
from collections.abc import Generator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.core.contract import CallContext
from tools.core.errors import CallCancelled, FinalError, FixableError
from tools.integrations.mlflow.registry import last_model_id
from tools.integrations.mlflow.spec import TrainedModel, TrainModelArgs
from tools.integrations.mlflow.tracking import KEY_TAG, Store, metrics_of, params_of, reported, run_under
from tools.integrations.mlflow.trainer import Training, command_of, run_trainer

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXAMPLE_ROWS = 3
# Joined with what a model needs to be loaded elsewhere; naming them spares MLflow a process that infers them.
REQUIREMENTS = ("scikit-learn", "pandas", "numpy", "cloudpickle")


def train(settings: Mapping[str, str | None], store: Store, args: TrainModelArgs, ctx: CallContext) -> TrainedModel:
    """Train with the built-in trainer or the user's own, in a new run that always ends.

    Raises:
        FixableError: the arguments or the data cannot be used.
        FinalError: the user's trainer failed or logged no model; holds the end of its output.
    """
    if not args.train:
        raise FixableError("train is empty; give at least one data file")
    paths = [ctx.path(value) for value in args.train]
    if (made := _made_before(store, args, ctx)) is not None:
        return made
    if args.trainer == "builtin":
        return _builtin(store, args, paths, ctx)
    return _own(settings, store, args, paths, ctx)


def _made_before(store: Store, args: TrainModelArgs, ctx: CallContext) -> TrainedModel | None:
    """What was trained under the same idempotency key, by a process that ended before it could tell."""
    if not ctx.idempotency_key:
        return None
    client = store.client()
    with reported(store.tracking_uri):
        run = run_under(client, store.experiment_id(client), ctx.idempotency_key)
        if run is None:
            return None
        model_id = last_model_id(client, run.info.run_id)
        size = model_size(client, model_id)
    value = run.data.metrics.get(args.metric)
    return TrainedModel(
        run_id=run.info.run_id,
        model_uri=f"models:/{model_id}",
        validation_metric=args.metric,
        validation_value=value,
        size_bytes=size,
        fit_s=run.data.metrics.get("fit_s", 0.0),
        message=f"Trained before the process that did it ended: {args.metric} "
        + (f"{value:.4g}." if value is not None else "was not logged."),
    )


def _builtin(store: Store, args: TrainModelArgs, paths: list[Path], ctx: CallContext) -> TrainedModel:
    from tools.modeling.data import check_task
    from tools.modeling.models import complete_config, default_config
    from tools.modeling.training import UnusableConfig, evaluate_config, fit_config

    task = check_task(args.task)
    config = complete_config(args.config, task) if args.config else default_config(task)
    ctx.progress(0, 3, f"validating {config['family']} on the newest rows")
    try:
        scored = evaluate_config(
            config, paths, args.target, args.drop, task, args.metric, args.seed, positive=args.positive
        )
    except UnusableConfig as error:
        raise FixableError(f"{config['family']} cannot be trained on this data: {error}") from error
    ctx.progress(1, 3, f"{args.metric} {scored.value:.4g}; training on all rows")
    started = time.perf_counter()
    model, sample = fit_config(config, paths, args.target, args.drop, task, args.seed)
    fit_s = time.perf_counter() - started
    ctx.progress(2, 3, "logging the model")
    client = store.client()
    with reported(store.tracking_uri, writing="logging the model"):
        run_id = _start(client, store, args, ctx)
        with _ended(client, run_id):
            client.log_batch(
                run_id,
                params=params_of(config | _described(args, paths)),
                metrics=metrics_of(
                    {args.metric: scored.value, "fit_s": fit_s, "validation_latency_ms": scored.latency_ms}
                ),
            )
            model_id, size = log_model(client, run_id, model, sample, {args.metric: scored.value})
    ctx.progress(3, 3, "model logged")
    return TrainedModel(
        run_id=run_id,
        model_uri=f"models:/{model_id}",
        validation_metric=args.metric,
        validation_value=scored.value,
        size_bytes=size,
        fit_s=fit_s,
        too_good=scored.too_good,
        message=f"{config['family']} trained in {fit_s:.1f} s: validation {args.metric} {scored.value:.4g}.",
    )


def log_model(
    client: "MlflowClient", run_id: str, model: Any, sample: Any, metrics: dict[str, float | None]
) -> tuple[str, int]:
    """What `mlflow.sklearn.log_model` does, through the client: its ID and bytes.

    The function itself works only on the process-wide tracking address and active run, which are the user's where the
    process is a notebook, and which it would export to the environment.
    """
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.models import Model, infer_signature
    from mlflow.sklearn import save_model

    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id, name="model", source_run_id=run_id, params=dict(run.data.params)
    )
    status = "FAILED"
    try:
        # Whole numbers that are float in the signature also accept rows where one is missing.
        whole = sample.select_dtypes("integer").columns
        example = sample.astype(dict.fromkeys(whole, "float64"))
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder) / "model"
            save_model(
                model,
                str(path),
                mlflow_model=Model(
                    artifact_path=logged.artifact_location,
                    run_id=run_id,
                    model_uuid=logged.model_id,
                    model_id=logged.model_id,
                ),
                signature=infer_signature(example, model.predict(sample)),
                input_example=example.head(EXAMPLE_ROWS),
                # skops refuses tree ensembles and our column reader unless told to trust them, from a list that is
                # kept beside the model: no safer, and slower.
                serialization_format="cloudpickle",
                pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
            )
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            client.log_model_artifacts(logged.model_id, str(path))
        status = "READY"
    finally:
        client.finalize_logged_model(logged.model_id, status)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    linked = [Metric(m.key, m.value, m.timestamp, 0, model_id=logged.model_id) for m in metrics_of(metrics)]
    client.log_batch(run_id, metrics=linked)
    return logged.model_id, size


def _own(
    settings: Mapping[str, str | None], store: Store, args: TrainModelArgs, paths: list[Path], ctx: CallContext
) -> TrainedModel:
    command = command_of(args.trainer)
    for path in paths:
        if not path.is_file():
            raise FixableError(f"cannot read {path}: no such file")
    client = store.client()
    with reported(store.tracking_uri, writing="logging the model"):
        run_id = _start(client, store, args, ctx)
        with _ended(client, run_id):
            client.log_batch(run_id, params=params_of(_described(args, paths)))
            started = time.perf_counter()
            place = str(client.get_run(run_id).info.artifact_uri)
            output = run_trainer(command, Training(settings, store, args, paths, run_id, place), ctx)
            fit_s = time.perf_counter() - started
            try:
                model_id = last_model_id(client, run_id)
            except FixableError as error:
                raise FinalError(
                    f"the trainer {args.trainer!r} ended without logging a model to its MLflow run {run_id} "
                    f"(mlflow.<flavor>.log_model in mlflow.start_run()); end of its output: {output or '(none)'}"
                ) from error
        value = client.get_run(run_id).data.metrics.get(args.metric)
        size = model_size(client, model_id)
    found = f"{args.metric} {value:.4g}" if value is not None else f"no metric {args.metric} logged"
    return TrainedModel(
        run_id=run_id,
        model_uri=f"models:/{model_id}",
        validation_metric=args.metric,
        validation_value=value,
        size_bytes=size,
        fit_s=fit_s,
        message=f"{args.trainer} logged a model in {fit_s:.1f} s: {found}.",
    )


def model_size(client: "MlflowClient", model_id: str, folder: str | None = None) -> int:
    """Bytes of a logged model's files."""
    size = 0
    for item in client.list_logged_model_artifacts(model_id, folder):
        size += model_size(client, model_id, item.path) if item.is_dir else item.file_size or 0
    return size


def _start(client: "MlflowClient", store: Store, args: TrainModelArgs, ctx: CallContext) -> str:
    tags = {"mlops.crew_run": ctx.run_id, "mlops.trainer": args.trainer[:200]}
    if ctx.idempotency_key:
        tags[KEY_TAG] = ctx.idempotency_key
    run = client.create_run(store.experiment_id(client), run_name=args.run_name or None, tags=tags)
    return run.info.run_id


@contextlib.contextmanager
def _ended(client: "MlflowClient", run_id: str) -> Generator[None]:
    """The run is FINISHED, KILLED when cancelled, or FAILED afterwards."""
    from mlflow.exceptions import MlflowException

    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except CallCancelled:
        status = "KILLED"
        raise
    finally:
        # A store that is gone cannot be told; the error that is on its way says so.
        with contextlib.nullcontext() if status == "FINISHED" else contextlib.suppress(MlflowException):
            client.set_terminated(run_id, status)


def _described(args: TrainModelArgs, paths: list[Path]) -> dict[str, Any]:
    own = args.trainer != "builtin"
    return {
        "train": ", ".join(path.name for path in paths),
        "target": args.target,
        "task": args.task,
        "metric": args.metric,
        "seed": args.seed,
        "drop": ", ".join(args.drop),
        "trainer": args.trainer,
        **({"config": args.config} if own and args.config else {}),
    }
