"""What a write declares so that it happens once, also where the process that makes it is killed. Pure.

- `key`: the arguments that make a repetition the same write. The gateway makes an idempotency key of them, which the
  backend finds as `ctx.idempotency_key` and may pass on.
- `ReadBack`: the read that tells whether the write happened. After a crash, or a lost answer, it is asked before
  anything is repeated.
- `Undo`: the call that takes the write back.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Facts = Mapping[str, Any]
KEY_CHARS = 20
# A key of its own for every call: two calls with equal arguments are two writes. Made again by a resumed run, a call
# keeps its id, and so its key.
EACH_CALL = ("call_id",)


def no_arguments(_: Facts) -> dict[str, Any]:
    """The read takes none."""
    return {}


@dataclass(frozen=True)
class ReadBack:
    """How it is found out whether a write happened.

    Args:
        action: a read of the same integration.
        happened: of (the write's arguments, the read's data, what the same read said before the write). The data is
            None where the read found nothing at all, what was before is None where nobody had looked. True: it
            happened, and nothing of it is missing; False: it may be made (again) under its key; None: the read does
            not tell, and a person must look.
        result: of (the write's arguments, the read's data): the data that the write would have returned. Asked only
            where it happened.
        arguments: of the write's arguments: those of the read.
        state: names of the read's values that are the state which the write changes: what a person approves holds for
            these; none: all but messages and measured times.
    """

    action: str
    happened: Callable[[Facts, Facts | None, Facts | None], bool | None]
    result: Callable[[Facts, Facts], dict[str, Any]]
    arguments: Callable[[Facts], dict[str, Any]] = no_arguments
    state: tuple[str, ...] = ()


@dataclass(frozen=True)
class Undo:
    """How a write is taken back.

    Args:
        action: of the same integration.
        arguments: of (the write's arguments, its data, what its `ReadBack` said before it): those of the action; None
            where they are not known, so that a person must see to it.
    """

    action: str
    arguments: Callable[[Facts, Facts | None, Facts | None], dict[str, Any] | None]


def idempotency_key(run_id: str, call_id: str, name: str, arguments: Facts, key: tuple[str, ...]) -> str:
    """The key of a write in a run: the same for a repetition, another one for everything else.

    Args:
        name: `integration.action`.
        key: names of the arguments that make a repetition the same write; none: all of them; or `EACH_CALL`.
    """
    values: Any = call_id if key == EACH_CALL else [[item, arguments.get(item)] for item in key or sorted(arguments)]
    told = json.dumps([run_id, name, values], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:KEY_CHARS]


def passed(arguments: Facts, names: Iterable[str]) -> dict[str, Any]:
    """Those of the arguments that have these names and are given."""
    return {name: arguments[name] for name in names if arguments.get(name) is not None}
