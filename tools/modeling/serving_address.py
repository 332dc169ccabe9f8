"""Where production is served on this machine: written by whoever serves, read by whoever watches."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.core.files import write_json

ADDRESS_FILE = "address.json"


@dataclass(frozen=True)
class ServingAddress:
    """A serving engine that runs: the address of its metrics, and its process."""

    metrics_url: str
    pid: int


def record_address(folder: Path, address: ServingAddress) -> None:
    """Say that an engine serves from the store in `folder`."""
    write_json(folder / ADDRESS_FILE, asdict(address))


def forget_address(folder: Path) -> None:
    """Say that none does any more."""
    (folder / ADDRESS_FILE).unlink(missing_ok=True)


def recorded_address(folder: Path) -> ServingAddress | None:
    """The engine that serves from the store in `folder`; None where none runs."""
    try:
        address = ServingAddress(**json.loads((folder / ADDRESS_FILE).read_text(encoding="utf-8")))
        os.kill(address.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return address
