"""A doubt: something about the data that should stop a run, in words, with the rows that it is about."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Doubt:
    """One finding.

    Args:
        kind: one of `accepted.KINDS`, which a goal may accept; or another name, which it may not.
        critical: it stops the run; otherwise it is said.
        rows: how many it is about.
        at: positions of bad rows in the file that is checked, where setting these aside would help.
        examples: values, as text.
    """

    kind: str
    column: str | None
    reason: str
    critical: bool = True
    rows: int = 0
    at: NDArray[np.int64] | None = None
    examples: tuple[str, ...] = ()
