"""How an argument of an action is declared: who fills it in, and what kind of thing it names.

Every argument of every action says one of two things in its `Annotated`:

- `Bound("goal.metric")`: it decides what code runs, what is opened or what counts as good enough. The gateway fills it
  in, from the goal (by that name) or, where the name is empty, from the grant of the task under way. A model does not
  see it; a value that differs is refused.
- `Free("why it may be")`: the caller's to choose, with the reason why that is harmless.

The kinds `ReadPath`, `WritePath` and `ModelRef` are checked wherever they occur, also inside lists.
"""

import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Bound:
    """Filled in by the gateway.

    Args:
        name: of the value among those that the goal binds (`goal.target`); empty: the task's grant binds it.
    """

    name: str = ""


@dataclass(frozen=True)
class Free:
    """The caller's to choose.

    Args:
        reason: why no value of it can run code, open something or change what counts as good enough.
    """

    reason: str


@dataclass(frozen=True)
class PathRole:
    """The argument is a path in this machine's file system.

    Args:
        before: where the value says more than a path (`FILE:COLUMN`), what stands between the two (`split_column`).
    """

    use: Literal["read", "write"]
    before: str = ""

    def path_in(self, value: str) -> str:
        """The path that a value holds."""
        return split_column(value, self.before)[0] if self.before and self.before in value else value


_TABLE_END = re.compile(r"\.(?:parquet|pq|csv|tsv)(?:\.\w+)?(?=:)", re.IGNORECASE)


def split_column(value: str, mark: str = ":") -> tuple[str, str]:
    """The file and the column of `FILE:COLUMN`. A column may have any name, also one with the mark in it: the file ends
    with the first mark after the end of a table's name, else with the last mark."""
    found = _TABLE_END.search(value) if mark == ":" else None
    if found is not None:
        return value[: found.end()], value[found.end() + 1 :]
    file, _, column = value.rpartition(mark)
    return file, column


@dataclass(frozen=True)
class ModelRole:
    """The argument names a model of the configured store."""


ReadPath = Annotated[str, PathRole("read")]
WritePath = Annotated[str, PathRole("write")]
FileAndColumn = Annotated[str, PathRole("read", before=":")]
ModelRef = Annotated[str, ModelRole()]

# What most actions share, bound to the goal.
Target = Annotated[str, Bound("goal.target")]
Task = Annotated[Literal["binary", "multiclass", "regression"], Bound("goal.task")]
Metric = Annotated[str, Bound("goal.metric")]
Drop = Annotated[list[str], Bound("goal.drop")]
Seed = Annotated[int, Bound("goal.seed")]
Positive = Annotated[str, Bound("goal.positive")]
ModelName = Annotated[str, Bound("goal.model")]

Declared = Bound | Free


def declared(info: FieldInfo) -> Declared | None:
    """What a field says of who fills it in; None where it says nothing."""
    return next((item for item in info.metadata if isinstance(item, Bound | Free)), None)


def bound_arguments(args: type[BaseModel]) -> dict[str, Bound]:
    """Argument name -> how it is bound, for those that the gateway fills in."""
    found = {name: declared(info) for name, info in args.model_fields.items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, Bound)}


def roles(info: FieldInfo) -> Iterator[PathRole | ModelRole]:
    """The kinds of thing that a field's values name, also where they stand in a list or beside None."""
    yield from (item for item in info.metadata if isinstance(item, PathRole | ModelRole))
    yield from _inside(info.annotation)


def _inside(annotation: Any) -> Iterator[PathRole | ModelRole]:
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        yield from (item for item in metadata if isinstance(item, PathRole | ModelRole))
        yield from _inside(inner)
    elif get_origin(annotation) is not typing.Literal:
        for part in get_args(annotation):
            yield from _inside(part)
