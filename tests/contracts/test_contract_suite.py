"""One contract, every integration of the registry, every transport."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tools.core import contract_suite as suite
from tools.core.contract import Integration
from tools.core.gateway import Gateway
from tools.core.policy import Policy, PolicyFile
from tools.core.results import ToolResult
from tools.registry import INTEGRATIONS, load_spec
from tools.session import open_gateway

VENDORS = (
    "dvc", "great_expectations", "evidently", "mlflow", "wandb", "optuna", "hyperopt", "ray", "prometheus_client",
    "sklearn", "scipy", "matplotlib",
)  # fmt: skip
TRANSPORTS = ("in-process", "stdio", "http")
PASSED = ("PATH", "HOME", "LANG", "TMPDIR")


@contextmanager
def serving_http(name: str, env: Mapping[str, str]) -> Iterator[str]:
    """`python -m tools NAME --http 0`, as a person starts it; gives its URL."""
    command = [sys.executable, "-m", "tools", name, "--http", "0"]
    with subprocess.Popen(command, env=dict(env), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield next(line for line in process.stderr if "http://" in line).split()[-1]
        finally:
            process.terminate()
            process.communicate(timeout=30)


@contextmanager
def connected(spec: Integration, transport: str, project: Path, settings: Mapping[str, str]) -> Iterator[Gateway]:
    """A gateway to one integration over a transport, in an empty project."""
    (project / "config").mkdir()
    env = {name: os.environ[name] for name in PASSED if name in os.environ}
    env |= {"MLOPS_PROJECT": str(project), "PYTHONPATH": os.getcwd(), **settings}
    policy = Policy(PolicyFile.model_validate({"autonomy": "autonomous", "integrations": {spec.name: {"allow": "*"}}}))

    @contextmanager
    def gateway(server: str) -> Iterator[Gateway]:
        (project / "config" / "stack.yaml").write_text(f"servers: {{{spec.name}: {{{server}}}}}")
        with open_gateway(project, run_id="contract", policy=policy, env=env) as opened:
            yield opened

    if transport != "http":
        with gateway(f"transport: {transport}") as opened:
            yield opened
        return
    env |= {"MLOPS_GATEWAY_KEY": "a-key-that-both-sides-share", "MLOPS_SERVER_TOKEN": "a-token-of-both-sides"}
    with serving_http(spec.name, env) as url, gateway(f'transport: http, url: "{url}"') as opened:
        yield opened


def caller(gateway: Gateway, spec: Integration) -> suite.Call:
    def call(action: str, arguments: Mapping[str, Any]) -> ToolResult:
        return gateway.call(spec.name, {"action": action, **arguments})

    return call


@pytest.mark.parametrize("check", suite.STATIC_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_integration_keeps_the_contract(name: str, check: Any) -> None:
    check(load_spec(name))


def test_listing_the_integrations_imports_no_vendor_library_and_is_quick() -> None:
    suite.check_specs_are_light(INTEGRATIONS, VENDORS)


def test_definitions_cost_at_most_100_tokens_on_average() -> None:
    sizes = [suite.definition_tokens(action) for name in INTEGRATIONS for action in load_spec(name).actions]
    assert sum(sizes) / len(sizes) <= suite.MAX_MEAN_TOKENS


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_integration_works_over_every_transport(name: str, transport: str, tmp_path: Path) -> None:
    spec = load_spec(name)
    # In this process every example; over the others the first, because it is the transport that is tried.
    examples = suite.examples_of(spec)[: None if transport == "in-process" else 1]
    for example in examples:
        example.prepare(tmp_path)
    with connected(spec, transport, tmp_path, {}) as gateway:
        call = caller(gateway, spec)
        suite.check_wrong_calls_are_fixable(spec, call)
        for example in examples:
            suite.check_example(spec, example, call)
            suite.check_read_leaves_no_trace(spec, example, call, tmp_path / ".mlops")


@pytest.mark.parametrize("name", [name for name in INTEGRATIONS if suite.unreachable_of(load_spec(name))])
def test_a_real_server_that_does_not_answer_is_a_clear_error_within_seconds(name: str, tmp_path: Path) -> None:
    spec = load_spec(name)
    example = suite.examples_of(spec)[0]
    with connected(spec, "in-process", tmp_path, suite.unreachable_of(spec)) as gateway:
        suite.check_unreachable(spec, example, caller(gateway, spec))
