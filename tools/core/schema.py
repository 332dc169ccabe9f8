"""The JSON schema of an action's arguments, as short as it can be while every parameter is described.

Models pay for each token of a definition on each request, so what pydantic adds and no model needs is left out:
titles, `null` alternatives with `default: null`, and the object's own description. Results keep their nulls: clients
validate against the output schema.
"""

import copy
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel

from tools.core.arguments import bound_arguments
from tools.core.contract import PARAM_LIMIT, Action
from tools.core.results import ErrorInfo, Status


def input_schema(action: Action) -> dict[str, Any]:
    """JSON schema of the arguments."""
    schema = _without_nulls(compact(action.args.model_json_schema()))
    schema.pop("description", None)
    schema.pop("additionalProperties", None)
    schema.setdefault("properties", {})
    return schema


def output_schema(action: Action) -> dict[str, Any]:
    """JSON schema of the envelope (`ToolResult`) around the action's typed data."""
    data = compact(action.result.model_json_schema())
    definitions = data.pop("$defs", {})
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "status": {"enum": [status.value for status in Status]},
            "message": {"type": "string"},
            "data": {"anyOf": [data, {"type": "null"}]},
            "error": {"anyOf": [compact(ErrorInfo.model_json_schema()), {"type": "null"}]},
            "call_id": {"type": "string"},
        },
        "required": ["status"],
    }
    error_definitions = schema["properties"]["error"]["anyOf"][0].pop("$defs", {})
    if definitions or error_definitions:
        schema["$defs"] = {**error_definitions, **definitions}
    return schema


def compact(node: Any) -> Any:
    """Without titles and what is there for the policy only."""
    if isinstance(node, list):
        return [compact(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        # The keys of these two are names, not schema keywords: a parameter may be called `title`.
        key: {name: compact(member) for name, member in value.items()}
        if key in ("properties", "$defs")
        else compact(value)
        for key, value in node.items()
        if key not in ("title", PARAM_LIMIT)
    }


def _without_nulls(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments may be left out; that they may be null too is not worth its tokens (the gateway drops nulls)."""
    return {**schema, "properties": {name: _not_null(member) for name, member in schema.get("properties", {}).items()}}


def _not_null(member: dict[str, Any]) -> dict[str, Any]:
    options = member.get("anyOf", [])
    real = [option for option in options if option != {"type": "null"}]
    if len(real) != 1 or len(real) == len(options):
        return member
    kept = {**real[0], **{key: value for key, value in member.items() if key != "anyOf"}}
    if kept.get("default", 0) is None:
        del kept["default"]
    return kept


def agent_schema(action: Action, stated: Collection[str] | None) -> dict[str, Any]:
    """The arguments that a model is to fill in: the free ones, and of the bound ones those it must state.

    Args:
        stated: bound arguments that a grant leaves a choice for; None shows every argument.
    """
    schema = input_schema(action)
    if stated is None:
        return schema
    hidden = bound_arguments(action.args).keys() - set(stated)
    shown = {name: member for name, member in schema["properties"].items() if name not in hidden}
    required = [name for name in schema.get("required", ()) if name not in hidden]
    required += [name for name in stated if name in shown and name not in required and name in _needed(action)]
    return {"type": "object", "properties": shown, **({"required": required} if required else {})}


def _needed(action: Action) -> frozenset[str]:
    return frozenset(name for name, info in action.args.model_fields.items() if info.is_required())


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


def agent_tool_name(integration: str, action: str) -> str:
    """How agents and outside clients name an action: unique over all integrations."""
    return f"{integration}_{action}"
