"""`config/stack.yaml`: which MCP servers there are and how each is reached.

Our own integrations are servers made by the kit, in-process unless the file says otherwise; third-party servers are
listed under `mcpServers` in the form every MCP client uses.
"""

import os
import string
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from tools.core.child_env import BASICS, BEHAVIOUR, unstartable
from tools.core.contract import Integration
from tools.core.files import read_private
from tools.core.foreign import NAME, clean_text, skeleton
from tools.core.http_guard import is_loopback
from tools.core.meta import GATEWAY_KEY
from tools.core.pins import PINS_FILE, Pins
from tools.core.schema import agent_tool_name
from tools.core.yamlfile import ConfigError, load_yaml_model

NOT_FROM_FILE = ("MLOPS_KEYS", "XDG_STATE_HOME", "HOME")
SERVER_TOKEN = "MLOPS_SERVER_TOKEN"
TOKENS_FOLDER = "server-tokens"
LONGEST_TIMEOUT_S = 3600.0
WITHOUT_EFFECT = ("autoApprove", "alwaysAllow", "trust")  # what other clients let a file approve
PASSED_ON = (*BASICS, *BEHAVIOUR)


@dataclass(frozen=True)
class ServerConfig:
    """How a server is reached.

    Args:
        command, env, cwd: of stdio; `env` is all that the process gets.
        url, headers: of http.
        token_file: where one of ours leaves a token that it made for itself, read when it is connected to.
        gateway_key: of one of ours over http; what we send beside the arguments is believed with it only.
        third_party: the server is somebody else's: nothing it sends is trusted, and everything is bounded.
        timeout_s: seconds for one call; None: what the action says.
        start_timeout_s: seconds until a server must have answered, and have listed its tools; None: a default.
    """

    transport: Literal["in-process", "stdio", "http"]
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: Path | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    token_file: Path | None = None
    gateway_key: str = ""
    third_party: bool = False
    timeout_s: float | None = None
    start_timeout_s: float | None = None


class OwnServer(BaseModel):
    """How one of our integrations is served. `url` is for http: where `python -m tools NAME --http` listens."""

    model_config = ConfigDict(extra="forbid")

    transport: Literal["in-process", "stdio", "http"] = "in-process"
    url: str = ""

    @model_validator(mode="after")
    def _http_has_url(self) -> "OwnServer":
        if self.transport == "http" and not self.url:
            raise ValueError("transport http needs a url, for example http://127.0.0.1:8801/mcp")
        return self


class ThirdPartyServer(BaseModel):
    """A server of somebody else, as MCP clients write it: `command` with `args`, `env`, `cwd`, or `url` with `headers`.

    `$NAME` in values of `env` and `headers` is replaced from the environment, so that the file holds no secret.
    `timeout` is in seconds for one call, `startup_timeout` until it must have answered when it is connected to, and
    listed its tools (default 15 s); both in milliseconds above 3,600, as some clients write them. `disabled` leaves the
    server out. `autoApprove`, `alwaysAllow` and `trust` have no effect: the policy and people approve.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    type: Literal["stdio", "http", "streamable-http", "streamable_http", "streamableHttp", ""] = Field(
        default="", validation_alias=AliasChoices("type", "transport")
    )
    description: str = ""
    command: str = ""
    args: list[str] = Field(default_factory=list[str])
    env: dict[str, str] = Field(default_factory=dict[str, str])
    cwd: str = ""
    url: str = Field(default="", validation_alias=AliasChoices("url", "serverUrl", "httpUrl"))
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    timeout: float | None = Field(default=None, gt=0, validation_alias=AliasChoices("timeout", "tool_timeout_sec"))
    startup_timeout: float | None = Field(
        default=None, gt=0, validation_alias=AliasChoices("startup_timeout", "startup_timeout_sec", "startupTimeout")
    )
    disabled: bool = False

    @model_validator(mode="before")
    @classmethod
    def _as_clients_write_it(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        entry: dict[str, Any] = {str(key): item for key, item in value.items() if key not in WITHOUT_EFFECT}
        if isinstance(entry.get("enabled"), bool):
            entry.setdefault("disabled", not entry.pop("enabled"))
        if "sse" in (entry.get("type"), entry.get("transport")):
            raise ValueError("the old transport sse is not supported; use the server's streamable HTTP address (http)")
        return entry

    @model_validator(mode="after")
    def _one_way(self) -> "ThirdPartyServer":
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command or url")
        if self.type and (self.type == "stdio") != bool(self.command):
            raise ValueError(f"type {self.type} needs {'command' if self.type == 'stdio' else 'url'}")
        return self

    @property
    def timeout_s(self) -> float | None:
        return _seconds(self.timeout)

    @property
    def start_timeout_s(self) -> float | None:
        return _seconds(self.startup_timeout)


def _seconds(given: float | None) -> float | None:
    return given / 1000.0 if given is not None and given > LONGEST_TIMEOUT_S else given


class StackFile(BaseModel):
    """`config/stack.yaml`."""

    model_config = ConfigDict(extra="forbid")

    servers: dict[str, OwnServer] = Field(default_factory=dict[str, OwnServer])
    mcpServers: dict[str, ThirdPartyServer] = Field(default_factory=dict[str, ThirdPartyServer])  # noqa: N815 - the name all clients use


class Stack:
    """The servers of a project: ours by name, and third-party ones.

    Args:
        file: the parsed `stack.yaml`.
        own: names of our integrations.
        load_spec: gives the spec of one of them.
        env: the environment, `.env` included.

    Raises:
        ConfigError: a server that is not ours under `servers`, or a name used twice.
    """

    def __init__(
        self,
        file: StackFile,
        *,
        own: Iterable[str],
        load_spec: Callable[[str], Integration],
        env: Mapping[str, str],
        project: Path,
        home: Path,
        where: str = "stack.yaml",
    ) -> None:
        self.own = tuple(own)
        self.third_party = tuple(name for name, server in file.mcpServers.items() if not server.disabled)
        self.pins = Pins(project / "config" / PINS_FILE, reserved=self._own_tools, public_name=agent_tool_name)
        self.load_spec = load_spec
        self.env = env
        self._file = file
        self._project = project
        self._home = home
        for name in file.servers:
            if name not in self.own:
                raise ConfigError(f"{where}: unknown server {name!r} under servers; ours are: {', '.join(self.own)}")
        looks = {skeleton(name): name for name in self.own}
        for name in file.mcpServers:
            if name in self.own:
                raise ConfigError(f"{where}: {name!r} under mcpServers is the name of one of our integrations")
            if not NAME.fullmatch(name):
                raise ConfigError(
                    f"{where}: {clean_text(name, 64)!r} under mcpServers: a server's name is made of up to 64 letters, "
                    "digits, '_', '-' and '.'"
                )
            if skeleton(name) in looks:
                other = looks[skeleton(name)]
                raise ConfigError(f"{where}: {name!r} under mcpServers could be taken for {other!r}; rename it")
            looks[skeleton(name)] = name

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        own: Iterable[str],
        load_spec: Callable[[str], Integration],
        env: Mapping[str, str],
        project: Path,
        home: Path,
    ) -> "Stack":
        """Read `stack.yaml`. Raises `ConfigError` when it is missing or wrong."""
        file = load_yaml_model(path, StackFile)
        return cls(file, own=own, load_spec=load_spec, env=env, project=project, home=home, where=str(path))

    @property
    def names(self) -> tuple[str, ...]:
        """Every server a tool call may name."""
        return self.own + self.third_party

    def spec(self, name: str) -> Integration | None:
        """The spec of one of our integrations; None for a third-party server."""
        return self.load_spec(name) if name in self.own else None

    def is_real(self, name: str) -> bool:
        """Whether calls leave the sandbox: a third-party or remote server, or a setting that points to one."""
        spec = self.spec(name)
        if spec is None:
            return True
        return spec.is_real(self.env) or self._own(name).transport == "http"

    def usable(self, name: str) -> str | None:
        """Why a server's calls cannot work as things are set up, for a person; None where they can.

        An integration without an embedded form: its required settings, or its library, are missing. A server of its
        own over HTTP has its settings itself. A server of somebody else: its program or folder is not there, or what
        `$NAME` stands for is not set. Nothing is started to find out.
        """
        spec = self.spec(name)
        if spec is None:
            return self._not_startable(name)
        if spec.embedded or self._own(name).transport == "http":
            return None
        if lacking := spec.lacks(self.env):
            return (
                f"{spec.title} is not configured: set {', '.join(s.name for s in lacking)} in the environment or .env"
            )
        if missing := spec.missing():
            return f"{spec.title} needs {', '.join(missing)}, which is not installed; run: {spec.install_command()}"
        return None

    def _not_startable(self, name: str) -> str | None:
        try:
            config = self.config(name)
        except ConfigError as error:
            return str(error)
        if config.transport != "stdio":
            return None
        fault = unstartable(config.command, config.env, config.cwd)
        return f"the MCP server {name} cannot be started: {fault}" if fault else None

    def timeout_s(self, name: str) -> float | None:
        """Seconds that a call to a third-party server may take; None where the file does not say."""
        return self._file.mcpServers[name].timeout_s if name in self.third_party else None

    def config(self, name: str) -> ServerConfig:
        """How the server is reached."""
        if name in self.third_party:
            return self._third_party_config(self._file.mcpServers[name])
        own = self._own(name)
        if own.transport == "http":
            token = self.env.get(SERVER_TOKEN)
            return ServerConfig(
                "http",
                url=own.url,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                token_file=_made_token_file(self._home, own.url),
                gateway_key=self.env.get(GATEWAY_KEY) or "",
            )
        if own.transport == "stdio":
            settings = [setting.name for setting in self.load_spec(name).settings]
            # Least privilege: a server's process gets its own settings and no other secret.
            passed = {key: self.env[key] for key in (*PASSED_ON, *settings) if key in self.env}
            passed["MLOPS_HOME"] = str(self._home)
            passed["MLOPS_PROJECT"] = str(self._project)
            return ServerConfig("stdio", command=(sys.executable, "-m", "tools", name), env=passed)
        return ServerConfig("in-process")

    def _own_tools(self) -> list[str]:
        """Our integrations, and their tools as agents and clients see them."""
        tools = [agent_tool_name(name, action.name) for name in self.own for action in self.load_spec(name).actions]
        return [*self.own, *tools]

    def _own(self, name: str) -> OwnServer:
        return self._file.servers.get(name, OwnServer())

    def _third_party_config(self, server: ThirdPartyServer) -> ServerConfig:
        if server.url:
            headers = {key: _expand(value, self.env) for key, value in server.headers.items()}
            return ServerConfig(
                "http", url=server.url, headers=headers, third_party=True, timeout_s=server.timeout_s,
                start_timeout_s=server.start_timeout_s,
            )  # fmt: skip
        env = {key: _expand(value, self.env) for key, value in server.env.items()}
        passed = {key: self.env[key] for key in PASSED_ON if key in self.env}
        return ServerConfig(
            "stdio", command=(server.command, *server.args), env={**passed, **env},
            cwd=self._project / Path(server.cwd).expanduser() if server.cwd else None,
            third_party=True, timeout_s=server.timeout_s, start_timeout_s=server.start_timeout_s,
        )  # fmt: skip


def _expand(value: str, env: Mapping[str, str]) -> str:
    try:
        return string.Template(value).substitute(env)
    except KeyError as error:
        raise ConfigError(f"stack.yaml refers to ${error.args[0]}, which is not in the environment or .env") from None
    except ValueError:
        # Never the value: it may be a secret.
        raise ConfigError("stack.yaml: a value holds a $ that is not part of a $NAME; write it as $$") from None


def read_env(project: Path) -> dict[str, str]:
    """The environment, with `.env` of the project below it, but for what says where the signing keys are: who may
    write into the project must not be able to bring keys along."""
    from dotenv import dotenv_values

    from_file = {
        key: value
        for key, value in dotenv_values(project / ".env").items()
        if value is not None and key not in NOT_FROM_FILE
    }
    return {**from_file, **os.environ}


def token_file(home: Path, port: int) -> Path:
    """Where a server that made its own token leaves it, for clients of the same user on the same machine."""
    return home / TOKENS_FOLDER / str(port)


def made_token(file: Path) -> str | None:
    """The token that a server of this user made for itself; None where there is none."""
    try:
        return read_private(file).strip() or None
    except (OSError, ValueError):
        return None


def _made_token_file(home: Path, url: str) -> Path | None:
    parts = urlsplit(url)
    return token_file(home, parts.port) if is_loopback(parts.hostname or "") and parts.port is not None else None
