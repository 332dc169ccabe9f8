"""When to retrain, on what rows, and what to do in between, on a stream of labelled batches.

Three actions, cheapest first:

- nothing;
- recalibrate (`Recalibrator`): shift the champion's output by what the last labels show, as far as such shifts have
  proved to last; one number, no training;
- refit (`RetrainPolicy`): when the forecast of what the champion loses has added up to the stated cost of a refit, on
  all rows with older ones weighted down (`row_weights`).
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COST = 0.15  # default cost of a refit, in batches answered without a model
MARGIN_SE = 0.5  # standard errors by which an excess must exceed the reference before it counts
ABSOLUTE = 4.0  # the excess over all fresh versions may add up to this many times the cost
MAX_SHIFT = 4.0  # of log-odds or of a logarithm
FLOOR = 1e-3  # probabilities are kept this far from 0 and 1


def row_weights(rows: int, half_life: int) -> Floats:
    """Weights of training rows in time order, shape (rows,): 1 for the newest, halved every `half_life` rows.

    All rows lower the variance; the weights let a changed concept win within one half-life.
    """
    return 0.5 ** (np.arange(rows)[::-1] / half_life)


@dataclass
class RetrainPolicy:
    """Decides after each labelled batch whether to refit; feed it the batches in order.

    Rent or buy (ski rental; cost-aware retraining as in CARA, arXiv 2310.04216): staying with a stale champion costs
    its excess loss batch after batch, a refit costs `cost` once. It refits when the excess has added up to the cost,
    which is at most twice what hindsight would have paid. Losses are divided by those of a forecast without features,
    so the cost means the same on every stream, and a batch that is hard for everyone is not held against the champion.

    The reference is what this version lost on its first batch after training. A second, absolute reference is the mean
    over all versions' first batches: so a refit on bad rows does not become the new normal.

    Args:
        cost: of a refit, in batches answered without a model: 0.15 means that a refit costs as much as serving 15 % of
            a batch with the forecast without features.
    """

    cost: float = COST
    _fresh: list[float] = field(default_factory=list)  # relative loss of each version on its first batch
    _age: int = 0
    _excess: float = 0.0
    _absolute: float = 0.0
    reason: str = "no batch yet"

    def observe(self, losses: Floats, baseline_loss: float) -> bool:
        """Whether to refit now, before the next batch. After True, the next batch is taken as a new version's first.

        Args:
            losses: of the champion on the batch, per row; shape (n,), n >= 2.
            baseline_loss: mean loss on the batch of a forecast from earlier labels alone (their share or median).
        """
        unit = max(baseline_loss, 1e-12)
        loss = float(losses.mean()) / unit
        error = float(losses.std(ddof=1)) / np.sqrt(len(losses)) / unit
        if self._age == 0:
            self._fresh.append(loss)
        else:
            self._excess = max(0.0, self._excess + loss - self._fresh[-1] - MARGIN_SE * error)
        self._age += 1
        self._absolute = max(0.0, self._absolute + loss - float(np.mean(self._fresh)) - MARGIN_SE * error)
        act = self._excess >= self.cost or self._absolute >= ABSOLUTE * self.cost
        self.reason = (
            f"Since its training {self._age} batches ago the champion lost {self._excess:.3f} batches' worth more than "
            f"when fresh ({self._absolute:.3f} more than all versions when fresh); a refit costs {self.cost:g}."
        )
        if act:
            self._age, self._excess, self._absolute = 0, 0.0, 0.0
        return act


@dataclass
class Recalibrator:
    """Learns, batch by batch, how the champion's level must be shifted, and how far such shifts last.

    The shift that would have been right on the last batch is multiplied by its measured persistence (the regression of
    each batch's shift on the one before, shrunk towards 0), so that shifts which come and go are ignored.

    Binary: a shift of the log-odds. Regression: a factor while no target is negative, else a shift of the value.
    """

    task: Literal["binary", "regression"]
    _last: float | None = None
    _cross: float = 0.0
    _square: float = 0.0
    _pairs: int = 0
    _factor: bool = True

    def apply(self, output: Floats) -> Floats:
        """Recalibrated probabilities or values for the next batch."""
        if self._last is None or not self._pairs or self._square == 0:
            return output
        lasting = np.clip(self._cross / self._square * self._pairs / (self._pairs + 1), 0.0, 1.0)
        shift = float(lasting) * self._last
        if self.task == "binary":
            return 1 / (1 + np.exp(-(_log_odds(output) + shift)))
        return output * np.exp(shift) if self._factor else output + shift

    def observe(self, output: Floats, truth: Floats) -> None:
        """Learn from a labelled batch: the champion's raw output and the labels (0 and 1, or values)."""
        if self.task == "regression" and self._factor and not (truth.min() >= 0 < min(truth.sum(), output.sum())):
            self._factor = False  # targets around 0 have no level to multiply; shifts learned so far were factors
            self._last, self._cross, self._square, self._pairs = None, 0.0, 0.0, 0
        shift = self._right_shift(output, truth)
        if self._last is not None:
            self._cross += self._last * shift
            self._square += self._last**2
            self._pairs += 1
        self._last = shift

    def refitted(self) -> None:
        """A new version serves: its level is not known yet; how long shifts last stays learned."""
        self._last = None

    def _right_shift(self, output: Floats, truth: Floats) -> float:
        """The shift after which the batch's mean output equals its mean label."""
        if self.task == "regression":
            if self._factor:
                return float(np.clip(np.log(truth.sum() / output.sum()), -MAX_SHIFT, MAX_SHIFT))
            return float(truth.mean() - output.mean())
        odds, shift = _log_odds(output), 0.0
        for _ in range(25):  # damped Newton: the mean probability rises monotonically with the shift
            probability = 1 / (1 + np.exp(-(odds + shift)))
            slope = max(float((probability * (1 - probability)).mean()), 0.01)
            shift += float(np.clip((truth - probability).mean() / slope, -1, 1))
        return float(np.clip(shift, -MAX_SHIFT, MAX_SHIFT))


def _log_odds(probability: Floats) -> Floats:
    clipped = np.clip(probability, FLOOR, 1 - FLOOR)
    return np.log(clipped / (1 - clipped))
