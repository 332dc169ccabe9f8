"""When to retrain, on what rows, and what to do in between, on a stream of labelled batches.

Three actions, cheapest first:

- nothing;
- recalibrate (`Recalibrator`): shift the champion's output by what the last labels show, as far as such shifts have
  proved to last; one number, no training;
- refit (`RetrainPolicy`): when the forecast of what the champion loses has added up to the stated cost of a refit, on
  all rows with older ones weighted down (`row_weights`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COST = 0.15  # default cost of a refit, in batches answered without a model
MARGIN_SE = 0.5  # standard errors by which an excess must exceed the reference before it counts
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

    Rent or buy (ski rental; for cost-aware retraining see CARA, arXiv 2310.04216): staying with a stale champion costs
    its excess loss batch after batch, a refit costs `cost` once. It refits when one of two sums reaches the cost:

    - what this version lost more than on its first batch after training: it has become worse;
    - what it lost more than the best version did when fresh, if the last refit has already earned its cost: there is
      still something to win, and refitting wins it. So a refit made on too few rows after a change is followed by
      another and does not become the new normal, while a world that became harder is not answered by refits that do
      not help.

    An excess counts only beyond half its standard error. Losses are divided by those of a forecast without features, so
    the cost means the same on every stream, and a batch that is hard for everyone is not held against the champion.

    Args:
        cost: of a refit, in batches answered without a model: 0.15 means that a refit costs as much as serving 15 % of
            a batch with the forecast without features.
    """

    cost: float = COST
    reason: str = "no batch yet"
    _fresh: float = 0.0  # relative loss of this version on its first batch
    _best: float = np.inf  # the lowest of all versions, plus its standard error
    _age: int = 0
    _excess: float = 0.0
    _absolute: float = 0.0
    _earned: float = 0.0

    def observe(self, losses: Floats, baseline_loss: float, previous_losses: Floats | None = None) -> bool:
        """Whether to refit now, before the next batch. After True, the next batch is taken as a new version's first.

        Args:
            losses: of the champion on the batch, per row; shape (n,), n >= 2.
            baseline_loss: mean loss on the batch of a forecast from earlier labels alone (their share or median).
            previous_losses: of the version before it on the same rows, scored in the shadow; None where there is none.
        """
        unit = max(baseline_loss, 1e-12)
        loss, margin = float(losses.mean()) / unit, MARGIN_SE * _error(losses) / unit
        if self._age == 0:
            self._fresh = loss
            self._best = min(self._best, loss + _error(losses) / unit)
        else:
            self._excess = max(0.0, self._excess + loss - self._fresh - margin)
        self._absolute = max(0.0, self._absolute + loss - self._best - margin)
        if previous_losses is not None:
            gain = previous_losses - losses
            self._earned += (float(gain.mean()) - MARGIN_SE * _error(gain)) / unit
        self._age += 1
        act = self._excess >= self.cost or min(self._absolute, self._earned) >= self.cost
        self.reason = (
            f"In {self._age} batches since its training the champion lost {self._excess:.3f} batches' worth more than "
            f"when fresh and {self._absolute:.3f} more than the best version when fresh; its training has earned "
            f"{self._earned:.3f}; a refit costs {self.cost:g}."
        )
        if act:
            self._age, self._excess, self._absolute, self._earned = 0, 0.0, 0.0, 0.0
        return act


def _error(values: Floats) -> float:
    return float(values.std(ddof=1)) / float(np.sqrt(len(values)))


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
