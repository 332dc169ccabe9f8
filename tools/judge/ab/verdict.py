"""The verdict of an A/B test that may be looked at after every unit.

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
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from tools.judge.sequential import FRACTIONS, log_threshold

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Verdict = Literal["challenger_wins", "champion_wins", "no_relevant_gain", "keep_running", "invalid"]

RATIO_LEVEL = 0.001  # a sample ratio mismatch condemns the whole test, so its false alarms must be rare
CONCENTRATIONS = (10.0, 100.0, 1_000.0, 10_000.0)  # priors of the real split, from "anything" to "close to the plan"
MAX_MIXED = 0.01  # share of units that may have met both variants (they are left out)
# Bets as multiples of the best one for an effect of the size of the MDE. Below it the test would be too slow to matter.
MULTIPLES: Floats = np.geomspace(0.5, 4.0, 6)
MAX_BET = 0.9  # of what could be lost at once
GUARDRAIL_SHARE = 0.2  # of alpha, when there are guardrails
BURN_IN = 100  # units before the asymptotic sequence says anything
WARM_UP = 20  # units before a covariate is used
BISECTIONS = 26


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


@dataclass(frozen=True)
class Effect:
    """A difference, positive where the challenger is better, with its confidence sequence up to the last unit."""

    units: int
    champion_value: float | None
    challenger_value: float | None
    difference: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Segment:
    name: str
    effect: Effect
    harmed: bool
    better: bool


@dataclass(frozen=True)
class Guardrail:
    """A one-sided test of harm: harmed when `e_value` reached `harmed_at` at any unit."""

    name: str
    champion_value: float | None
    challenger_value: float | None
    e_value: float
    harmed_at: float
    harmed: bool


@dataclass(frozen=True)
class Judged:
    """The verdict and what it rests on. `decided_at`: the unit, counted from 1, that decided; None while running."""

    verdict: Verdict
    decided_at: int | None
    effect: Effect
    champion_units: int
    challenger_units: int
    ratio_e_value: float
    segments: list[Segment]
    guardrails: list[Guardrail]
    warnings: list[str]
    reasons: list[str]


def judge(units: Units, design: Design) -> Judged:
    """Who wins is the same whether it is asked once or after every unit: the first proof in order decides.

    "No relevant gain" is proven first where the challenger is worse, and ends the test, because no more users should
    meet it. When the units that are there prove that it is worse, too, the verdict is "champion wins".

    Raises:
        ValueError: an outcome outside of its bounds, or one that is no number.
    """
    _check(units, design)
    outcome_alpha = design.alpha * (1.0 - GUARDRAIL_SHARE if units.guardrails else 1.0)
    ratio = ratio_log_e(units.challenger, design.share)
    if len(units):
        proofs = _proofs(units, design, outcome_alpha)
    else:
        proofs = {}
    guardrail_alpha = design.alpha * GUARDRAIL_SHARE / max(1, len(units.guardrails))
    guardrails = [_guardrail(name, units, design, guardrail_alpha) for name in units.guardrails]
    first: dict[str, int | None] = {name: _first(log_e >= bar) for name, (log_e, bar) in proofs.items()}
    harmed = {g.name: crossed for g, crossed in guardrails if crossed is not None}
    effect = _effect(units, design, outcome_alpha)
    segments = _segments(units, design, outcome_alpha)
    ends: list[tuple[int, Verdict, str]] = [
        (crossed, "champion_wins", f"the challenger harms the guardrail {name}") for name, crossed in harmed.items()
    ]
    said: dict[str, tuple[Verdict, str]] = {
        "better": ("challenger_wins", "the challenger is better"),
        "worse": ("champion_wins", "the challenger is worse"),
        "small": ("no_relevant_gain", f"the challenger's gain is less than the {design.mde:g} that would matter"),
    }
    ends += [(at, *said[name]) for name, at in first.items() if at is not None]
    invalid = _invalid(units, ratio, design)
    verdict: Verdict = "keep_running"
    decided_at, why = None, f"nothing is proven after {len(units)} units"
    if invalid:
        verdict, why = "invalid", invalid
    elif ends:
        at, verdict, why = min(ends, key=lambda end: end[0])
        decided_at = at + 1
    if verdict == "no_relevant_gain" and first["worse"] is not None:
        verdict, why = said["worse"]
    if verdict == "no_relevant_gain" and effect.low > -design.mde:
        why += ", and neither is its loss: the two are equivalent"
    measured = "" if effect.difference is None else (
        f"difference {effect.difference:+.4f} in the challenger's favour, between {effect.low:+.4f} and "
        f"{effect.high:+.4f} with {1 - outcome_alpha:.0%} confidence at every look"
    )  # fmt: skip
    return Judged(
        verdict=verdict,
        decided_at=decided_at,
        effect=effect,
        champion_units=int((~units.challenger).sum()),
        challenger_units=int(units.challenger.sum()),
        ratio_e_value=float(np.exp(min(ratio.max(initial=0.0), 60.0))),
        segments=segments,
        guardrails=[g for g, _ in guardrails],
        warnings=_warnings(verdict, segments, units),
        reasons=[why, *([measured] if measured else [])],
    )


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
    return np.minimum(MULTIPLES * aim, MAX_BET / _reach(design.upper, design.share))


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


def _check(units: Units, design: Design) -> None:
    named = {"outcome": (units.value, design.upper), **{name: (v, 1.0) for name, v in units.guardrails.items()}}
    if units.covariate is not None:
        named["covariate"] = (units.covariate, None)
    for name, (values, top) in named.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has {int((~np.isfinite(values)).sum())} values that are no number")
        if top is not None and len(values) and not (values.min() >= 0.0 and values.max() <= top):
            raise ValueError(f"{name} must lie in [0, {top:g}]; got {values.min():g} to {values.max():g}")


def _oriented(values: Floats, design: Design) -> Floats:
    """Values of which larger ones are better, within the same bounds."""
    if not design.minimize:
        return values
    return (design.upper if design.upper is not None else 0.0) - values


def _before(values: Floats) -> Floats:
    """The sum of the values before each one."""
    return np.cumsum(values) - values


def _reach(upper: float, share: float) -> float:
    """The most that a pseudo-outcome can lie from a possible difference."""
    return upper / min(share, 1.0 - share) + upper


def _horizon(design: Design) -> float:
    """About how many units the test was planned for; only where the asymptotic sequence is tightest depends on it."""
    if design.variance is None:
        return 1_000.0
    return max(float(BURN_IN), 12.0 * pseudo_variance(design.variance, design.share) / design.mde**2)


def _proofs(units: Units, design: Design, alpha: float) -> dict[str, tuple[Floats, float]]:
    """Evidence after each unit that the challenger is better, worse, or not better by the MDE, and its bar."""
    x = pseudo_outcomes(units, design)
    if design.upper is None:
        mean, radius = asymptotic_radius(x, alpha, _horizon(design))
        return {
            "better": (mean - radius, np.nextafter(0.0, 1.0)),
            "worse": (-mean - radius, np.nextafter(0.0, 1.0)),
            "small": (design.mde - mean - radius, np.nextafter(0.0, 1.0)),
        }
    fractions, bar = bets(design), log_threshold(alpha / 2.0)
    return {
        "better": (mixture_log_e(x, fractions), bar),
        "worse": (mixture_log_e(-x, fractions), bar),
        "small": (mixture_log_e(design.mde - x, fractions), bar),
    }


def _first(reached: Bools) -> int | None:
    return int(np.argmax(reached)) if reached.any() else None


def _effect(units: Units, design: Design, alpha: float) -> Effect:
    """Plain means of both variants, and the confidence sequence of their difference, intersected over all looks."""
    ours, theirs = units.value[units.challenger], units.value[~units.challenger]
    champion = float(theirs.mean()) if len(theirs) else None
    challenger = float(ours.mean()) if len(ours) else None
    difference = None
    if champion is not None and challenger is not None:
        difference = (champion - challenger) if design.minimize else (challenger - champion)
    low, high = -np.inf, np.inf
    if len(units):
        x = pseudo_outcomes(units, design)
        if design.upper is None:
            mean, radius = asymptotic_radius(x, alpha, _horizon(design))
            low, high = float((mean - radius).max()), float((mean + radius).min())
        else:
            low = _lower_end(x, design, alpha)
            high = -_lower_end(-x, design, alpha)
    return Effect(len(units), champion, challenger, difference, low, high)


def _lower_end(x: Floats, design: Design, alpha: float) -> float:
    """The largest mean that was ever refuted from below. Capital falls with the candidate mean, so it is bisected."""
    assert design.upper is not None
    fractions, bar = bets(design), log_threshold(alpha / 2.0)
    refuted, possible = -design.upper, design.upper
    if mixture_log_e(x - refuted, fractions).max() < bar:
        return -design.upper
    for _ in range(BISECTIONS):
        middle = (refuted + possible) / 2.0
        if mixture_log_e(x - middle, fractions).max() >= bar:
            refuted = middle
        else:
            possible = middle
    return refuted


def _segments(units: Units, design: Design, alpha: float) -> list[Segment]:
    """Each segment by itself, at the level divided by their number (Bonferroni), the largest first."""
    if units.segment is None or not len(units):
        return []
    names, counts = np.unique(units.segment.astype(str), return_counts=True)
    found: list[Segment] = []
    for name in names[np.argsort(-counts, kind="stable")]:
        at = units.segment.astype(str) == name
        part = Units(
            units.challenger[at], units.value[at], None, None if units.covariate is None else units.covariate[at]
        )
        effect = _effect(part, design, alpha / len(names))
        found.append(Segment(str(name), effect, harmed=effect.high < 0.0, better=effect.low > 0.0))
    return found


def _guardrail(name: str, units: Units, design: Design, alpha: float) -> tuple[Guardrail, int | None]:
    """The guardrail, and the index of the unit that proved harm."""
    values = units.guardrails[name]
    own = Design(share=design.share, mde=0.5, alpha=alpha, upper=1.0)
    log_e = mixture_log_e(pseudo_outcomes(Units(units.challenger, values), own), FRACTIONS / _reach(1.0, design.share))
    bar = log_threshold(alpha)
    crossed = _first(log_e >= bar)
    ours, theirs = values[units.challenger], values[~units.challenger]
    return Guardrail(
        name=name,
        champion_value=float(theirs.mean()) if len(theirs) else None,
        challenger_value=float(ours.mean()) if len(ours) else None,
        e_value=float(np.exp(min(log_e.max(initial=0.0), 60.0))),
        harmed_at=1.0 / alpha,
        harmed=crossed is not None,
    ), crossed


def _invalid(units: Units, ratio: Floats, design: Design) -> str:
    """Why no verdict can be trusted; empty when it can."""
    if len(ratio) and ratio.max() >= log_threshold(RATIO_LEVEL):
        return (
            f"sample ratio mismatch: {units.challenger.mean():.2%} of {len(units)} units are the challenger's, "
            f"{design.share:.2%} were planned; units are lost or misrouted, so the variants cannot be compared"
        )
    if units.mixed > MAX_MIXED * (len(units) + units.mixed):
        return f"{units.mixed} of {len(units) + units.mixed} units met both variants; assignment was not sticky"
    return ""


def _warnings(verdict: Verdict, segments: list[Segment], units: Units) -> list[str]:
    found = [
        f"the segment {s.name} is harmed: {s.effect.difference:+.4f}, at most {s.effect.high:+.4f}"
        + (", although the challenger wins on the whole" if verdict == "challenger_wins" else "")
        for s in segments
        if s.harmed
    ]
    if units.mixed:
        found.append(f"{units.mixed} units met both variants and are left out")
    return found
