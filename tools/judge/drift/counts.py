"""What a column of two tables is, to the tests and to the words: counts over cells."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NULL = "(null)"  # the cell of nulls, as `tools.modeling.column_counts` names it


class Counts(Protocol):
    """One column of two tables; see `tools.modeling.column_counts.ColumnCounts`."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Literal["number", "category"]: ...
    @property
    def cells(self) -> list[str]: ...
    @property
    def reference(self) -> Floats: ...
    @property
    def current(self) -> Floats: ...
    @property
    def distance(self) -> float | None: ...
    @property
    def distance_error(self) -> float: ...
    @property
    def inflation(self) -> tuple[float, float]: ...
