"""What labels say a drift costs: the champion's loss per row, before and now.

How far columns moved says how much is different, not how much worse the answers are: rows may move to where the model
is surer. Labels say it, so where they exist they decide on the severity.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from tools.judge.drift.counts import Floats
from tools.judge.estimates import standard_error

Severity = Literal["none", "low", "moderate", "high"]

MODERATE, HIGH = 0.1, 0.25  # share of rows moved, weighted by importance; share by which the loss rose
LEVEL = 0.01  # two-sided, of the interval of the rise
MIN_ROWS = 30


@dataclass(frozen=True)
class LossChange:
    """Mean loss per row of labelled rows then and now, and the rise as a share of the former, with its interval."""

    before: float
    now: float
    rise: float
    low: float
    high: float

    @property
    def proven(self) -> bool:
        """Whether the loss is proven to have risen."""
        return self.low > 0

    def in_words(self) -> str:
        """What became of the loss, as the start of a sentence."""
        change = f"from {self.before:.4g} to {self.now:.4g} ({self.rise:+.0%})"
        if self.proven:
            return f"the champion's loss per row rose {change}"
        return f"the champion's loss per row went {change}, which proves no rise"


def loss_change(before: Floats, now: Floats) -> LossChange | None:
    """Compare the losses of labelled rows, in time order; None where there are too few of them to say anything."""
    if min(len(before), len(now)) < MIN_ROWS or not before.mean() > 0:
        return None
    level, current = float(before.mean()), float(now.mean())
    share = current / level
    # Of a ratio of two independent means (delta method).
    error = float(np.hypot(standard_error(now - current), share * standard_error(before - level))) / level
    reach = float(norm.isf(LEVEL / 2)) * error
    return LossChange(level, current, share - 1, share - 1 - reach, share - 1 + reach)


def severity_of(harm: float, drifted: bool, loss: LossChange | None) -> tuple[Severity, str]:
    """The severity, and the sentence that says what it rests on.

    Args:
        harm: of the drifted columns, as a number.
        loss: what labels say; None where there are none.
    """
    moved = _grade(harm) if drifted else "none"
    if not drifted:
        rose = loss is not None and loss.proven and loss.rise >= MODERATE
        return "none", f"But {loss.in_words()}: no column shows why." if rose and loss is not None else ""
    if loss is None:
        return moved, "Its severity is how much moved: there are no labels to say what it costs."
    if loss.proven:
        return _grade(loss.rise), f"Its severity is by the labels: {loss.in_words()}."
    if loss.high < MODERATE:
        return "low", f"Its severity is by the labels: {loss.in_words()}."
    return moved, f"Its severity is how much moved, for the labels do not settle it: {loss.in_words()}."


def _grade(value: float) -> Severity:
    return "low" if value < MODERATE else "moderate" if value < HIGH else "high"
