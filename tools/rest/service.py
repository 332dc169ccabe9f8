"""How a service is reached, as data: the settings that hold its address and our credentials, time-outs, bounds.

Nothing of it comes from a call: an address that a caller could choose would receive the token.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from tools.core.errors import NeedsPersonError

Settings = Mapping[str, str | None]

MAX_BYTES = 8 * 2**20  # of one answer: more is never what an agent can use
MIN_TIMEOUT_S, MAX_TIMEOUT_S = 0.05, 3600.0


@dataclass(frozen=True)
class Credentials:
    """What a request carries to say who we are. `secrets`: setting -> value that must never be shown."""

    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class NoAuth:
    """A service that asks for nothing."""

    def settings(self) -> tuple[str, ...]:
        """The settings it reads, named when access is refused."""
        return ()

    def credentials(self, settings: Settings) -> Credentials:
        return Credentials()


@dataclass(frozen=True)
class Header:
    """A header that holds the value of a setting, for example `PRIVATE-TOKEN` (GitLab) or `DD-API-KEY` (Datadog).

    Args:
        header: its name.
        setting: the setting that holds the secret; unset: the header is not sent.
        prefix: what stands before the secret, for example `Token token=`.
    """

    header: str
    setting: str
    prefix: str = ""

    def settings(self) -> tuple[str, ...]:
        return (self.setting,)

    def credentials(self, settings: Settings) -> Credentials:
        secret = _secret(settings, self.setting)
        if not secret:
            return Credentials()
        return Credentials(headers={self.header: f"{self.prefix}{secret}"}, secrets={self.setting: secret})


def Bearer(setting: str) -> Header:  # noqa: N802 - reads as its siblings
    """`Authorization: Bearer ...` from a setting."""
    return Header("Authorization", setting, prefix="Bearer ")


@dataclass(frozen=True)
class Basic:
    """`Authorization: Basic ...` from two settings, for example a Jira user and API token."""

    user: str
    password: str

    def settings(self) -> tuple[str, ...]:
        return (self.user, self.password)

    def credentials(self, settings: Settings) -> Credentials:
        user, password = settings.get(self.user) or "", _secret(settings, self.password)
        if not user and not password:
            return Credentials()
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        # The encoded pair is as good as the password: it must not be shown either.
        secrets = {self.password: password, f"{self.user} and {self.password}": encoded}
        return Credentials(
            headers={"Authorization": f"Basic {encoded}"}, secrets={k: v for k, v in secrets.items() if v}
        )


@dataclass(frozen=True)
class Query:
    """A query parameter that holds the value of a setting. No message ever shows a query."""

    parameter: str
    setting: str

    def settings(self) -> tuple[str, ...]:
        return (self.setting,)

    def credentials(self, settings: Settings) -> Credentials:
        secret = _secret(settings, self.setting)
        return Credentials(query={self.parameter: secret}, secrets={self.setting: secret}) if secret else Credentials()


Auth = NoAuth | Header | Basic | Query


@dataclass(frozen=True)
class Service:
    """What an integration configures.

    Args:
        title: the name people use, in messages.
        url: the setting that holds the base URL.
        auth: who we are; several where a service wants several headers.
        timeout: the setting that holds `read_s`; empty: none does.
        connect_s, read_s, total_s: seconds to connect, between two pieces of an answer, and for a request as a whole.
        headers: sent with every request, for example an API version.
        key_header: the header that carries an idempotency key; empty: the service knows none.
        max_bytes: of one answer.
        secret_url: the address itself is a secret (a webhook): messages show its host only.
    """

    title: str
    url: str
    auth: Auth | tuple[Auth, ...] = field(default_factory=NoAuth)
    timeout: str = ""
    connect_s: float = 5.0
    read_s: float = 30.0
    total_s: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    key_header: str = "Idempotency-Key"
    max_bytes: int = MAX_BYTES
    secret_url: bool = False

    @property
    def auths(self) -> tuple[Auth, ...]:
        return self.auth if isinstance(self.auth, tuple) else (self.auth,)

    def credentials(self, settings: Settings) -> Credentials:
        """All credentials together.

        Raises:
            NeedsPersonError: a value cannot be a header.
        """
        headers: dict[str, str] = {}
        query: dict[str, str] = {}
        secrets: dict[str, str] = {}
        address = urlsplit((settings.get(self.url) or "").strip())
        if address.username or address.password:  # as a browser takes them
            pair = {"user": unquote(address.username or ""), "password": unquote(address.password or "")}
            found = Basic("user", "password").credentials(pair)
            headers |= found.headers
            secrets |= {f"{name} of {self.url}": value for name, value in found.secrets.items()}
        for auth in self.auths:
            found = auth.credentials(settings)
            headers |= found.headers
            query |= found.query
            secrets |= found.secrets
        return Credentials(headers, query, secrets)

    def auth_settings(self) -> tuple[str, ...]:
        """The settings a person checks when access is refused."""
        return tuple(name for auth in self.auths for name in auth.settings())

    def base_url(self, settings: Settings) -> str:
        """The address, checked, without a trailing slash and without the user and password that may be in it.

        Raises:
            NeedsPersonError: unset, no URL, or a URL with a query or a fragment. Never shows the value, which may hold
                a secret.
        """
        value = (settings.get(self.url) or "").strip()
        if not value:
            raise NeedsPersonError(f"{self.title} needs {self.url}", tried=f"{self.url} in the environment and .env")
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise NeedsPersonError(f"{self.url} is not a URL; it must look like https://host/path") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NeedsPersonError(f"{self.url} must be a URL such as https://host/path")
        if parts.query or parts.fragment:
            raise NeedsPersonError(f"{self.url} must end with its path, without ? and #")
        if any(char.isspace() or not char.isprintable() for char in value):
            raise NeedsPersonError(f"{self.url} holds a space or a control character")
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))

    def read_timeout_s(self, settings: Settings) -> float:
        """Seconds between two pieces of an answer.

        Raises:
            NeedsPersonError: the setting is no number of seconds between 0.05 and 3600.
        """
        given = settings.get(self.timeout) if self.timeout else None
        if not given:
            return self.read_s
        try:
            seconds = float(given)
        except ValueError:
            seconds = -1.0
        if not MIN_TIMEOUT_S <= seconds <= MAX_TIMEOUT_S:
            raise NeedsPersonError(
                f"{self.timeout} must be a number of seconds from {MIN_TIMEOUT_S:g} to {MAX_TIMEOUT_S:g}, got {given!r}"
            )
        return seconds


def _secret(settings: Settings, name: str) -> str:
    """The value of a secret setting, or an empty string.

    Raises:
        NeedsPersonError: it holds what no header can carry, usually a line end from a copied file.
    """
    value = (settings.get(name) or "").strip()
    if value and not (value.isascii() and value.isprintable()):
        raise NeedsPersonError(f"{name} holds a line end, a control character or a letter outside ASCII; copy it again")
    return value
