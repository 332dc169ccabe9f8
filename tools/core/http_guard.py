"""What stands in front of every HTTP port of ours: who may come in, how much they send, how slowly, how many at once.

`Guard` is ASGI middleware: names in Host (a web page that resolves its own name to this machine is refused), Origin,
token, content type, size and time of a body. `bounded_protocol` is a uvicorn protocol that also bounds what happens
before there is a request: the time and size of its head, and the number of connections. Knows no integration.
"""

import asyncio
import hmac
import json
import math
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEAD_TIMEOUT_S = 10.0  # from the first byte of a connection or request to the end of its headers
MAX_HEAD_BYTES = 64 * 1024
BODY_TIMEOUT_S = 30.0
DISCARD_S = 2.0
MAX_CONNECTIONS = 256
RETRY_AFTER_S = 2
REFUSED_S = 1.0
WITH_BODY = ("POST", "PUT", "PATCH")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?")
_PATH = re.compile(r"(?<![\w])(?:[A-Za-z]:)?[\\/][^\s'\",:;()]+")


class BodyError(ValueError):
    """A body that is not the JSON we read; the text says what is wrong with it."""


class _RefusedError(Exception):
    """The request is answered here: status, sentence, further headers."""

    def __init__(self, status: int, message: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = list(headers)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address. Exactly the usual names: what is written otherwise is not."""
    return host in LOOPBACK


def own_names(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """The names under which a server that listens on `host` may be called: loopback, itself, and `more`."""
    names = {*LOOPBACK, *(name.lower() for name in more)}
    if not is_loopback(host):
        names |= {host.lower(), socket.gethostname().lower()}
    return frozenset(names - {"0.0.0.0", "::", ""})


def bearer_matches(headers: Iterable[tuple[bytes, bytes]], token: str) -> bool:
    """Whether exactly one Authorization header carries the token. In constant time, the scheme in any case."""
    given = [value for name, value in headers if name.lower() == b"authorization"]
    scheme, _, credentials = given[0].strip().partition(b" ") if len(given) == 1 else (b"", b"", b"")
    matches = hmac.compare_digest(credentials.strip(), token.encode())
    return matches and scheme.lower() == b"bearer"


def without_paths(text: str, limit: int = 300) -> str:
    """An error's text for somebody outside: one line without paths of this machine."""
    return _PATH.sub("[path]", " ".join(text.split()))[:limit]


def read_json(body: bytes) -> Any:
    """A JSON body, with nothing in it that JSON does not have or that a table of numbers and words cannot hold.

    Raises:
        BodyError: not JSON or not UTF-8, NaN or infinity, a whole number beyond 64 bits, a name given twice, text with
            half a character, or nested too deeply.
    """

    def constant(name: str) -> Any:
        raise BodyError(f"{name} is not JSON; leave the value out or send null")

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise BodyError(f"the number {text[:20]} is too large")
        return value

    def whole(text: str) -> int:
        if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
            raise BodyError(f"the whole number {text[:20]}... has more than 64 bits")
        return int(text)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise BodyError("a name is given twice in one object")
        return found

    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=constant, parse_float=number, parse_int=whole, object_pairs_hook=pairs)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a character, written as an escape
    except BodyError:
        raise
    except UnicodeError as error:
        raise BodyError("the body holds text that is not UTF-8") from error
    except RecursionError as error:
        raise BodyError("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise BodyError(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    return value


class Guard:
    """ASGI middleware in front of an application.

    Args:
        names: valid names in Host, in lower case; the address a client connected to is valid too.
        token: what a request must carry as a bearer token; None: nothing.
        open_paths: paths that need no token.
        max_body_bytes: larger bodies are answered 413 and not read.
        body_timeout_s: seconds a body may take to arrive.
    """

    def __init__(
        self,
        app: App,
        *,
        names: frozenset[str],
        token: str | None,
        open_paths: frozenset[str] = frozenset(),
        max_body_bytes: int,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self._app = app
        self._names = names
        self._token = token
        self._open_paths = open_paths
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise ValueError("only HTTP is served")
        try:
            self._check(scope)
            if scope["method"] in WITH_BODY:
                receive = _replayed(await self._body(scope, receive), receive)
        except _RefusedError as refused:
            await _answer(send, refused)
            return
        await self._app(scope, receive, _with_retry_after(send))

    def _check(self, scope: Scope) -> None:
        hosts = _values(scope, b"host")
        host = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if host is None or host["name"].strip("[]") not in {*self._names, _address(scope)}:
            raise _RefusedError(421, "this name is not served here")
        origins, sites = _values(scope, b"origin"), _values(scope, b"sec-fetch-site")
        own = {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")}
        if any(origin.lower() not in own for origin in origins) or any(
            site.lower() not in ("none", "same-origin") for site in sites
        ):
            raise _RefusedError(403, "requests of web pages are refused")
        guarded = self._token is not None and scope["path"] not in self._open_paths
        if guarded and not bearer_matches(scope["headers"], self._token or ""):
            raise _RefusedError(401, "missing or wrong bearer token", [(b"www-authenticate", b"Bearer")])
        if scope["method"] in WITH_BODY:
            types = _values(scope, b"content-type")
            media, _, rest = types[0].lower().partition(";") if len(types) == 1 else ("", "", "")
            if media.strip() != "application/json" or rest.strip().replace('"', "") not in ("", "charset=utf-8"):
                raise _RefusedError(415, "the content type must be application/json")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        too_large = _RefusedError(413, f"the body is larger than {self._max_body_bytes} bytes")
        lengths = _values(scope, b"content-length")
        if lengths and (not lengths[0].isdecimal() or len(lengths[0]) > 15 or int(lengths[0]) > self._max_body_bytes):
            await _discard(receive)
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _RefusedError(400, "the body ended too early")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._max_body_bytes:
                        break
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise _RefusedError(408, f"the body did not arrive within {self._body_timeout_s:g} s") from None
        parts.clear()
        await _discard(receive)
        raise too_large


async def _discard(receive: Receive) -> None:
    """Let a body that is too large go by, for a while: a client that still sends would not hear the answer."""
    try:
        async with asyncio.timeout(DISCARD_S):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
    except TimeoutError:
        pass


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _address(scope: Scope) -> str:
    """The address of ours that the client connected to: a numeric Host that equals it is no name of a web page's."""
    server = scope.get("server")
    return str(server[0]).lower() if server else ""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then what comes after it (the end of the connection)."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_retry_after(send: Send) -> Send:
    async def forward(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 503:
            headers = list(message.get("headers", []))
            message = {**message, "headers": [*headers, (b"retry-after", str(RETRY_AFTER_S).encode())]}
        await send(message)

    return forward


async def _answer(send: Send, refused: _RefusedError) -> None:
    body = json.dumps({"error": str(refused)}).encode()
    # What was not read of a body would be taken for the next request.
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *refused.headers,
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def bounded_protocol(
    *, max_connections: int = MAX_CONNECTIONS, head_timeout_s: float = HEAD_TIMEOUT_S
) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol with bounds on connections and on what comes before a request.

    Args:
        max_connections: at most so many at once. A further one takes the place of the oldest that has no request under
            way; where all have one, it is answered 503 with Retry-After.
        head_timeout_s: a connection that sends no whole request head within this time is closed.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    base: Any = AutoHTTPProtocol
    alive: dict[Any, None] = {}  # in the order they came

    class BoundedProtocol(base):
        head_timer: asyncio.TimerHandle | None = None
        head_bytes = 0
        refused = False

        def connection_made(self, transport: Any) -> None:
            if len(alive) >= max_connections:
                idle = next((other for other in alive if not other.in_request()), None)
                if idle is None:
                    self.refused = True
                    transport.write(
                        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nConnection: close\r\n"
                        b"Content-Length: 0\r\n\r\n" % RETRY_AFTER_S
                    )
                    # Closed once its request came (it would not hear the answer otherwise), or does not come.
                    self.transport = transport
                    self.loop.call_later(REFUSED_S, transport.abort)
                    return
                del alive[idle]
                idle.transport.abort()
            alive[self] = None
            super().connection_made(transport)
            self.await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            alive.pop(self, None)
            self.forget_head()
            if not self.refused:
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.refused:
                self.transport.close()
                return
            super().data_received(data)
            if self.in_request():
                self.forget_head()
                return
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()
            elif self.head_timer is None:
                self.await_head()

        def in_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def await_head(self) -> None:
            self.head_timer = self.loop.call_later(head_timeout_s, self.give_up)

        def forget_head(self) -> None:
            self.head_bytes = 0
            if self.head_timer is not None:
                self.head_timer.cancel()
                self.head_timer = None

        def give_up(self) -> None:
            if not self.in_request():
                self.transport.abort()

    return BoundedProtocol
