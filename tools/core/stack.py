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
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tools.core.child_env import BASICS, BEHAVIOUR
from tools.core.contract import Integration
from tools.core.yamlfile import ConfigError, load_yaml_model

PASSED_ON = (*BASICS, *BEHAVIOUR)


@dataclass(frozen=True)
class ServerConfig:
    """How a server is reached. `command` and `env` belong to stdio, `url` and `headers` to http."""

    transport: Literal["in-process", "stdio", "http"]
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


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
    """A server of somebody else: `command` with `args` and `env`, or `url` with `headers`.

    `$NAME` in values of `env` and `headers` is replaced from the environment, so that the file holds no secret.
    """

    model_config = ConfigDict(extra="forbid")

    command: str = ""
    args: list[str] = Field(default_factory=list[str])
    env: dict[str, str] = Field(default_factory=dict[str, str])
    url: str = ""
    headers: dict[str, str] = Field(default_factory=dict[str, str])

    @model_validator(mode="after")
    def _one_way(self) -> "ThirdPartyServer":
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command or url")
        return self


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
        self.third_party = tuple(file.mcpServers)
        self.load_spec = load_spec
        self.env = env
        self._file = file
        self._project = project
        self._home = home
        for name in file.servers:
            if name not in self.own:
                raise ConfigError(f"{where}: unknown server {name!r} under servers; ours are: {', '.join(self.own)}")
        for name in file.mcpServers:
            if name in self.own:
                raise ConfigError(f"{where}: {name!r} under mcpServers is the name of one of our integrations")

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

        Only an integration without an embedded form can be unusable: its required settings, or its library, are
        missing. A server of its own over HTTP has its settings itself.
        """
        spec = self.spec(name)
        if spec is None or spec.embedded or self._own(name).transport == "http":
            return None
        if lacking := spec.lacks(self.env):
            return (
                f"{spec.title} is not configured: set {', '.join(s.name for s in lacking)} in the environment or .env"
            )
        if missing := spec.missing():
            return f"{spec.title} needs {', '.join(missing)}, which is not installed; run: {spec.install_command()}"
        return None

    def config(self, name: str) -> ServerConfig:
        """How the server is reached."""
        if name in self.third_party:
            return self._third_party_config(self._file.mcpServers[name])
        own = self._own(name)
        if own.transport == "http":
            token = self.env.get("MLOPS_SERVER_TOKEN")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return ServerConfig("http", url=own.url, headers=headers)
        if own.transport == "stdio":
            settings = [setting.name for setting in self.load_spec(name).settings]
            # Least privilege: a server's process gets its own settings and no other secret.
            passed = {key: self.env[key] for key in (*PASSED_ON, *settings) if key in self.env}
            passed["MLOPS_HOME"] = str(self._home)
            passed["MLOPS_PROJECT"] = str(self._project)
            return ServerConfig("stdio", command=(sys.executable, "-m", "tools", name), env=passed)
        return ServerConfig("in-process")

    def _own(self, name: str) -> OwnServer:
        return self._file.servers.get(name, OwnServer())

    def _third_party_config(self, server: ThirdPartyServer) -> ServerConfig:
        if server.url:
            headers = {key: _expand(value, self.env) for key, value in server.headers.items()}
            return ServerConfig("http", url=server.url, headers=headers)
        env = {key: _expand(value, self.env) for key, value in server.env.items()}
        passed = {key: self.env[key] for key in PASSED_ON if key in self.env}
        return ServerConfig("stdio", command=(server.command, *server.args), env={**passed, **env})


def _expand(value: str, env: Mapping[str, str]) -> str:
    try:
        return string.Template(value).substitute(env)
    except KeyError as error:
        raise ConfigError(f"stack.yaml refers to ${error.args[0]}, which is not in the environment or .env") from None
    except ValueError:
        # Never the value: it may be a secret.
        raise ConfigError("stack.yaml: a value holds a $ that is not part of a $NAME; write it as $$") from None


def read_env(project: Path) -> dict[str, str]:
    """The environment, with `.env` of the project below it."""
    from dotenv import dotenv_values

    from_file = {key: value for key, value in dotenv_values(project / ".env").items() if value is not None}
    return {**from_file, **os.environ}
