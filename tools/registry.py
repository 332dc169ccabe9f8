"""Every integration the project ships, one line each. Nothing is imported until it is asked for."""

import importlib

from tools.core.contract import Integration
from tools.core.errors import FixableError

INTEGRATIONS: dict[str, str] = {
    "dvc": "tools.integrations.dvc.spec",
    "great_expectations": "tools.integrations.great_expectations.spec",
    "evidently": "tools.integrations.evidently.spec",
    "synthetic": "tools.integrations.synthetic.spec",
    "mlflow": "tools.integrations.mlflow.spec",
    "wandb": "tools.integrations.wandb.spec",
    "optuna": "tools.integrations.optuna.spec",
    "hyperopt": "tools.integrations.hyperopt.spec",
    "ray": "tools.integrations.ray.spec",
    "serving": "tools.integrations.serving.spec",
    "prometheus": "tools.integrations.prometheus.spec",
    "ab_test": "tools.integrations.ab_test.spec",
    "judge": "tools.integrations.judge.spec",
    "people": "tools.integrations.people.spec",
}


def load_spec(name: str) -> Integration:
    """The spec of an integration.

    Raises:
        FixableError: no such integration; names the valid ones.
    """
    if name not in INTEGRATIONS:
        raise FixableError(f"unknown integration {name!r}; valid integrations: {', '.join(INTEGRATIONS)}")
    spec = importlib.import_module(INTEGRATIONS[name]).SPEC
    assert isinstance(spec, Integration), f"{INTEGRATIONS[name]}.SPEC is not an Integration"
    return spec


def vendors() -> tuple[str, ...]:
    """The top-level modules of every vendor's library, which nothing but integrations may import."""
    return tuple(sorted({module for name in INTEGRATIONS for module in load_spec(name).imports}))
