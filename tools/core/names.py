"""Names that become file names (of runs, studies, tests, data sets, projects), by one rule; and names of secrets."""

import re
from typing import Annotated

from pydantic import AfterValidator

MAX_NAME_CHARS = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
RULE = f"letters, digits, '.', '_' and '-', starting with a letter or digit, without '..', at most {MAX_NAME_CHARS}"


def is_name(value: str) -> bool:
    """Whether the value may be part of a file's name."""
    return len(value) <= MAX_NAME_CHARS and _NAME.fullmatch(value) is not None and ".." not in value


def check_name(value: str) -> str:
    """The value, if it may be part of a file's name; pydantic turns the ValueError into a message."""
    if not is_name(value):
        raise ValueError(f"is no name; valid: {RULE}")
    return value


def check_name_or_empty(value: str) -> str:
    """As `check_name`; empty where the name may be left out."""
    return value and check_name(value)


Name = Annotated[str, AfterValidator(check_name)]
NameOrEmpty = Annotated[str, AfterValidator(check_name_or_empty)]

_SECRET = re.compile(
    r"""\.env.*|.*\.env|.*\.(?:pem|key|p12|pfx|jks|keystore|kdbx|ppk|gpg)
    |id_(?:rsa|dsa|ecdsa|ed25519)\b.*|[._]?netrc|\.?htpasswd|kubeconfig.*|known_hosts|authorized_keys
    |(?:.*[_-])?credentials?(?:\.\w+)?|client_secrets?.*|secrets?\.(?:ya?ml|json|toml|ini|txt)|service[_-]account.*\.json""",
    re.IGNORECASE | re.VERBOSE,
)


def is_secret_file(name: str) -> bool:
    """Whether a file's name says that it holds a secret."""
    return _SECRET.fullmatch(name) is not None
