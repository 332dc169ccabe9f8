"""Keeps secrets out of the journal, reports, logs and tool results.

Two rules. Values of settings known to be secret (declared by a spec, or named like one in the environment) are replaced
wherever they occur, in every spelling (`credentials.spellings`); and text shaped like a credential is replaced whatever
its source.

A secret that could as well be an ordinary word (`production`, `12345`) is replaced only where it stands as a secret:
beside its name or a word such as `password`, in an address's `user:password@`, in an authorization header, as base64.
Anywhere else it stays: a record in which every `model: production` is blanked out is no record. `weak_secrets` names
such settings, so that a person chooses better ones.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tools.core.credentials import (
    SHAPES,
    encodings,
    is_secret_key,
    is_secret_name,
    is_word,
    parts,
    secret_context,
    spellings,
)

__all__ = ["Redactor", "is_secret_name", "weak_secrets"]

_FLAGS = {"", "0", "1", "true", "false", "yes", "no", "on", "off", "none"}  # what a switch is set to, no secret


@dataclass(frozen=True)
class _Rule:
    """One replacement, tried where one of `hints` (in lower case) occurs. Without a pattern it is the hint itself that
    is replaced, whatever its case. `in_keys`: a mapping's keys are changed too."""

    hints: tuple[str, ...]
    pattern: re.Pattern[str] | None
    replacement: str
    in_keys: bool

    def apply(self, value: str) -> str:
        if self.pattern is not None:
            return self.pattern.sub(self.replacement, value)
        return re.sub(re.escape(self.hints[0]), lambda _: self.replacement, value, flags=re.IGNORECASE)


class Redactor:
    """Replaces secrets in text and in JSON-like data. Thread-safe: it has no state after construction."""

    def __init__(self, env: Mapping[str, str], secret_names: Iterable[str] = ()) -> None:
        strong, weak = _sorted_out(env, frozenset(secret_names))
        self._weak = {value.lower(): name for value, name in weak.items()}
        self._names = frozenset(name.lower() for name in weak.values())
        self._rules: list[_Rule] = []
        self._hints: list[tuple[str, int]] = []
        # Longest first, so that a secret that contains another is replaced whole.
        for value, name in sorted(strong.items(), key=lambda item: -len(item[0])):
            for form in spellings(value):
                self._add(_Rule((form,), None, f"[redacted:{name}]", in_keys=True))
        for value, name in sorted(weak.items(), key=lambda item: -len(item[0])):
            for form in encodings(value.encode("utf-8", "surrogatepass")) if len(value) >= 5 else ():
                if len(form) >= 8:
                    self._add(_Rule((form.lower(),), None, f"[redacted:{name}]", in_keys=True))
            for pattern in secret_context(name, value):
                self._add(_Rule((value.lower(),), pattern, rf"\1[redacted:{name}]", in_keys=False))
        for shape in SHAPES:
            self._add(_Rule(shape.hints, shape.pattern, shape.replacement, in_keys=shape.certain))

    def text(self, value: str) -> str:
        """`value` without secrets."""
        return self._apply(value, self._active(value.lower()))

    def data(self, value: Any) -> Any:
        """A copy of `value` as JSON, without secrets. What JSON cannot hold becomes text.

        Keys of mappings stay as they are but for those that hold a secret that is no word.
        """
        strings: list[str] = []
        copied = _plain(value, strings)
        # All texts at once: most data hold nothing that is even near a secret.
        active = self._active("\n".join(strings).lower())
        if not active:
            return copied
        return self._clean(copied, active, tuple({hint for rule in active for hint in rule.hints}), "")

    def _add(self, rule: _Rule) -> None:
        self._rules.append(rule)
        self._hints.extend((hint, len(self._rules) - 1) for hint in rule.hints)

    def _active(self, lowered: str) -> list[_Rule]:
        """The rules that may have something to replace, in order."""
        found = [rule for hint, rule in self._hints if hint in lowered]
        return [self._rules[number] for number in sorted(set(found))] if found else []

    def _apply(self, value: str, rules: list[_Rule], *, key: bool = False) -> str:
        lowered = value.lower()
        for rule in rules:
            if (rule.in_keys or not key) and any(hint in lowered for hint in rule.hints):
                value = rule.apply(value)
        return value

    def _clean(self, value: Any, rules: list[_Rule], hints: tuple[str, ...], key: str) -> Any:
        """`value` with the rules applied; `hints` are those of the rules. `key` is that of the mapping it is in."""
        if isinstance(value, str):
            lowered = value.lower()
            for hint in hints:
                if hint in lowered:
                    break
            else:
                return value
            name = self._weak.get(lowered)
            if name is not None and (is_secret_key(key) or key.lower() in self._names):
                return f"[redacted:{name}]"
            return self._apply(value, rules)
        if isinstance(value, dict):
            cleaned: dict[str, Any] = {}
            keys = "\n".join(value).lower()
            in_keys = [rule for rule in rules if any(hint in keys for hint in rule.hints)]
            for old, item in value.items():
                new = self._apply(old, in_keys, key=True) if in_keys else old
                while new != old and new in cleaned:
                    new += "'"  # two keys that held a secret stay two
                cleaned[new] = self._clean(item, rules, hints, old)
            return cleaned
        if isinstance(value, list):
            return [self._clean(item, rules, hints, key) for item in value]
        return value


def weak_secrets(env: Mapping[str, str], secret_names: Iterable[str] = ()) -> list[str]:
    """Names of the settings whose secret could as well be a word, and is hidden only where it stands as a secret."""
    return sorted(set(_sorted_out(env, frozenset(secret_names))[1].values()))


def _sorted_out(env: Mapping[str, str], declared: frozenset[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Secret values and the settings that hold them: those that are replaced everywhere, and those that are words."""
    strong: dict[str, str] = {}
    weak: dict[str, str] = {}
    for name, value in env.items():
        secret = name in declared or is_secret_name(name)
        for found in (*((value.strip(),) if secret else ()), *parts(value)):
            if found:
                (weak if is_word(found) else strong).setdefault(found, name)
    # A user's name that is a word is no weak secret: it is a name.
    return strong, {
        value: name
        for value, name in weak.items()
        if value.lower() not in _FLAGS and (name in declared or not name.upper().endswith("_USERNAME"))
    }


def _plain(value: Any, strings: list[str]) -> Any:
    """A copy as JSON; every text and key of it is added to `strings`."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_text(key, strings): _plain(item, strings) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, strings) for item in value]
    return _text(value, strings)


def _text(value: Any, strings: list[str]) -> str:
    text = value if type(value) is str else str(value)
    strings.append(text)
    return text
