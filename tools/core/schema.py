"""The JSON schema of an action's arguments, as short as it can be while every parameter is described.

Models pay for each token of a definition on each request, so what pydantic adds and no model needs is left out:
titles, `null` alternatives with `default: null`, and the object's own description.
"""

import copy
from typing import Any

from pydantic import BaseModel

from tools.core.contract import PARAM_LIMIT, Action
from tools.core.results import ErrorInfo, Status


def input_schema(action: Action) -> dict[str, Any]:
    """JSON schema of the arguments."""
    schema = _compact(action.args.model_json_schema())
    schema.pop("description", None)
    schema.pop("additionalProperties", None)
    schema.setdefault("properties", {})
    return schema


def output_schema(action: Action) -> dict[str, Any]:
    """JSON schema of the envelope (`ToolResult`) around the action's typed data."""
    data = _compact(action.result.model_json_schema())
    definitions = data.pop("$defs", {})
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "status": {"enum": [status.value for status in Status]},
            "message": {"type": "string"},
            "data": {"anyOf": [data, {"type": "null"}]},
            "error": {"anyOf": [_compact(ErrorInfo.model_json_schema()), {"type": "null"}]},
            "call_id": {"type": "string"},
        },
        "required": ["status"],
    }
    error_definitions = schema["properties"]["error"]["anyOf"][0].pop("$defs", {})
    if definitions or error_definitions:
        schema["$defs"] = {**error_definitions, **definitions}
    return schema


def _compact(node: Any) -> Any:
    if isinstance(node, list):
        return [_compact(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: (_named(value) if key in ("properties", "$defs") else _compact(value))
        for key, value in node.items()
        if key not in ("title", PARAM_LIMIT)
    }
    options = kept.get("anyOf")
    if isinstance(options, list):
        real = [option for option in options if option != {"type": "null"}]
        if len(real) == 1 and len(real) < len(options) and isinstance(real[0], dict):
            del kept["anyOf"]
            kept = {**real[0], **kept}
            if kept.get("default", 0) is None:
                del kept["default"]
    return kept


def _named(members: Any) -> Any:
    """Members of a mapping whose keys are names, not schema keywords (a parameter may be called `title`)."""
    return {name: _compact(value) for name, value in members.items()}


def model_of(action: Action) -> type[BaseModel]:
    """An action's arguments as CrewAI's `args_schema`; see `schema_model`."""
    return schema_model(action.name, input_schema(action))


def schema_model(name: str, schema: dict[str, Any]) -> type[BaseModel]:
    """A model that shows `schema` and validates nothing.

    The gateway validates, so that a wrong call is journalled and answered like any other; CrewAI would otherwise
    answer it itself, out of the journal's sight.
    """

    def model_json_schema(cls: type[BaseModel], *_: Any, **__: Any) -> dict[str, Any]:
        return copy.deepcopy(schema)

    return type(
        f"{name}_arguments", (BaseModel,), {"__module__": __name__, "model_json_schema": classmethod(model_json_schema)}
    )
