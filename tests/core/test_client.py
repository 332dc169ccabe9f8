"""How the client reaches servers of other people: not more often than it helps, and not longer than they are given."""

import sys
from pathlib import Path

import pytest

from tests.core.fake import make_gateway
from tools.core import client


def test_a_server_that_could_not_be_reached_is_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    program = f"open({str(started)!r}, 'a').write('x')"
    server = {"command": sys.executable, "args": ["-c", program]}
    policy = {"integrations": {"other": {"allow": "*", "effects": {"search": "read"}}}}
    monkeypatch.setattr("tools.core.sending.BACKOFF_S", 0)
    with make_gateway(tmp_path, stack={"mcpServers": {"other": server}}, policy=policy) as gateway:
        gateway.stack.pins.accept("other", [{"name": "search", "inputSchema": {}}], by="tester")
        messages = {gateway.call("other", {"action": "search"}).message for _ in range(3)}
        assert started.read_text() == "x", "three calls, one start"
        monkeypatch.setattr(client, "TRY_AGAIN_S", 0)
        gateway.call("other", {"action": "search"})
    assert started.read_text() == "xx"
    assert len(messages) == 1 and "cannot reach the MCP server other" in messages.pop()
