"""Keeps secrets out of the journal, reports, logs and tool results.

Two rules: values of settings known to be secret (declared by a spec, or named like one in the environment) are
replaced wherever they occur; and text shaped like a credential is replaced whatever its source.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

MIN_SECRET_CHARS = 6  # shorter values ("true", "1234") would blank out ordinary text

_SECRET_NAME = re.compile(
    r"(?:(?:^|_|API)KEY|(?:^|_)DSN|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:_|$)", re.IGNORECASE
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # With a digit or 20 characters: "basic statistics" is prose.
    (
        re.compile(r"(?i)\b(bearer|basic)\s+(?:(?=[A-Za-z._~+/=-]*\d)[\w.~+/=-]{8,}|[\w.~+/=-]{20,})"),
        r"\1 [redacted]",
    ),
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s:@]*:[^/\s@]+@"), r"\1[redacted]@"),
    # With a digit: `pk_customer_identifier` is a column.
    (
        re.compile(
            r"\b(?:sk|pk|ghp|gho|ghs|github_pat|glpat|xox[abpors]|hf|wandb_v1)[-_](?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}"
        ),
        "[redacted]",
    ),
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), "[redacted]"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), "[redacted]"),
)
# Most text holds none of these, and one search is cheaper than all the patterns above.
_HINT = re.compile(r"(?i)bearer|basic|://|AKIA|-----BEGIN|[a-z0-9][-_][a-z0-9_-]{16}")


def is_secret_name(name: str) -> bool:
    """Whether an environment variable's name says that it holds a secret."""
    return bool(_SECRET_NAME.search(name))


class Redactor:
    """Replaces secrets in text and in JSON-like data. Thread-safe: it has no state after construction."""

    def __init__(self, env: Mapping[str, str], secret_names: Iterable[str] = ()) -> None:
        declared = set(secret_names)
        found = {
            value: name
            for name, value in env.items()
            if value and len(value) >= MIN_SECRET_CHARS and (name in declared or is_secret_name(name))
        }
        # Longest first, so that a secret that contains another is replaced whole.
        self._values = sorted(found.items(), key=lambda item: -len(item[0]))

    def text(self, value: str) -> str:
        """`value` without secrets."""
        for secret, name in self._values:
            if secret in value:
                value = value.replace(secret, f"[redacted:{name}]")
        if _HINT.search(value):
            for pattern, replacement in _SHAPES:
                value = pattern.sub(replacement, value)
        return value

    def data(self, value: Any) -> Any:
        """A copy of `value` as JSON, without secrets, keys included. What JSON cannot hold becomes text."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.data(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.data(item) for item in value]
        return self.text(str(value))
