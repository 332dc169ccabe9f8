"""Writes what is too long for an answer: every column's test, a canary's course, a forecast's."""

from pathlib import Path
from typing import Any

from tools.core.contract import Args, CallContext
from tools.core.files import write_json


def details_path(name: str, args: Args, ctx: CallContext, *, suffix: str = "json") -> Path:
    """A file in the run's folder whose name depends on the question only, so repeating it overwrites it."""
    return ctx.workspace / f"{name}_{args.question_digest()}.{suffix}"


def write_details(name: str, content: dict[str, Any], args: Args, ctx: CallContext) -> str:
    """Write JSON at `details_path` and return the path as it is shown."""
    path = details_path(name, args, ctx)
    write_json(path, content)
    return ctx.show(path)
