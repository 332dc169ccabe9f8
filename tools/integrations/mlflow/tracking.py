"""Reaching an MLflow store: its client, its experiments, its errors; studies logged as runs, runs found again."""

import contextlib
import logging
import math
import os
import re
import time
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.core.errors import (
    FinalError,
    FixableError,
    NeedsPersonError,
    RetryableError,
    ToolError,
    UnknownOutcomeError,
    shorten,
)
from tools.integrations.mlflow.compatible import ask_openly, check_database, hidden, is_server, too_old
from tools.integrations.mlflow.spec import FoundRuns, LoggedStudy, RunInfo
from tools.modeling.model_store import absolute_address
from tools.modeling.trials import Trial, Trials, flatten

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, Run

KEY_TAG = "mlops.idempotency_key"
PING_TIMEOUT_S = 4.0
PARAM_VALUE_LIMIT = 500
NOT_IN_NAMES = re.compile(r"[^\w./\- ]")

# MLflow reads these when it is imported or at each request. A value the user has set wins.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow refuses the folders of its older versions otherwise
    # MLflow's own defaults (7 retries, 120 s each) hang for minutes when a server dies.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
}
NO_ANSWER = ("failed with exception", "failed with timeout exception", "failed with error code 5")
REFUSED_CODES = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
WRONG_ARGUMENT_CODES = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE", "BAD_REQUEST")
PASSING_CODES = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")


def prepare_environment(settings: Mapping[str, str | None]) -> None:
    """Quiet MLflow, shorten its patience, and hand it the credentials, which it reads from the environment only."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        if value := settings.get(name):
            os.environ[name] = value
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store and model registry.

    Nothing here sets MLflow's process-wide tracking address: the process may be a notebook that has its own.

    Args:
        artifacts: folder of the artifacts of new experiments; None lets the server choose.
    """

    tracking_uri: str
    registry_uri: str
    experiment: str
    artifacts: Path | None

    @classmethod
    def from_settings(cls, settings: Mapping[str, str | None], folder: Path, project: Path) -> "Store":
        """The configured store, or SQLite in `folder`."""
        embedded = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        tracking = absolute_address(settings.get("MLFLOW_TRACKING_URI") or embedded, project)
        return cls(
            tracking_uri=tracking,
            registry_uri=absolute_address(settings.get("MLFLOW_REGISTRY_URI") or tracking, project),
            experiment=settings.get("MLFLOW_EXPERIMENT_NAME") or "mlops-crew",
            artifacts=folder.resolve() / "artifacts" if tracking == embedded else None,
        )

    def client(self) -> "MlflowClient":
        """A client, after a look whether the servers answer at all.

        Raises:
            RetryableError: one does not, within seconds.
            NeedsPersonError: a database of another version of MLflow, which opening would change.
        """
        for uri in dict.fromkeys((self.tracking_uri, self.registry_uri)):
            ping(uri)
            if self.artifacts is None:  # a store of others
                check_database(uri)
        with warnings.catch_warnings():
            # Deprecations inside MLflow and the database library it uses; nobody here can act on them.
            warnings.simplefilter("ignore")
            from mlflow import MlflowClient

            with reported(self.tracking_uri):
                return MlflowClient(self.tracking_uri, self.registry_uri)

    def experiment_id(self, client: "MlflowClient", name: str = "") -> str:
        """The experiment of that name (the configured one by default), made if need be.

        Raises:
            FixableError: it was deleted.
        """
        from mlflow.exceptions import MlflowException

        name = name or self.experiment
        found = client.get_experiment_by_name(name)
        if found is None:
            place = str(self.artifacts) if self.artifacts else None
            try:
                return client.create_experiment(name, artifact_location=place)
            except MlflowException as error:
                # Somebody else made it in between.
                found = client.get_experiment_by_name(name)
                if found is None:
                    raise FinalError(f"cannot create the MLflow experiment {name!r}: {error.message}") from error
        if found.lifecycle_stage != "active":
            raise FixableError(f"the MLflow experiment {name!r} is deleted; restore it or name another")
        return found.experiment_id


@contextlib.contextmanager
def addressed(store: Store) -> Generator[None]:
    """Point MLflow's process-wide addresses to the store, for the few calls of the library that read nothing else.

    They are put back at once: where the process is a notebook they are the user's, and MLflow exports them to the
    environment, where they would read as a setting.
    """
    import mlflow

    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    exported = [os.environ.get(name) for name in names]
    tracking = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    registry = mlflow.get_registry_uri()
    unset: Any = None  # what both functions take for "not set", whatever their annotation says
    mlflow.set_tracking_uri(store.tracking_uri)
    mlflow.set_registry_uri(store.registry_uri)
    try:
        yield
    finally:
        # An address that followed from another place (the environment, the tracking address) goes on following it.
        mlflow.set_tracking_uri(unset if tracking in (None, exported[0]) else tracking)
        mlflow.set_registry_uri(unset if tracking is None or registry in (tracking, exported[1]) else registry)
        for name, value in zip(names, exported, strict=True):
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def ping(uri: str) -> None:
    """Raise `RetryableError` unless something answers at an HTTP address; other addresses pass."""
    import httpx

    if not is_server(uri):
        return
    try:
        ask_openly(uri, "health", PING_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise RetryableError(
            f"the MLflow server at {uri} does not answer ({type(error).__name__}); start it or correct "
            "MLFLOW_TRACKING_URI / MLFLOW_REGISTRY_URI",
            tried=f"GET {uri}/health for {PING_TIMEOUT_S:g} s",
        ) from error
    except httpx.InvalidURL as error:
        raise FixableError(f"MLFLOW_TRACKING_URI or MLFLOW_REGISTRY_URI is not an address: {uri!r}") from error


@contextlib.contextmanager
def reported(uri: str, *, writing: str = "") -> Generator[None]:
    """Translate MLflow's errors.

    Args:
        writing: what is being written, when a lost connection leaves open whether it was written.

    Raises:
        FixableError: something named in the arguments does not exist or is not valid.
        NeedsPersonError: the server refuses the credentials.
        RetryableError: the store does not answer.
        UnknownOutcomeError: it stopped answering while `writing`.
        FinalError: anything else.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise _translated(error, uri, writing) from error


def _translated(error: Any, uri: str, writing: str) -> ToolError:
    text = shorten(" ".join(str(error.message).split()), 400)
    if "out-of-date database schema" in text:
        return NeedsPersonError(
            f"the MLflow database {hidden(uri)} was made by another version of MLflow than this one: make a copy, "
            f"then run `mlflow db upgrade {hidden(uri)}` here, or serve it with its own version and set "
            "MLFLOW_TRACKING_URI to that server",
            tried=text,
        )
    if error.error_code == "ENDPOINT_NOT_FOUND":
        return too_old(uri)
    if error.error_code in REFUSED_CODES or "error code 401" in text or "error code 403" in text:
        return NeedsPersonError(
            f"the MLflow server at {uri} refuses the credentials; set MLFLOW_TRACKING_TOKEN, or "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            tried="the environment and .env",
        )
    if error.error_code in PASSING_CODES or any(sign in text for sign in NO_ANSWER):
        if writing:
            return UnknownOutcomeError(
                f"MLflow at {uri} stopped answering while {writing}; read it back before repeating", tried=uri
            )
        return RetryableError(f"MLflow at {uri} does not answer: {text}", tried=uri)
    if error.error_code in WRONG_ARGUMENT_CODES:
        return FixableError(f"MLflow at {uri}: {text}")
    return FinalError(f"MLflow at {uri}: {error.error_code}: {text}")


def now_ms() -> int:
    return int(time.time() * 1000)


def iso(milliseconds: int | None) -> str:
    """UTC time, seconds kept; empty for None."""
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def params_of(values: Mapping[str, Any]) -> "list[Param]":
    """MLflow parameters: nested names joined by dots, values as text."""
    from mlflow.entities import Param

    flat = flatten(dict(values))
    return [Param(NOT_IN_NAMES.sub("_", name)[:250], str(value)[:PARAM_VALUE_LIMIT]) for name, value in flat.items()]


def metrics_of(values: Mapping[str, float | None], step: int = 0) -> "list[Metric]":
    """MLflow metrics of the values that are numbers."""
    from mlflow.entities import Metric

    return [
        Metric(NOT_IN_NAMES.sub("_", name), value, now_ms(), step)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    ]


def run_under(client: "MlflowClient", experiment_id: str, key: str) -> "Run | None":
    """The finished run that was made under an idempotency key; None where there is none.

    What was begun under it and cut off is deleted with its nested runs (MLflow keeps deleted runs): nobody ends it any
    more, and it would be found beside the one that takes its place.
    """
    if not key:
        return None
    finished: Run | None = None
    for run in client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", order_by=["start_time ASC"]):
        if run.info.status == "FINISHED":
            finished = run
        elif run.info.status == "RUNNING":
            nested = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
            for cut in [*client.search_runs([experiment_id], nested), run]:
                client.delete_run(cut.info.run_id)
    return finished


def log_study(store: Store, trials: Trials, experiment: str, crew_run: str, key: str = "") -> LoggedStudy:
    """One parent run for the study and one nested run per trial: three requests each, parameters in one batch.

    Args:
        key: an idempotency key; a study that was logged under it is not logged again.
    """
    client = store.client()
    with reported(store.tracking_uri, writing=f"logging the study {trials.study}"):
        experiment_id = store.experiment_id(client, experiment)
        if (known := run_under(client, experiment_id, key)) is not None:
            return _logged(client, store, trials, experiment, experiment_id, known.info.run_id)
        tags = {"mlops.crew_run": crew_run, "mlops.study": trials.study}
        keyed = {**tags, KEY_TAG: key} if key else tags
        parent = client.create_run(experiment_id, run_name=trials.study, tags=keyed).info.run_id
        ids = {trial.number: _log_trial(client, experiment_id, parent, trials, trial, tags) for trial in trials.trials}
        best = trials.best_trial()
        about = trials.model_dump(include={"study", "metric", "direction", "seed", "engine"})
        summary = {f"best_{trials.metric}": best.value if best else None, "trials": float(len(trials.trials))}
        client.log_batch(
            parent,
            metrics=metrics_of(summary),
            params=params_of(about | ({"best_trial": best.number, "best": best.config} if best else {})),
        )
        client.set_terminated(parent)
    return _told(store, trials, experiment, parent, ids[best.number] if best else None)


def _logged(
    client: "MlflowClient", store: Store, trials: Trials, experiment: str, experiment_id: str, parent: str
) -> LoggedStudy:
    """A study that is there already."""
    best = trials.best_trial()
    nested = client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=50_000)
    number = str(best.number) if best else None
    found = next((run.info.run_id for run in nested if run.data.params.get("number") == number), None)
    return _told(store, trials, experiment, parent, found)


def _told(store: Store, trials: Trials, experiment: str, parent: str, best_run_id: str | None) -> LoggedStudy:
    best = trials.best_trial()
    failed = sum(trial.value is None for trial in trials.trials)
    value = best.value if best else None
    return LoggedStudy(
        run_id=parent,
        experiment=experiment or store.experiment,
        trials=len(trials.trials),
        failed=failed,
        best_run_id=best_run_id,
        best_value=value,
        message=f"{len(trials.trials)} trials of {trials.study} are in MLflow under run {parent[:8]}"
        + ("." if value is None else f"; best {trials.metric} {value:.4g}."),
    )


def _log_trial(
    client: "MlflowClient", experiment_id: str, parent: str, trials: Trials, trial: Trial, tags: Mapping[str, str]
) -> str:
    named = {**tags, "mlflow.parentRunId": parent, "mlops.trial_state": trial.state}
    run_id = client.create_run(experiment_id, run_name=f"{trials.study}-{trial.number}", tags=named).info.run_id
    costs = trial.model_dump(include={"duration_s", "latency_ms", "size_bytes", "fairness_gap"})
    client.log_batch(
        run_id,
        metrics=metrics_of({trials.metric: trial.value, **costs}),
        params=params_of({"number": trial.number, **trial.config}),
    )
    client.set_terminated(run_id, "FINISHED" if trial.value is not None else "FAILED")
    return run_id


def find_runs(store: Store, filter_string: str, limit: int) -> FoundRuns | None:
    """Runs of the configured experiment, newest first; None when there are none."""
    client = store.client()
    with reported(store.tracking_uri):
        experiment = client.get_experiment_by_name(store.experiment)
        if experiment is None:
            return None
        found = client.search_runs([experiment.experiment_id], filter_string, max_results=limit)
    runs = [
        RunInfo(
            run_id=run.info.run_id,
            run_name=run.info.run_name or "",
            status=run.info.status,
            started=iso(run.info.start_time),
            metrics=dict(run.data.metrics),
        )
        for run in found
    ]
    noun = "run" if len(runs) == 1 else "runs"
    return FoundRuns(runs=runs, message=f"{len(runs)} {noun} in experiment {store.experiment}.") if runs else None
