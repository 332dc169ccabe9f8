"""What a failed request means to its reader, and what may be said of it.

| what happened | read | write |
|---|---|---|
| 400, 409, 412, 413, 422 | fixable, with the server's words | the same: it refused |
| 401, 403, 407 | needs a person; names the settings | the same |
| 404, 410 | no data; says where was looked | the same |
| 408, 425, 429, and 403 with a spent rate limit | retry, with the wait asked for | the same: it was not taken |
| 5xx, no answer in time, connection lost | retry | unknown: it may have happened |
| no connection | retry | retry: nothing was sent |
| a success status that was not expected | final | unknown |
"""

import email.utils
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from tools.core.errors import (
    FinalError,
    FixableError,
    NeedsPersonError,
    NoDataError,
    RetryableError,
    ToolError,
    UnknownOutcomeError,
    shorten,
)

MAX_WORDS = 300  # characters of the server's own words in a message
MAX_WAIT_S = 24 * 3600.0
READ_BACK = "; it may have happened: read the state back before repeating it"
FIXABLE = frozenset({400, 409, 412, 413, 422})
LATER = frozenset({408, 425, 429})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Asked:
    """The request that failed, as a message may show it: never its query, headers or body.

    Args:
        title: of the service.
        method, where: for example `POST` and `https://host/v1/items`.
        writes: whether it may have changed something there.
        url_setting: the setting of the address.
        auth_settings: the settings of the credentials.
        clean: takes the secrets out of the server's words.
    """

    title: str
    method: str
    where: str
    writes: bool
    url_setting: str
    auth_settings: tuple[str, ...]
    clean: Callable[[str], str]


def refused(asked: Asked, status: int, headers: Mapping[str, str], body: bytes) -> ToolError:
    """The error for a status that is not the expected one."""
    said = words(headers.get("content-type", ""), body)
    said = f": {_short(asked.clean(said))}" if said else ""  # cut last: half a secret is no secret to `clean`
    answered = f"{asked.title} answers {asked.method} {asked.where} with HTTP {status}"
    wait_s = wait_asked_for(headers)
    limited = status == 403 and (headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers)
    if status in LATER or limited:
        wait = f"; it asks to wait {wait_s:g} s" if wait_s is not None else ""
        return RetryableError(f"{answered}{wait}{said}", wait_s=wait_s)
    if status in (401, 403, 407):
        settings = " and ".join(asked.auth_settings) or asked.url_setting
        return NeedsPersonError(f"{answered}{said}; check {settings}", tried=f"{asked.method} {asked.where}")
    if status in (404, 410):
        return NoDataError(f"{answered}{said}", tried=f"{asked.method} {asked.where} ({asked.url_setting})")
    if status in FIXABLE:
        return FixableError(f"{answered}{said}")
    if 200 <= status < 300:
        return _maybe(asked, f"{answered}, which does not say that it was done{said}", FinalError)
    if 300 <= status < 400:
        return FinalError(f"{answered}, a redirect that is not followed; check {asked.url_setting}")
    if status >= 500:
        if asked.writes:
            return UnknownOutcomeError(f"{answered}{said}{READ_BACK}")
        return RetryableError(f"{answered}{said}", wait_s=wait_s)
    return FinalError(f"{answered}{said}")


def not_connected(asked: Asked, *, untrusted: bool = False) -> ToolError:
    """Nothing was sent. `untrusted`: because nobody we trust vouches for the server's certificate."""
    if untrusted:
        return NeedsPersonError(
            f"{asked.title} at {asked.where} shows a certificate that is not trusted; nothing was sent. "
            f"Check {asked.url_setting}, or name the authority's file in SSL_CERT_FILE"
        )
    return RetryableError(f"{asked.title} cannot be reached at {asked.where} ({asked.url_setting}); nothing was sent")


def no_answer(asked: Asked, why: str) -> ToolError:
    """It was sent, or may have been, and no whole answer came. `why`: "no answer within 30 s"."""
    return _maybe(asked, f"{asked.title}, {asked.method} {asked.where}: {why}", RetryableError)


def unreadable(asked: Asked, why: str) -> ToolError:
    """The status is the expected one, and the answer is not what the service promises."""
    return _maybe(
        asked, f"{asked.title} answers {asked.method} {asked.where} with {why}; check {asked.url_setting}", FinalError
    )


def _maybe(asked: Asked, message: str, otherwise: type[ToolError]) -> ToolError:
    return UnknownOutcomeError(message + READ_BACK) if asked.writes else otherwise(message)


def wait_asked_for(headers: Mapping[str, str], now_s: float | None = None) -> float | None:
    """Seconds of `Retry-After` (a number, or a date) or of `X-RateLimit-Reset`; at most a day. None: not said.

    Args:
        now_s: Unix seconds that a date is compared with; None: now.
    """
    now_s = time.time() if now_s is None else now_s
    given = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", given):
        return min(float(given), MAX_WAIT_S)
    if given:
        try:
            date = email.utils.parsedate_to_datetime(given)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)  # HTTP's dates are in GMT, said or not
            return min(max(round(date.timestamp() - now_s, 1), 0.0), MAX_WAIT_S)
        except (ValueError, OverflowError):
            return None
    reset = headers.get("x-ratelimit-reset", "").strip()
    if headers.get("x-ratelimit-remaining") == "0" and re.fullmatch(r"\d{1,12}", reset):
        return min(max(round(float(reset) - now_s, 1), 0.0), MAX_WAIT_S)
    return None


def words(content_type: str, body: bytes) -> str:
    """What a server says of an error, on one line; empty where it says nothing readable."""
    if "json" in content_type:
        try:
            text = _told(json.loads(body))
        except (ValueError, RecursionError):
            return ""
    elif content_type.startswith("text/plain"):
        text = body.decode("utf-8", "replace")
    else:  # a page for people: markup, no words
        return ""
    text = text[: 10 * MAX_WORDS]
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _short(line: str) -> str:
    return shorten(line, MAX_WORDS)


def _told(content: Any, depth: int = 0) -> str:
    """The words in an error body. Vendors differ in the key, not in the idea."""
    if depth > 4:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "; ".join(text for item in content[:5] if (text := _told(item, depth + 1)))
    if not isinstance(content, dict):
        return ""
    found: list[str] = []
    for key in ("message", "error_description", "error", "detail", "title", "reason", "errors", "errorMessages"):
        text = _told(content.get(key), depth + 1)
        if text and text not in found:
            found.append(text)
    if not found and depth:  # {"errors": {"summary": "is required"}}
        found = [f"{key}: {text}" for key, item in list(content.items())[:5] if (text := _told(item, depth + 1))]
    return "; ".join(found)
