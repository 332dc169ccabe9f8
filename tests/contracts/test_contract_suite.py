"""One contract, every integration of the registry, every transport."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import types
from mcp.shared.memory import create_connected_server_and_client_session

from tools.core import contract_suite as suite
from tools.core import remote_suite
from tools.core.contract import Integration
from tools.core.gateway import Gateway
from tools.core.gateway_server import GatewayServer
from tools.core.policy import Policy, PolicyFile
from tools.core.results import ToolResult
from tools.core.schema import agent_tool_name
from tools.core.standin import StandIn
from tools.registry import INTEGRATIONS, load_spec, vendors
from tools.session import open_gateway

TRANSPORTS = ("in-process", "stdio", "http")
REMOTE = [name for name in INTEGRATIONS if suite.standin_of(load_spec(name))]
TROUBLES = [
    pytest.param(name, number, id=f"{name}-{trouble.name.replace(' ', '_')}")
    for name in REMOTE
    for number, trouble in enumerate(remote_suite.troubles(suite.standin_of(load_spec(name)) or StandIn({})))
]
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
    (project / "config").mkdir(exist_ok=True)
    env = {name: os.environ[name] for name in PASSED if name in os.environ}
    env |= {"MLOPS_PROJECT": str(project), "PYTHONPATH": os.getcwd(), **settings}
    policy = Policy(PolicyFile.model_validate({"autonomy": "autonomous", "integrations": {spec.name: {"allow": "*"}}}))

    @contextmanager
    def gateway(server: str) -> Iterator[Gateway]:
        (project / "config" / "stack.yaml").write_text(f"servers: {{{spec.name}: {{{server}}}}}")
        with open_gateway(project, policy=policy, env=env) as opened:
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
    suite.check_specs_are_light(INTEGRATIONS, vendors())


def test_definitions_cost_at_most_100_tokens_on_average() -> None:
    sizes = [suite.definition_tokens(action) for name in INTEGRATIONS for action in load_spec(name).actions]
    assert sum(sizes) / len(sizes) <= suite.MAX_MEAN_TOKENS


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_integration_works_over_every_transport(name: str, transport: str, tmp_path: Path) -> None:
    spec = load_spec(name)
    with suite.staged(spec) as stages:
        for number, (examples, settings, play) in enumerate(stages):
            # In this process every example; over the others the first, because it is the transport that is tried.
            tried = examples[: None if transport == "in-process" else 1]
            for example in tried:
                example.prepare(tmp_path)
            with connected(spec, transport, tmp_path, settings) as gateway:
                call = caller(gateway, spec)
                if number == 0:
                    suite.check_wrong_calls_are_fixable(spec, call)
                for example in tried:
                    if transport == "in-process" and play is None:
                        suite.check_no_secret(spec, example, settings, tmp_path)
                    suite.check_example(spec, example, suite.replayed(call, example, play))
                    suite.check_read_leaves_no_trace(spec, example, suite.replayed(call, example, play), tmp_path)


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_outside_client_that_reads_only_the_text_misses_nothing(name: str, tmp_path: Path) -> None:
    spec = load_spec(name)

    async def ask(gateway: Gateway, example: suite.Example) -> None:
        async with create_connected_server_and_client_session(GatewayServer(gateway, [name]).mcp) as session:
            answer = await session.call_tool(agent_tool_name(name, example.action), dict(example.arguments))
            suite.check_text(f"{name}.{example.action}", answer)

    with suite.staged(spec) as stages:
        examples, settings, play = stages[0]
        examples[0].prepare(tmp_path)
        with connected(spec, "in-process", tmp_path, settings) as gateway:
            if play is not None:
                play.begin(examples[0].exchanges)
            anyio.run(ask, gateway, examples[0])


def test_a_result_whose_text_lacks_a_part_breaks_the_contract() -> None:
    structured = {"status": "ok", "data": {"path": "models/a"}}
    whole, short, words = (
        types.CallToolResult(content=[types.TextContent(type="text", text=text)], structuredContent=structured)
        for text in (json.dumps(structured), '{"status": "ok"}', "Done.")
    )
    suite.check_text("x.y", whole)
    with pytest.raises(AssertionError, match="lacks data"):
        suite.check_text("x.y", short)
    with pytest.raises(AssertionError, match="no JSON object"):
        suite.check_text("x.y", words)


@pytest.mark.parametrize("name", REMOTE)
def test_a_remote_integration_sends_what_its_system_takes(name: str, tmp_path: Path) -> None:
    spec = load_spec(name)
    standin = suite.standin_of(spec)
    assert standin is not None
    with standin.serving() as play:
        for example in suite.examples_of(spec):
            if example.exchanges:
                remote_suite.check_remote_example(spec, example, play, tmp_path / ".mlops")
        if standin.health:
            remote_suite.check_health(spec, play, tmp_path / ".mlops")


@pytest.mark.parametrize(("name", "number"), TROUBLES)
def test_a_remote_integration_ends_every_trouble_as_its_reader_needs_it(name: str, number: int, tmp_path: Path) -> None:
    spec = load_spec(name)
    standin = suite.standin_of(spec)
    assert standin is not None
    with standin.serving() as play:
        remote_suite.check_trouble(spec, remote_suite.troubles(standin)[number], play, tmp_path / ".mlops")


@pytest.mark.parametrize("name", [name for name in INTEGRATIONS if suite.unreachable_of(load_spec(name))])
def test_a_real_server_that_does_not_answer_is_a_clear_error_within_seconds(name: str, tmp_path: Path) -> None:
    spec = load_spec(name)
    # Where there is a stand-in, a call that reaches the system.
    example = next((e for e in suite.examples_of(spec) if e.exchanges), suite.examples_of(spec)[0])
    with connected(spec, "in-process", tmp_path, suite.unreachable_of(spec)) as gateway:
        suite.check_unreachable(spec, example, caller(gateway, spec))
    suite.check_no_secret(spec, example, suite.unreachable_of(spec), tmp_path)
