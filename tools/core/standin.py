"""Stand-ins: local servers that take a remote system's place in a test, and judge every request that comes.

A remote integration ships one in its `contract.py`:

- `Exchange`s say, for an example, which requests its call sends (method, path, query, body, headers) and what the
  system answers. Whatever else comes, in another order or twice, is an objection.
- `StandIn` says what every request carries (authentication), which settings point to the server, in what form the
  system reports errors, and, where a description of its API is published, how requests and answers are judged by it.

The vendor's own client is served like the REST kit: this is HTTP.
"""

import json
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HOLD_S = 60.0  # at most, for an answer that is held back; the server's end lets it go


class Any_:  # noqa: N801 - shown as ANY
    """Equal to everything: a value that differs from call to call."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "ANY"


ANY: Any = Any_()


@dataclass(frozen=True)
class Request:
    """A request that came. Header names are in lower case; the path is as it was sent, quoted."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def content(self) -> Any:
        """The body: as JSON, as the fields of a form, else as text; None where it is empty."""
        if not self.body:
            return None
        text = self.body.decode("utf-8", "replace")
        if "form-urlencoded" in self.headers.get("content-type", ""):
            return dict(parse_qsl(text, keep_blank_values=True))
        try:
            return json.loads(text)
        except ValueError:
            return text

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Reply:
    """An answer. `body`: JSON unless it is text (sent as it is); None is empty.

    `hold`: it is kept back until the server ends. `cut`: the connection is closed instead.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    hold: bool = False
    cut: bool = False


@dataclass(frozen=True)
class Exchange:
    """One request of a call, and its answer.

    Args:
        method, path: as the system documents them, the path below the host.
        reply: what it answers when all is well.
        query: exactly these parameters, but for those of authentication.
        body: exactly this content (JSON, or the fields of a form); `ANY` in it stands for a value that differs.
        headers: headers that must be there, besides those of `StandIn.auth`.
        reads: why a POST changes nothing here ("queries are posted"); empty: a mutating verb writes.
    """

    method: str
    path: str
    reply: Reply
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    reads: str = ""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def writes(self) -> bool:
        return self.method in MUTATING and not self.reads


def _no_judge(request: Request, reply: Reply) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class StandIn:
    """What a remote integration's contract says of its system.

    Args:
        settings: the integration's settings; `{url}` in a value stands for the server's address.
        auth: headers that every request carries, with their exact values; and
        auth_query: query parameters likewise.
        error: the body in which the system reports an error of a status, with a given text.
        errors: the statuses that are played against every request: at least one of 400 and 422, and 401, 404, 429, 500.
        judge: gives what is wrong with a request, or with the stand-in's own answer, by the published description of
            the API.
        health: what the backend's `health` sends.
        slow_s: seconds in which a call must give up on an answer that does not come; `settings` holds a shorter
            time-out.
        port: where it listens; 0: any free port.
    """

    settings: Mapping[str, str]
    auth: Mapping[str, str] = field(default_factory=dict[str, str])
    auth_query: Mapping[str, str] = field(default_factory=dict[str, str])
    error: Callable[[int, str], Any] = lambda status, text: {"message": text}
    errors: tuple[int, ...] = (400, 401, 403, 404, 409, 422, 429, 500, 503)
    judge: Callable[[Request, Reply], Iterable[str]] = _no_judge
    health: tuple[Exchange, ...] = ()
    slow_s: float = 10.0
    port: int = 0

    def settings_at(self, url: str) -> dict[str, str]:
        """The settings with the server's address."""
        return {name: value.replace("{url}", url) for name, value in self.settings.items()}

    @contextmanager
    def serving(self) -> "Generator[Play]":
        """The server, for a while."""
        play = Play(self)
        with http_server(play.answer, self.port) as (url, ended):
            play.url, play.ended = url, ended
            yield play


class Play:
    """A stand-in at work: plays one example after another, and collects what is wrong with the requests.

    Thread-safe as far as the server needs it; one call at a time is played.
    """

    def __init__(self, standin: StandIn) -> None:
        self.standin = standin
        self.url = ""
        self.ended = threading.Event()
        self.objections: list[str] = []
        self.seen: list[Request] = []
        self._script: tuple[Exchange, ...] = ()
        self._replies: dict[int, Reply] = {}
        self._lock = threading.Lock()

    def begin(self, script: Iterable[Exchange], replies: Mapping[int, Reply] | None = None) -> None:
        """Play these exchanges next. `replies`: position -> another answer than the script's."""
        with self._lock:
            self._script, self._replies = tuple(script), dict(replies or {})
            self.objections, self.seen = [], []

    def check_complete(self) -> None:
        """Object to exchanges that did not come."""
        for exchange in self._script[len(self.seen) :]:
            self.objections.append(f"never sends {exchange.name}, which its example says")

    def answer(self, request: Request) -> Reply:
        """The answer to a request; a wrong one is remembered, and answered with 400."""
        with self._lock:
            position = len(self.seen)
            self.seen.append(request)
            wrong = list(self._unauthorized(request))
            if position >= len(self._script):
                wrong.append(f"sends {request.name}, which its example does not say")
                self.objections += wrong
                return self._error(400, wrong[0])
            exchange = self._script[position]
            wrong += self._differences(exchange, request)
            reply = self._replies.get(position, exchange.reply)
            if reply is exchange.reply:
                wrong += self.standin.judge(request, reply)
            self.objections += wrong
            return self._error(400, wrong[0]) if wrong else reply

    def _error(self, status: int, text: str) -> Reply:
        return Reply(status, self.standin.error(status, text))

    def _unauthorized(self, request: Request) -> Iterator[str]:
        for name, value in self.standin.auth.items():
            if request.headers.get(name.lower()) != value:
                yield f"sends {request.name} without the header {name} that the system authenticates by"
        for name, value in self.standin.auth_query.items():
            if request.query.get(name) != value:
                yield f"sends {request.name} without the parameter {name} that the system authenticates by"

    def _differences(self, exchange: Exchange, request: Request) -> Iterator[str]:
        if (request.method, request.path) != (exchange.method, exchange.path):
            yield f"sends {request.name}; the system knows {exchange.name}"
            return
        query = {name: value for name, value in request.query.items() if name not in self.standin.auth_query}
        if query != dict(exchange.query):
            yield f"sends {request.name} with the query {query}; the system takes {dict(exchange.query)}"
        content = request.content()
        if exchange.body != content:
            yield f"sends {request.name} with the body {content!r}; the system takes {exchange.body!r}"
        for name, value in exchange.headers.items():
            if name.lower() not in request.headers or value != request.headers[name.lower()]:
                yield f"sends {request.name} without the header {name}: {value!r}"


@contextmanager
def http_server(answer: Callable[[Request], Reply], port: int = 0) -> Generator[tuple[str, threading.Event]]:
    """A server on loopback that answers by a function; gives its address, and an event that lets held answers go."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = HOLD_S

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length") or 0))
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            reply = answer(Request(self.command, parts.path, query, headers, body))
            if reply.hold:
                ended.wait(HOLD_S)
            if reply.cut or reply.hold:
                self.close_connection = True
                return
            text = isinstance(reply.body, str)
            sent = b"" if reply.body is None else (reply.body if text else json.dumps(reply.body)).encode()
            self.send_response(reply.status)
            for name, value in {
                "Content-Type": "text/html" if text else "application/json",
                **reply.headers,
                "Content-Length": str(len(sent)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: what came is in `Play.seen`."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away is what slowness is played for."""

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", ended
    finally:
        ended.set()
        server.shutdown()
        thread.join(5)
        server.server_close()
