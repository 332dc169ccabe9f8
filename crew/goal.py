"""Reads a goal file, and the model settings of the environment."""

import os
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.goal import Goal
from tools.core.yamlfile import ConfigError, load_yaml_model

DEFAULT_MODEL_TIMEOUT_S = 60.0


PATHS = ("reference", "current", "source", "suite")


def load_goal(path: Path, env: Mapping[str, str] = os.environ) -> Goal:
    """The goal in a file; `$NAME` in its data paths is replaced from `env`.

    Raises:
        ConfigError: missing or wrong; names the key and what is valid.
    """
    goal = load_yaml_model(path, Goal)
    expanded: dict[str, str] = {}
    for key in PATHS:
        try:
            expanded[key] = string.Template(getattr(goal.data, key)).substitute(env)
        except KeyError as error:
            name = error.args[0]
            raise ConfigError(
                f"{path}: data.{key} refers to ${name}, which is not in the environment or .env"
            ) from None
        except ValueError as error:
            raise ConfigError(f"{path}: data.{key}: {error} (write $$ for a dollar sign)") from None
    return goal.model_copy(update={"data": goal.data.model_copy(update=expanded)})


@dataclass(frozen=True)
class ModelSettings:
    """Which model reasons, where it is reached, and what it costs. `name` None: runbook mode.

    `price_per_mtok`: US dollars per million prompt and completion tokens; `context_tokens`: how much the model reads at
    once; both None when not set.
    """

    name: str | None
    base_url: str | None
    api_key: str | None
    timeout_s: float
    price_per_mtok: tuple[float, float] | None
    context_tokens: int | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "ModelSettings":
        """Read `MODEL` and the variables that begin with `MODEL_`, as docs/models.md lists them.

        Raises:
            ConfigError: a number that is none.
        """
        price_in, price_out = _number(env, "MODEL_PRICE_IN"), _number(env, "MODEL_PRICE_OUT")
        return cls(
            name=env.get("MODEL") or None,
            base_url=env.get("MODEL_BASE_URL") or env.get("OPENAI_BASE_URL") or env.get("OPENAI_API_BASE") or None,
            api_key=env.get("MODEL_API_KEY") or None,
            timeout_s=_number(env, "MODEL_TIMEOUT_S") or DEFAULT_MODEL_TIMEOUT_S,
            price_per_mtok=(price_in, price_out) if price_in is not None and price_out is not None else None,
            context_tokens=int(_number(env, "MODEL_CONTEXT") or 0) or None,
        )

    @property
    def note(self) -> str:
        """One line on who thinks in this run."""
        if self.name is None:
            return "Runbook mode: no model is configured (MODEL is not set), so every task follows its runbook."
        where = f" at {self.base_url}" if self.base_url else ""
        return f"LLM mode: {self.name}{where} reasons; a task it cannot finish is finished by its runbook."


def _number(env: Mapping[str, str], name: str) -> float | None:
    text = env.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value < 0:
        raise ConfigError(f"{name} must be a number that is not negative, got {text!r}")
    return value
