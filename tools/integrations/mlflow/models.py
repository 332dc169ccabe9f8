"""Models of the store, each loaded in a process of its own that outlives the call, for the calls that use it again."""

import os
import tempfile
from pathlib import Path

from tools.core.contract import CallContext
from tools.core.errors import FixableError
from tools.core.keys import keys_folder
from tools.integrations.mlflow.tracking import Store
from tools.modeling.model_host import IsolatedModel, ModelHost, ModelPool, content_digest
from tools.modeling.model_store import fetch_model


class Models:
    """The models that a backend used last. To be closed."""

    def __init__(self) -> None:
        self._pool: ModelPool | None = None

    def load(self, store: Store, model_uri: str, ctx: CallContext) -> tuple[IsolatedModel, int]:
        """A model, and the bytes of its files.

        Raises:
            RetryableError: the server does not answer.
            OutsideStoreError: its files lie outside the store, and nobody let it be loaded.
            FinalError: it does not exist or cannot be loaded.
        """
        store.client()  # says within seconds that the server does not answer
        if self._pool is None:
            self._pool = ModelPool(ModelHost(ctx.project, closed=[ctx.home, keys_folder(os.environ)]))
        outside = model_uri in ctx.outside_models
        return self._pool.use(
            model_uri,
            lambda folder: fetch_model(model_uri, store.tracking_uri, store.registry_uri, folder, outside=outside),
        )

    def check(self, store: Store, model_uri: str, digest: str, ctx: CallContext) -> None:
        """Raise `FixableError` unless a model's files are those that the digest is of; nothing of them is executed."""
        store.client()  # says within seconds that the server does not answer
        with tempfile.TemporaryDirectory(prefix="mlops-files-") as folder:
            outside = model_uri in ctx.outside_models
            local = fetch_model(model_uri, store.tracking_uri, store.registry_uri, Path(folder), outside=outside)
            found, _ = content_digest(local)
        if found != digest:
            raise FixableError(
                f"{model_uri} is not the model that was judged: its files have the SHA-256 {found[:12]}…, expected was "
                f"{digest[:12]}…"
            )

    def close(self) -> None:
        """End every model's process."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
