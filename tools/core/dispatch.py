"""Runs one action of one integration: validate, check its paths, call the backend, translate every error once."""

import errno
import shutil
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from tools.core.arguments import ModelRole, PathRole, roles
from tools.core.contract import Action, Backend, CallContext, Integration
from tools.core.errors import (
    ErrorKind,
    FinalError,
    FixableError,
    MissingDependencyError,
    NoDataError,
    OutsideStoreError,
    RetryableError,
    ToolError,
    UnknownOutcomeError,
    in_words,
    short,
    shorten,
)
from tools.core.model_ref import parse_model_ref
from tools.core.results import ErrorInfo, Status, ToolResult
from tools.core.roots import Roots

MAX_MESSAGE_CHARS = 600
NO_SPACE_BYTES = 256 * 1024


def validate_arguments(action: Action, arguments: Mapping[str, Any]) -> Any:
    """The typed arguments.

    Raises:
        FixableError: names each wrong argument, what was got, and the valid arguments.
    """
    try:
        return action.args.model_validate(dict(arguments))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'arguments'}: {item['msg']} "
            f"(got {short(item['input'], 80)})"
            for item in error.errors(include_url=False)
        )
        valid = ", ".join(action.args.model_fields) or "none"
        raise FixableError(f"{action.name}: {problems}. Valid arguments: {valid}") from error


def check_paths(action: Action, arguments: BaseModel, roots: Roots) -> None:
    """Every path and every model among the arguments is one that a call may name.

    Args:
        arguments: as `validate_arguments` gives them.

    Raises:
        FixableError: names the argument, what was got, and what is valid.
    """
    for name, info in type(arguments).model_fields.items():
        for role in roles(info):
            given = getattr(arguments, name)
            for value in given if isinstance(given, list) else [given]:
                if value is None or value == "":  # left out; one that must be given is checked by its backend
                    continue
                try:
                    _check_value(value, role, roots)
                except FixableError as error:
                    raise FixableError(f"{action.name}: {name}: {error.message}") from error


def _check_value(value: str, role: PathRole | ModelRole, roots: Roots) -> None:
    if isinstance(role, ModelRole):
        parse_model_ref(value)
    elif role.use == "write":
        roots.write(role.path_in(value))
    else:
        roots.read(role.path_in(value))


def failure(error: ToolError) -> ToolResult:
    """The result that reports an error to its reader."""
    match error:
        case NoDataError():
            status = Status.NO_DATA
        case UnknownOutcomeError():
            status = Status.UNKNOWN
        case ToolError(kind=ErrorKind.DENIED):
            status = Status.DENIED
        case _:
            status = Status.FAILED
    message = shorten(error.message, MAX_MESSAGE_CHARS)
    wait_s = error.wait_s if isinstance(error, RetryableError) else None
    outside = error.model if isinstance(error, OutsideStoreError) else None
    return ToolResult(
        status=status,
        message=message,
        error=ErrorInfo(kind=error.kind, message=message, tried=error.tried, wait_s=wait_s, outside_model=outside),
    )


def run_action(
    spec: Integration, backend: Backend, name: str, arguments: Mapping[str, Any], ctx: CallContext
) -> ToolResult:
    """Run one action in this thread. Never raises but for cancellation: every failure is a result."""
    try:
        action = spec.action(name)
        args = validate_arguments(action, arguments)
        check_paths(action, args, ctx.roots)
        outcome = getattr(backend, action.name)(args, ctx)
        if not isinstance(outcome, action.result):
            raise TypeError(f"{spec.name}.{name} returned {type(outcome).__name__}, not {action.result.__name__}")
        data = outcome.model_dump(mode="json")
        return ToolResult(status=Status.OK, message=str(data.get("message") or ""), data=data)
    except ToolError as error:
        return failure(error)
    except Exception as error:  # noqa: BLE001 - the boundary: a library's error becomes a result here, once
        if _disk_is_full(error, ctx):
            return failure(FinalError(f"no space left on the disk that holds {ctx.home}; {spec.title} {name} stopped"))
        return failure(translate(spec, name, error))


def _disk_is_full(error: BaseException | None, ctx: CallContext) -> bool:
    """Whether the error comes of a full disk; libraries (SQLite, for one) often say no more than "I/O error"."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return True
        error = error.__cause__ or error.__context__
    try:
        return shutil.disk_usage(ctx.home).free < NO_SPACE_BYTES
    except OSError:
        return False


def translate(spec: Integration, action: str, error: Exception) -> ToolError:
    """A library's exception as one of ours, in words."""
    if isinstance(error, ModuleNotFoundError):
        return MissingDependencyError(
            f"{spec.title} needs the module {error.name}, which is not installed; run: {spec.install_command()}",
            tried="the installed packages of this environment",
        )
    return FinalError(shorten(f"{spec.title} {action} failed: {in_words(error)}", MAX_MESSAGE_CHARS))
