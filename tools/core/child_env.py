"""The environment of a process that we start: an allow-list, never a copy of ours.

A trainer, a model, an engine or a server of somebody else gets what a program needs to start, what says how fast it may
go, and what its caller names. Everything else, secrets above all, stays here.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tools.core.proxies import bypass

# What a program needs to start and to find its files.
BASICS = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "NO_COLOR",
    "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH",
    "PYTHONHOME", "PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "SYSTEMROOT", "MLOPS_HOME", "MLOPS_PROJECT", "MLOPS_DATA_ROOTS",
)  # fmt: skip
# How a library behaves; none of them can hold a secret.
BEHAVIOUR = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS", "LOKY_MAX_CPU_COUNT", "CUDA_VISIBLE_DEVICES", "DO_NOT_TRACK", "OTEL_SDK_DISABLED",
    "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_LOGGING_LEVEL", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "MLFLOW_ALLOW_FILE_STORE",
)  # fmt: skip
# Where a program that may use the network must go through; a password in one of them stays here.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy")
PRIVATE_UMASK = 0o077


def child_env(
    env: Mapping[str, str] | None = None,
    *,
    also: Iterable[str] = (),
    network: bool = False,
    values: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The environment of a child.

    Args:
        env: where it is taken from; this process's own by default.
        also: further names that this child needs, by its settings.
        network: it may use the network, so it is told the proxies (those without a password), and that they are not
            for this machine.
        values: set as they are.
    """
    env = os.environ if env is None else env
    taken = {name: env[name] for name in (*BASICS, *BEHAVIOUR, *also) if name in env}
    if network:
        taken |= {name: env[name] for name in PROXIES if name in env and "@" not in env[name]}
        taken |= bypass(taken)
    return {**taken, **(values or {})}


def unstartable(command: Sequence[str], env: Mapping[str, str], cwd: Path | None) -> str:
    """Why a command of `config/stack.yaml` cannot be started, with what to do; empty where it looks as if it can.

    Args:
        env, cwd: of the process; a program without a folder in its name is looked for on the `PATH` of `env`.
    """
    told = f"the command is {' '.join(command)}; correct it in config/stack.yaml"
    if cwd is not None and not cwd.is_dir():
        return f"its folder (cwd) {cwd} does not exist; {told}"
    program = command[0]
    place = str((cwd or Path.cwd()) / program) if os.path.dirname(program) else program
    if shutil.which(place, path=env.get("PATH", os.defpath)):
        return ""
    if os.path.dirname(program) and os.path.exists(place):
        return f"{program} is not a program that may be executed; {told}"
    return f"there is no program {program}: install it, or give its full path; {told}"
