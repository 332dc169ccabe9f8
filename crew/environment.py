"""Prepares the process before any library is imported: `.env`, and no telemetry, tracing or version look-ups."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from tools.core.proxies import bypass_here
from tools.core.stack import read_env

# CrewAI reads these at import; without them it waits for servers that may not be reachable.
QUIET = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "OTEL_SDK_DISABLED": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def prepare(project: Path, home: Path) -> Mapping[str, str]:
    """Set the environment up and return it; what the user set stays.

    Providers' libraries read their keys from the process's environment, so `.env` goes there too.
    """
    env = read_env(project)
    for name, value in {**QUIET, "CREWAI_STORAGE_DIR": str(home / "crewai"), **env}.items():
        os.environ.setdefault(name, value)
    bypass_here()
    # Libraries report through logging what the journal and the display already show; without any handler Python would
    # print it on the terminal, and CrewAI would install one of its own.
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())
    return dict(os.environ)
