"""Which tools of other people's servers a person has accepted: each definition by its hash, in `config/pins.json`.

Only a person's command (`mlops-crew tools accept SERVER`) writes the file; nothing that a tool can reach does. Agents
and outside clients are shown the accepted definition, never what the server says now, and a tool whose definition is
not the accepted one is refused, also when it changes in the middle of a session.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tools.core.errors import NeedsPersonError
from tools.core.files import read_private, write_text
from tools.core.foreign import MAX_DESCRIPTION_CHARS, NAME, clean_schema, clean_text, skeleton
from tools.core.yamlfile import ConfigError

PINS_FILE = "pins.json"
STATES = ("new", "changed", "gone", "same", "refused")
COMPARED = ("description", "inputSchema", "annotations", "outputSchema", "title")


class Pin(BaseModel):
    """One accepted tool."""

    model_config = ConfigDict(extra="forbid")

    sha256: str
    definition: dict[str, Any]


class ServerPins(BaseModel):
    """The accepted tools of one server."""

    model_config = ConfigDict(extra="forbid")

    accepted_at: str
    accepted_by: str
    tools: dict[str, Pin]


class PinsFile(BaseModel):
    """`config/pins.json`."""

    model_config = ConfigDict(extra="forbid")

    version: int = 1
    servers: dict[str, ServerPins] = Field(default_factory=dict[str, ServerPins])


@dataclass(frozen=True)
class Difference:
    """One tool of a server against what was accepted.

    Args:
        state: `new`, `changed`, `gone`, `same`, or `refused` (it cannot be accepted).
        detail: what changed, or why it is refused.
    """

    tool: str
    state: str
    detail: str = ""


def fingerprint(definition: Mapping[str, Any]) -> str:
    """SHA-256 of a definition as JSON."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Pins:
    """The accepted tools of a project. Reads the file again when it has changed; thread-safe.

    Args:
        path: the file; none is the same as an empty one.
        reserved: names of our own tools as agents and clients see them; none of a third party may look like one.
        public_name: (server, tool) -> the name that agents and clients see.
    """

    def __init__(
        self, path: Path, *, reserved: Callable[[], Iterable[str]], public_name: Callable[[str, str], str]
    ) -> None:
        self.path = path
        self._reserved = reserved
        self._public_name = public_name
        self._own: dict[str, str] | None = None
        self._read: tuple[tuple[int, int] | None, PinsFile] = (None, PinsFile())

    def tools(self, server: str) -> list[dict[str, Any]]:
        """The accepted tools as `{"name", "description", "inputSchema"}`, cleaned.

        Raises:
            ConfigError: the file is not what the command wrote.
        """
        found: list[dict[str, Any]] = []
        for name, pin in self._pinned(server).items():
            if self.problem(server, pin.definition) is None:
                description = clean_text(str(pin.definition.get("description") or ""), MAX_DESCRIPTION_CHARS)
                schema = clean_schema(pin.definition.get("inputSchema"))
                found.append({"name": name, "description": description, "inputSchema": schema})
        return found

    def require(self, server: str, tool: str) -> None:
        """Refuse a tool that nobody has accepted. Asks the server nothing.

        Raises:
            NeedsPersonError: says how it can be looked at and accepted.
        """
        try:
            pinned = self._pinned(server)
        except ConfigError as error:
            raise NeedsPersonError(str(error)) from error
        if not pinned:
            raise NeedsPersonError(f"nobody has accepted the tools of the server {server} yet; {_how(server)}")
        if tool not in pinned:
            shown = clean_text(tool, 80)
            raise NeedsPersonError(f"the server {server} has no accepted tool {shown}; {_how(server)}")
        problem = self.problem(server, pinned[tool].definition)
        if problem is not None:
            raise NeedsPersonError(f"the tool {tool} of {server} is refused: {problem}")

    def check(self, server: str, tool: str, listed: Iterable[Mapping[str, Any]]) -> None:
        """Refuse a tool whose definition, as the server gives it now, is not the accepted one.

        Raises:
            NeedsPersonError: it changed or is gone; says what changed and how to accept it.
        """
        self.require(server, tool)
        pin = self._pinned(server)[tool]
        same_name = [definition for definition in listed if definition.get("name") == tool]
        if not same_name:
            raise NeedsPersonError(f"the server {server} no longer has the tool {tool}; {_how(server)}")
        if len(same_name) > 1:
            raise NeedsPersonError(f"the server {server} has two tools called {tool}; {_how(server)}")
        if fingerprint(same_name[0]) != pin.sha256:
            changed = ", ".join(_changed(pin.definition, same_name[0]))
            raise NeedsPersonError(
                f"the tool {tool} of {server} is not what was accepted ({changed} changed); {_how(server)}"
            )

    def compare(self, server: str, listed: Iterable[Mapping[str, Any]]) -> list[Difference]:
        """Each tool that the server gives now, or that was accepted, against the other."""
        pinned = self._pinned(server)
        found: list[Difference] = []
        seen: set[str] = set()
        for definition in listed:
            name = str(definition.get("name"))
            problem = self.problem(server, definition)
            if name in seen:
                found.append(Difference(clean_text(name, 80), "refused", "the server has two tools of this name"))
            elif problem is not None:
                found.append(Difference(clean_text(name, 80), "refused", problem))
            elif name not in pinned:
                found.append(Difference(name, "new"))
            elif pinned[name].sha256 != fingerprint(definition):
                found.append(Difference(name, "changed", ", ".join(_changed(pinned[name].definition, definition))))
            else:
                found.append(Difference(name, "same"))
            seen.add(name)
        return found + [Difference(name, "gone") for name in pinned if name not in seen]

    def accept(self, server: str, listed: Iterable[Mapping[str, Any]], *, by: str) -> list[str]:
        """Make what the server gives now the accepted tools; those that cannot be are left out. Their names.

        Raises:
            OSError: the file cannot be written.
            ConfigError: the file is not what this command wrote.
        """
        definitions = {str(definition.get("name")): dict(definition) for definition in listed}
        kept = [d.tool for d in self.compare(server, definitions.values()) if d.state in ("new", "changed", "same")]
        file = self._load().model_copy(deep=True)
        file.servers[server] = ServerPins(
            accepted_at=datetime.now(UTC).isoformat(timespec="seconds"),
            accepted_by=by,
            tools={name: Pin(sha256=fingerprint(definitions[name]), definition=definitions[name]) for name in kept},
        )
        write_text(
            self.path, json.dumps(file.model_dump(mode="json"), indent=2, ensure_ascii=True) + "\n", durable=True
        )
        return kept

    def problem(self, server: str, definition: Mapping[str, Any]) -> str | None:
        """Why a tool can never be accepted; None where it can."""
        name = str(definition.get("name"))
        if not NAME.fullmatch(name):
            return "its name is not made of up to 64 letters, digits, '_', '-' and '.'"
        if self._own is None:
            self._own = {skeleton(own): own for own in self._reserved()}
        taken = self._own.get(skeleton(self._public_name(server, name))) or self._own.get(skeleton(name))
        if taken is not None:
            return f"its name could be taken for {taken} of mlops-crew"
        if clean_schema(definition.get("inputSchema")) is None:
            return "its input schema is too large or too deep"
        return None

    def _pinned(self, server: str) -> dict[str, Pin]:
        found = self._load().servers.get(server)
        return found.tools if found is not None else {}

    def version(self) -> tuple[int, int] | None:
        """Different after the file was written; None where there is none."""
        try:
            stat = self.path.lstat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def _load(self) -> PinsFile:
        version = self.version()
        if version is None:
            return PinsFile()
        if self._read[0] != version:
            self._read = (version, self._parse())
        return self._read[1]

    def _parse(self) -> PinsFile:
        fix = "restore it, or remove it and accept the servers' tools again"
        try:
            file = PinsFile.model_validate_json(read_private(self.path))
        except (OSError, ValueError, ValidationError) as error:
            raise ConfigError(f"{self.path} cannot be read as accepted tools; {fix}") from error
        for server, pins in file.servers.items():
            for name, pin in pins.tools.items():
                if fingerprint(pin.definition) != pin.sha256 or pin.definition.get("name") != name:
                    raise ConfigError(f"{self.path}: the tool {name} of {server} was edited by hand; {fix}")
        return file


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Which parts of a definition differ."""
    named = [part for part in COMPARED if before.get(part) != after.get(part)]
    return named or ["its definition"]


def _how(server: str) -> str:
    return f"look at them and accept them with: mlops-crew tools accept {server}"
