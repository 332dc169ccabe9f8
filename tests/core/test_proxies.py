"""This machine is reached without a proxy, whatever `HTTP_PROXY` says, by whatever library."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tools.core.child_env import child_env
from tools.core.proxies import BYPASS, bypass, bypass_here, is_this_machine, may_use_proxy

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
GET = """
import sys, urllib.request
import httpx, requests
url = sys.argv[1]
print(httpx.get(url).text, requests.get(url).text, urllib.request.urlopen(url).read().decode())
"""


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> str:
    """Proxies are set, at an address where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
    for name in PROXIES:
        monkeypatch.setenv(name, address)
    for name in BYPASS:
        monkeypatch.delenv(name, raising=False)
    return address


def test_a_child_reaches_this_machine_past_a_dead_proxy_with_every_library(url: str, dead: str) -> None:
    command = [sys.executable, "-c", GET, url]
    env = child_env(network=True)
    assert env["HTTP_PROXY"] == dead, "the proxy is for the outside still"
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["hello"] * 3, done.stderr
    broken = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=120)
    assert broken.returncode != 0, "without it the call goes to the proxy, so this test can fail"


def test_this_process_reaches_this_machine_past_a_dead_proxy(
    url: str, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    with pytest.raises(requests.exceptions.ProxyError):
        requests.get(url, timeout=10)
    for name in BYPASS:  # so that they are taken away again
        monkeypatch.setenv(name, "")
    bypass_here()
    assert requests.get(url, timeout=10).text == "hello"


def test_what_was_exempt_stays_so_and_nothing_is_set_without_a_proxy() -> None:
    assert bypass({}) == {} and bypass({"NO_PROXY": "a.example"}) == {}
    found = bypass({"http_proxy": "http://p", "NO_PROXY": "a.example, localhost", "no_proxy": "b.example"})
    assert found == dict.fromkeys(BYPASS, "b.example,a.example,localhost,127.0.0.1,::1")
    assert bypass({"HTTPS_PROXY": "http://p", "no_proxy": "*"}) == {}
    again = bypass({"HTTP_PROXY": "http://p", **found})
    assert again == found


def test_only_this_machine_is_this_machine() -> None:
    assert all(
        map(is_this_machine, ("localhost", "a.localhost", "127.0.0.1", "127.3.0.1", "::1", "[::1]", "LOCALHOST"))
    )
    assert not any(
        map(is_this_machine, ("", "0.0.0.0", "example.com", "localhost.example", "10.0.0.1", "127.0.0.1.nip"))
    )
    assert may_use_proxy("https://example.com/a") and may_use_proxy("http://[broken")
    assert not may_use_proxy("http://127.0.0.1:5000") and not may_use_proxy("http://[::1]:5000/mcp")
