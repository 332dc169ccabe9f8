"""Keeps secrets out of the journal, reports, logs and tool results.

Two rules. Values of settings known to be secret (declared by a spec, or named like one in the environment) are replaced
wherever they occur, in every spelling (`credentials.spellings`); and text shaped like a credential is replaced whatever
its source.

A secret that could as well be an ordinary word (`production`, `12345`) is replaced only where it stands as a secret:
beside its name or a word such as `password`, in an address's `user:password@`, in an authorization header, as base64.
Anywhere else it stays: a record in which every `model: production` is blanked out is no record. `weak_secrets` names
such settings, so that a person chooses better ones.

Many a text is cut before it comes here: what is left of a secret (`MIN_CUT_CHARS` or more) is replaced beside an
ellipsis, and at either end of a text unless it reads like a name. Whoever cuts a text marks the cut with "…".
"""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tools.core.credentials import (
    SHAPES,
    encodings,
    is_name_like,
    is_secret_key,
    is_secret_name,
    is_word,
    lines,
    parts,
    secret_context,
    spellings,
)

__all__ = ["Redactor", "is_secret_name", "weak_secrets"]

_FLAGS = {"", "0", "1", "true", "false", "yes", "no", "on", "off", "none"}  # what a switch is set to, no secret


MIN_CUT_CHARS = 6  # of a secret that was cut; fewer are left
MAX_FOLDED_CHARS = 400  # of a secret that is looked for with line breaks in it; a longer one has lines of its own

_CUT = re.compile(r"\ufffd*(?:…|\.{3,}|\\u2026)\ufffd*")  # where a text was cut, maybe inside a character
_FOLD = r"(?:\\r)?(?:\\n)?[\r\n]{0,2}"


@dataclass(frozen=True)
class _Rule:
    """Tried where one of `hints` (in lower case) occurs. `in_keys`: a mapping's keys are changed too."""

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str
    in_keys: bool

    def apply(self, value: str) -> str:
        return self.pattern.sub(self.replacement, value)


@dataclass(frozen=True)
class _Whole:
    """A spelling of a secret, in lower case, is replaced whatever its case and wherever lines are broken in it."""

    form: str
    replacement: str
    in_keys: bool = True

    @property
    def hints(self) -> tuple[str, ...]:
        """Its ends: if a line breaks within one of them, the other is whole. Base64 breaks a long one more often."""
        size = MIN_CUT_CHARS
        more = (self.form[size : 2 * size],) if len(self.form) > 60 else ()
        return (self.form[:size], self.form[-size:], *more)

    def apply(self, value: str) -> str:
        fold = _FOLD if len(self.form) <= MAX_FOLDED_CHARS else ""
        pattern = fold.join(re.escape(char) for char in self.form) if fold else re.escape(self.form)
        return re.sub(pattern, lambda _: self.replacement, value, flags=re.IGNORECASE)


@dataclass(frozen=True)
class _Cut:
    """What a cut left of a spelling: its beginning before the cut, or its end (`is_end`) after it."""

    form: str
    replacement: str
    is_end: bool
    in_keys: bool = False

    @property
    def hints(self) -> tuple[str, ...]:
        return (self.form[-MIN_CUT_CHARS:] if self.is_end else self.form[:MIN_CUT_CHARS],)

    def apply(self, value: str) -> str:
        marks = list(_CUT.finditer(value))
        places = [0, *(mark.end() for mark in marks)] if self.is_end else [*(m.start() for m in marks), len(value)]
        found = [m.start() for m in re.finditer(f"(?={re.escape(self.hints[0])})", value, re.IGNORECASE)]
        # The longest first, where a secret repeats itself: a beginning by the first hint, an end by the last.
        spans: list[tuple[int, int]] = []
        for at in reversed(found) if self.is_end else found:
            start, end = self._around(value, at, places)
            if start < end and (not spans or end <= spans[-1][0] or start >= spans[-1][1]):
                spans.append((start, end))
        done, kept = 0, list[str]()
        for start, end in sorted(spans):
            kept += [value[done:start], self.replacement]
            done = end
        return "".join([*kept, value[done:]])

    def _around(self, value: str, at: int, places: list[int]) -> tuple[int, int]:
        """Start and end of what is left of the spelling whose hint is at `at`; both 0 where it is not beside a cut."""
        size, inner = len(self.form), at + MIN_CUT_CHARS
        if self.is_end:
            near = places[bisect_left(places, inner - size) : bisect_right(places, at)]
            spans = [(place, inner) for place in near]
        else:
            near = places[bisect_left(places, inner) : bisect_right(places, at + size)]
            spans = [(at, place) for place in reversed(near)]
        for start, end in spans:
            left = value[start:end]
            fits = self.form.endswith if self.is_end else self.form.startswith
            if fits(left.lower()) and not self._is_name(value, start, end):
                return start, end
        return 0, 0

    def _is_name(self, value: str, start: int, end: int) -> bool:
        """Whether it is a name of its own, at an end of the text that nothing says was cut."""
        is_bare, beyond = (start == 0, value[end : end + 1]) if self.is_end else (end == len(value), value[:start][-1:])
        left = value[start:end]
        if not is_bare or beyond.isalnum():
            return False
        return is_word(left) or (4 * len(left) < 3 * len(self.form) and is_name_like(left))


_AnyRule = _Rule | _Whole | _Cut


class Redactor:
    """Replaces secrets in text and in JSON-like data. Thread-safe: it has no state after construction."""

    def __init__(self, env: Mapping[str, str], secret_names: Iterable[str] = ()) -> None:
        strong, weak = _sorted_out(env, frozenset(secret_names))
        self._weak = {value.lower(): name for value, name in weak.items()}
        self._names = frozenset(name.lower() for name in weak.values())
        self._rules: list[_AnyRule] = []
        self._hints: dict[str, list[int]] = {}
        # Longest first, so that a secret that contains another is replaced whole.
        forms = [
            (form, f"[redacted:{name}]")
            for value, name in sorted(strong.items(), key=lambda item: -len(item[0]))
            for form in spellings(value)
        ]
        for form, shown in forms:
            self._add(_Whole(form, shown))
        for form, shown in forms:
            self._add(_Cut(form, shown, is_end=False))
            self._add(_Cut(form, shown, is_end=True))
        for value, name in sorted(weak.items(), key=lambda item: -len(item[0])):
            for form in encodings(value.encode("utf-8", "surrogatepass")) if len(value) >= 5 else ():
                if len(form) >= 8:
                    self._add(_Whole(form.lower(), f"[redacted:{name}]"))
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

    def _add(self, rule: _AnyRule) -> None:
        for hint in rule.hints:
            self._hints.setdefault(hint, []).append(len(self._rules))
        self._rules.append(rule)

    def _active(self, lowered: str) -> list[_AnyRule]:
        """The rules that may have something to replace, in order."""
        found = [numbers for hint, numbers in self._hints.items() if hint in lowered]
        return [self._rules[number] for number in sorted(set().union(*found))] if found else []

    def _apply(self, value: str, rules: list[_AnyRule], *, key: bool = False) -> str:
        lowered = value.lower()
        for rule in rules:
            if (rule.in_keys or not key) and any(hint in lowered for hint in rule.hints):
                value = rule.apply(value)
        return value

    def _clean(self, value: Any, rules: list[_AnyRule], hints: tuple[str, ...], key: str) -> Any:
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
        for line in lines(value) if secret else ():
            strong.setdefault(line, name)
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
