"""One HTTP client for every remote integration.

It sends a request once. What fails becomes an error for its reader (`faults`); whether to try again is the gateway's
decision. A client belongs to one backend, whose calls come one at a time; it is not for several threads.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from pydantic import BaseModel, ValidationError

from tools.core.contract import CallContext
from tools.core.errors import FinalError, FixableError, shorten
from tools.core.proxies import is_this_machine
from tools.core.redact import Redactor
from tools.rest import faults
from tools.rest.paging import Listing, Paging
from tools.rest.service import Service, Settings

if TYPE_CHECKING:
    import httpx

MAX_PAGES = 100
MAX_REDIRECTS = 3
IDLE_S = 2.0  # a connection is not used again after this: servers close idle ones, and a write on such one is lost

Model = TypeVar("Model", bound=BaseModel)
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """An answer with an expected status, its body complete and within bounds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    asked: faults.Asked
    url: str = field(repr=False)  # whole, for what is relative to it; never shown

    def json(self) -> Any:
        """The body as JSON; None where it is empty.

        Raises:
            FinalError, UnknownOutcomeError (after a write): it is something else, for example a login page.
        """
        if not self.body.strip():
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise faults.unreadable(self.asked, "something that is no JSON") from None

    def model(self, model: type[Model]) -> Model:
        """The body as a model of what the integration needs of it (unknown fields are for the model to ignore).

        Raises:
            FinalError, UnknownOutcomeError (after a write): a field is missing or of another type; names it.
        """
        return self.parsed(self.json(), model)

    def parsed(self, content: Any, model: type[Model]) -> Model:
        """A part of the body as a model; raises as `model` does."""
        try:
            return model.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "answer"
            raise faults.unreadable(self.asked, f"an unexpected {field} ({first['msg']})") from None


class RestClient:
    """Requests to one service. Makes no connection before the first one.

    Args:
        service: how it is reached.
        settings: the integration's own settings, as its backend gets them.

    Raises:
        NeedsPersonError: the address or a credential is missing or wrong; names the setting.
    """

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service = service
        self.base_url = service.base_url(settings)
        self._read_s = service.read_timeout_s(settings)
        self._total_s = max(service.total_s, self._read_s)
        self._credentials = service.credentials(settings)
        secrets = self._credentials.secrets
        parts = urlsplit(self.base_url)
        if service.secret_url:
            secrets = {**secrets, service.url: self.base_url, f"path of {service.url}": parts.path}
        self._redactor = Redactor(secrets, secrets)
        self._origin = (parts.scheme, parts.hostname or "", parts.port)
        port = f":{parts.port}" if parts.port else ""
        host = parts.hostname or ""
        self._shown_origin = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"
        self._client: httpx.Client | None = None
        self._socket: socket.socket | None = None

    @property
    def shown(self) -> str:
        """The address, as messages show it."""
        return self._shown_origin if self.service.secret_url else self.base_url

    def get(
        self, path: str, /, *, query: Values | None = None, success: int | Collection[int] = 200, **values: Any
    ) -> Answer:
        """Read. `path` is below the base URL; `{name}` in it is filled from `values`, quoted.

        Raises:
            ToolError: see `faults`.
        """
        return self._send("GET", path, values, query=query, success=success, writes=False)

    def query(
        self,
        path: str,
        /,
        *,
        json: Any,
        query: Values | None = None,
        success: int | Collection[int] = 200,
        **values: Any,
    ) -> Answer:
        """Read where the service takes its queries by POST."""
        return self._send("POST", path, values, query=query, json=json, success=success, writes=False)

    def write(
        self,
        method: str,
        path: str,
        /,
        *,
        success: int | Collection[int],
        json: Any = None,
        form: Mapping[str, str] | None = None,
        query: Values | None = None,
        key: str | None = None,
        **values: Any,
    ) -> Answer:
        """Change something: POST, PUT, PATCH or DELETE.

        Args:
            success: the status that says it was done, as the service documents it; any other is not taken for it.
            key: idempotency key of the call, sent in the header that the service knows.

        Raises:
            UnknownOutcomeError: it was sent, and what became of it was not learned.
            ToolError: see `faults`.
        """
        return self._send(
            method, path, values, query=query, json=json, form=form, success=success, key=key, writes=True
        )

    def pages(
        self,
        path: str,
        paging: Paging,
        model: type[Model],
        /,
        *,
        limit: int,
        query: Values | None = None,
        ctx: CallContext | None = None,
        **values: Any,
    ) -> Listing[Model]:
        """A list of `model`s, page after page, until it ends or holds `limit` items; at most 100 pages.

        Raises:
            FinalError: the next page is on another host, or the same page comes again.
            ToolError: see `faults`.
        """
        items: list[Model] = []
        asked: Values = {**paging.first(), **(query or {})}
        url: str | None = None
        seen: set[str] = set()
        for number in range(1, MAX_PAGES + 1):
            if ctx is not None:
                ctx.progress(len(items), None, f"{self.service.title}, page {number}")
            if url is None:
                answer = self._send("GET", path, values, query=asked, success=200, writes=False)
            else:
                answer = self._send("GET", url, None, success=200, writes=False)
            try:
                page = paging.page(answer.json(), answer.headers, number)
            except ValueError as error:
                raise faults.unreadable(answer.asked, str(error)) from None
            items += [answer.parsed(item, model) for item in page.items]
            last = page.next_query is None and page.next_url is None
            if last or len(items) >= limit:
                return Listing(items[:limit], last and len(items) <= limit, number)
            step = page.next_url or repr(sorted((page.next_query or {}).items()))
            if step in seen:
                raise FinalError(
                    f"{self.service.title} names the same next page of {answer.asked.where} again and again"
                )
            seen.add(step)
            if page.next_url is not None:
                url = self._same_origin(urljoin(answer.url, page.next_url), "the next page")
            else:
                asked = {**asked, **(page.next_query or {})}
        return Listing(items, False, MAX_PAGES)

    def close(self) -> None:
        """Close the connection. The client may be used again."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _send(
        self,
        method: str,
        path: str,
        values: Values | None,
        *,
        success: int | Collection[int],
        writes: bool,
        query: Values | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Answer:
        # `values` None: an address that the server named, on the same origin.
        url = path if values is None else f"{self.base_url}/{fill(path, values).lstrip('/')}".rstrip("/")
        asked = self._asked(method, url, writes)
        expected = {success} if isinstance(success, int) else set(success)
        headers = {"Accept": "application/json", **self.service.headers, **self._credentials.headers}
        headers["Accept-Encoding"] = "identity"  # a few compressed bytes can be gigabytes
        if key and self.service.key_header:
            headers[self.service.key_header] = key
        given = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        request: dict[str, Any] = {"headers": headers}
        request["params"] = self._parameters(url, given)
        if json is not None:
            request["json"] = json
        if form is not None:
            request["data"] = dict(form)
        status, received, body = self._once(asked, method, url, request)
        for _ in range(MAX_REDIRECTS):
            place = received.get("location")
            if not 300 <= status < 400 or not place or method != "GET":
                break
            url = self._same_origin(urljoin(url, place), "a redirect")
            request["params"] = self._parameters(url, {})
            status, received, body = self._once(asked, method, url, request)
        if status not in expected:
            raise faults.refused(asked, status, received, body)
        return Answer(status, received, body, asked, url)

    def _parameters(self, url: str, given: Mapping[str, str]) -> dict[str, str]:
        """The query of a request: what the address already has, what the call gives, and our credentials."""
        import httpx

        return {**dict(httpx.URL(url).params), **given, **self._credentials.query}

    def _once(self, asked: faults.Asked, method: str, url: str, request: Mapping[str, Any]) -> tuple[int, Any, bytes]:
        """One request and its whole answer: status, headers, body."""
        import httpx

        client = self._opened()
        timed_out = f"no answer within {self._read_s:g} s"
        try:
            with self._watched() as overdue:
                try:
                    with client.stream(method, url, extensions={"trace": self._trace}, **request) as response:
                        body = self._body(asked, response)
                        return response.status_code, response.headers, body
                except (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError):
                    if overdue.is_set():
                        raise faults.no_answer(asked, f"no whole answer within {self._total_s:g} s") from None
                    raise
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,
            httpx.UnsupportedProtocol,
        ):
            raise faults.not_connected(asked) from None
        except httpx.TimeoutException:
            raise faults.no_answer(asked, timed_out) from None
        except httpx.TransportError:
            raise faults.no_answer(asked, "the connection was lost before the answer was complete") from None
        except httpx.InvalidURL:
            raise FinalError(f"{asked.title}: {asked.where} is no address that can be asked") from None

    def _body(self, asked: faults.Asked, response: "httpx.Response") -> bytes:
        if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise faults.unreadable(asked, "a compressed answer, although none was asked for")
        parts: list[bytes] = []
        size = 0
        for part in response.iter_raw():
            size += len(part)
            if size > self.service.max_bytes:
                raise faults.unreadable(
                    asked, f"more than {self.service.max_bytes:,} bytes, more than is read; ask for less"
                )
            parts.append(part)
        return b"".join(parts)

    def _opened(self) -> "httpx.Client":
        import httpx

        if self._client is None:
            # No proxy could reach this machine; elsewhere the environment's are used.
            here = is_this_machine(self._origin[1])
            # Certificates are always checked; the authorities' are read only where there is one, for that takes long.
            tls = self._origin[0] == "https"
            self._client = httpx.Client(
                verify=httpx.create_ssl_context() if tls else False,
                trust_env=not here,
                follow_redirects=False,
                timeout=httpx.Timeout(self._read_s, connect=min(self.service.connect_s, self._read_s)),
                limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_S),
            )
        return self._client

    @contextlib.contextmanager
    def _watched(self) -> Generator[threading.Event]:
        """Ends a request after `total_s`: time-outs of pieces never end an answer that comes drop by drop."""
        overdue = threading.Event()

        def cut() -> None:
            overdue.set()
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._total_s, cut)
        timer.daemon = True
        timer.start()
        try:
            yield overdue
        finally:
            timer.cancel()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Told by httpx of each step; keeps the socket in use, there is only one."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")

    def _asked(self, method: str, url: str, writes: bool) -> faults.Asked:
        path = "" if self.service.secret_url else urlsplit(url).path
        where = self._redactor.text(f"{self._shown_origin}{path}")
        service = self.service
        return faults.Asked(
            service.title, method, where, writes, service.url, service.auth_settings(), self._redactor.text
        )

    def _same_origin(self, url: str, what: str) -> str:
        """An address that the server named, if it is on the same host: the credentials go nowhere else."""
        try:
            parts = urlsplit(url)
            same = (parts.scheme, parts.hostname or "", parts.port) == self._origin
        except ValueError:
            same = False
        if not same:
            raise FinalError(
                f"{self.service.title} at {self._shown_origin} names {what} on another host, which is not followed; "
                f"check {self.service.url}"
            )
        return url


def fill(path: str, values: Values) -> str:
    """`/items/{id}` with its values, each quoted whole: a value can name no other path.

    Raises:
        FixableError: a value is empty, or steps upwards.
    """
    texts = {name: _text(value) for name, value in values.items()}
    for name, text in texts.items():
        if text in ("", ".", "..") or not text.isprintable():
            raise FixableError(f"{name} must be a name, got {shorten(text, 80)!r}")
    return path.format_map({name: quote(text, safe="") for name, text in texts.items()})


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
