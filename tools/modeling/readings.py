"""How the answers of each model are read, kept in the state folder by the digest of its files.

It is found out once, on the reference data, and stands then for everything that asks the model: evaluation, explanation
and the serving engine, which sees one row at a time and could not find it out.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tools.core.files import read_private, write_private
from tools.modeling.data import as_text
from tools.modeling.output import AS_IT_IS, Asked, OutputReading

FOLDER = "readings"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Kept(BaseModel):
    """A reading, and what was asked when it was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    asked: Asked
    reading: OutputReading


def keep(home: Path, digest: str, target: str, asked: Asked, reading: OutputReading) -> None:
    """Keep how a model's answers are read."""
    kept = Kept(target=target, asked=asked, reading=reading)
    write_private(home / FOLDER / f"{digest}.json", kept.model_dump_json(indent=1))


def kept_reading(home: Path, digest: str) -> OutputReading:
    """How a model's answers are read; as the model itself says, where nothing was found out."""
    found = _kept(home, digest)
    return AS_IT_IS if found is None else found.reading


def fitting(home: Path, digest: str, target: str, asked: Asked) -> OutputReading | None:
    """The reading that was found for the same question; None: there is none, or the labels are others now."""
    found = _kept(home, digest)
    if found is None or found.target != target:
        return None
    if found.asked.model_copy(update={"labels": []}) != asked.model_copy(update={"labels": []}):
        return None
    return found.reading if _same_labels(found.reading.classes, asked.labels, asked.task) else None


def _same_labels(classes: Sequence[Any], labels: Sequence[Any], task: str) -> bool:
    known, here = set(as_text(list(classes))), set(as_text(list(labels)))
    if task == "regression" or not here:
        return True
    return here <= known if task == "binary" else bool(here & known)


def _kept(home: Path, digest: str) -> Kept | None:
    if not _DIGEST.fullmatch(digest):
        return None
    try:
        return Kept.model_validate_json(read_private(home / FOLDER / f"{digest}.json"))
    except (FileNotFoundError, ValidationError):  # of another version: it is found out anew
        return None
