"""A doubt: something about the data that should stop a run, in words, with the rows that it is about."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.modeling.accepted import KINDS, is_accepted


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

    def is_accepted(self, names: Iterable[str]) -> bool:
        """Whether a goal that accepts these (`data.accept`) lets it pass."""
        return self.kind in KINDS and is_accepted(names, self.kind, self.column)
