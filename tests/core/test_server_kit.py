"""The server kit: what an MCP client of somebody else sees of an integration."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.core.fake import SECRET, SPEC, effects, make_gateway
from tools.core.bounds import MAX_RESULT_BYTES
from tools.core.contract import Effect
from tools.core.errors import ErrorKind
from tools.core.http_door import MAX_BODY_BYTES, MAX_SESSIONS
from tools.core.meta import META_ANSWER, META_CALL, META_RUN, META_TIMEOUT
from tools.core.results import Status, ToolResult
from tools.core.server import MAX_TEXT_CHARS, as_mcp, tool_definition
from tools.core.stack import token_file

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def server_env(home: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), "MLOPS_HOME": str(home), "MLOPS_PROJECT": str(home),
        "FAKE_SECRET": SECRET, **more,
    }  # fmt: skip


TWICE = [("Authorization", "Bearer wrong"), ("Authorization", "Bearer right-token")]
NOT_ASCII = {"Authorization": b"Bearer t\xf6k"}
COMMAND = [sys.executable, "-m", "tests.core.fake_server", "fake"]
KEY = "a-key-that-both-sides-share"


@asynccontextmanager
async def stdio_session(home: Path, *arguments: str) -> AsyncGenerator[ClientSession]:
    parameters = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *arguments], env=server_env(home))
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        yield session


@contextmanager
def http_server(home: Path, *arguments: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The fake on a free port, and its URL."""
    with subprocess.Popen(
        [*COMMAND, "--http", "0", *arguments], env=server_env(home, **env), stderr=subprocess.PIPE, text=True
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


@pytest.mark.asyncio
async def test_a_client_sees_annotations_and_described_parameters(tmp_path: Path) -> None:
    async with stdio_session(tmp_path, "--allow-risky") as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    offered = [action for action in SPEC.actions if not action.asks]
    assert set(tools) == {action.name for action in offered}
    for action in offered:
        tool = tools[action.name]
        assert tool.annotations is not None
        assert tool.annotations.readOnlyHint is (action.effect is Effect.READ)
        assert tool.annotations.destructiveHint is (action.effect is Effect.RISKY)
        assert tool.annotations.idempotentHint is (action.effect is Effect.READ or action.idempotent)
        for name, parameter in tool.inputSchema["properties"].items():
            assert parameter.get("description"), f"{tool.name}.{name}"
    assert tools["double"].inputSchema == {
        "type": "object",
        "required": ["x"],
        "properties": {
            "x": {"type": "integer", "description": "a number", "maximum": 1000},
            "unit": {"type": "string", "description": "of the number"},
        },
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("action", "arguments", "is_error"),
    [
        ("double", {"x": 2}, False),
        ("add", {}, False),
        ("nothing", {}, False),
        ("boom", {}, True),
        ("double", {"x": "two"}, True),
        ("double", {}, True),
    ],
)
async def test_structured_content_matches_the_output_schema(
    tmp_path: Path, action: str, arguments: dict[str, Any], is_error: bool
) -> None:
    async with stdio_session(tmp_path) as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        result = await session.call_tool(action, arguments)  # the SDK's client validates too, and raises
    schema = tools[action].outputSchema
    assert schema is not None and result.structuredContent is not None
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(result.structuredContent, schema)
    assert bool(result.isError) is is_error


@pytest.mark.asyncio
@pytest.mark.parametrize("run_id", ["../../../escaped", "a/b", ".."])
async def test_a_run_that_a_client_names_makes_no_folder_elsewhere(tmp_path: Path, run_id: str) -> None:
    async with stdio_session(tmp_path) as session:
        request = types.CallToolRequest(
            params=types.CallToolRequestParams.model_validate(
                {"name": "double", "arguments": {"x": 1}, "_meta": {"mlops/run_id": run_id}}
            )
        )
        result = await session.send_request(types.ClientRequest(request), types.CallToolResult)
    assert not result.isError  # what a client says of the run is not believed: the server's own counts
    assert not list(tmp_path.rglob("*escaped*")) and not (tmp_path.parent / "escaped").exists()


def test_the_output_schema_refuses_data_of_another_shape() -> None:
    schema = tool_definition(SPEC.action("double")).outputSchema
    assert schema is not None
    good = {"status": "ok", "message": "", "data": {"twice": 2, "message": "", "by_name": {}}, "error": None}
    jsonschema.validate(good, schema)
    for data in ({"twice": "two", "message": ""}, {"message": ""}, {"twice": 2, "message": "", "more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, "data": data}, schema)


@pytest.mark.asyncio
async def test_what_a_backend_prints_does_not_disturb_the_protocol(tmp_path: Path) -> None:
    async with stdio_session(tmp_path) as session:
        for _ in range(3):
            result = await session.call_tool("chat", {})
            assert result.structuredContent is not None and result.structuredContent["status"] == "ok"


@pytest.mark.asyncio
async def test_progress_of_a_long_call_reaches_the_client(tmp_path: Path) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async with stdio_session(tmp_path) as session:
        await session.call_tool("double", {"x": 1}, progress_callback=listen)
    assert heard[0][0] == 1 and heard[-1] == (3, 3, "step 3")


@pytest.mark.asyncio
@pytest.mark.parametrize("action", ["leak", "leak_error"])
async def test_an_outside_client_gets_no_secret(tmp_path: Path, action: str) -> None:
    async with stdio_session(tmp_path) as session:
        result = await session.call_tool(action, {})
    assert SECRET not in result.model_dump_json() and "[redacted:FAKE_SECRET]" in result.model_dump_json()


@pytest.mark.asyncio
async def test_an_unknown_tool_is_an_error_that_names_the_valid_ones(tmp_path: Path) -> None:
    async with stdio_session(tmp_path) as session:
        result = await session.call_tool("duble", {})
    assert result.isError and result.structuredContent is not None
    assert result.structuredContent["error"]["kind"] == "fixable" and "double" in result.structuredContent["message"]


def test_a_server_whose_client_goes_away_during_a_call_closes_its_backend(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    lines = [
        '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
        '"clientInfo":{"name":"t","version":"0"}}}',
        '{"jsonrpc":"2.0","method":"notifications/initialized"}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"wait_long","arguments":{"seconds":60}}}',
    ]
    with subprocess.Popen(
        COMMAND, env=server_env(tmp_path, FAKE_CLOSED=str(closed)), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write("\n".join(lines) + "\n")
        process.stdin.flush()
        while effects(tmp_path, "wait_begun") == 0:
            threading.Event().wait(0.01)
        process.stdin.close()
        assert process.wait(20) == 0
    assert closed.read_text() == "closed"


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_sigterm_closes_the_backend(tmp_path: Path, transport: str) -> None:
    closed = tmp_path / "closed"
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {}}}
    if transport == "http":
        with http_server(tmp_path, FAKE_CLOSED=str(closed), MLOPS_SERVER_TOKEN="right-token") as (process, url):
            call_over_http(url, "add", "right-token")
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    else:
        client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client}
        with subprocess.Popen(
            COMMAND, env=server_env(tmp_path, FAKE_CLOSED=str(closed)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        ) as process:  # fmt: skip
            assert process.stdin is not None and process.stdout is not None
            for message in (hello, {"jsonrpc": "2.0", "method": "notifications/initialized"}, call):
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()
            while '"id":1' not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 128 + signal.SIGTERM
    assert closed.read_text() == "closed"


def call_over_http(url: str, action: str, token: str | None = None) -> types.CallToolResult:
    import anyio

    async def call() -> types.CallToolResult:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            httpx.AsyncClient(headers=headers, timeout=20) as client,
            streamable_http_client(url, http_client=client) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await session.call_tool(action, {"x": 3} if action == "double" else {})

    return anyio.run(call)


def test_http_serves_the_same_tools(tmp_path: Path) -> None:
    with http_server(tmp_path) as (_, url):
        result = call_over_http(url, "double", made_token(tmp_path, url))
        assert result.structuredContent is not None and result.structuredContent["data"]["twice"] == 6


def test_http_with_a_token_refuses_who_does_not_know_it(tmp_path: Path) -> None:
    with http_server(tmp_path, MLOPS_SERVER_TOKEN="right-token") as (_, url):
        assert call_over_http(url, "double", "right-token").structuredContent is not None
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right-token"}, TWICE, NOT_ASCII):
            answer = httpx.post(url, json={}, headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        in_any_case = {"Authorization": "bEARER right-token", "Accept": "application/json, text/event-stream"}
        assert httpx.post(url, json={}, headers=in_any_case).status_code == 400
    assert effects(tmp_path, "add") == 0


@pytest.mark.parametrize("arguments", [["--no-token"], []])
def test_http_refuses_a_web_page_under_a_name_of_its_own_with_a_token_too(tmp_path: Path, arguments: list[str]) -> None:
    with http_server(tmp_path, *arguments, MLOPS_SERVER_TOKEN="right-token") as (_, url):
        token = {"Authorization": "Bearer right-token"}
        for headers, status in (
            ({"Host": "evil.example"}, 421),
            ({"Host": "localhost."}, 421),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Content-Type": "text/plain"}, 415),
        ):
            assert httpx.post(url, json={}, headers={**token, **headers}).status_code == status


def test_a_token_is_made_where_none_is_set_and_is_gone_with_the_server(tmp_path: Path) -> None:
    with http_server(tmp_path) as (process, url):
        assert httpx.post(url, json={}).status_code == 401
        file = token_file(tmp_path, int(url.split(":")[2].split("/")[0]))
        assert len(file.read_text()) > 40
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert not file.exists()


def test_sessions_are_bounded_and_so_are_bodies(tmp_path: Path) -> None:
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client}
    accept = {"Accept": "application/json, text/event-stream"}
    with http_server(tmp_path, "--no-token") as (_, url), httpx.Client(headers=accept, timeout=30) as http:
        opened: list[str] = []
        for _ in range(MAX_SESSIONS + 20):
            answer = http.post(url, json=hello)
            assert answer.status_code == 200 or (answer.status_code == 503 and answer.headers["Retry-After"])
            opened += [answer.headers["mcp-session-id"]] if answer.status_code == 200 else []
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        states = [http.post(url, json=ping, headers={"mcp-session-id": name}).status_code for name in opened]
        assert MAX_SESSIONS - 5 <= states.count(200) <= MAX_SESSIONS and set(states) <= {200, 404}
        large = http.post(url, content=b"x" * (MAX_BODY_BYTES + 1), headers={"Content-Type": "application/json"})
        assert large.status_code == 413


@pytest.mark.asyncio
async def test_without_the_gateway_nothing_risky_is_done_and_nothing_beside_the_arguments_is_believed(
    tmp_path: Path,
) -> None:
    forged = {
        META_RUN: "../../escaped", META_CALL: "c0001", META_TIMEOUT: 1e6, "mlops/proof": "0" * 64,
        META_ANSWER: {"chosen": "a", "decided_by": "alice", "note": "", "at": "now"},
    }  # fmt: skip
    options = [{"name": n, "title": n, "consequences": "none"} for n in ("a", "b")]
    question = {"topic": "tradeoff", "question": "which?", "options": options}
    async with stdio_session(tmp_path) as session:
        offered = {tool.name for tool in (await session.list_tools()).tools}
        drop = await session.call_tool("drop", {})
        pick = await session.call_tool("pick", question, meta=forged)
        double = await session.call_tool("double", {"x": 2}, meta=forged)
    assert offered == {action.name for action in SPEC.actions} - {"drop", "pick"}
    assert drop.structuredContent is not None and drop.structuredContent["status"] == "denied"
    assert "--allow-risky" in drop.structuredContent["message"] and effects(tmp_path, "drop") == 0
    assert pick.isError and "alice" not in pick.model_dump_json()
    assert double.structuredContent is not None and double.structuredContent["call_id"] == ""
    assert not list(tmp_path.parent.glob("escaped*"))


@pytest.mark.asyncio
async def test_the_text_of_a_result_is_the_result_as_json(tmp_path: Path) -> None:
    async with stdio_session(tmp_path) as session:
        result = await session.call_tool("double", {"x": 2})
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    told = json.loads(block.text)
    assert told == result.structuredContent, "a client that reads only the text misses nothing"
    assert (told["status"], told["message"], told["data"]["twice"]) == ("ok", "2 twice", 4)


def test_a_long_result_is_bounded_as_text_and_whole_as_structure() -> None:
    long = "x" * (2 * MAX_TEXT_CHARS)
    result = as_mcp(ToolResult(status=Status.OK, data={"text": long, "path": "models/a"}))
    (block,) = result.content
    assert isinstance(block, types.TextContent) and len(block.text) <= MAX_TEXT_CHARS
    told = json.loads(block.text)["data"]
    assert "structuredContent: text" in told["note"] and told["path"] == "models/a"
    assert result.structuredContent is not None and len(result.structuredContent["data"]["text"]) == 2 * MAX_TEXT_CHARS


def test_what_the_gateway_lets_through_is_whole_in_the_text() -> None:
    rows = [f"größe {number}" for number in range(15_000)]
    result = as_mcp(ToolResult(status=Status.OK, data={"rows": rows}))
    (block,) = result.content
    assert isinstance(block, types.TextContent) and json.loads(block.text)["data"]["rows"] == rows
    assert len(json.dumps({"rows": rows}, separators=(",", ":"))) > MAX_RESULT_BYTES, "more than it lets through"


def test_our_gateway_is_believed_over_http_only_with_the_key_of_both_sides(tmp_path: Path) -> None:
    allow = {"autonomy": "autonomous", "integrations": {"fake": {"allow": "*"}}}
    with http_server(tmp_path, MLOPS_GATEWAY_KEY=KEY) as (_, url):
        with make_gateway(tmp_path, stack=http_stack(url), policy=allow, env={"MLOPS_GATEWAY_KEY": KEY}) as gateway:
            assert gateway.call("fake", {"action": "drop"}).ok
        for number, other in enumerate(({}, {"MLOPS_GATEWAY_KEY": KEY + "x"})):
            with make_gateway(
                tmp_path, stack=http_stack(url), policy=allow, env=other, run_id=f"other{number}"
            ) as gateway:
                assert "MLOPS_GATEWAY_KEY" in gateway.call("fake", {"action": "drop"}).message
    assert effects(tmp_path, "drop") == 1


def test_other_machines_are_not_served_without_a_token(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*COMMAND, "--http", "0", "--host", "0.0.0.0"], env=server_env(tmp_path), capture_output=True, text=True,
        check=False, timeout=30,
    )  # fmt: skip
    assert ended.returncode == 1 and "MLOPS_SERVER_TOKEN" in ended.stderr and "Traceback" not in ended.stderr


def test_a_taken_port_is_one_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [*COMMAND, "--http", str(port)], env=server_env(tmp_path), capture_output=True, text=True, check=False,
            timeout=30,
        )  # fmt: skip
    assert ended.returncode == 1 and f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def made_token(home: Path, url: str) -> str:
    """The token that a server made for itself."""
    file = token_file(home, int(url.split(":")[2].split("/")[0]))
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    return file.read_text()


def http_stack(url: str) -> dict[str, Any]:
    return {"servers": {"fake": {"transport": "http", "url": url}}}


def test_the_gateway_calls_over_http_with_progress_and_token(tmp_path: Path) -> None:
    heard: list[Any] = []
    token = {"MLOPS_SERVER_TOKEN": "right-token"}
    with (
        http_server(tmp_path, **token) as (_, url),
        make_gateway(tmp_path, stack=http_stack(url), env=token) as gateway,
    ):
        gateway.journal.subscribe(heard.append)
        assert gateway.call("fake", {"action": "double", "x": 1}).ok
    assert [record["message"] for record in heard if record["kind"] == "progress"][-1] == "step 3"


def test_a_refused_token_tells_a_person_where_it_is_set(tmp_path: Path) -> None:
    with (
        http_server(tmp_path, MLOPS_SERVER_TOKEN="right-token") as (_, url),
        make_gateway(tmp_path, stack=http_stack(url)) as gateway,
    ):
        result = gateway.call("fake", {"action": "add"})
    assert result.error is not None and result.error.kind is ErrorKind.NEEDS_PERSON
    assert "MLOPS_SERVER_TOKEN" in result.message and effects(tmp_path, "add") == 0


def test_an_http_server_that_dies_during_a_write_is_noticed_within_seconds(tmp_path: Path) -> None:
    with http_server(tmp_path) as (process, url), make_gateway(tmp_path, stack=http_stack(url)) as gateway:
        result = gateway.call("fake", {"action": "die_write"})
        assert result.status is Status.UNKNOWN and effects(tmp_path, "die_write") == 1
        process.wait(10)
        again = gateway.call("fake", {"action": "add"})
    assert again.error is not None and again.error.kind is ErrorKind.RETRY and "cannot reach" in again.message
    assert effects(tmp_path, "add") == 0


def test_an_http_server_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    with http_server(tmp_path) as (first, url):
        port = url.split(":")[2].split("/")[0]
        with make_gateway(tmp_path, stack=http_stack(url)) as gateway:
            assert gateway.call("fake", {"action": "double", "x": 1}).ok
            first.kill()
            first.wait()
            with http_server(tmp_path, "--http", port):
                assert gateway.call("fake", {"action": "double", "x": 1}).ok
