"""What the Hyperopt integration offers."""

from tools.core.contract import Action, Effect, Integration
from tools.modeling.search import SearchResult, TuneArgs

SPEC = Integration(
    name="hyperopt",
    title="Hyperopt",
    summary="Tunes the hyperparameters of a model config.",
    actions=(
        Action(
            name="tune",
            summary="Tune a config's numeric hyperparameters.",
            args=TuneArgs,
            result=SearchResult,
            effect=Effect.WRITE,
            idempotent=True,
            timeout_s=6 * 3600.0,
            key=(),
            repeatable=True,
        ),
    ),
    backend="tools.integrations.hyperopt.backend:HyperoptBackend",
    requires=("hyperopt",),
    imports=("hyperopt",),
)
