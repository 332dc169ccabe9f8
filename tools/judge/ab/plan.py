"""How many units and days an A/B test needs, before it starts, with the price of looking at every unit.

The fixed-horizon formula needs (z_alpha/2 + z_power)^2 = 7.85 standardised units at 5 % and 80 %; a test that may be
looked at all the time needs more at worst, and less on average when the effect is there. That price is not guessed: the
sequential test's own bets are run on Brownian paths with the drift of an effect of exactly the MDE, which is their
limit for small effects, and the share of paths that ended in the right verdict is read off as a function of time. One
standardised unit of time is v / mde^2 units, v the variance of a pseudo-outcome.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from scipy.stats import norm

from tools.judge.ab.outcomes import MULTIPLES, pseudo_variance
from tools.judge.sequential import log_threshold

PATHS = 3_000
STEP = 0.1  # of standardised time
WEEK_DAYS = 7


@dataclass(frozen=True)
class SamplePlan:
    """Units are totals over both variants where they do not say otherwise.

    Args:
        units: with that many, an effect of the MDE is found with the asked power.
        champion_units, challenger_units: how they split.
        typical_units: half of the tests with such an effect end with fewer.
        typical_units_if_equal: half of the tests with no effect end with fewer.
        fixed_units: a test that is looked at once needs these; for comparison.
        days: whole weeks, so that every weekday counts equally; None without `units_per_day`.
    """

    units: int
    champion_units: int
    challenger_units: int
    typical_units: int
    typical_units_if_equal: int
    fixed_units: int
    days: int | None


def rate_variance(rate: float, mde: float, share: float) -> float:
    """The variance of one unit's outcome that gives the pseudo-outcome of two rates its variance.

    The challenger's rate is taken `mde` away from `rate`, on the side where the variance is larger.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"baseline must be a rate from 0 to 1; got {rate}")
    moved = min(max(rate + (mde if rate <= 0.5 else -mde), 0.0), 1.0)
    total = rate * (1.0 - rate) / (1.0 - share) + moved * (1.0 - moved) / share
    return total / (1.0 / share + 1.0 / (1.0 - share))


def plan(
    variance: float, mde: float, share: float, alpha: float, power: float, units_per_day: float | None = None
) -> SamplePlan:
    """The plan of a test of `Design(share, mde, alpha)`.

    Args:
        variance: of one unit's outcome.
        power: probability of the verdict "challenger wins" when it is better by the MDE.
        units_per_day: new units that enter on a day.

    Raises:
        ValueError: an argument outside of its range.
    """
    for name, value, top in (
        ("variance", variance, np.inf), ("mde", mde, np.inf), ("share", share, 1.0), ("alpha", alpha, 1.0),
        ("units_per_day", 1.0 if units_per_day is None else units_per_day, np.inf),
    ):  # fmt: skip
        if not 0.0 < value < top:
            raise ValueError(f"{name} must be above 0{'' if top == np.inf else f' and below {top:g}'}; got {value}")
    if not 0.0 < power < 1.0 - alpha / 2.0:
        raise ValueError(f"power must be above 0 and below {1 - alpha / 2:g}, 1 - alpha / 2; got {power}")
    worst, typical, idle = standard_times(alpha, power)
    scale = pseudo_variance(variance, share) / mde**2
    units = ceil(worst * scale)
    challenger = ceil(units * share)
    weeks = None if units_per_day is None else ceil(units / units_per_day / WEEK_DAYS)
    return SamplePlan(
        units=units,
        champion_units=units - challenger,
        challenger_units=challenger,
        typical_units=ceil(typical * scale),
        typical_units_if_equal=ceil(idle * scale),
        fixed_units=ceil((norm.isf(alpha / 2.0) + norm.ppf(power)) ** 2 * scale),
        days=None if weeks is None else weeks * WEEK_DAYS,
    )


def smallest_mde(available: int, share: float, alpha: float, power: float, variance: Callable[[float], float]) -> float:
    """The difference that so many units find with the power. `variance`: of one unit's outcome, for a given mde."""
    worst = standard_times(alpha, power)[0]
    found = 0.0
    for _ in range(30):  # of a rate, the variance depends on the difference a little; this settles in a few rounds
        found = float(np.sqrt(worst * pseudo_variance(variance(found), share) / max(available, 1)))
    return found


@lru_cache(maxsize=64)
def standard_times(alpha: float, power: float) -> tuple[float, float, float]:
    """Standardised times: until the power is reached, and the medians with an effect of the MDE and with none.

    Deterministic: the paths have a seed of their own.
    """
    horizon = 4.0 * float(norm.isf(alpha / 2.0) + norm.ppf(max(power, 0.5))) ** 2
    while True:
        wins, ends = _run(alpha, drift=1.0, horizon=horizon)
        _, idle = _run(alpha, drift=0.0, horizon=horizon)
        share = np.arange(1, PATHS + 1) / PATHS
        reached = np.flatnonzero((share >= power) & np.isfinite(wins))
        if len(reached) and np.isfinite(np.median(idle)):
            return float(wins[reached[0]]), float(np.median(ends)), float(np.median(idle))
        horizon *= 2.0


def _run(alpha: float, drift: float, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorted times of the verdict "challenger wins", and of any verdict; infinite where there was none."""
    random = np.random.default_rng(20_240_601)
    steps = ceil(horizon / STEP)
    time = STEP * np.arange(1, steps + 1)
    bar = log_threshold(alpha / 2.0)
    wins, ends = np.full(PATHS, np.inf), np.full(PATHS, np.inf)
    for start in range(0, PATHS, 500):
        rows = slice(start, start + 500)
        moved = np.cumsum(random.normal(0.0, np.sqrt(STEP), (500, steps)), axis=1) + drift * time
        better, worse, small = (_first(path, time, bar) for path in (moved, -moved, time - moved))
        ended = np.minimum(np.minimum(better, worse), small)
        ends[rows] = ended
        wins[rows] = np.where(better == ended, better, np.inf)
    return np.sort(wins), np.sort(ends)


def _first(path: np.ndarray, time: np.ndarray, bar: float) -> np.ndarray:
    """When the mixture of bets first reaches the bar, for every path; shape (paths,)."""
    capital = np.full(path.shape, -np.inf)
    for multiple in MULTIPLES:
        capital = np.logaddexp(capital, multiple * path - multiple**2 * time / 2.0)
    reached = capital - np.log(len(MULTIPLES)) >= bar
    return np.where(reached.any(axis=1), time[np.argmax(reached, axis=1)], np.inf)
