"""Every integration the project ships, one line each. Nothing is imported until it is asked for."""

import importlib

from tools.core.contract import Integration
from tools.core.errors import FixableError

INTEGRATIONS: dict[str, str] = {
    "dvc": "tools.dvc.spec",
    "great_expectations": "tools.great_expectations.spec",
    "evidently": "tools.evidently.spec",
    "synthetic": "tools.synthetic.spec",
    "mlflow": "tools.mlflow.spec",
    "wandb": "tools.wandb.spec",
    "optuna": "tools.optuna.spec",
    "hyperopt": "tools.hyperopt.spec",
    "ray": "tools.ray.spec",
    "serving": "tools.serving.spec",
    "prometheus": "tools.prometheus.spec",
    "ab_test": "tools.ab_test.spec",
    "judge": "tools.judge.spec",
    "people": "tools.people.spec",
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
