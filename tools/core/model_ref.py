"""The one form in which a call may name a model: one of the configured store. Syntax only; nothing is looked up."""

import re
from dataclasses import dataclass

from tools.core.errors import FixableError, shorten

MAX_CHARS = 300
_NAME = r"[^\W_][\w .()+-]{0,199}"
_FORMS = (
    re.compile(r"models:/(?P<logged>m-[0-9a-f]{32})"),
    re.compile(rf"models:/(?P<name>{_NAME})/(?P<version>[1-9]\d{{0,8}})"),
    re.compile(rf"models:/(?P<name>{_NAME})@(?P<alias>{_NAME})"),
    re.compile(r"runs:/(?P<run>[0-9a-f]{32})/(?P<path>[A-Za-z0-9][\w .-]*(?:/[A-Za-z0-9][\w .-]*)*)"),
)
VALID = "models:/NAME/VERSION, models:/NAME@ALIAS, models:/m-ID (as train_model returns), or runs:/RUN_ID/NAME"


@dataclass(frozen=True)
class ModelAddress:
    """A model of the configured store: `logged`, or `name` with `version` or `alias`, or `run` with `path`."""

    text: str
    logged: str | None = None
    name: str | None = None
    version: str | None = None
    alias: str | None = None
    run: str | None = None
    path: str | None = None


def parse_model_ref(value: str) -> ModelAddress:
    """The parts of a model's address.

    Raises:
        FixableError: a path, an address of another kind or host, or no address at all; names the valid forms.
    """
    if len(value) <= MAX_CHARS:
        for form in _FORMS:
            if found := form.fullmatch(value):
                return ModelAddress(value, **found.groupdict())
    shown = shorten(value, 80)
    raise FixableError(
        f"{shown!r} names no model of the configured store; valid: {VALID}. "
        "Models are never loaded from a path or another address"
    )
