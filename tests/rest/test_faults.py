"""What is read from a failed answer: the wait it asks for, and its words."""

import json
from typing import Any

import pytest

from tools.rest.faults import wait_asked_for, words
from tools.rest.paging import next_link

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "0"}, 0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50"}, 30),
        ({"retry-after": "Tue, 14 Nov 99999 22:13:50 GMT"}, None),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0),
        ({"retry-after": "Tue, 14 Nov 2033 22:00:00 GMT"}, 86400),
        ({"retry-after": "999999999"}, 86400),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "inf"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000012"}, 12),
        ({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "1700000012"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_wait_is_read_from_seconds_dates_and_resets_and_bounded(
    headers: dict[str, str], wait_s: float | None
) -> None:
    assert wait_asked_for(headers, NOW) == wait_s


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"message": "no such project"}, "no such project"),
        ({"error": {"code": 2001, "message": "Not found", "errors": ["id is wrong"]}}, "Not found; id is wrong"),
        ({"errorMessages": ["The value is taken."], "errors": {"summary": "is required"}}, "summary: is required"),
        ({"ok": False, "error": "channel_not_found"}, "channel_not_found"),
        ({"errors": ["Forbidden", "Really"]}, "Forbidden; Really"),
        ([{"detail": "a\nb"}], "a b"),
        ({"a": {"b": {"c": {"message": "too deep"}}}}, ""),
        (17, ""),
    ],
    ids=str,
)
def test_the_words_of_the_usual_forms_are_found(content: Any, told: str) -> None:
    assert told in words("application/json; charset=utf-8", json.dumps(content).encode())


def test_a_page_for_people_and_broken_json_have_no_words() -> None:
    assert words("text/html", b"<h1>Bad gateway</h1>") == ""
    assert words("application/json", b"{") == ""
    assert words("application/json", b"[" * 200_000) == ""
    assert words("text/plain", b"upstream \x00\x1b[31m down\r\n") == "upstream [31m down"


@pytest.mark.parametrize(
    ("header", "url"),
    [
        ('<https://h/a?page=2>; rel="next", <https://h/a?page=9>; rel="last"', "https://h/a?page=2"),
        ("<b>; rel=next", "b"),
        ('<c>; title="x, y"; rel="prev next"', "c"),
        ('<d>; rel="prev"', None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_the_next_link_is_found_among_the_links(header: str, url: str | None) -> None:
    assert next_link(header) == url
