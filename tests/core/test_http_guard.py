"""What stands in front of every HTTP port: names, pages, tokens, bodies, slow and many connections."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import pytest
import uvicorn

from tools.core.http_guard import (
    BodyError,
    Guard,
    bearer_matches,
    bounded_protocol,
    is_loopback,
    own_names,
    read_json,
    without_paths,
)

LIMIT = 1000
TOKEN = "the-right-token"
JSON = {"Content-Type": "application/json"}
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


slow_requests: list[Any] = []
begun, go_on = threading.Event(), threading.Event()


bodies: list[int] = []


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers the body; waits where the path says so; 503 at /busy."""
    body = (await receive())["body"] if scope["method"] == "POST" else b""
    bodies.append(len(body))
    if scope["path"] == "/slow":
        slow_requests.append(scope)
        if len(slow_requests) == 2:
            begun.set()
        await asyncio.to_thread(go_on.wait, 20)
    status = 503 if scope["path"] == "/busy" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(token: str | None = TOKEN, **bounds: Any) -> Iterator[str]:
    app = Guard(
        echo, names=own_names("127.0.0.1"), token=token, open_paths=frozenset({"/open"}), max_body_bytes=LIMIT,
        body_timeout_s=0.5,
    )  # fmt: skip
    config = uvicorn.Config(
        app, http=bounded_protocol(**bounds), lifespan="off", log_level="error", ws="none", access_log=False
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as address:
        yield address


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200), ({"Host": "localhost"}, 200), ({"Host": "LOCALHOST:1"}, 200), ({"Host": "[::1]:80"}, 200),
        ({"Host": "evil.example"}, 421), ({"Host": "127.0.0.1.evil.example"}, 421), ({"Host": "localhost."}, 421),
        ({"Host": ""}, 421), ({"Host": "localhost@evil.example"}, 421), ({"Host": "169.254.169.254"}, 421),
        ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "file://"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": TOKEN}, 401), ({"Authorization": ""}, 401),
        ({"Authorization": f"bEaReR {TOKEN}"}, 200), ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401), ({"Authorization": b"Bearer t\xf6k"}, 401),
        ({"Content-Type": "text/plain"}, 415), ({"Content-Type": ""}, 415),
        ({"Content-Type": "application/jsonx"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "application/json; charset=utf-7"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)  # fmt: skip
def test_who_may_come_in(url: str, headers: dict[str, Any], status: int) -> None:
    answer = httpx.post(url, content=b"{}", headers={**RIGHT, **JSON, **headers})
    assert answer.status_code == status
    assert (answer.headers.get("WWW-Authenticate") == "Bearer") is (status == 401)
    if status != 200:
        assert answer.json()["error"]


def test_its_own_page_may_come_in_and_an_open_path_needs_no_token(url: str) -> None:
    assert httpx.post(url, content=b"{}", headers={**RIGHT, **JSON, "Origin": url}).status_code == 200
    assert httpx.get(f"{url}/open").status_code == 200
    assert httpx.get(f"{url}/open/").status_code == 401
    assert httpx.get(f"{url}/open", headers={"Host": "evil.example"}).status_code == 421


def test_two_hosts_or_two_tokens_are_none(url: str) -> None:
    two = b"GET /open HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b"200" not in raw(url, two).split(b"\r\n")[0]
    both = [(b"authorization", b"Bearer wrong"), (b"authorization", b"Bearer " + TOKEN.encode())]
    assert not bearer_matches(both, TOKEN) and not bearer_matches([], TOKEN)


def raw(url: str, data: bytes, timeout_s: float = 10.0) -> bytes:
    """What comes back until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port_of(url)), timeout_s) as connection:
        connection.sendall(data)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
    return found


def test_a_body_is_bounded_whether_or_not_it_says_how_long_it_is(url: str) -> None:
    bodies.clear()
    headers = {**RIGHT, **JSON}
    assert httpx.post(url, content=b"x" * LIMIT, headers=headers).status_code == 200
    for content in (b"x" * (LIMIT + 1), b"x" * (20 << 20), (b"x" * 600 for _ in range(3))):
        with suppress(httpx.TransportError):  # the connection may be closed while the client still writes
            assert httpx.post(url, content=content, headers=headers).status_code == 413
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    assert raw(url, f"{head}Content-Length: {LIMIT + 1}\r\n\r\n".encode()).startswith(b"HTTP/1.1 413")
    chunk = b"%x\r\n%b\r\n" % (LIMIT + 1, b"x" * (LIMIT + 1))
    assert raw(url, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk).startswith(b"HTTP/1.1 413")
    assert bodies == [LIMIT], "none of the others came to the application"


def test_a_body_that_does_not_come_is_given_up(url: str) -> None:
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
    answer = raw(url, head + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408")


def test_an_overload_says_when_to_come_again(url: str) -> None:
    answer = httpx.get(f"{url}/busy", headers=RIGHT)
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0


def test_a_head_that_does_not_come_or_does_not_end_closes_the_connection() -> None:
    with served(head_timeout_s=0.3) as url:
        assert raw(url, b"") == b"" and raw(url, b"GET / HTTP/1.1\r\nHost: localhost\r\n") == b""
    with served() as url, socket.create_connection(("127.0.0.1", port_of(url)), 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with pytest.raises(OSError):
            while True:
                connection.sendall(b"X-More: " + b"x" * 8000 + b"\r\n")


def test_half_open_connections_do_not_keep_others_out() -> None:
    with served(max_connections=5, head_timeout_s=60.0) as url, ExitStack() as opened:
        for _ in range(20):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", port_of(url)), 10))
            connection.sendall(b"GET / HTTP/1.1\r\n")
        assert httpx.get(f"{url}/open").status_code == 200


def test_more_requests_at_once_than_are_taken_are_told_to_come_again() -> None:
    slow_requests.clear()
    begun.clear()
    go_on.clear()
    with served(max_connections=2) as url, ExitStack() as opened:
        asked = f"GET /slow HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        slow = [opened.enter_context(socket.create_connection(("127.0.0.1", port_of(url)), 10)) for _ in range(2)]
        for connection in slow:
            connection.sendall(asked)
        assert begun.wait(10)
        refused = raw(url, b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 503") and b"Retry-After" in refused
        go_on.set()
        assert all(connection.recv(100).startswith(b"HTTP/1.1 200") for connection in slow)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"NaN", b'{"a": Infinity}', b'{"a": -Infinity}', b'{"a": 1e400}', b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 18446744073709551616}', b"[" * 100_000, b'{"a": 1, "a": 2}', b'"\xff"', b'"\\ud800"', b'{"\\udfff": 1}',
    ],
)  # fmt: skip
def test_what_json_does_not_have_is_refused_in_a_sentence(body: bytes) -> None:
    with pytest.raises(BodyError) as caught:
        read_json(body)
    assert "Error" not in str(caught.value) and len(str(caught.value)) < 200


def test_json_is_read_as_it_is() -> None:
    value = {"a": [1, 2.5, True, None, "é\U0001f600"], "b": {"c": -(2**63)}}
    assert read_json(json.dumps(value).encode()) == value


def test_an_error_for_outside_tells_no_path() -> None:
    text = "cannot load '/srv/models/churn': No such file C:\\data\\x models:/churn/1 yes/no"
    assert "srv" not in without_paths(text) and "data" not in without_paths(text) and "yes/no" in without_paths(text)


def test_only_the_usual_names_are_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "LOCALHOST", "127.1", "127.0.0.2", "0", "localhost.")))
    names = own_names("0.0.0.0", ["API.example"])
    assert names >= {"localhost", "api.example"} and "0.0.0.0" not in names
