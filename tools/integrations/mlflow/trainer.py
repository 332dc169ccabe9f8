"""The user's own trainer in a process of its own: what it is told, what it may do, and what is kept of its output.

It runs code that the goal names. It gets an allow-listed environment, the credentials of the store it logs to and no
other, and, where the platform has it (`tools.core.isolation`), it cannot read secrets or the gateway's state, nor write
beyond its own folder, the store, caches, and the folders of data and output that are in the project already.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from tools.core.child_env import PRIVATE_UMASK, child_env
from tools.core.child_log import CleanLog
from tools.core.contract import CallContext
from tools.core.errors import FinalError, FixableError
from tools.core.isolation import Sandbox, confined
from tools.core.keys import keys_folder
from tools.core.names import is_secret_file
from tools.core.redact import Redactor
from tools.core.stack import read_env
from tools.integrations.mlflow.spec import TrainModelArgs
from tools.integrations.mlflow.tracking import Store
from tools.modeling.model_store import SERVER_CREDENTIALS, store_credentials

POLL_S = 0.1
STOP_GRACE_S = 5.0
TAIL_CHARS = 400
# Below the state folder: what no trainer reads.
CLOSED_STATE = ("approvals", "serving", "runs", "keys")
KEYS = (".ssh", ".gnupg", ".netrc")  # below the user's folder

CALL_FUNCTION = """
import importlib, json, os, sys
module, function = sys.argv[1:3]
env = os.environ
getattr(importlib.import_module(module), function)(
    train_data=env["MLOPS_TRAIN_DATA"].split(os.pathsep), target=env["MLOPS_TARGET"], task=env["MLOPS_TASK"],
    metric=env["MLOPS_METRIC"], seed=int(env["MLOPS_SEED"]), drop=json.loads(env["MLOPS_DROP"]),
    params=json.loads(env["MLOPS_PARAMS"]),
)
"""


@dataclass(frozen=True)
class Training:
    """One training by the user's trainer.

    Args:
        settings: of the integration.
        artifacts: where the MLflow run keeps its artifacts.
    """

    settings: Mapping[str, str | None]
    store: Store
    args: TrainModelArgs
    paths: list[Path]
    run_id: str
    artifacts: str


def command_of(trainer: str) -> list[str]:
    """The command line of a user's trainer.

    Raises:
        FixableError: it is neither a function nor a command.
    """
    if trainer.startswith("command:"):
        try:
            command = shlex.split(trainer.removeprefix("command:"))
        except ValueError as error:
            raise FixableError(f"trainer {trainer!r} is not a command line: {error}") from error
        if command:
            return command
    elif match := re.match(r"^([A-Za-z_][\w.]*):([A-Za-z_]\w*)$", trainer):
        return [sys.executable, "-c", CALL_FUNCTION, match[1], match[2]]
    raise FixableError(f"trainer is {trainer!r}; valid: builtin, module:function, or command: program arguments")


def run_trainer(command: list[str], training: Training, ctx: CallContext) -> str:
    """Run a trainer to its end and return the end of its output; nothing it started outlives the call.

    Raises:
        FixableError: there is no such program.
        FinalError: it exits with an error; holds the end of its output.
        CallCancelled: the call is being stopped.
    """
    log = ctx.workspace / f"trainer_{training.run_id[:8]}.log"
    output = ctx.workspace / f"trainer_{training.run_id[:8]}"
    output.mkdir(exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mlops-trainer-") as scratch:
        environment = _environment(training, output, scratch)
        place = str(ctx.project / command[0]) if "/" in command[0] else command[0]
        program = shutil.which(place, path=environment.get("PATH"))
        if program is None:
            raise FixableError(f"cannot start the trainer {command[0]!r}: no such program, or it may not be executed")
        sandbox = _sandbox(training, ctx, [output, Path(scratch)])
        with CleanLog(log, _redactor(ctx, environment).text) as kept:
            process = subprocess.Popen(
                [*confined(sandbox), program, *command[1:]],
                cwd=ctx.project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=kept.write_end,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own process group, so that its children can be ended with it
                umask=PRIVATE_UMASK,
            )
            code = _wait(process, started, ctx)
    tail = _tail(log)
    if code != 0:
        refused = any(sign in tail for sign in ("Permission denied", "PermissionError", "Read-only"))
        hint = " (a trainer writes below MLOPS_OUTPUT, TMPDIR and the project's data folders)" if refused else ""
        raise FinalError(
            f"the trainer ended with exit code {code}{hint}; end of its output: {tail or '(none)'}", tried=ctx.show(log)
        )
    return tail


def _environment(training: Training, output: Path, scratch: str) -> dict[str, str]:
    store, args = training.store, training.args
    return child_env(
        network=True,
        values={
            # OpenMP's threads sleep while they wait for each other; spinning can slow a fit 100 times where it is busy.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
            **store_credentials(training.settings, store.tracking_uri, training.artifacts),
            "MLFLOW_TRACKING_URI": store.tracking_uri,
            "MLFLOW_REGISTRY_URI": store.registry_uri,
            "MLFLOW_EXPERIMENT_NAME": store.experiment,
            "MLFLOW_RUN_ID": training.run_id,
            "MLOPS_TRAIN_DATA": os.pathsep.join(str(path.resolve()) for path in training.paths),
            "MLOPS_TARGET": args.target,
            "MLOPS_TASK": args.task,
            "MLOPS_METRIC": args.metric,
            "MLOPS_SEED": str(args.seed),
            "MLOPS_DROP": json.dumps(args.drop),
            "MLOPS_PARAMS": json.dumps(args.config),
            "MLOPS_OUTPUT": str(output),
            "TMPDIR": scratch,
        },
    )


def _redactor(ctx: CallContext, environment: Mapping[str, str]) -> Redactor:
    """Knows the secrets of the project, and those that the trainer was given."""
    return Redactor({**read_env(ctx.project), **environment}, SERVER_CREDENTIALS)


def _sandbox(training: Training, ctx: CallContext, own: list[Path]) -> Sandbox:
    """What a trainer may do: use the network; read all but secrets, configuration and the gateway's state; write into
    its own folder, the store it logs to, caches, and what is in the project already but hidden or code."""
    project, home = ctx.project.resolve(), ctx.home.resolve()
    entries = list(project.iterdir())
    secret = [entry for entry in entries if entry.name.startswith(".env") or is_secret_file(entry.name)]
    closed = [*secret, project / "config" / "policy.yaml", *(home / name for name in CLOSED_STATE)]
    closed += [keys_folder(read_env(ctx.project)), *(Path.home() / name for name in KEYS)]
    files = [entry for entry in entries if _is_output(entry, home)]
    addresses = (training.store.tracking_uri, training.store.registry_uri, training.artifacts)
    local = [path for path in map(_local_folder, addresses) if path]
    write = [*own, Path("/dev"), Path.home() / ".cache", *local, *files]
    return Sandbox(tuple(training.paths), tuple(write), names=(Path("/"),), closed=tuple(closed), network=True)


def _is_output(entry: Path, home: Path) -> bool:
    """Whether something in the project is there to be written to: no configuration, no code, nothing hidden."""
    if entry.is_symlink() or not entry.is_dir() or entry.name.startswith(".") or entry.name == "config":
        return False
    return not home.is_relative_to(entry) and not any(entry.glob("*.py"))


def _local_folder(address: str) -> Path | None:
    """The folder that holds a local store; None for one elsewhere."""
    if found := re.match(r"^sqlite:///(.+)$", address):
        return Path(found[1]).parent
    if found := re.match(r"^(?:file:(?://)?)?(/.+)$", address):
        path = Path(unquote(found[1]))
        return next((folder for folder in (path, *path.parents) if folder.is_dir()), None)
    return None


def _wait(process: "subprocess.Popen[bytes]", started: float, ctx: CallContext) -> int:
    """The exit code; nothing that the trainer started outlives this."""
    try:
        while True:
            try:
                return process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                ctx.progress(0, None, f"trainer running for {time.monotonic() - started:.0f} s")
    finally:
        _stop_group(process)


def _stop_group(process: "subprocess.Popen[bytes]") -> None:
    """End the trainer's process group: asked first, killed after the grace time."""
    deadline = time.monotonic() + STOP_GRACE_S
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)  # raises once nobody is left
            time.sleep(POLL_S / 2)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4 * TAIL_CHARS))
        text = file.read().decode("utf-8", "replace")
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-TAIL_CHARS:]
