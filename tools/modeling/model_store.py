"""Where a model of the configured store lies, and its files.

A registry keeps an address with each version, and whoever may write to it chooses that address: a path, another host.
So an address is followed only where it lies below what the tracking store itself says of the run or the experiment; and
on this machine, where an experiment may be given any folder by whoever makes it, only below the folders of the store.
The credentials of the tracking server go to that server and nowhere else.
"""

import contextlib
import importlib
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tools.core.errors import FinalError, FixableError, OutsideStoreError, shorten
from tools.core.model_ref import ModelAddress, parse_model_ref

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_HOPS = 3
DEFAULT_EXPERIMENT = "0"  # made with the store, by whoever set it up
ARTIFACT_FOLDERS = ("artifacts", "mlruns", "mlartifacts")  # beside a database, where MLflow and we keep artifacts
SERVER_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
# Scheme of an artifact store -> what its library reads.
STORAGE_CREDENTIALS = {
    "s3": (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION",
        "AWS_PROFILE", "MLFLOW_S3_ENDPOINT_URL", "MLFLOW_S3_IGNORE_TLS",
    ),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"),
    "wasbs": ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCESS_KEY"),
}  # fmt: skip
_LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})")


@dataclass(frozen=True)
class Located:
    """Where a model's files are. `outside`: not where the tracking store keeps any."""

    location: str
    outside: bool


def locate(model_uri: str, tracking_uri: str, registry_uri: str | None = None) -> Located:
    """Where the files of a model are, by the configured store.

    Raises:
        FixableError: the address names no model of a store.
        FinalError: there is no such model; says why.
    """
    from mlflow.exceptions import MlflowException

    address = parse_model_ref(model_uri)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri, registry_uri or tracking_uri)
        return _Store(client, tracking_uri).find(address, MAX_HOPS)
    except MlflowException as error:
        raise _unloadable(model_uri, error, registry_uri or tracking_uri) from error


def fetch_model(
    model_uri: str,
    tracking_uri: str,
    registry_uri: str | None = None,
    folder: Path | None = None,
    *,
    outside: bool = False,
) -> Path:
    """The files of a logged or registered model, on this machine. Nothing of them is executed.

    MLflow's process-wide addresses are neither read nor set: they are the user's where the process is a notebook, and
    setting them exports them to the environment, where they would read as a setting.

    Args:
        registry_uri: the tracking address by default.
        folder: where to put them; by default they stay where they are if that is this machine, and are downloaded
            into a new temporary folder otherwise.
        outside: a person let it be loaded although its files lie outside the store.

    Raises:
        FixableError: the address names no model of a store.
        OutsideStoreError: its files lie outside the store, and nobody let it be loaded.
        FinalError: there is no such model, or it cannot be downloaded; says why.
    """
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    found = locate(model_uri, tracking_uri, registry_uri)
    if found.outside and not outside:
        raise OutsideStoreError(
            f"the files of {model_uri} lie outside the configured store, at {_shown(found.location)}; loading them "
            "runs code of whoever put them there: it needs `models: {outside_store: ask}` in the policy, and a person",
            model=model_uri,
            tried=registry_uri or tracking_uri,
        )
    if found.outside and _host_of(found.location) is not None:
        raise FinalError(
            f"the files of {model_uri} lie on another host, {_shown(found.location)}, which gets no credentials of "
            "ours; log the model to the configured store"
        )
    try:
        return Path(
            mlflow.artifacts.download_artifacts(
                found.location, dst_path=None if folder is None else str(folder), tracking_uri=tracking_uri
            )
        )
    except (MlflowException, OSError) as error:
        raise _unloadable(model_uri, error, registry_uri or tracking_uri) from error


def absolute_address(uri: str, project: Path) -> str:
    """An address of a store that means the same in every process: a relative path in it is one below the project."""
    if found := re.fullmatch(r"(sqlite:///)([^/:].*)", uri):
        return f"{found[1]}{(project / found[2]).resolve()}"
    path = re.sub(r"^file:(?://)?(?=[^/])", "", uri)
    if not path or path.startswith(("/", "databricks", "uc:")) or re.match(r"^[a-z][\w+.-]+:", path):
        return uri  # absolute, or an address of another kind
    return str((project / path).resolve())


def import_libraries() -> None:
    """Import what finding and fetching a model needs, so that the first one does not wait for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("mlflow.artifacts")


def store_credentials(
    settings: Mapping[str, str | None], tracking_uri: str, artifacts: str | None = None
) -> dict[str, str]:
    """What a process of its own needs to reach the configured store, and nothing else.

    Args:
        settings: of the integration.
        artifacts: where the artifacts are; None: it may be anywhere that the server says.
    """
    if not tracking_uri.startswith(("http:", "https:", "databricks")) and artifacts is None:
        return {}
    server = SERVER_CREDENTIALS if tracking_uri.startswith(("http:", "https:")) else ()
    schemes = STORAGE_CREDENTIALS if artifacts is None else {urlsplit(artifacts).scheme}
    storage = [name for scheme in schemes for name in STORAGE_CREDENTIALS.get(scheme, ())]
    found = {name: settings.get(name) or os.environ.get(name) for name in server}
    found |= {name: os.environ.get(name) for name in storage}
    return {name: value for name, value in found.items() if value}


class _Store:
    """Looks models up in one tracking store and registry."""

    def __init__(self, client: "MlflowClient", tracking_uri: str) -> None:
        self.client = client
        self.tracking_uri = tracking_uri

    def find(self, address: ModelAddress, hops: int) -> Located:
        if address.logged:
            return self._logged(address.logged)
        if address.run and address.path:
            return self._of_run(address.run, address.path)
        return self._registered(address, hops)

    def _logged(self, model_id: str) -> Located:
        model = self.client.get_logged_model(model_id)
        return self._judged(str(model.artifact_location), [self._artifacts_of(model.experiment_id)])

    def _of_run(self, run_id: str, path: str) -> Located:
        run = self.client.get_run(run_id)
        outputs: Any = run.outputs
        for output in reversed(outputs.model_outputs if outputs else []):
            if self.client.get_logged_model(output.model_id).name == path:
                return self._logged(output.model_id)
        root = str(run.info.artifact_uri)
        return self._judged(f"{root.rstrip('/')}/{path}", [root])

    def _registered(self, address: ModelAddress, hops: int) -> Located:
        name = str(address.name)
        version: Any = (
            self.client.get_model_version(name, str(address.version))
            if address.version
            else self.client.get_model_version_by_alias(name, str(address.alias))
        )
        source = str(version.source or "")
        if found := _LOGGED.fullmatch(source):
            return self._logged(found[1])
        if source.startswith(("models:", "runs:")):
            try:
                inner = parse_model_ref(source)
            except FixableError:
                return Located(source, outside=True)
            if hops == 0:
                raise FinalError(f"cannot load the model {address.text}: its versions refer to each other")
            return self.find(inner, hops - 1)
        roots: list[str] = []
        if version.run_id:
            run = self.client.get_run(version.run_id)
            roots = [str(run.info.artifact_uri), self._artifacts_of(run.info.experiment_id)]
        return self._judged(source, roots)

    def _artifacts_of(self, experiment_id: str) -> str:
        return str(self.client.get_experiment(experiment_id).artifact_location)

    def _judged(self, location: str, roots: list[str]) -> Located:
        inside = any(_is_below(location, root) for root in roots) and self._is_ours(location)
        if inside and _is_local(location):
            inside = any(_is_below(location, root) for root in self._local_roots())
        return Located(location, outside=not inside)

    def _local_roots(self) -> list[str]:
        """The folders of this machine in which the store keeps artifacts: its own, and that of its first experiment."""
        from mlflow.exceptions import MlflowException

        found: list[str] = []
        if database := re.match(r"^sqlite:///(.+)$", self.tracking_uri):
            beside = Path(database[1]).absolute().parent
            found += [str(beside / name) for name in ARTIFACT_FOLDERS]
        elif _is_local(self.tracking_uri):
            found.append(os.path.abspath(_plain(self.tracking_uri)))
        with contextlib.suppress(MlflowException):  # it may have been deleted
            default = _plain(self._artifacts_of(DEFAULT_EXPERIMENT))
            found += [str(Path(default).parent)] if _is_local(default) else []
        return found

    def _is_ours(self, location: str) -> bool:
        """Whether the credentials of the tracking server would go nowhere else."""
        host, store = _host_of(location), urlsplit(self.tracking_uri)
        same_scheme = urlsplit(location).scheme in (store.scheme, "mlflow-artifacts")
        return host is None or (host == store.netloc and same_scheme)


def _is_below(location: str, root: str) -> bool:
    """Whether an address lies below another one, however it is written."""
    ours, theirs = _plain(location), _plain(root)
    if not theirs or ".." in re.split(r"[/\\]", unquote(ours)):
        return False
    return ours == theirs or ours.startswith(f"{theirs}/")


def _is_local(address: str) -> bool:
    """Whether an address is a path of this machine."""
    return urlsplit(address).scheme in ("", "file")


def _plain(address: str) -> str:
    """An address without the ways of writing the same one."""
    return re.sub(r"^file:(?://)?(?=/)", "", address).rstrip("/")


def _host_of(location: str) -> str | None:
    """The host that MLflow would send its credentials to, to fetch a location; None: none."""
    parts = urlsplit(location)
    if parts.scheme in ("http", "https", "mlflow-artifacts") and (parts.netloc or parts.scheme != "mlflow-artifacts"):
        return parts.netloc
    return None


def _shown(location: str) -> str:
    """An address without user and password."""
    return shorten(re.sub(r"(?<=://)[^/@]*@", "", location), 200)


def _unloadable(model_uri: str, error: Exception, tried: str) -> FinalError:
    return FinalError(f"cannot load the model {model_uri}: {shorten(' '.join(str(error).split()), 300)}", tried=tried)
