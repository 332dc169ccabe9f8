"""What the gateway's own MCP server offers to outside clients, what it tells them, and that calls keep none waiting."""

import dataclasses
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import mcp.types as types
import pytest
from mcp.client.session import ClientSession
from mcp.shared.memory import create_connected_server_and_client_session

from tests.core import fake
from tests.core.test_approval import SUPERVISED
from tools.core import gateway_server, relay, standing
from tools.core.approval import ApprovalStore
from tools.core.client import listed_tools
from tools.core.contract import Setting
from tools.core.gateway import Gateway
from tools.core.gateway_server import CALLS_AT_ONCE, GatewayServer

MANY = 40  # more than the threads that an event loop has by default


@asynccontextmanager
async def client(server: GatewayServer) -> AsyncGenerator[tuple[ClientSession, list[str]]]:
    """A session, and the methods of the notifications it hears."""
    heard: list[str] = []

    async def hear(message: Any) -> None:
        if isinstance(message, types.ServerNotification):
            heard.append(message.root.method)

    async with create_connected_server_and_client_session(server.mcp, message_handler=hear) as session:
        yield session, heard


async def until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    with anyio.fail_after(seconds):
        while not holds():
            await anyio.sleep(0.02)


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_server, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(gateway_server, "BEAT_EVERY_S", 0.02)


def test_an_integration_that_is_not_configured_is_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (*fake.SPEC.settings, Setting("FAKE_ADDRESS", "where it is", real=True, required=True))
    remote = dataclasses.replace(fake.SPEC, embedded=False, settings=settings)
    with fake.make_gateway(tmp_path) as gateway:
        offered = GatewayServer(gateway, ["fake"]).count
        monkeypatch.setattr(gateway.stack, "load_spec", lambda name: remote)
        assert offered > 0
        assert GatewayServer(gateway, ["fake"]).count == 0


# --- one call keeps no other waiting


def test_many_calls_that_wait_for_a_person_keep_no_read_waiting(tmp_path: Path) -> None:
    store = ApprovalStore(tmp_path / "approvals")

    async def go(server: GatewayServer) -> None:
        async with client(server) as (session, _), anyio.create_task_group() as group:
            for _ in range(MANY):
                group.start_soon(session.call_tool, "fake_drop", {})
            await until(lambda: len(store.pending()) == MANY)
            quick = await session.call_tool("fake_double", {"x": 4})
            assert not quick.isError and len(store.pending()) == MANY
            group.cancel_scope.cancel()

    with fake.make_gateway(tmp_path, policy=SUPERVISED) as gateway:
        anyio.run(go, GatewayServer(gateway))


def test_many_calls_that_wait_for_their_turn_keep_no_other_server_waiting(tmp_path: Path) -> None:
    """The slow integration works one call after the other; somebody else's server answers meanwhile."""

    async def go(server: GatewayServer) -> None:
        async with client(server) as (session, _), anyio.create_task_group() as group:
            for _ in range(MANY):
                group.start_soon(session.call_tool, "fake_wait_long", {"seconds": 600})
            intents = lambda: [r for r in server._gateway.journal.records() if r["kind"] == "intent"]  # noqa: E731  # pyright: ignore
            await until(lambda: len(intents()) == MANY)
            quick = await session.call_tool("other_typed", {})
            assert quick.structuredContent is not None and quick.structuredContent["data"] == {"n": 7}
            server._gateway.stop()  # pyright: ignore[reportPrivateUsage]
            group.cancel_scope.cancel()

    with with_other(tmp_path) as gateway:
        anyio.run(go, GatewayServer(gateway))


def test_a_client_that_floods_is_refused_by_kind(tmp_path: Path) -> None:
    async def go(server: GatewayServer) -> None:
        async with client(server) as (session, _), anyio.create_task_group() as group:
            for _ in range(CALLS_AT_ONCE):
                group.start_soon(session.call_tool, "fake_drop", {})
            await until(lambda: len(ApprovalStore(tmp_path / "approvals").pending()) == CALLS_AT_ONCE)
            refused = await session.call_tool("fake_drop", {})
            assert refused.isError and refused.structuredContent is not None
            assert "calls that change something of this client are under way" in refused.structuredContent["message"]
            assert not (await session.call_tool("fake_double", {"x": 1})).isError
            group.cancel_scope.cancel()

    with fake.make_gateway(tmp_path, policy=SUPERVISED) as gateway:
        anyio.run(go, GatewayServer(gateway))


# --- no call is silent


def test_a_call_that_says_nothing_is_told_to_be_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first one of an integration, whose libraries take their time."""
    monkeypatch.setattr(relay, "SILENCE_S", 0.05)
    heard: list[tuple[float, str | None]] = []

    async def on_progress(done: float, _total: float | None, message: str | None) -> None:
        heard.append((done, message))

    def slow(self: Any, args: Any, ctx: Any) -> fake.CountResult:
        while len(heard) < 3 and not ctx.is_cancelled():
            time.sleep(0.01)
        return fake.CountResult(count=len(heard))

    monkeypatch.setattr(fake.FakeBackend, "wait_long", slow)

    async def go(server: GatewayServer) -> None:
        async with client(server) as (session, _):
            found = await session.call_tool("fake_wait_long", {}, progress_callback=on_progress)
            assert found.structuredContent is not None and found.structuredContent["data"]["count"] >= 3

    with fake.make_gateway(tmp_path) as gateway:
        anyio.run(go, GatewayServer(gateway))
    assert all("fake_wait_long is under way" in str(message) for _, message in heard)
    assert [done for done, _ in heard] == sorted({done for done, _ in heard})


@pytest.mark.parametrize(("level", "hears"), [(None, True), ("error", False)])
def test_a_client_that_asks_for_no_progress_is_told_where_to_approve(
    tmp_path: Path, level: types.LoggingLevel | None, hears: bool
) -> None:
    store, said = ApprovalStore(tmp_path / "approvals"), list[str]()

    async def on_log(params: types.LoggingMessageNotificationParams) -> None:
        said.append(str(params.data))

    async def go(server: GatewayServer) -> None:
        async with (
            create_connected_server_and_client_session(server.mcp, logging_callback=on_log) as session,
            anyio.create_task_group() as group,
        ):
            if level is not None:
                await session.set_logging_level(level)
            group.start_soon(session.call_tool, "fake_drop", {})
            await until(store.pending)
            (asked,) = store.pending()
            await session.send_ping()  # what was sent before it has arrived
            if hears:
                await until(lambda: said)
                assert said == [f"waits for a person: mlops-crew approve {asked.id}"]
            else:
                assert said == []
            group.cancel_scope.cancel()

    with fake.make_gateway(tmp_path, policy=SUPERVISED) as gateway:
        anyio.run(go, GatewayServer(gateway))


# --- servers of other people


def with_other(home: Path, **entry: Any) -> Gateway:
    """A gateway with somebody else's server, whose tools a person has accepted, and one that is dead."""
    other = {"command": sys.executable, "args": ["-m", "tests.core.third_party"], **entry}
    stack = {"mcpServers": {"other": other, "dead": {"command": sys.executable, "args": ["-c", "1/0"]}}}
    allow = {"allow": "*", "effects": dict.fromkeys(("blocks", "typed", "search"), "read")}
    policy = {"integrations": {"fake": {"allow": "*"}, "other": allow, "dead": allow}}
    gateway = fake.make_gateway(home, stack=stack, policy=policy)
    fake.accept(gateway, "other")
    gateway.stack.pins.accept("dead", anyio.run(listed_tools, "other", gateway.stack.config("other")), by="tester")
    return gateway


def test_a_dead_server_costs_its_own_tools_and_is_offered_again_once_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "LOOK_AGAIN_S", 0.1)
    monkeypatch.setattr("tools.core.client.TRY_AGAIN_S", 0.0)
    told: list[dict[str, Any]] = []

    async def go(gateway: Gateway) -> None:
        server = GatewayServer(gateway)
        async with client(server) as (session, heard):
            names = {tool.name for tool in (await session.list_tools()).tools}
            assert {"fake_double", "other_typed", "dead_typed"} <= names
            assert gateway._sender.connections == {}, "nobody is contacted for a listing"  # pyright: ignore
            ended = await session.call_tool("dead_typed", {})
            assert ended.isError and "ZeroDivisionError" in str(ended.structuredContent), "its last words"
            await until(lambda: "notifications/tools/list_changed" in heard)
            names = {tool.name for tool in (await session.list_tools()).tools}
            assert {"fake_double", "other_typed"} <= names and "dead_typed" not in names
            assert server.offers.left_out()["dead"].startswith("cannot reach the MCP server dead")
            heard.clear()
            alive = gateway.stack.config("other")
            gateway._sender.connections["dead"].config = alive  # pyright: ignore[reportPrivateUsage]
            await until(lambda: "notifications/tools/list_changed" in heard)
            assert gateway.standing.down("dead") is None
            assert "dead_typed" in {tool.name for tool in (await session.list_tools()).tools}
            assert not (await session.call_tool("dead_typed", {})).isError

    with with_other(tmp_path) as gateway:
        gateway.journal.subscribe(lambda record: told.append(record) if record["kind"] == "server" else None)
        anyio.run(go, gateway)
    assert [(record["server"], bool(record["left_out"])) for record in told] == [("dead", True), ("dead", False)]


def test_a_program_that_is_not_there_is_left_out_without_being_started(tmp_path: Path) -> None:
    stack = {"mcpServers": {"gone": {"command": "no-such-program", "args": ["-y"]}}}
    policy = {"integrations": {"fake": {"allow": "*"}, "gone": {"allow": "*", "effects": {"search": "read"}}}}
    with fake.make_gateway(tmp_path, stack=stack, policy=policy) as gateway:
        gateway.stack.pins.accept("gone", [{"name": "search", "inputSchema": {"type": "object"}}], by="tester")
        server = GatewayServer(gateway)
        assert "gone_search" not in server.offers.all() and "fake_double" in server.offers.all()
        assert "no program no-such-program" in server.offers.left_out()["gone"]
        result = gateway.call("gone", {"action": "search"})
        assert result.error is not None and result.error.kind == "needs_person"
        assert "no-such-program -y" in result.message and "config/stack.yaml" in result.message


def test_clients_hear_of_tools_that_a_person_accepts_and_of_those_that_change(tmp_path: Path) -> None:
    flag = tmp_path / "pulled"
    evil = {"command": sys.executable, "args": ["-m", "tests.core.evil_server"], "env": {"FLAG": str(flag)}}
    reads = dict.fromkeys(("search", "tell"), "read")
    policy = {"integrations": {"fake": {"allow": "*"}, "evil": {"allow": "*", "effects": reads}}}

    async def go(gateway: Gateway) -> None:
        server = GatewayServer(gateway)
        async with client(server) as (session, heard):
            names = {tool.name for tool in (await session.list_tools()).tools}
            assert "evil_search" not in names
            await anyio.to_thread.run_sync(fake.accept, gateway, "evil")
            await until(lambda: heard == ["notifications/tools/list_changed"])
            assert "evil_search" in {tool.name for tool in (await session.list_tools()).tools}
            assert not (await session.call_tool("evil_search", {})).isError
            flag.write_text("")
            assert not (await session.call_tool("evil_tell", {})).isError  # which says that its tools have changed
            await until(lambda: heard[1:] == ["notifications/tools/list_changed"])
            names = {tool.name for tool in (await session.list_tools()).tools}
            assert "evil_search" not in names and "evil_tell" in names, "what has changed is out until it is accepted"

    with fake.make_gateway(tmp_path, stack={"mcpServers": {"evil": evil}}, policy=policy) as gateway:
        options = GatewayServer(gateway).mcp.create_initialization_options()
        assert options.capabilities.tools is not None and options.capabilities.tools.listChanged
        anyio.run(go, gateway)
