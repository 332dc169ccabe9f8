"""The verdict of an A/B test that may be looked at after every unit.

`outcomes` makes of each unit a value whose mean is the difference; here the tests on them, the ratio, the segments and
the guardrails become one verdict.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tools.judge.ab.outcomes import (
    Design,
    Units,
    asymptotic_radius,
    bets,
    horizon_of,
    mixture_log_e,
    pseudo_outcomes,
    ratio_log_e,
    reach_of,
)
from tools.judge.ab.words import harmed_segment, measured, moving, units_of
from tools.judge.sequential import FRACTIONS, log_threshold

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Verdict = Literal["challenger_wins", "champion_wins", "no_relevant_gain", "keep_running", "invalid"]

RATIO_LEVEL = 0.001  # a sample ratio mismatch condemns the whole test, so its false alarms must be rare
MAX_MIXED = 0.01  # share of units that may have met both variants (they are left out)
GUARDRAIL_SHARE = 0.2  # of alpha, when there are guardrails
BISECTIONS = 26


@dataclass(frozen=True)
class Effect:
    """A difference, positive where the challenger is better, with its confidence sequence up to the last unit."""

    units: int
    champion_value: float | None
    challenger_value: float | None
    difference: float | None
    low: float
    high: float

    @property
    def is_bounded(self) -> bool:
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def is_moving(self) -> bool:
        """Whether no one difference goes with all looks and with the means of all units."""
        return self.low > self.high or (self.difference is not None and not self.low <= self.difference <= self.high)


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
        (crossed, "champion_wins", f"the challenger was proven to harm the guardrail {name}")
        for name, crossed in harmed.items()
    ]
    said: dict[str, tuple[Verdict, str]] = {
        "better": ("challenger_wins", "the challenger was proven better"),
        "worse": ("champion_wins", "the challenger was proven worse"),
        "small": (
            "no_relevant_gain",
            f"that the challenger is {design.mde:g} better, which would matter, was ruled out",
        ),
    }
    ends += [(at, *said[name]) for name, at in first.items() if at is not None]
    invalid = _invalid(units, ratio, design)
    verdict: Verdict = "keep_running"
    decided_at, why = None, "nothing is proven yet"
    if invalid:
        verdict, why = "invalid", invalid
    elif ends:
        proven, verdict, why = min(ends, key=lambda end: end[0])
        decided_at = proven + 1
        if verdict == "no_relevant_gain" and first["worse"] is not None:
            proven, (verdict, why) = first["worse"], said["worse"]
        why += f" after {units_of(proven + 1)}"
    if verdict == "no_relevant_gain" and effect.low > -design.mde:
        why += f", and so was that it is {design.mde:g} worse: the two are equivalent"
    return Judged(
        verdict=verdict,
        decided_at=decided_at,
        effect=effect,
        champion_units=int((~units.challenger).sum()),
        challenger_units=int(units.challenger.sum()),
        ratio_e_value=float(np.exp(min(ratio.max(initial=0.0), 60.0))),
        segments=segments,
        guardrails=[g for g, _ in guardrails],
        warnings=_warnings(verdict, effect, segments, units),
        reasons=[text for text in (why, measured(effect, outcome_alpha)) if text],
    )


def _check(units: Units, design: Design) -> None:
    named = {"outcome": (units.value, design.upper), **{name: (v, 1.0) for name, v in units.guardrails.items()}}
    if units.covariate is not None:
        named["covariate"] = (units.covariate, None)
    for name, (values, top) in named.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has {int((~np.isfinite(values)).sum())} values that are no number")
        if top is not None and len(values) and not (values.min() >= 0.0 and values.max() <= top):
            raise ValueError(f"{name} must lie in [0, {top:g}]; got {values.min():g} to {values.max():g}")


def _proofs(units: Units, design: Design, alpha: float) -> dict[str, tuple[Floats, float]]:
    """Evidence after each unit that the challenger is better, worse, or not better by the MDE, and its bar."""
    x = pseudo_outcomes(units, design)
    if design.upper is None:
        mean, radius = asymptotic_radius(x, alpha, horizon_of(design))
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
            mean, radius = asymptotic_radius(x, alpha, horizon_of(design))
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
    log_e = mixture_log_e(
        pseudo_outcomes(Units(units.challenger, values), own), FRACTIONS / reach_of(1.0, design.share)
    )
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
    if (crossed := _first(ratio >= log_threshold(RATIO_LEVEL))) is not None:
        share = float(units.challenger[: crossed + 1].mean())
        return (
            f"sample ratio mismatch: of the first {units_of(crossed + 1)} {share:.2%} are the challenger's, "
            f"{design.share:.2%} were planned; units are lost or misrouted, so the variants cannot be compared"
        )
    if units.mixed > MAX_MIXED * (len(units) + units.mixed):
        return f"{units.mixed} of {units_of(len(units) + units.mixed)} met both variants; assignment was not sticky"
    return ""


def _warnings(verdict: Verdict, effect: Effect, segments: list[Segment], units: Units) -> list[str]:
    found = [harmed_segment(segment, verdict) for segment in segments if segment.harmed]
    if effect.is_moving:
        found.append(moving(effect))
    if units.mixed:
        found.append(f"{units_of(units.mixed)} met both variants and {'is' if units.mixed == 1 else 'are'} left out")
    return found
