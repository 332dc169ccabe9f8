"""Questions of the gateway's server at an MCP client: shown as a form where it can, withdrawn with its call."""

from pathlib import Path
from typing import Any

import anyio
import mcp.types as types
import pytest
from mcp.client.session import ClientSession
from mcp.shared.exceptions import McpError
from mcp.shared.memory import create_connected_server_and_client_session

from tests.core.fake import effects, make_gateway
from tests.core.test_approval import SUPERVISED
from tools.core import channels
from tools.core.approval import ApprovalError, ApprovalStore
from tools.core.gateway_server import GatewayServer
from tools.core.person import person


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "POLL_S", 0.01)


def play(home: Path, do: Any, answer: Any = None) -> list[dict[str, Any]]:
    """Run `do(session)` against a server of the fake; returns the journal."""

    async def go(server: GatewayServer) -> None:
        async with create_connected_server_and_client_session(server.mcp, elicitation_callback=answer) as session:
            await do(session)

    with make_gateway(home, policy=SUPERVISED) as gateway:
        anyio.run(go, GatewayServer(gateway))
    return gateway.journal.records()  # after it closed, which waits for what is still being recorded


def of(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record for record in records if record["kind"] == kind]


@pytest.mark.parametrize(("decision", "happens"), [("approve", 1), ("reject", 0)])
def test_a_client_with_forms_shows_the_question_and_its_answer_counts(
    tmp_path: Path, decision: str, happens: int
) -> None:
    shown: list[str] = []

    async def answer(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        shown.append(params.message)
        return types.ElicitResult(action="accept", content={"decision": decision, "note": "looked"})

    async def do(session: ClientSession) -> None:
        assert (await session.call_tool("fake_drop", {})).isError is not bool(happens)

    records = play(tmp_path, do, answer)
    (decided,) = of(records, "approval_decided")
    assert decided["via"] == "MCP elicitation" and decided["by"] == f"{person()}, in the client mcp"
    assert "fake.drop" in shown[0] and effects(tmp_path, "drop") == happens


def test_a_client_cannot_put_a_question_of_its_own_to_people(tmp_path: Path) -> None:
    options = [{"name": n, "title": n, "consequences": f"{n} follows"} for n in ("one", "two")]

    async def answer(_context: Any, _params: types.ElicitRequestFormParams) -> types.ElicitResult:
        raise AssertionError("nobody may be asked")

    async def do(session: ClientSession) -> None:
        assert "fake_pick" not in {tool.name for tool in (await session.list_tools()).tools}
        question = {"topic": "tradeoff", "question": "Which?", "options": options}
        assert (await session.call_tool("fake_pick", question)).isError

    assert of(play(tmp_path, do, answer), "approval_requested") == []


def test_a_client_without_forms_is_told_where_to_answer(tmp_path: Path) -> None:
    told: list[str] = []

    async def on_progress(_done: float, _total: float | None, message: str | None) -> None:
        told.append(message or "")
        store = ApprovalStore(tmp_path / "approvals")
        while not store.pending():
            await anyio.sleep(0.01)
        store.decide(store.pending()[0].id, "approved")

    async def do(session: ClientSession) -> None:
        assert not (await session.call_tool("fake_drop", {}, progress_callback=on_progress)).isError

    records = play(tmp_path, do)
    assert f"mlops-crew approve {of(records, 'approval_decided')[0]['approval_id']}" in told[0]


def test_a_cancelled_call_withdraws_its_question_and_a_later_answer_does_nothing(tmp_path: Path) -> None:
    store = ApprovalStore(tmp_path / "approvals")

    async def call(session: ClientSession) -> None:
        with pytest.raises(McpError, match="cancelled"):
            await session.call_tool("fake_drop", {})

    async def do(session: ClientSession) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(call, session)
            while not store.pending():
                await anyio.sleep(0.01)
            (asked,) = store.pending()
            number = session._request_id - 1
            params = types.CancelledNotificationParams(requestId=number, reason="gave up")
            await session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
            while store.pending():
                await anyio.sleep(0.01)
            with pytest.raises(ApprovalError, match="already withdrawn"):
                store.decide(asked.id, "approved")

    records = play(tmp_path, do)
    assert of(records, "approval_decided")[0]["state"] == "withdrawn" and effects(tmp_path, "drop") == 0
    assert "gave up" in of(records, "outcome")[0]["message"]
