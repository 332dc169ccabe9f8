"""What a verdict is of, as hashes: the models, the rows, the evidence. What acts on a verdict compares them."""

from dataclasses import dataclass
from pathlib import Path

from tools.core.errors import FixableError


@dataclass(frozen=True)
class Scored:
    """What a file of scores is of; None: it does not say (scores that another tool made)."""

    model: str | None
    rows: str | None


@dataclass(frozen=True)
class Answered:
    """Which models answered the requests of an evidence file, and the file itself."""

    champion: str | None
    challenger: str | None
    evidence: str


def scored(path: Path) -> Scored:
    """The hashes that a file of scores carries."""
    from tools.modeling.data import MODEL_DIGEST, ROWS_DIGEST, read_table

    attributes = read_table(path).attrs
    return Scored(*(str(attributes[key]) if key in attributes else None for key in (MODEL_DIGEST, ROWS_DIGEST)))


def answered(path: Path) -> Answered:
    """The hashes of an evidence file.

    Raises:
        FixableError: its requests were answered by more than two models.
    """
    from tools.modeling.data import file_digest, read_table

    digest = file_digest(path)
    frame = read_table(path)
    found: list[str | None] = []
    for role in ("champion", "challenger"):
        column = f"{role}_digest"
        names = sorted(set(frame[column].dropna().astype(str))) if column in frame.columns else []
        if len(names) > 1:
            raise FixableError(f"{path.name}: {len(names)} different models answered as {role}; judge one at a time")
        found.append(names[0] if names else None)
    return Answered(found[0], found[1], digest)
