"""A stand-in objects to every request that differs from what the system takes."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tools.core.standin import ANY, Exchange, Play, Reply, Request, StandIn, http_server

AUTH = {"X-Key": "the-key-of-the-test"}
STANDIN = StandIn(settings={"URL": "{url}/api"}, auth=AUTH, error=lambda status, text: {"error": f"{status} {text}"})
SCRIPT = (
    Exchange("GET", "/api/a", Reply(200, [1]), query={"x": "1"}),
    Exchange("POST", "/api/a", Reply(201, {"id": 7}), body={"name": "n", "at": ANY}, headers={"Idempotency-Key": ANY}),
)


@pytest.fixture
def play() -> Iterator[Play]:
    with STANDIN.serving() as serving:
        serving.begin(SCRIPT)
        yield serving


def send(play: Play, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {**AUTH, **more.pop("headers", {})}
    return httpx.request(method, f"{play.url}{path}", headers=headers, trust_env=False, timeout=10, **more)


def test_what_the_system_takes_is_answered_without_an_objection(play: Play) -> None:
    assert send(play, "GET", "/api/a?x=1").json() == [1]
    answer = send(play, "POST", "/api/a", json={"name": "n", "at": "now"}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()) == (201, {"id": 7})
    play.check_complete()
    assert play.objections == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "told"),
    [
        ("GET", "/api/b?x=1", {}, "sends GET /api/b; the system knows GET /api/a"),
        ("POST", "/api/a?x=1", {}, "sends POST /api/a; the system knows GET /api/a"),
        ("GET", "/api/a?x=2", {}, "with the query {'x': '2'}"),
        ("GET", "/api/a", {}, "with the query {}"),
        ("GET", "/api/a?x=1", {"X-Key": "another"}, "without the header X-Key"),
    ],
)
def test_another_path_method_query_or_credential_is_an_objection(
    play: Play, method: str, path: str, headers: dict[str, str], told: str
) -> None:
    answer = send(play, method, path, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"].startswith("400 ")
    assert told in play.objections[0]


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        ({"title": "n", "at": 1}, {"Idempotency-Key": "k"}, "with the body {'title': 'n', 'at': 1}"),
        ({"name": "n", "at": 1, "more": 2}, {"Idempotency-Key": "k"}, "with the body"),
        (None, {"Idempotency-Key": "k"}, "with the body None"),
        ({"name": "n", "at": 1}, {}, "without the header Idempotency-Key"),
    ],
)
def test_another_body_or_a_missing_header_is_an_objection(
    play: Play, body: Any, headers: dict[str, str], told: str
) -> None:
    send(play, "GET", "/api/a?x=1")
    send(play, "POST", "/api/a", json=body, headers=headers)
    assert told in play.objections[0]


def test_what_comes_twice_or_never_is_an_objection(play: Play) -> None:
    send(play, "GET", "/api/a?x=1")
    play.check_complete()
    assert play.objections == ["never sends POST /api/a, which its example says"]
    play.begin(SCRIPT[:1])
    send(play, "GET", "/api/a?x=1")
    send(play, "GET", "/api/a?x=1")
    assert play.objections == ["sends GET /api/a, which its example does not say"]


def test_the_description_of_the_api_judges_requests_and_the_stand_ins_own_answers() -> None:
    def judge(request: Request, reply: Reply) -> list[str]:
        return [] if isinstance(reply.body, dict) else [f"answers {request.name} with no object"]

    with StandIn(settings={"URL": "{url}"}, judge=judge).serving() as play:
        play.begin(SCRIPT[:1])
        httpx.get(f"{play.url}/api/a?x=1", trust_env=False)
        assert play.objections == ["answers GET /api/a with no object"]


def test_a_form_is_compared_by_its_fields() -> None:
    seen: list[Any] = []

    def answer(request: Request) -> Reply:
        seen.append(request.content())
        return Reply(204)

    with http_server(answer) as (url, _):
        httpx.post(url, data={"a": "1", "b": "x y"}, trust_env=False)
        httpx.post(url, content=b"plain", trust_env=False)
    assert seen == [{"a": "1", "b": "x y"}, "plain"]
