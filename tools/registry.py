"""Every integration the project ships, one line each. Nothing is imported until it is asked for."""

import importlib
from typing import TYPE_CHECKING

from tools.core.contract import Integration
from tools.core.errors import FixableError

if TYPE_CHECKING:
    from tools.core.tool import IntegrationTool

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


def load_tool(name: str) -> "type[IntegrationTool]":
    """The tool class of an integration.

    Raises:
        FixableError: no such integration; names the valid ones.
    """
    from tools.core.tool import IntegrationTool

    spec = load_spec(name)
    module = importlib.import_module(INTEGRATIONS[name].removesuffix(".spec") + ".tool")
    found = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, IntegrationTool) and getattr(kind, "spec", None) is spec
    ]
    assert len(found) == 1, f"{module.__name__} must hold exactly one tool class of {name}"
    return found[0]
