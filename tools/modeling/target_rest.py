"""Whether the rest of a file, once bad rows are set aside, still says the same of the target."""

from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom, norm

from tools.modeling.labels import Kind, as_numbers, as_text, is_blank

ALPHA = 1e-3  # over all classes
SHARE_FACTOR = 1.25  # by which the share of a class may change
SPREADS = 0.1  # standard deviations by which the mean of a regression's target may move


def check_rest(
    target: pd.Series, bad: NDArray[np.int64], faulty: NDArray[np.bool_], task: Kind, max_null_share: float
) -> str:
    """Why these rows must not be set aside, in words; empty where they may.

    Rows whose target itself is at fault (missing, a class of no model) may be set aside up to `max_null_share` of the
    file: what they should have said nobody knows. The others must be like the rest.

    Args:
        target: of all rows, with nulls.
        bad: positions of the rows to be set aside.
        faulty: which of `bad` are bad because of their target.
    """
    blank = is_blank(target)
    unknown = faulty | blank[bad]
    if unknown.sum() > max_null_share * len(target):
        labels, counts = np.unique(as_text(target.iloc[bad[unknown]]).astype(str), return_counts=True)
        most = str(labels[counts.argmax()])
        what = f"{most!r}" if most else "missing"
        return (
            f"the target {target.name!r} is bad in {int(unknown.sum())} of {len(target)} rows (most often {what}), "
            f"more than `data.max_null_share` ({max_null_share:.0%}): if that depends on what it should be, the rest "
            "is biased"
        )
    others = bad[~unknown]
    aside = np.zeros(len(target), dtype=bool)
    aside[others] = True
    considered = ~blank
    considered[bad[unknown]] = False
    if task == "regression":
        return _of_numbers(cast(pd.Series, target[considered]), aside[considered])
    return _of_classes(as_text(target[considered]).astype(str), aside[considered], str(target.name))


def _of_classes(texts: NDArray[np.str_], aside: NDArray[np.bool_], name: str) -> str:
    labels, codes = np.unique(texts, return_inverse=True)
    rows = np.bincount(codes, minlength=len(labels))
    gone = np.bincount(codes[aside], minlength=len(labels))
    if not len(labels) or not gone.sum():
        return ""
    rate, kept = gone.sum() / rows.sum(), rows - gone
    for at in np.argsort(-gone / rows):
        label = str(labels[at])
        if not kept[at]:
            return f"that would remove the class {label!r} of {name!r} with all of its {rows[at]} rows"
        change = (kept[at] / kept.sum()) / (rows[at] / rows.sum())
        by_chance = min(binom.sf(gone[at] - 1, rows[at], rate), binom.cdf(gone[at], rows[at], rate))
        if not 1 / SHARE_FACTOR <= change <= SHARE_FACTOR and by_chance < ALPHA / len(labels):
            return (
                f"that would bias {name!r}: they hold {gone[at]} of the {rows[at]} rows of the class {label!r}, but "
                f"{rate:.1%} of all rows"
            )
    return ""


def _of_numbers(target: pd.Series, aside: NDArray[np.bool_]) -> str:
    values = as_numbers(target)
    finite = np.isfinite(values)
    values, aside = values[finite], aside[finite]
    if len(values) < 2 or not aside.any() or aside.all() or np.std(values) == 0:
        return ""
    spread = float(np.std(values))
    moved = (float(values[~aside].mean()) - float(values.mean())) / spread
    apart = (float(values[aside].mean()) - float(values[~aside].mean())) / (spread * np.sqrt(1 / aside.sum()))
    if abs(moved) <= SPREADS or 2 * norm.sf(abs(apart)) > ALPHA:
        return ""
    return f"that would bias {target.name!r}: its mean would go from {values.mean():.4g} to {values[~aside].mean():.4g}"
