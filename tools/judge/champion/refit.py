"""When to retrain, on what rows, and what to do in between, on a stream of labelled batches.

Three actions, cheapest first:

- nothing;
- recalibrate (`Recalibrator`): shift the champion's output by what the last labels show, as far as such shifts have
  proved to last; one number, no training;
- refit (`RetrainPolicy`): when what a refit would have won adds up to its stated cost, on a long and a short window,
  which are mixed as the labels show (`WindowMixture`).

What a refit would win is measured, not inferred from the champion's loss, which also rises when the world becomes
harder and no refit helps. The measure is a shadow: a model far cheaper than the champion, trained anew on each batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COST = 0.05  # default cost of a refit, in batches answered without a model
MARGIN_SE = 0.5  # standard errors that a gain must exceed before it counts
MEMORY = 0.5  # by which a window's past losses fade with each batch
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the short window's model that are tried
MAX_SHIFT = 4.0  # of log-odds or of a logarithm
FLOOR = 1e-3  # probabilities are kept this far from 0 and 1


@dataclass
class RetrainPolicy:
    """Decides after each labelled batch whether to refit; feed it the batches in order.

    Before each batch the caller trains a small model, the shadow, once per window, and keeps the one that was trained
    when the champion was, on the champion's windows: its twin. The batch's labels then show what a fresh shadow wins
    over the twin on the same rows (a paired difference), which is what a refit would win, as far as a small model
    shows it. Batches that are hard for everyone cancel out; after a refit on too few rows of a new concept the twin is
    bad too, so another refit follows.

    Rent or buy (ski rental; for cost-aware retraining see CARA, arXiv 2310.04216): staying costs the gain batch after
    batch, a refit costs `cost` once, so it refits when the gains since the last refit have added up to the cost. Where
    the gain grows linearly, that is the period with the least total cost. A gain counts only beyond half its standard
    error. Losses are divided by those of a forecast without features, so the cost means the same on every stream.

    Args:
        cost: of a refit, in batches answered without a model: 0.05 means that a refit costs as much as serving 5 % of a
            batch with the forecast without features.
        budget: refits per batch that may be spent in the long run, None for any number. A refit ahead of it costs twice
            as much, one that is two ahead four times, and so on, until time has caught up.
    """

    cost: float = COST
    budget: float | None = None
    reason: str = "no batch yet"
    _batches: int = 0
    _refits: int = 0
    _age: int = 0
    _gain: float = 0.0
    _faded: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def window(self) -> str:
        """The window whose shadows did best on the last batches: the next gain is measured against its shadow."""
        return min(self._faded, key=lambda name: self._faded[name])

    @property
    def price(self) -> float:
        """The cost of a refit after this batch, raised where it would overdraw the budget."""
        ahead = 0.0 if self.budget is None else max(0.0, self._refits + 1 - self.budget * self._batches)
        return self.cost * 2.0**ahead

    def observe(self, twin: Floats, fresh: Mapping[str, Floats], baseline_loss: float) -> bool:
        """Whether to refit now, before the next batch. After True, the next batch is taken as a new version's first.

        Args:
            twin: losses on the batch of the shadow that is as old as the champion, per row; shape (n,), n >= 2.
            fresh: window -> losses on the same rows of the shadow trained on that window up to the batch before.
            baseline_loss: mean loss on the batch of a forecast from earlier labels alone (their share or median).
        """
        # Chosen by earlier batches: the best of several on this one would look better than it is.
        gain = (twin - fresh[self.window if self._faded else next(iter(fresh))]) / max(baseline_loss, 1e-12)
        self._gain = max(0.0, self._gain + float(gain.mean()) - MARGIN_SE * _error(gain))
        for name, losses in fresh.items():
            self._faded[name] = MEMORY * self._faded.get(name, 0.0) + float(losses.mean())
        self._batches += 1
        self._age += 1
        price = self.price
        act = self._gain >= price
        dearer = f" ({self.cost:g} within the budget)" if price > self.cost else ""
        self.reason = (
            f"In {self._age} batches since the last training, training anew would have won {self._gain:.3f} batches' "
            f"worth; it costs {price:.3g}{dearer}. The shadows did best on the window {self.window}."
        )
        if act:
            self._age, self._gain, self._refits = 0, 0.0, self._refits + 1
        return act


@dataclass
class WindowMixture:
    """A champion of two models, one trained on a long window and one on a short one; how much each says is learned.

    Which window is better cannot be known at a refit, when few rows of a new concept are there, and it changes while
    they come in. So both are trained, and the output is a weighted mean of theirs (a combination of forecasts: Bates
    and Granger 1969); after each labelled batch the share becomes the one of a small grid that would have lost least on
    the last batches, older ones counting half as much with each. Moving the share costs no training.

    Args:
        share: of the short window's model, 0 to 1.
    """

    share: float = 0.0
    _faded: Floats = field(default_factory=lambda: np.zeros(len(SHARES)))

    def apply(self, long: Floats, short: Floats) -> Floats:
        """The champion's output: probabilities or values, shape (n,)."""
        return _mixed(long, short, self.share)

    def observe(self, long: Floats, short: Floats, loss: Callable[[Floats], Floats]) -> None:
        """Learn from a labelled batch.

        Args:
            long, short: what the two models say on it.
            loss: output -> losses per row.
        """
        losses = [float(loss(_mixed(long, short, share)).mean()) for share in SHARES]
        self._faded = MEMORY * self._faded + np.array(losses)
        self.share = SHARES[int(np.argmin(self._faded))]  # the longer window where they are alike

    def refitted(self, long: Floats, short: Floats, loss: Callable[[Floats], Floats]) -> None:
        """Both were trained anew. What they are worth is first seen on the newest batch, by models of the same windows
        that were trained without it; the arguments are theirs."""
        self._faded = np.zeros(len(SHARES))
        self.observe(long, short, loss)


def _mixed(long: Floats, short: Floats, share: float) -> Floats:
    return (1 - share) * long + share * short


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
