"""A quick model per training window, to see what a new model would win before one is searched, tuned and trained.

Every probe is the config a search starts from, so they differ from one another by their rows alone. They are scored on
later rows than any of them was trained on.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from tools.core.errors import FixableError
from tools.modeling.data import check_task, load_parts, unify
from tools.modeling.labels import positive_text
from tools.modeling.metrics import row_losses
from tools.modeling.models import default_config
from tools.modeling.predictor import SklearnPredictor
from tools.modeling.training import UnusableConfig, fit
from tools.modeling.windows import check_window, windowed

MAX_ROWS = 20_000  # the newest of a window that a probe learns from, so that it takes seconds whatever the files


@dataclass(frozen=True)
class Probes:
    """What the probes said.

    Args:
        scores: `window`, `y_true`, `prediction`, `probability` (of the positive class; NaN in other tasks) and `loss`,
            a row per window and later row, in time order within a window.
        positive: the positive class of a binary task; empty in others.
        failed: window -> why no probe could be trained on it.
    """

    scores: pd.DataFrame
    positive: str
    rows: int
    train_rows: dict[str, int]
    failed: dict[str, str]
    fit_s: float


def probe_windows(
    older: Sequence[Path],
    train: Sequence[Path],
    later: Sequence[Path],
    target: str,
    drop: Sequence[str],
    task: str,
    windows: Sequence[str],
    seed: int = 0,
    positive: str = "",
) -> Probes:
    """Train the default config on each window of `older` and `train` and score it on the rows of `later`.

    Args:
        older, train, later: files in time order. A window is counted up to the end of the first of `train`, as a model
            that is trained on that file takes it; the rows of the others of `train` come on top.

    Raises:
        FixableError: a file, a column, the target or a window cannot be used, or no probe could be trained.
    """
    known = check_task(task)
    checked = [check_window(window) for window in windows]
    parts, labels = load_parts([*older, *train, *later], target, drop, known)
    first = len(older) + len(train)
    joined, seen = unify(labels), sum(len(part) for part in parts[:first])
    last = len(parts[len(older)])
    added = sum(len(part) for part in parts[len(older) + 1 : first])
    X, y = pd.concat(parts[:first], ignore_index=True), joined.iloc[:seen]
    rows, truth = pd.concat(parts[first:], ignore_index=True), joined.iloc[seen:].reset_index(drop=True)
    scored: list[pd.DataFrame] = []
    train_rows: dict[str, int] = {}
    failed: dict[str, str] = {}
    chosen, started = "", time.perf_counter()
    for window in checked:
        some, their_y, weights = windowed(X, y, window, last, held=-added)
        some, their_y = some.tail(MAX_ROWS), their_y.tail(MAX_ROWS)
        weights = None if weights is None else weights[-MAX_ROWS:]
        try:
            model = fit(default_config(known, window=window), some, their_y, known, seed, weights)
        except UnusableConfig as error:
            failed[window] = str(error)
            continue
        with threadpool_limits(1):
            said = SklearnPredictor(model).predict(rows).read_as(truth, known, positive)
        probability = said.positive_probability if known == "binary" else None
        if known == "binary":
            chosen = positive_text(truth if said.classes is None else said.classes, said.positive)
        train_rows[window] = len(some)
        scored.append(
            pd.DataFrame(
                {
                    "window": window,
                    "y_true": truth.to_numpy(),
                    "prediction": said.values,
                    "probability": np.full(len(rows), np.nan) if probability is None else probability,
                    "loss": row_losses(known, truth, said)[0],
                }
            )
        )
    if not scored:
        told = "; ".join(f"{window}: {reason}" for window, reason in failed.items())
        raise FixableError(f"no probe could be trained: {told or 'no window was given'}")
    frame = pd.concat(scored, ignore_index=True)
    return Probes(frame, chosen, len(rows), train_rows, failed, time.perf_counter() - started)
