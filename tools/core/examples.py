"""What an integration ships in `tools/integrations/<name>/contract.py` to be tried by the contract suite.

- `EXAMPLES`: calls and how they end. Those without `exchanges` work in an empty project, the first one quickly; those
  with them are played against the stand-in.
- `STANDIN` (where it reaches a system over HTTP): how that system answers; see `standin`.
- `UNREACHABLE` (where it has a setting for a real server, and no stand-in): settings that point to no server.
"""

import importlib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.core.contract import Integration
from tools.core.errors import ErrorKind
from tools.core.results import Status
from tools.core.standin import Exchange, StandIn

NOWHERE = "http://127.0.0.1:9"  # the port of `discard`, where nobody listens


def _nothing(project: Path) -> None:
    """The example needs no files."""


@dataclass(frozen=True)
class Example:
    """One call and how it must end.

    Args:
        action: which action.
        arguments: its arguments; paths are relative to the project folder.
        prepare: puts the files it needs into that folder.
        status: how it ends.
        error: the kind of error, when it must fail.
        exchanges: the requests it sends to the system, in order, and the answers.
        handles: trouble -> why this call ends otherwise in it than others do ("404": "what is gone is deleted").
    """

    action: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    prepare: Callable[[Path], None] = _nothing
    status: Status = Status.OK
    error: ErrorKind | None = None
    exchanges: tuple[Exchange, ...] = ()
    handles: Mapping[str, str] = field(default_factory=dict[str, str])


def contract_of(spec: Integration) -> types.ModuleType:
    return importlib.import_module(f"tools.integrations.{spec.name}.contract")


def examples_of(spec: Integration) -> tuple[Example, ...]:
    """What the integration ships to be tried."""
    examples: tuple[Example, ...] = getattr(contract_of(spec), "EXAMPLES", ())
    assert examples, f"tools/integrations/{spec.name}/contract.py has no EXAMPLES"
    return examples


def standin_of(spec: Integration) -> StandIn | None:
    """The stand-in of the system it reaches over HTTP; None where it reaches none."""
    return getattr(contract_of(spec), "STANDIN", None)


def unreachable_of(spec: Integration) -> Mapping[str, str]:
    """Settings that point to a server that does not exist; empty for an integration without one."""
    standin = standin_of(spec)
    derived = standin.settings_at(NOWHERE) if standin is not None else {}
    return getattr(contract_of(spec), "UNREACHABLE", derived)
