"""Opens the gateway from a project folder: the one place that puts policy, journal, stack and approvals together."""

import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.core.approval import ApprovalStore
from tools.core.calls import PERSON, Caller
from tools.core.channels import Approver, Prompt
from tools.core.errors import FixableError
from tools.core.files import private_folder
from tools.core.gateway import Gateway
from tools.core.journal import Journal, JournalError
from tools.core.locks import ProductionLocks
from tools.core.policy import Policy
from tools.core.proxies import bypass_here
from tools.core.redact import Redactor
from tools.core.results import ToolResult
from tools.core.roots import DATA_ROOTS, Roots, roots_from, roots_of_data
from tools.core.stable import watch
from tools.core.stack import Stack, read_env
from tools.core.tool import Path as CallPath
from tools.core.tool import ServerTool
from tools.core.yamlfile import ConfigError
from tools.registry import INTEGRATIONS, load_spec, load_tool


def project_folder() -> Path:
    """The project: `MLOPS_PROJECT`, or the nearest folder upwards with `config/policy.yaml`, or where we are."""
    configured = os.environ.get("MLOPS_PROJECT")
    if configured:
        return Path(configured).expanduser().resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "config" / "policy.yaml").is_file()), here)


def state_folder(project: Path, env: Mapping[str, str]) -> Path:
    """Where state lives: `MLOPS_HOME`, else `.mlops` in the project folder."""
    configured = env.get("MLOPS_HOME")
    return Path(configured).expanduser().resolve() if configured else project / ".mlops"


def new_run_id() -> str:
    """A run id that sorts by time, for example `20261123-142501-3f2a`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def open_stack(project: Path, env: Mapping[str, str]) -> Stack:
    """The stack of a project. Raises `ConfigError` when `config/stack.yaml` is missing or wrong."""
    return Stack.load(
        project / "config" / "stack.yaml",
        own=INTEGRATIONS,
        load_spec=load_spec,
        env=env,
        project=project,
        home=state_folder(project, env),
    )


def open_gateway(
    project: Path | None = None,
    *,
    run_id: str | None = None,
    prompt: Prompt | None = None,
    policy: Policy | None = None,
    env: Mapping[str, str] | None = None,
    preferences: Mapping[str, str] | None = None,
    data: Sequence[str] = (),
    data_roots: Sequence[str] = (),
    patience_s: float | None = None,
    locks: ProductionLocks | None = None,
) -> Gateway:
    """A gateway for a project, with a journal of its own at `<home>/runs/<run_id>/journal.jsonl`.

    Args:
        project: the project folder; found from the working directory when None.
        run_id: a new one when None.
        prompt: asks in the terminal; None leaves approvals to `mlops-crew approve`.
        policy: instead of `config/policy.yaml`.
        env: instead of the environment and `.env`.
        locks: of production, that a run holds already; see `Gateway`.
        patience_s: seconds that a question may go unanswered before the run is suspended; see `Gateway`.
        preferences: what the goal states on the topics of questions to people; see `Gateway`.
        data, data_roots: the goal's data files, and folders it declares; without any, calls read in the project folder
            and write among the run's files only (`tools.core.roots`). `MLOPS_DATA_ROOTS` says the same without a goal.

    Raises:
        ConfigError: a configuration file is missing or wrong.
        JournalError: the journal cannot be written.
    """
    project = project or project_folder()
    env = env if env is not None else read_env(project)
    bypass_here()
    home = state_folder(project, env)
    run_id = run_id or new_run_id()
    try:
        private_folder(home)
    except OSError as error:
        raise JournalError(f"cannot write the journal in {home}: {error.strerror or error}") from error
    roots = roots_from(env, project, home, run_id)
    if data or data_roots:
        roots = Roots(project, home, run_id, (*roots.data, *_goal_roots(project, home, data, data_roots)))
        env = {**env, DATA_ROOTS: os.pathsep.join(map(str, roots.data))}  # for servers in processes of their own
    stack = open_stack(project, env)
    specs = [load_spec(name) for name in stack.own]
    policy_path = project / "config" / "policy.yaml"
    if policy is None:
        policy = Policy.load(policy_path, env)
        policy.check(specs, stack.third_party, str(policy_path))
    redactor = Redactor(env, [setting.name for spec in specs for setting in spec.settings if setting.secret])
    return Gateway(
        stack=stack,
        policy=policy,
        journal=Journal(
            home / "runs" / run_id / "journal.jsonl", redactor, env={**os.environ, **env}, apart_from=(project, home)
        ),
        approver=Approver(
            ApprovalStore(home / "approvals", env={**os.environ, **env}, apart_from=(project, home)), prompt=prompt
        ),
        redactor=redactor,
        project=project,
        home=home,
        run_id=run_id,
        preferences=preferences,
        roots=roots,
        patience_s=patience_s,
        locks=locks,
    )


def _goal_roots(project: Path, home: Path, data: Sequence[str], folders: Sequence[str]) -> tuple[Path, ...]:
    try:
        return roots_of_data(project, home, data, folders)
    except FixableError as error:
        raise ConfigError(f"data.roots of the goal: {error.message}") from error


_default: Gateway | None = None
_default_lock = threading.Lock()


def default_gateway() -> Gateway:
    """The gateway of this process, opened from the working directory at the first use; closed at exit."""
    import atexit

    global _default
    with _default_lock:
        if _default is None or _default.is_stopping:
            _default = open_gateway()
            watch(_default)
            atexit.register(_default.close)
        return _default


def tool_of(path: CallPath, name: str, caller: Caller = PERSON) -> ServerTool:
    """The tool class of a server: its own where it is one of our integrations."""
    return load_tool(name)(path, caller) if name in INTEGRATIONS else ServerTool(path, name, caller)


async def call_tool(tool: str, arguments: Mapping[str, Any], caller: Caller = PERSON) -> ToolResult:
    """Call any tool: `await call_tool("mlflow", {"action": "get_champion", "name": "churn"})`.

    The same class and path as an agent's call: policy, approval and journal apply. Errors come back as a result's
    status; a result reads as a dictionary (`result["version"]`).
    """
    action, rest = _split(arguments)
    return await tool_of(default_gateway(), tool, caller).acall(action, **rest)


def call_tool_sync(tool: str, arguments: Mapping[str, Any], caller: Caller = PERSON) -> ToolResult:
    """`call_tool` where there is no event loop."""
    action, rest = _split(arguments)
    return tool_of(default_gateway(), tool, caller).call(action, **rest)


def _split(arguments: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The action's name and the other arguments."""
    return arguments.get("action"), {name: value for name, value in arguments.items() if name != "action"}
