"""What is too good to be true, or looks broken, and stops a promotion unless the goal accepts it (`data.accept`).

Light: no table library."""

from collections.abc import Iterable

KINDS: dict[str, str] = {
    "leak": "a column that tells the label; leak:COLUMN for one column",
    "shared_rows": "rows that are in the reference and in the current data",
    "perfect_score": "a model without errors on rows that it has not seen",
    "target_unit": "a target that looks as if its unit changed",
    "target_filler": "one value that suddenly fills many targets",
    "biased_quarantine": "bad rows set aside although that removes a class or shifts the labels",
}


def check_accepted(names: Iterable[str]) -> list[str]:
    """The names as they are.

    Raises:
        ValueError: one is none of `KINDS`; names those.
    """
    names = list(names)
    for name in names:
        kind, mark, column = name.partition(":")
        if kind not in KINDS or (mark and not (kind == "leak" and column)):
            raise ValueError(f"{name!r} cannot be accepted; valid: {', '.join(KINDS)}, leak:COLUMN")
    return names


def is_accepted(names: Iterable[str], kind: str, column: str | None = None) -> bool:
    """Whether the goal accepts a finding of this kind (in this column)."""
    return any(name == kind or (column is not None and name == f"{kind}:{column}") for name in names)


def how_to_accept(kind: str, column: str | None = None) -> str:
    """The setting that lets a finding pass, for the end of a sentence."""
    return f"`data.accept: [{kind}:{column}]`" if kind == "leak" and column else f"`data.accept: [{kind}]`"
