"""Reads a YAML file into a pydantic model, or says in one message everything that is wrong with it."""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class _UniqueKeys(yaml.SafeLoader):
    """A key given twice is an error: YAML would silently keep the last, and with it half of a policy."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag != "tag:yaml.org,2002:merge" and isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


class ConfigError(Exception):
    """A configuration file is missing, unreadable or wrong. The message names the file, the key and what is valid."""


def load_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: missing, unreadable or not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def load_yaml_model(path: Path, model: type[Model]) -> Model:
    """The content of a YAML file as `model`.

    Raises:
        ConfigError: as `load_yaml`, or a key that is unknown, missing or wrong.
    """
    return as_model(load_yaml(path), model, str(path))


def as_model(content: Any, model: type[Model], where: str) -> Model:
    """`content` as `model`; `where` names its origin in the error.

    Raises:
        ConfigError: names every wrong key, what was got and what is valid.
    """
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected a mapping with the keys {_keys(model)}, got {type(content).__name__}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(item, model) for item in error.errors())) from error


def _explain(item: Any, model: type[BaseModel]) -> str:
    location = ".".join(str(part) for part in item["loc"])
    match item["type"]:
        case "extra_forbidden":
            valid = _valid_keys_at(model, item["loc"][:-1])
            close = difflib.get_close_matches(str(item["loc"][-1]), valid, n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            return f"unknown key {location!r}{hint} (valid keys: {', '.join(valid)})"
        case "missing":
            return f"missing key {location!r}"
        case "value_error":  # a rule of ours; it says itself what was got
            message = str(item["msg"]).removeprefix("Value error, ")
            return f"{location}: {message}" if location else message
        case _:
            got = repr(item["input"])
            got = got if len(got) <= 80 else got[:79] + "…"
            return f"{location or 'content'}: {item['msg']} (got {got})"


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(_names(model))


def _names(model: type[BaseModel]) -> list[str]:
    """The keys as a file writes them."""
    return [info.alias or name for name, info in model.model_fields.items()]


def _valid_keys_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Field names of the model found by walking `location` from `model`."""
    current: type[BaseModel] = model
    for part in location:
        field = current.model_fields.get(str(part))
        nested = _model_in(field.annotation) if field is not None else None
        if nested is not None:
            current = nested
    return _names(current)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
