"""The contract of an integration: light data that describes it, and a lazily imported backend that does the work.

An integration is one folder `tools/integrations/<name>/`:

- `spec.py`: argument and result models and one `Integration` named `SPEC`. Imports nothing heavier than pydantic.
- `backend.py`: the class named by `SPEC.backend`, one method per action, and the only place that imports the library
  (inside the methods, not at the top).
- `tool.py`: the tool class that notebooks and agents use.

Listing every integration therefore imports no vendor library.
"""

import hashlib
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from tools.core.arguments import Bound, ReadPath
from tools.core.bounds import read_json
from tools.core.errors import CallCancelled, FixableError, MissingDependencyError, NeedsPersonError
from tools.core.files import private_folder
from tools.core.roots import FILES, RUNS, Roots
from tools.core.writes import ReadBack, Undo

PARAM_LIMIT = "limit"


class Effect(StrEnum):
    """What a call does to the world; the policy decides on it."""

    READ = "read"  # changes nothing
    WRITE = "write"  # adds something of the run's own: an experiment, a snapshot, a model version
    RISKY = "risky"  # changes what production does, or removes something


class Args(BaseModel):
    """Base of argument models: unknown arguments are errors."""

    model_config = ConfigDict(extra="forbid")

    def question_digest(self, digits: int = 12) -> str:
        """Names a file by what was asked: the same arguments, the same name. Hexadecimal."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:digits]


class Data(BaseModel):
    """Base of result models."""

    model_config = ConfigDict(extra="forbid")


class NoArgs(Args):
    """An action without arguments."""


class Option(BaseModel):
    """One answer that a question to a person offers.

    Args:
        name: what is typed, journalled and returned.
        title: a few words.
        consequences: what follows from taking it, in plain words.
        numbers: what is known of it, by name with the unit (`latency_ms`); None where it is not known.
        preferences: words of the goal that name this option, besides its own name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    title: str = Field(min_length=1, max_length=120)
    consequences: str = Field(min_length=1, max_length=600)
    numbers: dict[str, float | int | None] = Field(default_factory=dict)
    preferences: list[str] = Field(default_factory=list)

    @property
    def words(self) -> frozenset[str]:
        """The stated preferences that name it."""
        return frozenset([self.name, *self.preferences])


MIN_OPTIONS, MAX_OPTIONS = 2, 4


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _from_json(value: Any) -> Any:
    """Models like to send a list as JSON text."""
    if not isinstance(value, str):
        return value
    return read_json(value)


def _options(value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not MIN_OPTIONS <= len(value) <= MAX_OPTIONS:
        raise ValueError(f"must be {MIN_OPTIONS} to {MAX_OPTIONS} options, got {len(value)}")
    options = [Option.model_validate(item) for item in value]
    words = [word for option in options for word in option.words]
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} names more than one option")
    return [option.model_dump(mode="json") for option in options]


class QuestionArgs(Args):
    """Base of the arguments of an action that `asks`."""

    # Dictionaries, not `Option`: a model would pay for its schema on every request.
    topic: Annotated[str, AfterValidator(_said), Bound(), Bound()] = Field(
        description="champion, tradeoff or canary_deadline"
    )
    question: Annotated[str, AfterValidator(_said), Bound(), Bound()] = Field(description="one sentence")
    options: Annotated[
        list[dict[str, Any]], BeforeValidator(_from_json), AfterValidator(_options), Bound(), Bound()
    ] = Field(description="2 to 4 of {name, title, consequences, numbers, preferences}")
    plot: Annotated[ReadPath, Bound(), Bound()] = Field("", description="path of its plot")

    @property
    def offered(self) -> list[Option]:
        """The options, typed."""
        return [Option.model_validate(item) for item in self.options]


@dataclass(frozen=True)
class Answer:
    """What was chosen. The gateway makes it, never a caller.

    Args:
        chosen: name of an option.
        decided_by: the person, or `PREFERENCE`.
        note: why, in that person's words, or the preference that the goal states.
        at: when, ISO 8601 in UTC.
    """

    chosen: str
    decided_by: str
    note: str
    at: str


PREFERENCE = "the goal's stated preference"


def Limited(limit: str, description: str, default: Any = ..., **constraints: Any) -> Any:  # noqa: N802 - reads as Field
    """A pydantic field whose value the policy compares with its limit of that name (for example `traffic_percent`)."""
    return Field(default, description=description, json_schema_extra={PARAM_LIMIT: limit}, **constraints)


@dataclass(frozen=True)
class Setting:
    """One setting of an integration, read from the environment or `.env`.

    Args:
        name: the environment variable.
        description: what it is, with its unit and what leaving it unset means.
        default: the value when unset; None means "embedded" or "not configured".
        secret: never shown, journalled or logged.
        real: setting it points the integration at a real server, cluster or account (autonomy then defaults to
            `supervised`).
        required: the integration cannot work without it.
    """

    name: str
    description: str
    default: str | None = None
    secret: bool = False
    real: bool = False
    required: bool = False


@dataclass(frozen=True)
class Action:
    """One thing an integration can do.

    Args:
        name: snake_case verb phrase; also the backend's method and the MCP tool name.
        summary: one short sentence for the model (it pays for every token).
        args: argument model; every field described.
        result: result model.
        effect: what it does to the world.
        idempotent: repeating it with the same arguments has no further effect, so the gateway may retry it.
        timeout_s: seconds after which the gateway stops waiting for the server.
        asks: the call is a question. The gateway has a person choose, or takes what the goal states where the policy
            lets it, and hands the `Answer` to the backend. `args` is then a `QuestionArgs`.
        key: of a write: the arguments that make a repetition the same write; `()` stands for all of them.
        repeatable: repeating it is harmless whatever happened since: it makes files of the run, adds by content, or
            looks up what it made under `ctx.idempotency_key`.
        read_back: how it is found out whether a write happened. A risky one needs it; another one may be `repeatable`.
        undo: the action that takes it back, given the same arguments or as `Undo` says; None: that needs a person.
        survives_process: False: its effect ends with the process that made it (a local engine's canary), or what it
            tells is of that process. A resumed run makes such a call again, and the new answer counts.
        ends: actions of the integration whose effect this one ends or replaces; a resumed run does not make those
            again.
    """

    name: str
    summary: str
    args: type[Args]
    result: type[Data]
    effect: Effect = Effect.READ
    idempotent: bool = False
    timeout_s: float = 120.0
    asks: bool = False
    key: tuple[str, ...] | None = None
    repeatable: bool = False
    read_back: ReadBack | None = None
    undo: str | Undo | None = None
    survives_process: bool = True
    ends: tuple[str, ...] = ()

    def limits(self) -> dict[str, str]:
        """Argument name -> policy limit name, for the arguments declared with `Limited`."""
        found: dict[str, str] = {}
        for name, info in self.args.model_fields.items():
            extra = info.json_schema_extra
            if isinstance(extra, dict) and PARAM_LIMIT in extra:
                found[name] = str(extra[PARAM_LIMIT])
        return found


@dataclass(frozen=True)
class Integration:
    """An integration: what it is called, what it needs, what it can do.

    Args:
        name: the folder and the name used in YAML (`great_expectations`).
        title: the name people use ("Great Expectations").
        summary: one sentence.
        actions: what it can do.
        backend: `module:Class`, imported at the first call only.
        requires: distributions that must be installed.
        imports: the top-level modules of its library, which nothing but integrations may import.
        extra: the extra of pyproject.toml that brings them; None if they are core dependencies.
        settings: what it reads from the environment.
        embedded: it works with nothing configured. One that does not has `required` settings, and is offered to nobody
            before they are set.
    """

    name: str
    title: str
    summary: str
    actions: tuple[Action, ...]
    backend: str
    requires: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    extra: str | None = None
    settings: tuple[Setting, ...] = ()
    embedded: bool = True

    def action(self, name: str) -> Action:
        """The action of that name.

        Raises:
            FixableError: no such action; names the valid ones.
        """
        for action in self.actions:
            if action.name == name:
                return action
        valid = ", ".join(a.name for a in self.actions)
        raise FixableError(f"{self.name} has no action {name!r}; valid actions: {valid}")

    def missing(self) -> list[str]:
        """Distributions that are required and not installed."""
        return [d for d in self.requires if not _installed(d)]

    def install_command(self) -> str:
        """The exact command that installs what is missing."""
        if self.extra:
            return f"uv sync --inexact --extra {self.extra}"
        return "uv sync --inexact"

    def require(self) -> None:
        """Raise `MissingDependencyError` with the install command unless everything needed is installed."""
        missing = self.missing()
        if missing:
            raise MissingDependencyError(
                f"{self.title} needs {', '.join(missing)}, which is not installed; run: {self.install_command()}",
                tried="the installed distributions of this environment",
            )

    def resolve_settings(self, env: Mapping[str, str]) -> dict[str, str | None]:
        """The integration's own settings, and only those, out of `env`. An empty value counts as unset."""
        return {s.name: (env.get(s.name) or s.default) for s in self.settings}

    def is_real(self, env: Mapping[str, str]) -> bool:
        """Whether the environment points this integration at a real system."""
        return any(s.real and env.get(s.name) for s in self.settings)

    def lacks(self, settings: Mapping[str, str | None]) -> list[Setting]:
        """Required settings that have no value."""
        return [s for s in self.settings if s.required and not (settings.get(s.name) or s.default)]

    def configured(self, env: Mapping[str, str]) -> bool:
        """Whether every required setting has a value."""
        return not self.lacks(env)

    def load_backend(self, settings: Mapping[str, str | None]) -> "Backend":
        """Import and build the backend.

        Raises:
            MissingDependencyError: a library is not installed.
            NeedsPersonError: a required setting is missing; names it and where it was searched.
        """
        self.require()
        for setting in self.lacks(settings):
            raise NeedsPersonError(
                f"{self.title} needs the setting {setting.name} ({setting.description})",
                tried=f"environment variable {setting.name} and {setting.name} in .env",
            )
        module, _, attribute = self.backend.partition(":")
        return getattr(importlib.import_module(module), attribute)(settings)


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _no_progress(done: float, total: float | None, message: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class CallContext:
    """Where a call happens. Handed to every backend method; nothing else tells a backend about the run.

    Args:
        project: the project folder; relative paths in arguments start here.
        home: the state folder (`.mlops` or `MLOPS_HOME`); embedded stores live here.
        run_id: the run the call belongs to.
        answer: what was chosen, for an action that `asks`; None where no gateway stands in front.
        roots: what the call's paths may lead to; by default what `Roots` gives a project without a goal.
        outside_models: models that a person let be loaded although they lie outside the configured store.
        idempotency_key: the same for a repetition of the same write, also after a crash; empty for a read, and where no
            gateway stands in front.
    """

    project: Path
    home: Path
    run_id: str
    answer: Answer | None = None
    roots: Roots = field(default=cast(Roots, None))
    outside_models: frozenset[str] = frozenset()
    idempotency_key: str = ""
    report_progress: Callable[[float, float | None, str], None] = field(default=_no_progress)
    is_cancelled: Callable[[], bool] = field(default=lambda: False)

    def __post_init__(self) -> None:
        # A default that depends on other fields; never None afterwards.
        if cast("Roots | None", self.roots) is None:
            object.__setattr__(self, "roots", Roots(self.project, self.home, self.run_id))

    @property
    def workspace(self) -> Path:
        """Folder for files this run makes (`<home>/runs/<run_id>/files`), created on first use, for this user alone."""
        private_folder(self.home)
        private_folder(self.home / RUNS / self.run_id)
        return private_folder(self.home / RUNS / self.run_id / FILES)

    def store(self, name: str) -> Path:
        """Folder of an embedded store that outlives the run (`<home>/<name>`), created on first use, for this user
        alone."""
        private_folder(self.home)
        return private_folder(self.home / name)

    def path(self, value: str) -> Path:
        """Where an argument's path, which is to be read, really leads.

        Raises:
            FixableError: to what no call may read.
        """
        return self.roots.read(value)

    def new_path(self, value: str) -> Path:
        """Where an argument's path, which is to be made, really leads.

        Raises:
            FixableError: to where no call may write.
        """
        return self.roots.write(value)

    def configured(self, value: str) -> Path:
        """The path of a setting: absolute or `~` as it is, relative to the project folder otherwise."""
        return self.project / Path(value).expanduser()

    def show(self, path: Path) -> str:
        """How a path is returned to callers: relative to the project folder when inside it, else absolute."""
        resolved = path.resolve()
        project = self.project.resolve()
        return str(resolved.relative_to(project)) if resolved.is_relative_to(project) else str(resolved)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell the caller how far a long call is.

        Raises:
            CallCancelled: the run is being stopped; let it pass.
        """
        if self.is_cancelled():
            raise CallCancelled
        self.report_progress(done, total, message)


class Backend:
    """Base of backends: one method `name(args, ctx) -> result model` per action of the spec.

    The kit calls the methods of one backend one at a time, in a worker thread, so they may block and need no locks.
    """

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        self.settings = settings

    def health(self, ctx: CallContext) -> str:
        """One line on what was reached, for `doctor`.

        Raises:
            ToolError: it cannot be reached; the message says how to fix it.
        """
        raise NotImplementedError

    def warm(self, ctx: CallContext) -> None:
        """Get ready for calls that will come soon, for example start a helper process. Nothing by default.

        Changes nothing that a caller could see; what fails here is told by the call that needs it.
        """

    def close(self) -> None:
        """Stop what the backend started (processes, servers). Called once, when the server stops."""
