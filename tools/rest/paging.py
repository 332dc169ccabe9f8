"""How a service hands out long lists, as data. The client turns the pages, and knows when to stop."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page:
    """One page: what it held, and the next request (a query to merge or an address); both None: it was the last."""

    items: list[Any]
    next_query: Mapping[str, str] | None = None
    next_url: str | None = None


@dataclass(frozen=True)
class Listing(Generic[Item]):
    """A list gathered from its pages. `complete`: there is no more than this."""

    items: list[Item]
    complete: bool
    pages: int


@dataclass(frozen=True)
class LinkPages:
    """The `Link` header names the next page (GitHub, GitLab).

    Args:
        items: where the list is in the answer, with dots (`data.items`); empty: the answer is the list.
        size_parameter, size: how many to ask for; empty: the server decides.
    """

    items: str = ""
    size_parameter: str = "per_page"
    size: int = 100

    def first(self) -> dict[str, str]:
        return _size(self.size_parameter, self.size)

    def page(self, content: Any, headers: Mapping[str, str], number: int) -> Page:
        return Page(items_at(content, self.items), next_url=next_link(headers.get("link", "")))


@dataclass(frozen=True)
class CursorPages:
    """The answer holds a cursor for the next page (Slack, Datadog).

    Args:
        items: where the list is in the answer.
        cursor: where the cursor is; missing, null or empty there: the last page.
        parameter: the query parameter that takes it.
        size_parameter, size: as in `LinkPages`.
    """

    items: str
    cursor: str
    parameter: str = "cursor"
    size_parameter: str = "limit"
    size: int = 100

    def first(self) -> dict[str, str]:
        return _size(self.size_parameter, self.size)

    def page(self, content: Any, headers: Mapping[str, str], number: int) -> Page:
        cursor = _at(content, self.cursor)
        given = cursor is not None and cursor is not False and str(cursor) != ""
        return Page(items_at(content, self.items), next_query={self.parameter: str(cursor)} if given else None)


@dataclass(frozen=True)
class NumberPages:
    """Pages are numbered; one that is not full is the last."""

    items: str = ""
    parameter: str = "page"
    start: int = 1
    size_parameter: str = "per_page"
    size: int = 100

    def first(self) -> dict[str, str]:
        return {self.parameter: str(self.start), **_size(self.size_parameter, self.size)}

    def page(self, content: Any, headers: Mapping[str, str], number: int) -> Page:
        items = items_at(content, self.items)
        more = len(items) >= self.size
        return Page(items, next_query={self.parameter: str(self.start + number)} if more else None)


@dataclass(frozen=True)
class OffsetPages:
    """The next page starts where this one ended (PagerDuty, Jira).

    Args:
        more: where the answer says that there is more; empty: a page that is not full is the last.
    """

    items: str
    parameter: str = "offset"
    size_parameter: str = "limit"
    size: int = 100
    more: str = ""

    def first(self) -> dict[str, str]:
        return {self.parameter: "0", **_size(self.size_parameter, self.size)}

    def page(self, content: Any, headers: Mapping[str, str], number: int) -> Page:
        items = items_at(content, self.items)
        more = bool(_at(content, self.more)) if self.more else len(items) >= self.size
        return Page(items, next_query={self.parameter: str(number * self.size)} if more and items else None)


Paging = LinkPages | CursorPages | NumberPages | OffsetPages


def next_link(header: str) -> str | None:
    """The address of `rel="next"` in a Link header (RFC 8288); None where there is none."""
    for link in re.finditer(r"<([^>]*)>((?:\s*;\s*[\w*-]+\s*=\s*(?:\"[^\"]*\"|[^\s;,\"]+))*)", header):
        relation = re.search(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", link[2], re.IGNORECASE)
        if relation and "next" in (relation[1] or relation[2]).lower().split():
            return link[1]
    return None


def items_at(content: Any, place: str) -> list[Any]:
    """The list at a place of an answer.

    Raises:
        ValueError: there is none; names the place.
    """
    found = _at(content, place)
    if not isinstance(found, list):
        raise ValueError(f"no list at {place!r}" if place else "something that is no list")
    return found


def _at(content: Any, place: str) -> Any:
    for key in place.split(".") if place else ():
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _size(parameter: str, size: int) -> dict[str, str]:
    return {parameter: str(size)} if parameter else {}
