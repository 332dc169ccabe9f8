"""The REST kit against real local servers: what it sends, what it refuses, and what each failure is to its reader."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from tests.helpers.servers import free_port
from tools.core.errors import (
    CallCancelled,
    ErrorKind,
    FinalError,
    FixableError,
    NeedsPersonError,
    NoDataError,
    RetryableError,
    ToolError,
    UnknownOutcomeError,
)
from tools.core.standin import Reply, Request, http_server
from tools.rest import (
    Basic,
    Bearer,
    CursorPages,
    Header,
    LinkPages,
    NoAuth,
    NumberPages,
    OffsetPages,
    Query,
    RestClient,
    Service,
)
from tools.rest.service import Auth

TOKEN = "s3cret-token-value-0815"
SETTINGS = {"ACME_TOKEN": TOKEN, "ACME_USER": "ada"}


class Thing(BaseModel):
    id: int


BEARER = Bearer("ACME_TOKEN")


@contextlib.contextmanager
def system(
    answer: Callable[[Request], Reply], auth: Auth | tuple[Auth, ...] = BEARER, **service: Any
) -> Iterator[tuple[RestClient, list[Request]]]:
    """A client and its server; gives what the server was sent."""
    seen: list[Request] = []

    def remember(request: Request) -> Reply:
        seen.append(request)
        return answer(request)

    with http_server(remember) as (url, _):
        client = RestClient(
            Service("Acme", "ACME_URL", auth, **{"read_s": 0.3, **service}), {**SETTINGS, "ACME_URL": f"{url}/api/"}
        )
        yield client, seen
        client.close()


def ok(request: Request) -> Reply:
    return Reply(200, {"id": 1})


@pytest.mark.parametrize(
    ("auth", "headers", "query"),
    [
        (Bearer("ACME_TOKEN"), {"authorization": f"Bearer {TOKEN}"}, {}),
        (Header("PRIVATE-TOKEN", "ACME_TOKEN"), {"private-token": TOKEN}, {}),
        (Header("Authorization", "ACME_TOKEN", "Token token="), {"authorization": f"Token token={TOKEN}"}, {}),
        (Basic("ACME_USER", "ACME_TOKEN"), {"authorization": "Basic YWRhOnMzY3JldC10b2tlbi12YWx1ZS0wODE1"}, {}),
        (Query("api_key", "ACME_TOKEN"), {}, {"api_key": TOKEN}),
        ((Header("A", "ACME_TOKEN"), Header("B", "ACME_USER")), {"a": TOKEN, "b": "ada"}, {}),
    ],
    ids=["bearer", "header", "prefix", "basic", "query", "two"],
)
def test_each_kind_of_authentication_is_sent(auth: Any, headers: dict[str, str], query: dict[str, str]) -> None:
    with system(ok, auth) as (client, seen):
        client.get("things", query={"open": True, "left_out": None})
    assert headers.items() <= seen[0].headers.items()
    assert seen[0].query == {"open": "true", **query}
    assert seen[0].path == "/api/things"


def test_values_in_a_path_are_quoted_whole_and_cannot_step_upwards() -> None:
    with system(ok) as (client, seen):
        client.get("things/{name}/parts", name="../admin?x=1#y")
        for value in ("..", ".", "", "a\nb"):
            with pytest.raises(FixableError, match="must be a name"):
                client.get("things/{name}", name=value)
    assert [request.path for request in seen] == ["/api/things/..%2Fadmin%3Fx%3D1%23y/parts"]


def test_a_write_carries_its_key_its_body_and_the_services_headers() -> None:
    with system(lambda r: Reply(201, {"id": 5}), headers={"Accept": "application/vnd.acme+json"}) as (client, seen):
        assert client.write("POST", "things", json={"a": 1}, success=201, key="call-7").model(Thing) == Thing(id=5)
        client.write("PUT", "things/1", form={"a": "b c"}, success=(200, 201))
    assert seen[0].content() == {"a": 1} and seen[0].headers["idempotency-key"] == "call-7"
    assert seen[0].headers["accept"] == "application/vnd.acme+json"
    assert seen[1].content() == {"a": "b c"} and "idempotency-key" not in seen[1].headers


STATUSES: list[tuple[int, dict[str, str], type[ToolError], type[ToolError]]] = [
    (400, {}, FixableError, FixableError),
    (401, {}, NeedsPersonError, NeedsPersonError),
    (403, {}, NeedsPersonError, NeedsPersonError),
    (403, {"Retry-After": "3"}, RetryableError, RetryableError),
    (404, {}, NoDataError, NoDataError),
    (409, {}, FixableError, FixableError),
    (410, {}, NoDataError, NoDataError),
    (418, {}, FinalError, FinalError),
    (422, {}, FixableError, FixableError),
    (429, {}, RetryableError, RetryableError),
    (202, {}, FinalError, UnknownOutcomeError),
    (302, {}, FinalError, FinalError),
    (500, {}, RetryableError, UnknownOutcomeError),
    (502, {}, RetryableError, UnknownOutcomeError),
    (503, {}, RetryableError, UnknownOutcomeError),
]


@pytest.mark.parametrize(("status", "headers", "read", "write"), STATUSES, ids=lambda value: str(value)[:20])
def test_each_status_is_told_to_its_reader_and_asked_once(
    status: int, headers: dict[str, str], read: type[ToolError], write: type[ToolError]
) -> None:
    with system(lambda r: Reply(status, {"message": "the words of the server"}, headers)) as (client, seen):
        with pytest.raises(read) as told:
            client.get("things")
        assert f"HTTP {status}" in told.value.message and "Acme" in told.value.message
        assert "the words of the server" in told.value.message or 300 <= status < 400
        if status in (401, 403) and not headers:
            assert "ACME_TOKEN" in told.value.message
        if read is NoDataError:
            assert told.value.tried and "GET" in told.value.tried and "/api/things" in told.value.tried
        with pytest.raises(write):
            client.write("POST", "things", json={}, success=201)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [({"Retry-After": "17"}, 17.0), ({}, None), ({"Retry-After": "soon"}, None), ({"Retry-After": "-5"}, None)],
    ids=["seconds", "none", "words", "negative"],
)
def test_the_wait_of_a_rate_limit_is_passed_on_and_not_waited(headers: dict[str, str], wait_s: float | None) -> None:
    with system(lambda r: Reply(429, None, headers)) as (client, seen), pytest.raises(RetryableError) as told:
        client.get("things")
    assert told.value.wait_s == wait_s and len(seen) == 1
    assert ("17 s" in told.value.message) == (wait_s == 17.0)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, {"message": f"bad token {TOKEN}"}),
        Reply(400, f"plain {TOKEN}", {"Content-Type": "text/plain"}),
        Reply(400, {"error": {"message": "x" * 290 + TOKEN}}),
        Reply(400, {"errors": [{"detail": f"\x1b[31m{TOKEN}"}]}),
        Reply(500, {"error": f"api_key={TOKEN}&user=ada"}),
    ],
    ids=["json", "text", "cut", "escape", "server"],
)
@pytest.mark.parametrize(
    "auth", [Bearer("ACME_TOKEN"), Basic("ACME_USER", "ACME_TOKEN"), Query("api_key", "ACME_TOKEN")],
    ids=["bearer", "basic", "query"],
)  # fmt: skip
def test_no_message_holds_a_secret_or_a_control_character(reply: Reply, auth: Auth) -> None:
    with system(lambda r: reply, auth) as (client, _):
        for call in (lambda: client.get("x"), lambda: client.write("POST", "x", success=201)):
            with pytest.raises(ToolError) as told:
                call()
            text = f"{told.value.message} {told.value.tried}"
            assert TOKEN[:12] not in text and "YWRhOnMz" not in text and "\x1b" not in text
            assert len(told.value.message) < 700


def test_a_secret_address_is_shown_by_its_host_alone() -> None:
    with http_server(lambda r: Reply(400, {"message": f"no {r.path}"})) as (url, _):
        service = Service("Hook", "HOOK_URL", NoAuth(), secret_url=True)
        client = RestClient(service, {"HOOK_URL": f"{url}/services/T0/B1/verysecretpart"})
        with pytest.raises(FixableError) as told:
            client.write("POST", "", json={}, success=200)
        client.close()
    assert "verysecretpart" not in told.value.message and url in told.value.message


@pytest.mark.parametrize(
    "value",
    [
        "", "host:80", "ftp://host", "https://", "https://ada:pw-pw-pw@host/?x", "https://host/?key=abcabc", "https://host/#x",
        "http://host:99999", "https://ho st/", "http://[::1",
    ],
)  # fmt: skip
def test_an_address_that_is_none_names_its_setting_and_not_its_value(value: str) -> None:
    with pytest.raises(NeedsPersonError) as told:
        RestClient(Service("Acme", "ACME_URL"), {"ACME_URL": value})
    assert (
        "ACME_URL" in told.value.message and "pw-pw-pw" not in told.value.message and "abcabc" not in told.value.message
    )


def test_the_user_and_password_of_an_address_are_credentials_and_never_shown() -> None:
    with http_server(lambda r: Reply(403, {"message": f"no, {r.headers['authorization']}"})) as (url, _):
        service = Service("Acme", "ACME_URL")
        client = RestClient(service, {"ACME_URL": url.replace("//", "//ada:hunter%32-long@") + "/api"})
        with pytest.raises(NeedsPersonError) as told:
            client.get("x")
        client.close()
    assert f"{url}/api/x" in told.value.message and "ACME_URL" in told.value.message
    assert "hunter" not in told.value.message and "YWRhOmh1" not in told.value.message


@pytest.mark.parametrize("token", ["two\nlines-of-it", "über-token-value"])
def test_a_token_that_no_header_can_carry_names_its_setting(token: str) -> None:
    with pytest.raises(NeedsPersonError, match="ACME_TOKEN") as told:
        RestClient(Service("Acme", "ACME_URL", Bearer("ACME_TOKEN")), {"ACME_URL": "https://h", "ACME_TOKEN": token})
    assert token not in told.value.message


@pytest.mark.parametrize("timeout", ["soon", "0", "-1", "nan", "1e9"])
def test_a_time_out_that_is_no_number_of_seconds_names_its_setting(timeout: str) -> None:
    service = Service("Acme", "ACME_URL", timeout="ACME_TIMEOUT_S")
    with pytest.raises(NeedsPersonError, match="ACME_TIMEOUT_S"):
        RestClient(service, {"ACME_URL": "https://h", "ACME_TIMEOUT_S": timeout})


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_host_is_refused_and_the_token_does_not_follow(status: int) -> None:
    with (
        http_server(lambda r: pytest.fail("the token followed a redirect")) as (elsewhere, _),
        system(lambda r: Reply(status, None, {"Location": f"{elsewhere}/api/things"})) as (client, seen),
    ):
        with pytest.raises(FinalError, match="on another host"):
            client.get("things")
        with pytest.raises(FinalError, match="a redirect that is not followed"):
            client.write("POST", "things", json={}, success=201)
    assert len(seen) == 2


def test_a_redirect_on_the_same_host_is_followed_a_few_times() -> None:
    def answer(request: Request) -> Reply:
        if request.path == "/api/loop":
            return Reply(302, None, {"Location": "/api/loop"})
        return Reply(302, None, {"Location": "new?x=1"}) if request.path == "/api/old" else Reply(200, {"id": 3})

    with system(answer) as (client, seen):
        assert client.get("old", query={"y": 2}).model(Thing).id == 3
        assert seen[1].path == "/api/new" and seen[1].query == {"x": "1"} and "authorization" in seen[1].headers
        with pytest.raises(FinalError):
            client.get("loop")
    assert len(seen) == 2 + 4


def test_nothing_listening_is_retryable_for_a_write_too_for_nothing_was_sent() -> None:
    client = RestClient(Service("Acme", "ACME_URL"), {"ACME_URL": f"http://127.0.0.1:{free_port()}"})
    for call in (lambda: client.get("x"), lambda: client.write("DELETE", "x", success=204)):
        with pytest.raises(RetryableError, match=r"cannot be reached at .*ACME_URL.*nothing was sent"):
            call()


@pytest.mark.parametrize("reply", [Reply(hold=True), Reply(cut=True)], ids=["slow", "cut"])
def test_no_answer_is_retryable_for_a_read_and_unknown_for_a_write(reply: Reply) -> None:
    with system(lambda r: reply) as (client, seen):
        with pytest.raises(RetryableError):
            client.get("x")
        with pytest.raises(UnknownOutcomeError, match="read the state back"):
            client.write("POST", "x", success=201)
    assert len(seen) == 2


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that sends bytes as it likes, one connection after another."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        ended = threading.Event()

        def work() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(5)
                        connection.recv(65536)
                        serve(connection)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join(10)


@pytest.mark.parametrize("head", [True, False], ids=["body", "head"])
def test_an_answer_that_comes_drop_by_drop_ends_with_the_time_for_all_of_it(head: bool) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" if head else b"HTTP/1.1 200 OK\r\nX-A: "
        )
        for _ in range(200):
            connection.sendall(b"a")
            time.sleep(0.05)

    with raw_server(drip) as url:
        client = RestClient(Service("Acme", "ACME_URL", read_s=0.3, total_s=0.5), {"ACME_URL": url})
        began = time.monotonic()
        with pytest.raises(RetryableError, match=r"no whole answer within 0.5 s"):
            client.get("x")
        assert time.monotonic() - began < 8  # the drops would last ten
        client.close()


def test_an_answer_is_read_up_to_its_bound_only() -> None:
    with system(lambda r: Reply(200, {"id": 1, "more": "x" * 5000}), max_bytes=1000) as (client, _):
        with pytest.raises(FinalError, match="more than 1,000 bytes"):
            client.get("x")
        with pytest.raises(UnknownOutcomeError):
            client.write("POST", "x", success=200)


def test_a_compressed_answer_is_neither_asked_for_nor_read() -> None:
    with (
        system(lambda r: Reply(200, "x", {"Content-Encoding": "gzip"})) as (client, seen),
        pytest.raises(FinalError, match="compressed"),
    ):
        client.get("x")
    assert seen[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("body", ["<html>Sign in</html>", "[" * 100_000, '{"id": "no number"}', '{"other": 1}', "null"])
def test_an_answer_that_is_not_what_is_promised_names_the_setting_of_the_address(body: str) -> None:
    with system(lambda r: Reply(200, body)) as (client, _):
        with pytest.raises(FinalError, match="check ACME_URL"):
            client.get("x").model(Thing)
        with pytest.raises(UnknownOutcomeError):
            client.write("POST", "x", success=200).model(Thing)


def test_loopback_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with system(ok) as (client, seen):
        client.get("x")
    assert len(seen) == 1


def test_another_host_is_reached_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def proxy(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n" + b'{"id":1}')
        seen.append(b"asked")

    with raw_server(proxy) as url:
        for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", url)
        client = RestClient(Service("Acme", "ACME_URL"), {"ACME_URL": "http://acme.invalid/api"})
        assert client.get("x").model(Thing).id == 1
        client.close()
    assert seen == [b"asked"]


def pages(request: Request) -> tuple[int, int]:
    """Start and size of the page asked for."""
    size = int(request.query.get("size") or request.query["limit"])
    if "page" in request.query:
        return (int(request.query["page"]) - 1) * size, size
    return int(request.query.get("offset") or request.query.get("cursor") or 0), size


def listed(request: Request) -> Reply:
    """Seven things, by whatever kind of page is asked for."""
    start, size = pages(request)
    things = [{"id": number} for number in range(7)][start : start + size]
    after = str(start + size) if start + size < 7 else None
    content: Any = {"data": {"things": things}, "meta": {"next": after, "more": after is not None}}
    headers: Mapping[str, str] = {}
    if request.path.endswith("linked"):
        content = things
        links = [f'</api/linked?limit={size}&offset={after}>; rel="next"'] if after else []
        headers = {"Link": ", ".join(['<https://h/first>; rel="first"', *links])}
    return Reply(200, content, headers)


@pytest.mark.parametrize(
    ("path", "paging"),
    [
        ("linked", LinkPages(size_parameter="limit", size=3)),
        ("things", CursorPages("data.things", "meta.next", size=3)),
        ("things", NumberPages("data.things", size_parameter="size", size=3)),
        ("things", OffsetPages("data.things", size=3)),
        ("things", OffsetPages("data.things", size=3, more="meta.more")),
    ],
    ids=["link", "cursor", "number", "offset", "offset_more"],
)
def test_each_kind_of_list_is_read_to_its_end_or_its_limit(path: str, paging: Any) -> None:
    with system(listed) as (client, seen):
        found = client.pages(path, paging, Thing, limit=100)
        assert [thing.id for thing in found.items] == list(range(7)) and found.complete and found.pages == 3
        assert len(seen) == 3
        found = client.pages(path, paging, Thing, limit=4)
        assert [thing.id for thing in found.items] == list(range(4)) and not found.complete
        assert len(seen) == 5
    assert all("authorization" in request.headers for request in seen)


def test_a_next_page_on_another_host_is_refused() -> None:
    link = {"Link": '<http://127.0.0.1:1/api/x?page=2>; rel="next"'}
    with (
        system(lambda r: Reply(200, [{"id": 1}], link)) as (client, seen),
        pytest.raises(FinalError, match="another host"),
    ):
        client.pages("x", LinkPages(), Thing, limit=10)
    assert len(seen) == 1


def test_a_list_that_names_the_same_page_again_or_never_ends_is_bounded() -> None:
    with (
        system(lambda r: Reply(200, {"d": [{"id": 1}], "c": "same"})) as (client, seen),
        pytest.raises(FinalError, match="the same next page"),
    ):
        client.pages("x", CursorPages("d", "c"), Thing, limit=1000)
    assert len(seen) == 2
    with system(lambda r: Reply(200, {"d": [], "c": str(time.monotonic_ns())})) as (client, seen):
        found = client.pages("x", CursorPages("d", "c"), Thing, limit=1000)
    assert not found.complete and found.pages == len(seen) == 100


def test_a_list_ends_where_the_run_is_stopped(tmp_path: Any) -> None:
    from tools.core.contract import CallContext

    with system(listed) as (client, seen), pytest.raises(CallCancelled):
        ctx = CallContext(tmp_path, tmp_path, "run", is_cancelled=lambda: len(seen) > 1)
        client.pages("things", OffsetPages("data.things", size=3), Thing, limit=100, ctx=ctx)
    assert len(seen) == 2


def test_a_list_that_is_none_is_told() -> None:
    with system(ok) as (client, _), pytest.raises(FinalError, match="no list at 'data'"):
        client.pages("x", CursorPages("data", "next"), Thing, limit=10)


def test_the_wait_travels_with_the_result_of_a_call() -> None:
    from tools.core.dispatch import failure

    result = failure(RetryableError("busy", wait_s=7))
    assert result.error is not None and (result.error.kind, result.error.wait_s) == (ErrorKind.RETRY, 7)
