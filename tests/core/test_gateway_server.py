"""What the gateway's own MCP server offers to outside clients."""

import dataclasses
from pathlib import Path

import pytest

from tests.core import fake
from tools.core.contract import Setting
from tools.core.gateway_server import GatewayServer


def test_an_integration_that_is_not_configured_is_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (*fake.SPEC.settings, Setting("FAKE_ADDRESS", "where it is", real=True, required=True))
    remote = dataclasses.replace(fake.SPEC, embedded=False, settings=settings)
    with fake.make_gateway(tmp_path) as gateway:
        offered = GatewayServer(gateway, ["fake"]).count
        monkeypatch.setattr(gateway.stack, "load_spec", lambda name: remote)
        assert offered > 0
        assert GatewayServer(gateway, ["fake"]).count == 0
