"""The libraries that a model was logged with, beside those that are here."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PINNED = re.compile(r"^\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([0-9][^\s;#]*)", re.MULTILINE)
# What a model is not made of.
AROUND = {"mlflow", "mlflow-skinny", "packaging", "pyyaml", "cloudpickle", "typing-extensions", "psutil"}
SHOWN = 4


def other_versions(folder: Path) -> str:
    """The libraries of a logged model whose first two numbers differ here, in words; empty where none does.

    Args:
        folder: the model's files; its `requirements.txt` says what it was logged with.
    """
    try:
        text = (folder / "requirements.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""  # older models have none
    found: list[str] = []
    for name, then in PINNED.findall(text):
        if name.lower() in AROUND:
            continue
        try:
            now = version(name)
        except PackageNotFoundError:
            found.append(f"{name} {then} (not installed here)")
            continue
        if then.split(".")[:2] != now.split(".")[:2]:
            found.append(f"{name} {then} (here {now})")
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
