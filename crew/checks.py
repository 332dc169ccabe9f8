"""What `mlops-crew doctor` looks at: the project, the model, and every integration. Finds, never repairs."""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tools.core.contract import CallContext, Integration
from tools.core.errors import NeedsPersonError, ToolError, in_words, shorten
from tools.core.isolation import available
from tools.core.proxies import may_use_proxy
from tools.core.redact import Redactor
from tools.core.stack import Stack
from tools.core.yamlfile import ConfigError

State = Literal["ok", "off", "warn", "broken"]
LOW_DISK_BYTES = 2 * 10**9
MODEL_TIMEOUT_S = 5.0
PYTHON_FROM, PYTHON_BELOW = (3, 11), (3, 14)

# The key a provider's library reads, by the first part of MODEL.
PROVIDER_KEYS = {
    "openai": "OPENAI_API_KEY", "gpt": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY",
    "claude": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY", "mistral": "MISTRAL_API_KEY", "azure": "AZURE_API_KEY",
}  # fmt: skip


@dataclass
class Check:
    """One finding. `off`: optional and not set up, which is fine; `broken`: the loop needs it."""

    name: str
    state: State
    detail: str
    fix: str = ""


@dataclass
class IntegrationCheck(Check):
    """An integration: what is installed, which settings are set (secrets only as "set"), whether it was reached."""

    title: str = ""
    installed: dict[str, str | None] = field(default_factory=dict[str, str | None])
    settings: dict[str, str | None] = field(default_factory=dict[str, str | None])
    transport: str = "in-process"
    reached: bool | None = None


def project_jobs(project: Path, home: Path, env: Mapping[str, str]) -> dict[str, Callable[[], list[Check]]]:
    """Everything but the integrations, by name, to be run one by one: each may take long on a busy machine."""
    return {
        "python": lambda: [_python()],
        "crewai": lambda: [_crewai()],
        "state folder": lambda: [_state_folder(home)],
        "disk": lambda: [_disk(home)],
        "isolation": lambda: [_isolation()],
        "signing key": lambda: [_signing_key(project, home, env)],
        "secrets": lambda: _weak_secrets(env),
        "configuration": lambda: _configuration(project, env),
        "model": lambda: [_model(env)],
        "production": lambda: production_checks(project, home, env),
    }


def project_checks(project: Path, home: Path, env: Mapping[str, str]) -> list[Check]:
    """All of them, one after the other."""
    return [check for job in project_jobs(project, home, env).values() for check in job()]


def slow(name: str, timeout_s: float) -> Check:
    """The finding on a project check that gave no answer."""
    return Check(name, "warn", no_answer(timeout_s), "it was left out; try again when the machine has time")


def no_answer(timeout_s: float) -> str:
    """What is said of a check that is not done, with what this machine is doing meanwhile."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    busy = f": the machine is busy (load {load:.1f} on {cores} cores)" if load > cores else ""
    return f"no answer within {timeout_s:g} s{busy}"


def _python() -> Check:
    good = PYTHON_FROM <= sys.version_info[:2] < PYTHON_BELOW
    fix = "" if good else "use Python 3.11, 3.12 or 3.13: uv sync --python 3.11"
    return Check("python", "ok" if good else "broken", f"{platform.python_version()} at {sys.executable}", fix)


def _crewai() -> Check:
    version = _version("crewai")
    if version is None:
        return Check("crewai", "broken", "not installed", "uv sync --inexact")
    return Check("crewai", "ok", version)


def _state_folder(home: Path) -> Check:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Check("state folder", "broken", in_words(error), "make it writable, or point MLOPS_HOME elsewhere")
    return Check("state folder", "ok", f"{home} is writable")


def _isolation() -> Check:
    found = available()
    if found.landlock and found.network:
        return Check("isolation", "ok", found.words())
    return Check(
        "isolation", "warn", found.words(), "run on Linux 5.13 or newer with Landlock, or load your own models only"
    )


def _disk(home: Path) -> Check:
    folder = next(path for path in (home, *home.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:.1f} GB free at {folder}"
    if free < LOW_DISK_BYTES:
        return Check("disk", "warn", detail, "free some space: a run keeps its data, models and logs")
    return Check("disk", "ok", detail)


def _signing_key(project: Path, home: Path, env: Mapping[str, str]) -> Check:
    """The key that signs journals; the first run makes it."""
    from tools.core.chain import KEY_NAME
    from tools.core.keys import KeyFileError, keys_folder, signing_key

    try:
        folder = keys_folder(env)
        if not (folder / f"{KEY_NAME}.key").exists():
            return Check("signing key", "ok", f"none yet; the first run makes one in {folder}")
        signing_key(KEY_NAME, env, apart_from=(project, home), make=False)
    except KeyFileError as error:
        return Check(
            "signing key", "broken", error.message, "journals cannot be signed, and no run starts without that"
        )
    return Check("signing key", "ok", f"in {folder}")


def _weak_secrets(env: Mapping[str, str]) -> list[Check]:
    """Secrets that could as well be ordinary words: they cannot be hidden everywhere."""
    from tools.core.redact import weak_secrets
    from tools.registry import INTEGRATIONS, load_spec

    declared = [setting.name for name in INTEGRATIONS for setting in load_spec(name).settings if setting.secret]
    weak = weak_secrets(env, declared)
    if not weak:
        return []
    detail = (
        f"{', '.join(weak)}: short or an ordinary word, so it is hidden only beside its name, not wherever it occurs"
    )
    return [Check("secrets", "warn", detail, "choose longer ones, with digits or signs inside")]


def _configuration(project: Path, env: Mapping[str, str]) -> list[Check]:
    from crew.goal import load_goal
    from crew.roles import load_roles
    from tools.core.policy import Policy
    from tools.session import open_stack

    config = project / "config"
    checks: list[Check] = []

    def read(name: str, load: Callable[[], Any], tell: Callable[[Any], str]) -> Any:
        try:
            found = load()
        except ConfigError as error:
            checks.append(Check(name, "broken", str(error), "correct the file"))
            return None
        checks.append(Check(name, "ok", tell(found)))
        return found

    def policy() -> Policy:
        loaded = Policy.load(config / "policy.yaml", env)
        if stack is not None:
            loaded.check([stack.load_spec(n) for n in stack.own], stack.third_party, str(config / "policy.yaml"))
        return loaded

    goal = read("goal.yaml", lambda: load_goal(config / "goal.yaml", env), lambda g: f"{g.name}: {g.task}, {g.metric}")
    if goal is not None:
        checks += _data(project, goal.data)
    stack = read(
        "stack.yaml",
        lambda: open_stack(project, env),
        lambda s: f"{len(s.own)} integrations, {len(s.third_party)} third-party servers",
    )
    allowed = read("policy.yaml", policy, lambda p: f"autonomy {p.file.autonomy}")
    if stack is not None and goal is not None:
        specs = {name: stack.spec(name) for name in stack.names}
        roles = read(
            "agents.yaml, tasks.yaml",
            lambda: load_roles(config, specs, goal.placeholders()),
            lambda r: f"{len(r.agents)} roles, {len(r.tasks)} tasks",
        )
        if allowed is not None and roles is not None:
            checks += _misnamed(stack, allowed.file, roles.agents)
    return checks


def _misnamed(stack: Stack, policy: Any, agents: Any) -> list[Check]:
    """Tools of other people's servers that grants and policy name and that there are not."""
    from crew.third_party import misnamed

    try:
        found = misnamed(stack, policy, agents)
    except ConfigError as error:
        return [Check("accepted tools", "broken", str(error))]
    fix = "correct the name; as it stands it grants, allows or forbids nothing"
    return [Check(f"tools of {item.server}", "warn", str(item), fix) for item in found]


def _data(project: Path, data: Any) -> list[Check]:
    missing = [
        value
        for value in (data.reference, data.current, data.source)
        if value and not (project / Path(value).expanduser()).is_file()
    ]
    if not missing:
        return []
    sample = all((project / value).is_relative_to(project / "sample") for value in missing)
    fix = "mlops-crew sample" if sample else "correct the section data of config/goal.yaml"
    return [Check("data", "warn", f"goal.yaml names files that do not exist: {', '.join(missing)}", fix)]


def _model(env: Mapping[str, str]) -> Check:
    from crew.goal import ModelSettings

    try:
        model = ModelSettings.from_env(env)
    except ConfigError as error:
        return Check("model", "broken", str(error), "correct it in the environment or .env")
    if model.name is None:
        return Check("model", "off", "runbook mode: MODEL is not set", "")
    if model.base_url:
        return _model_server(model.name, model.base_url, model.api_key or env.get("OPENAI_API_KEY") or "")
    provider = next((key for start, key in PROVIDER_KEYS.items() if model.name.startswith(start)), None)
    if provider and not env.get(provider) and not model.api_key:
        return Check("model", "broken", f"{model.name}: no key", f"set {provider} (or MODEL_API_KEY) in .env")
    return Check(
        "model", "ok", f"{model.name}; key {'set' if provider or model.api_key else 'as its provider reads it'}"
    )


def _model_server(name: str, base_url: str, key: str) -> Check:
    import httpx

    shown = Redactor({}).text(base_url)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(
            f"{base_url.rstrip('/')}/models", headers=headers, timeout=MODEL_TIMEOUT_S,
            trust_env=may_use_proxy(base_url),
        )  # fmt: skip
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = in_words(error)
        return Check("model", "broken", f"{name} at {shown}: {why}", "start the server, or correct MODEL_BASE_URL")
    if answer.status_code in (401, 403):
        return Check("model", "broken", f"{name} at {shown}: the key is refused", "correct MODEL_API_KEY")
    return Check("model", "ok", f"{name} at {shown} answers (HTTP {answer.status_code})")


def check_integration(name: str, stack: Stack, project: Path, home: Path, env: Mapping[str, str]) -> IntegrationCheck:
    """Is it installed, configured, reachable? Takes as long as its library needs; may be run in a thread."""
    try:
        transport = stack.config(name).transport
    except ConfigError as error:  # a $NAME in stack.yaml that is not set
        return IntegrationCheck(name, "broken", str(error), "set it in the environment or .env", title=name)
    spec = stack.spec(name)
    if spec is None:
        return _server(IntegrationCheck(name, "ok", "", title=name, transport=transport), stack, project, env)
    found = _facts(spec, env, transport)
    if found.state != "ok":
        return found
    return (
        _server(found, stack, project, env) if transport != "in-process" else _health(found, spec, project, home, env)
    )


def _facts(spec: Integration, env: Mapping[str, str], transport: str) -> IntegrationCheck:
    """What is known without calling anything."""
    redactor = Redactor(env, [setting.name for setting in spec.settings if setting.secret])
    settings = {
        s.name: ("set" if s.secret else redactor.text(env[s.name])) if env.get(s.name) else None for s in spec.settings
    }
    found = IntegrationCheck(
        spec.name, "ok", "", title=spec.title, installed={d: _version(d) for d in spec.requires}, settings=settings,
        transport=transport,
    )  # fmt: skip
    missing = spec.missing()
    unset = spec.lacks(env)
    if missing:
        found.state = "off" if spec.extra else "broken"
        found.detail, found.fix = f"not installed: {', '.join(missing)}", spec.install_command()
    elif unset:
        found.state = "off"
        found.detail = f"not configured: {', '.join(s.name for s in unset)}"
        found.fix = "; ".join(f"set {s.name} ({s.description}) in .env" for s in unset)
    return found


def _health(
    found: IntegrationCheck, spec: Integration, project: Path, home: Path, env: Mapping[str, str]
) -> IntegrationCheck:
    context = CallContext(project=project, home=home, run_id="doctor")
    try:
        backend = spec.load_backend(spec.resolve_settings(env))
        try:
            found.detail, found.reached = backend.health(context), True
        finally:
            backend.close()
    except ToolError as error:
        found.state = "broken" if spec.extra is None else "warn"
        found.detail, found.reached = error.message, False
        found.fix = _fix(error, spec, found)
    except Exception as error:  # noqa: BLE001 - a library may fail with anything; the finding says so
        found.state, found.reached = ("broken" if spec.extra is None else "warn"), False
        found.detail, found.fix = shorten(in_words(error), 400), _fix(error, spec, found)
    return found


def _fix(error: Exception, spec: Integration, found: IntegrationCheck) -> str:
    given = [name for name, value in found.settings.items() if value]
    if isinstance(error, NeedsPersonError):
        return f"see the message; tried {error.tried}" if error.tried else "see the message"
    if given:
        return f"check {', '.join(given)} and that the server is running, or unset it to use the embedded one"
    if isinstance(error, ToolError | OSError):
        return "see the message"
    return f"reinstall with: {spec.install_command()}"


def _server(found: IntegrationCheck, stack: Stack, project: Path, env: Mapping[str, str]) -> IntegrationCheck:
    from crew.reach import reach

    found.state, found.detail, found.fix, found.reached = reach(found.name, stack, project, env)
    return found


def timed_out(name: str, stack: Stack, env: Mapping[str, str], timeout_s: float) -> IntegrationCheck:
    """The finding on one that gave no answer."""
    spec = stack.spec(name)
    found = _facts(spec, env, "in-process") if spec else IntegrationCheck(name, "ok", "", title=name)
    real = spec is None or spec.is_real(env)
    found.state = "broken" if real and (spec is None or spec.extra is None) else "warn"
    found.reached = False
    found.detail = no_answer(timeout_s)
    given = [setting for setting, value in found.settings.items() if value]
    found.fix = (
        f"check {', '.join(given)}" if given else "the machine may be busy: try mlops-crew doctor --integration " + name
    )
    return found


def is_broken(checks: Iterable[Check]) -> bool:
    return any(check.state == "broken" for check in checks)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def production_checks(project: Path, home: Path, env: Mapping[str, str]) -> list[Check]:
    """Whether registry, serving and unfinished runs agree; none where nothing was deployed, or nothing can be read."""
    from crew.goal import load_goal
    from crew.reconcile import compare, unfinished_runs
    from tools.core.dispatch import run_action
    from tools.registry import load_spec

    if not (home / "serving" / "state.json").is_file():
        return []
    context = CallContext(project=project, home=home, run_id="doctor")

    def read(integration: str, action: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        spec = load_spec(integration)
        backend = spec.load_backend(spec.resolve_settings(env))
        try:
            result = run_action(spec, backend, action, arguments, context)
        finally:
            backend.close()
        if result.error is not None and result.data is None and result.status.value != "no_data":
            raise NeedsPersonError(result.message)
        return result.data

    try:
        model = load_goal(project / "config" / "goal.yaml", env).registered_model
        status = read("serving", "status", {})
        champion = read("mlflow", "get_champion", {"name": model})
    except (ConfigError, ToolError) as error:
        return [Check("production", "warn", f"registry and serving could not be compared: {error}")]
    runs = unfinished_runs(home)
    found = compare(model, champion, status, runs)
    checks: list[Check] = []
    for item in found:
        fix = f"the next run repairs it: {item.repair.why}" if item.repair else item.how
        checks.append(Check("production", "warn", item.what, fix))
    for run in runs:
        if run.open_calls:
            told = f"run {run.run_id} was cut off; whether {', '.join(run.open_calls)} happened is not known"
            checks.append(Check("production", "warn", told, f"mlops-crew resume {run.run_id}"))
    return checks or [Check("production", "ok", f"registry and serving of {model} agree")]
