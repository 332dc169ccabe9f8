"""What an A/B test's tests are made of: the units, and values whose mean is the difference of the variants.

The observation is the unit (a customer, a session), never the request: a unit's value is one number, fixed when it
enters. With the assignment T, 1 with the known probability p for the challenger, and any centre c that was known before
the unit came, the pseudo-outcome

    x = (y - c) * (T - p) / (p * (1 - p))

has the average difference of the variants as its mean, whatever the outcomes are (inverse propensity weighting; the
centre only takes variance away, and may use a covariate from before the test: CUPED). So the tests rest on the
randomisation alone.

- Outcomes with known bounds: bets on x, as in `sequential` (Waudby-Smith and Ramdas 2024); exact at every look.
- Others: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (arXiv 2103.06476).
- Sample ratio: the Dirichlet-multinomial e-process of Lindon and Malek (NeurIPS 2022), exact at every look.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CONCENTRATIONS = (10.0, 100.0, 1_000.0, 10_000.0)  # priors of the real split, from "anything" to "close to the plan"
# Bets as multiples of the best one for an effect of the size of the MDE. Below it the test would be too slow to matter.
MULTIPLES: Floats = np.geomspace(0.5, 4.0, 6)
MAX_BET = 0.9  # of what could be lost at once
BURN_IN = 100  # units before the asymptotic sequence says anything
WARM_UP = 20  # units before a covariate is used


@dataclass(frozen=True)
class Design:
    """What was fixed before the test began.

    Args:
        share: probability that a unit is the challenger's, in (0, 1).
        mde: smallest difference that matters, in units of the outcome, positive.
        alpha: two-sided level of the whole test: outcome and guardrails.
        minimize: smaller outcomes are better.
        upper: outcomes lie in [0, upper]; None: no bound is known, the verdict is asymptotic.
        variance: of one unit's outcome, as planned; it aims the bets and decides nothing. None: the largest possible.
    """

    share: float
    mde: float
    alpha: float = 0.05
    minimize: bool = False
    upper: float | None = 1.0
    variance: float | None = None

    def __post_init__(self) -> None:
        for name, value, top in (("share", self.share, 1.0), ("alpha", self.alpha, 1.0), ("mde", self.mde, np.inf)):
            if not 0.0 < value < top:
                raise ValueError(f"{name} must be above 0{'' if top == np.inf else f' and below {top:g}'}; got {value}")
        if self.upper is not None and not self.mde < self.upper < np.inf:
            raise ValueError(f"upper must be a number above the mde ({self.mde:g}); got {self.upper}")
        if self.variance is not None and not 0.0 < self.variance < np.inf:
            raise ValueError(f"variance must be above 0; got {self.variance}")


@dataclass(frozen=True)
class Units:
    """One row a unit, in the order in which they entered. Every array has shape (n,).

    Args:
        challenger: assigned to the challenger.
        value: the outcome.
        segment: its segment, None without segments.
        covariate: known before the unit entered, None without one.
        guardrails: name -> share in [0, 1], larger is worse.
        mixed: how many more units met both variants; they are in none of the arrays.
    """

    challenger: Bools
    value: Floats
    segment: NDArray[np.object_] | None = None
    covariate: Floats | None = None
    guardrails: dict[str, Floats] = field(default_factory=dict[str, Floats])
    mixed: int = 0

    def __len__(self) -> int:
        return len(self.value)


def ratio_log_e(challenger: Bools, share: float) -> Floats:
    """Log e-process against "units are the challenger's with probability `share`", after each unit; shape (n,).

    Exact at every look. The average over priors of several concentrations (each an e-process, so their average is one)
    finds a gross mismatch within tens of units and a small one with little more data than the best single prior.
    """
    ours = np.cumsum(challenger).astype(float)
    count = np.arange(1.0, len(challenger) + 1.0)
    theirs = count - ours
    null = ours * np.log(share) + theirs * np.log1p(-share)
    logs = [
        gammaln(c) - gammaln(c + count)
        + gammaln(c * share + ours) - gammaln(c * share)
        + gammaln(c * (1 - share) + theirs) - gammaln(c * (1 - share))
        - null
        for c in CONCENTRATIONS
    ]  # fmt: skip
    return logsumexp(np.array(logs), axis=0) - np.log(len(logs)) if len(challenger) else np.empty(0)


def pseudo_outcomes(units: Units, design: Design) -> Floats:
    """Values whose mean is the average difference, positive where the challenger is better; shape (n,).

    The centre of each unit is the mean of the units before it, or their regression on the covariate.
    """
    y = _oriented(units.value, design)
    n = np.arange(len(y), dtype=float)  # units before each one
    top = design.upper
    start = top / 2.0 if top is not None else (y[0] if len(y) else 0.0)
    centre = (_before(y) + start) / (n + 1.0)
    if units.covariate is not None:
        z = units.covariate
        known = n >= WARM_UP
        safe = np.maximum(n, 1.0)
        mean_z, mean_y = _before(z) / safe, _before(y) / safe
        spread = _before(z * z) / safe - mean_z**2
        together = _before(z * y) / safe - mean_z * mean_y
        useful = known & (spread > 1e-12 * np.maximum(mean_z**2, 1e-300))
        slope = np.where(useful, together / np.where(useful, spread, 1.0), 0.0)
        centre = np.where(useful, mean_y + slope * (z - mean_z), centre)
    if top is not None:
        centre = np.clip(centre, 0.0, top)
    p = design.share
    return (y - centre) * (units.challenger - p) / (p * (1.0 - p))


def bets(design: Design) -> Floats:
    """The fractions of `mixture_log_e`, per unit of pseudo-outcome, aimed at an effect of the size of the MDE."""
    assert design.upper is not None
    variance = design.variance if design.variance is not None else (design.upper / 2.0) ** 2
    aim = design.mde / pseudo_variance(variance, design.share)
    return np.minimum(MULTIPLES * aim, MAX_BET / reach_of(design.upper, design.share))


def pseudo_variance(variance: float, share: float) -> float:
    """The variance of a pseudo-outcome, when a unit's outcome has `variance` in both variants."""
    return variance / share + variance / (1.0 - share)


def mixture_log_e(payoff: Floats, fractions: Floats) -> Floats:
    """Log e-process against "the mean pay-off is at most 0": the average over fixed fractions; shape (n,)."""
    total = np.full(payoff.shape, -np.inf)
    for fraction in fractions:
        total = np.logaddexp(total, np.cumsum(np.log1p(fraction * payoff)))
    return total - np.log(len(fractions))


def asymptotic_radius(values: Floats, alpha: float, horizon: float) -> tuple[Floats, Floats]:
    """Running mean and radius of the two-sided asymptotic confidence sequence at level `alpha`; both of shape (n,).

    Equation 9 of arXiv 2103.06476 with the variance normalised, tightest near `horizon` units. The radius is infinite
    for the first `BURN_IN` units, because the normal approximation says nothing there.
    """
    t = np.arange(1.0, len(values) + 1.0)
    mean = np.cumsum(values) / t
    spread = np.sqrt(np.maximum(np.cumsum(values**2) / t - mean**2, 0.0))
    rho2 = (-2.0 * np.log(alpha) + np.log(-2.0 * np.log(alpha)) + 1.0) / horizon
    radius = spread * np.sqrt(2.0 * (t * rho2 + 1.0) / (t**2 * rho2) * np.log(np.sqrt(t * rho2 + 1.0) / alpha))
    radius[:BURN_IN] = np.inf
    return mean, radius


def _oriented(values: Floats, design: Design) -> Floats:
    """Values of which larger ones are better, within the same bounds."""
    if not design.minimize:
        return values
    return (design.upper if design.upper is not None else 0.0) - values


def _before(values: Floats) -> Floats:
    """The sum of the values before each one."""
    return np.cumsum(values) - values


def reach_of(upper: float, share: float) -> float:
    """The most that a pseudo-outcome can lie from a possible difference."""
    return upper / min(share, 1.0 - share) + upper


def horizon_of(design: Design) -> float:
    """About how many units the test was planned for; only where the asymptotic sequence is tightest depends on it."""
    if design.variance is None:
        return 1_000.0
    return max(float(BURN_IN), 12.0 * pseudo_variance(design.variance, design.share) / design.mde**2)
