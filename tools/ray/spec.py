"""What the Ray integration offers."""

from tools.core.contract import Action, Effect, Integration, Setting
from tools.modeling.search import SearchResult, TuneArgs

SPEC = Integration(
    name="ray",
    title="Ray",
    summary="Tunes the hyperparameters of a model config in parallel.",
    actions=(
        Action(
            name="tune",
            summary="Tune a config's numeric hyperparameters in parallel.",
            args=TuneArgs,
            result=SearchResult,
            effect=Effect.WRITE,
            idempotent=True,
            timeout_s=6 * 3600.0,
        ),
    ),
    backend="tools.ray.backend:RayBackend",
    requires=("ray",),
    extra="ray",
    settings=(
        Setting(
            "RAY_ADDRESS",
            "address of a running Ray cluster (host:port, ray://host:port, auto); unset: local processes for the call",
            real=True,
        ),
    ),
)
