"""Results of tools as JSON, of which a test states only what matters to it."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from tools.core.contract import Data


def data_like(model: type[Data], **stated: Any) -> dict[str, Any]:
    """The data of a result as JSON: what is stated, and the plainest value of its type for every other field.

    Raises:
        ValidationError: what is stated is no field of the model, or not of its type.
    """
    plain = {name: _plainest(field.annotation) for name, field in model.model_fields.items() if field.is_required()}
    return model.model_validate({**plain, **stated}).model_dump(mode="json")


def _plainest(kind: Any) -> Any:
    """None where it may be, else what is empty or zero; the first of several words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if type(None) in parts else _plainest(parts[0])
    if origin is Literal:
        return parts[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: _plainest(field.annotation) for name, field in kind.model_fields.items() if field.is_required()}
    return (origin or kind)()
