"""Which rows a model is trained on, and how much each counts.

A window is one of `WINDOWS`, or `newest:N`, the newest N rows: `all` rows of all files; `recent`, those of the last
file; `weighted`, all rows, each counting half as much as one that is as many rows newer as the last file has.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tools.core.errors import FixableError

WINDOWS = ("all", "recent")  # those a search chooses from unless told of another
NEWEST = "newest:"


def check_window(window: object) -> str:
    """The window, if there is one of that name.

    Raises:
        FixableError: names the valid ones.
    """
    if window in (*WINDOWS, "weighted"):
        return str(window)
    count = str(window).removeprefix(NEWEST)
    if count != str(window) and count.isdecimal() and int(count) > 0:
        return str(window)
    raise FixableError(f"unknown window {window!r}; valid windows: {', '.join(WINDOWS)}, weighted, {NEWEST}ROWS")


def newest_rows(window: str) -> int | None:
    """The number of rows of `newest:N`; None for another window."""
    return int(window.removeprefix(NEWEST)) if window.startswith(NEWEST) else None


def row_weights(rows: int, half_life: float) -> NDArray[np.float64]:
    """Weights of training rows in time order, shape (rows,): 1 for the newest, halved every `half_life` rows.

    All rows lower the variance; the weights let a changed concept win within one half-life.
    """
    return 0.5 ** (np.arange(rows)[::-1] / half_life)


def windowed(
    X: pd.DataFrame, y: pd.Series, window: str, last: int, held: int = 0
) -> tuple[pd.DataFrame, pd.Series, NDArray[np.float64] | None]:
    """The rows of a window and their weights (None: all count the same).

    Args:
        X, y: all rows that may be trained on, oldest first.
        last: how many rows the last file has, those held back from training included.
        held: newest rows of it that are held back, so not in `X`; `newest:N` counts them, so that a window starts at
            the same row while a model is searched and when it is trained at last.
    """
    if window == "weighted":
        return X, y, row_weights(len(X), last)
    count = newest_rows(window)
    keep = last - held if window == "recent" else len(X) if count is None else count - held
    start = len(X) - min(len(X), max(0, keep))
    return X.iloc[start:].reset_index(drop=True), y.iloc[start:].reset_index(drop=True), None
