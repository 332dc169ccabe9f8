"""Models of the store, each loaded in a process of its own that outlives the call, for the calls that use it again."""

from tools.core.contract import CallContext
from tools.integrations.mlflow.tracking import Store
from tools.modeling.model_host import IsolatedModel, ModelHost, ModelPool
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
            self._pool = ModelPool(ModelHost(ctx.project, closed=[ctx.home]))
        outside = model_uri in ctx.outside_models
        return self._pool.use(
            model_uri,
            lambda folder: fetch_model(model_uri, store.tracking_uri, store.registry_uri, folder, outside=outside),
        )

    def close(self) -> None:
        """End every model's process."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
