"""What production serves, on disk: read at start, replaced atomically before every change takes effect."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tools.core.files import read_private, write_private

STATE_FILE = "state.json"


@dataclass(frozen=True)
class ModelRef:
    """A model that is or was served: where to load it, and its version label.

    `digest`: SHA-256 over its files, once it is loaded; one that is given must be theirs. `outside`: a person let it be
    loaded although its files lie outside the configured store.
    """

    uri: str
    version: str
    outside: bool = False
    digest: str = field(default="", compare=False)


@dataclass(frozen=True)
class Canary:
    """A challenger and its share of the traffic, 0 to 100 percent.

    `former`: it is the former champion, which answers nobody and scores in the shadow during the
    new one's probation.
    """

    model: ModelRef
    percent: float
    seed: int
    former: bool = False


@dataclass(frozen=True)
class ProductionState:
    """Who answers. No champion means that nothing was ever deployed."""

    name: str = "model"
    champion: ModelRef | None = None
    canary: Canary | None = None

    def without_canary(self) -> "ProductionState":
        return replace(self, canary=None)


class BrokenStateError(Exception):
    """The state file exists and is not what this module wrote."""


def load_state(folder: Path) -> ProductionState:
    """The state in `folder`; an empty one when there is none.

    Raises:
        BrokenStateError: the file cannot be understood; names it.
    """
    path = folder / STATE_FILE
    try:
        raw = json.loads(read_private(path))
        champion, canary = raw["champion"], raw["canary"]
        return ProductionState(
            name=str(raw["name"]),
            champion=ModelRef(**champion) if champion else None,
            canary=_canary(canary) if canary else None,
        )
    except FileNotFoundError:
        return ProductionState()
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenStateError(f"{path} is not a serving state ({error})") from error
    except OSError as error:
        raise BrokenStateError(f"{path} cannot be read: {error.strerror}") from error


def _canary(raw: dict[str, Any]) -> Canary:
    return Canary(
        model=ModelRef(**raw["model"]),
        percent=float(raw["percent"]),
        seed=int(raw["seed"]),
        former=bool(raw.get("former")),
    )


def save_state(folder: Path, state: ProductionState) -> None:
    """Replace the state on disk; either the old or the new one survives a crash.

    Raises:
        OSError: it could not be written (full disk, no permission); the old state is untouched.
    """
    write_private(folder / STATE_FILE, json.dumps(asdict(state), indent=1))
