"""`mlops-crew serve`: outside MCP clients reach the tools by the gateway's path, over stdio and over HTTP."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import jsonschema
import pytest
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from crew.commands.approvals import approve
from tests.cli.conftest import Cli, edit
from tools.core.approval import ApprovalStore
from tools.registry import INTEGRATIONS, load_spec

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "crew.cli", "serve"]
TOKEN = "token-of-the-test-server-1"

pytestmark = [pytest.mark.timeout(90), pytest.mark.filterwarnings("ignore::ResourceWarning")]


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "MLOPS_PROJECT": str(folder), **more}


@asynccontextmanager
async def stdio_session(folder: Path, *arguments: str) -> AsyncGenerator[ClientSession]:
    parameters = StdioServerParameters(
        command=COMMAND[0], args=[*COMMAND[1:], *arguments], env=environment(folder), cwd=folder
    )
    with open(os.devnull, "w") as nowhere:
        async with stdio_client(parameters, errlog=nowhere) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            yield session


@contextmanager
def http_server(folder: Path, *arguments: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        [*COMMAND, "--http", "0", *arguments],
        cwd=folder,
        env=environment(folder, **env),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            told = ""
            for line in process.stderr:
                told += line
                if found := re.search(r"http://\S+/mcp", line):
                    yield process, found.group()
                    return
            raise AssertionError(told)
        finally:
            process.kill()


@asynccontextmanager
async def http_session(url: str, token: str) -> AsyncGenerator[ClientSession]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx.AsyncClient(headers=headers, timeout=30) as client,
        streamable_http_client(url, http_client=client) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        yield session


def journal(folder: Path) -> list[dict[str, Any]]:
    (path,) = (folder / ".mlops" / "runs").glob("*/journal.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_allowed_action_is_a_tool_with_schemas_and_annotations(folder: Path) -> None:
    edit(folder / "config" / "policy.yaml", 'serving: {allow: "*",', 'serving: {allow: "*", forbid: [promote_canary],')

    async def list_tools() -> dict[str, Any]:
        async with stdio_session(folder) as session:
            return {tool.name: tool for tool in (await session.list_tools()).tools}

    tools = anyio.run(list_tools)
    specs = [load_spec(name) for name in INTEGRATIONS]
    # Only a task of the crew asks people.
    expected = {f"{spec.name}_{action.name}" for spec in specs for action in spec.actions if not action.asks}
    assert set(tools) == expected - {"serving_promote_canary"}
    rollback, champion = tools["serving_rollback_canary"], tools["mlflow_get_champion"]
    assert rollback.annotations.destructiveHint and not rollback.annotations.readOnlyHint
    assert champion.annotations.readOnlyHint and not champion.annotations.destructiveHint
    assert rollback.description.endswith("A person is asked first.")
    assert champion.inputSchema["properties"] == {}  # the model's name is the goal's
    assert tools["prometheus_query"].inputSchema["properties"]["expr"]["description"]
    jsonschema.Draft202012Validator.check_schema(champion.outputSchema)


def test_a_call_takes_the_path_of_the_gateway(folder: Path) -> None:
    async def call() -> list[Any]:
        async with stdio_session(folder, "--integration", "prometheus") as session:
            await session.list_tools()
            return [
                await session.call_tool("prometheus_list_metrics", {}),
                await session.call_tool("prometheus_list_metrics", {"colour": "red"}),
                await session.call_tool("dvc_list_versions", {}),
            ]

    fine, wrong, not_offered = anyio.run(call)
    records = journal(folder)
    assert fine.structuredContent["status"] in ("ok", "no_data") and not fine.isError
    assert wrong.isError and "colour" in wrong.structuredContent["message"]
    assert not_offered.isError and "unknown tool 'dvc_list_versions'" in not_offered.structuredContent["message"]
    intents = [record for record in records if record["kind"] == "intent"]
    assert [(i["server"], i["action"], i["role"], i["decision"]) for i in intents] == [
        ("prometheus", "list_metrics", "mcp_client", "allow"),
        ("prometheus", "list_metrics", "mcp_client", "invalid"),
    ]
    assert fine.structuredContent["call_id"] == intents[0]["call_id"]
    assert json.loads(fine.content[0].text)["status"] == fine.structuredContent["status"], "the text is the result"


def test_a_call_that_needs_a_person_waits_for_the_command_line(folder: Path) -> None:
    edit(folder / "config" / "policy.yaml", 'prometheus: {allow: "*"}', 'prometheus: {allow: "*", ask: [list_metrics]}')
    store = ApprovalStore(folder / ".mlops" / "approvals")
    told: list[str] = []

    async def on_progress(_done: float, _total: float | None, message: str | None) -> None:
        told.append(message or "")

    async def answer() -> None:
        while not store.pending():
            await anyio.sleep(0.02)
        approval_id = store.pending()[0].id
        await anyio.to_thread.run_sync(lambda: approve(approval_id, note="fine"))

    async def call() -> Any:
        async with stdio_session(folder, "--integration", "prometheus") as session, anyio.create_task_group() as group:
            group.start_soon(answer)
            return await session.call_tool("prometheus_list_metrics", {}, progress_callback=on_progress)

    result = anyio.run(call)
    assert result.structuredContent["status"] in ("ok", "no_data")
    decided = next(record for record in journal(folder) if record["kind"] == "approval_decided")
    assert (decided["state"], decided["note"]) == ("approved", "fine")
    assert any(f"mlops-crew approve {decided['approval_id']}" in message for message in told)


def test_observers_are_offered_reads_only(folder: Path) -> None:
    edit(folder / "config" / "policy.yaml", "autonomy: auto", "autonomy: observe")

    async def list_tools() -> list[Any]:
        async with stdio_session(folder) as session:
            return (await session.list_tools()).tools

    tools = anyio.run(list_tools)
    assert tools
    assert all(tool.annotations.readOnlyHint for tool in tools)


def test_http_wants_the_bearer_token_and_tells_progress(folder: Path) -> None:
    edit(folder / "config" / "policy.yaml", 'prometheus: {allow: "*"}', 'prometheus: {allow: "*", ask: [list_metrics]}')
    store = ApprovalStore(folder / ".mlops" / "approvals")
    told: list[str] = []

    async def on_progress(_done: float, _total: float | None, message: str | None) -> None:
        told.append(message or "")
        while not store.pending():  # the record comes first, then the question
            await anyio.sleep(0.02)
        store.decide(store.pending()[0].id, "rejected", by="maria", note="not today")

    async def call(url: str) -> Any:
        async with http_session(url, TOKEN) as session:
            with anyio.fail_after(30):
                return await session.call_tool("prometheus_list_metrics", {}, progress_callback=on_progress)

    with http_server(folder, "--integration", "prometheus", MLOPS_SERVER_TOKEN=TOKEN) as (process, url):
        refused = httpx.post(url, json={})
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert httpx.post(url, json={}, headers={"Authorization": "Bearer wrong"}).status_code == 401
        result = anyio.run(call, url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert result.isError
    assert result.structuredContent["status"] == "denied"
    assert "not today" in result.structuredContent["message"]
    assert told
    assert TOKEN not in json.dumps(journal(folder))


def test_other_machines_are_not_served_without_a_token(folder: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--http", "0", "--host", "0.0.0.0"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "ERROR" in done.stderr and "MLOPS_SERVER_TOKEN" in done.stderr


def test_a_taken_port_is_one_clear_error(folder: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--http", port], cwd=folder, env=environment(folder), capture_output=True, text=True
        )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in " ".join(done.stderr.replace("!!", " ").split())


def test_without_a_token_of_ones_own_one_is_made_and_told_once(folder: Path) -> None:
    async def names(url: str, token: str) -> int:
        async with http_session(url, token) as session:
            return len((await session.list_tools()).tools)

    with http_server(folder, "--integration", "prometheus") as (process, url):
        file = folder / ".mlops" / "server-tokens" / url.split(":")[2].split("/")[0]
        token = file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600 and len(token) > 40
        assert httpx.post(url, json={}).status_code == 401
        assert anyio.run(names, url, token) > 0
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert not file.exists()


def test_a_third_party_server_is_offered_once_a_person_has_accepted_it(folder: Path, cli: Cli) -> None:
    server = f"{{other: {{command: {sys.executable}, args: [-m, tests.core.third_party], cwd: {ROOT}}}}}"
    edit(folder / "config" / "stack.yaml", "mcpServers: {}", f"mcpServers: {server}")
    edit(folder / "config" / "policy.yaml", "  people:", '  other: {allow: "*", effects: {blocks: read}}\n  people:')

    async def blocks() -> tuple[set[str], Any]:
        async with stdio_session(folder, "--integration", "other") as session:
            offered = {tool.name for tool in (await session.list_tools()).tools}
            return offered, await session.call_tool("other_blocks", {})

    offered, refused = anyio.run(blocks)
    assert offered == set() and refused.isError
    nobody = cli("tools", "accept", "other")
    assert nobody.code == 1 and "blocks" in nobody.out and "--yes" in nobody.err
    accepted = cli("tools", "accept", "other", "--yes")
    assert accepted.code == 0 and "Accepted 5 tools of other" in accepted.out
    assert "Nothing to accept" in cli("tools", "accept", "other").out
    offered, found = anyio.run(blocks)
    assert "other_blocks" in offered and not found.isError
    assert [block.type for block in found.content] == ["text", "text", "image", "text"]
    assert json.loads(found.content[0].text)["data"]["text"].startswith("first")
    assert cli("tools", "accept", "nobody").code == 2


def test_a_server_that_is_dead_keeps_nobody_waiting_and_what_is_accepted_meanwhile_reaches_the_client(
    folder: Path,
) -> None:
    other = f"{{command: {sys.executable}, args: [-m, tests.core.third_party], cwd: {ROOT}}}"
    silent = f"{{command: {sys.executable}, args: [-c, 'import time; time.sleep(600)']}}"
    servers = f"{{other: {other}, silent: {silent}, gone: {{command: no-such-program}}}}"
    edit(folder / "config" / "stack.yaml", "mcpServers: {}", f"mcpServers: {servers}")
    edit(folder / "config" / "policy.yaml", "  people:", '  other: {allow: "*"}\n  silent: {allow: "*"}\n  people:')
    heard: list[str] = []

    async def hear(message: Any) -> None:
        if isinstance(message, types.ServerNotification):
            heard.append(message.root.method)

    async def go(url: str) -> tuple[set[str], set[str]]:
        limits = httpx.Timeout(30, read=None)  # a stream on which nothing comes for a while is open all the same
        async with (
            httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=limits) as http,
            streamable_http_client(url, http_client=http) as (read, write, _),
            ClientSession(read, write, message_handler=hear) as session,
        ):
            await session.initialize()
            before = {tool.name for tool in (await session.list_tools()).tools}
            accept = [sys.executable, "-m", "crew.cli", "tools", "accept", "other", "--yes"]
            await anyio.run_process(accept, env=environment(folder), cwd=folder)
            with anyio.fail_after(60):
                while "notifications/tools/list_changed" not in heard:
                    await anyio.sleep(0.05)
            return before, {tool.name for tool in (await session.list_tools()).tools}

    with http_server(folder, MLOPS_SERVER_TOKEN=TOKEN) as (process, url):
        before, after = anyio.run(go, url)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert "mlflow_get_champion" in before and after - before == {
        f"other_{name}" for name in ("blocks", "typed", "broken_promise", "fails", "write")
    }
