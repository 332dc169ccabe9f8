"""The verdict of an A/B test holds at every look."""

import numpy as np
import pytest
from scipy.stats import binom

from tools.judge.ab.outcomes import Design, Units, pseudo_outcomes, ratio_log_e
from tools.judge.ab.verdict import RATIO_LEVEL, Judged, judge
from tools.judge.sequential import log_threshold


def rates(seed: int, count: int, champion: float, challenger: float, share: float = 0.5) -> Units:
    """Units whose outcome is 1 with the variant's rate."""
    random = np.random.default_rng(seed)
    ours = random.random(count) < share
    return Units(ours, (random.random(count) < np.where(ours, challenger, champion)).astype(float))


def at_most(count: int, probability: float) -> int:
    """How many events of that probability are still no surprise (one in 10,000)."""
    return int(binom.ppf(0.9999, count, probability))


def test_a_correct_ratio_is_almost_never_called_a_mismatch_at_any_look() -> None:
    random = np.random.default_rng(1)
    for share in (0.5, 0.1):
        alarms = sum(
            ratio_log_e(random.random(3_000) < share, share).max() >= log_threshold(RATIO_LEVEL) for _ in range(1_000)
        )
        assert alarms <= at_most(1_000, RATIO_LEVEL)


def test_a_fixed_horizon_test_looked_at_all_the_time_would_raise_it_falsely() -> None:
    """The other side of the test above: the bound is kept by the method, not by the data."""
    random = np.random.default_rng(2)
    count = np.arange(100, 3_001)
    alarms = 0
    for _ in range(1_000):
        ours = np.cumsum(random.random(3_000) < 0.5)[99:]
        alarms += bool((np.abs(ours - count / 2) / np.sqrt(count / 4) > 3.29).any())  # two-sided 0.001
    assert alarms > at_most(1_000, RATIO_LEVEL)


def test_52_to_48_where_halves_were_planned_is_found_and_voids_the_verdict() -> None:
    for seed in range(4):
        units = rates(seed, 30_000, 0.2, 0.3, share=0.52)
        found = judge(units, Design(share=0.5, mde=0.02))
        assert found.verdict == "invalid"
        assert "sample ratio mismatch" in found.reasons[0] and found.decided_at is None


def test_a_gross_mismatch_is_found_within_a_hundred_units() -> None:
    assert ratio_log_e(np.ones(30, dtype=bool), 0.5).max() >= log_threshold(RATIO_LEVEL)
    assert ratio_log_e(np.random.default_rng(0).random(100) < 0.9, 0.5).max() >= log_threshold(RATIO_LEVEL)


def test_units_that_met_both_variants_void_the_verdict_when_they_are_many() -> None:
    units = rates(0, 1_000, 0.2, 0.2)
    few = Units(units.challenger, units.value, mixed=5)
    many = Units(units.challenger, units.value, mixed=50)
    assert judge(few, Design(0.5, 0.05)).verdict != "invalid"
    assert judge(few, Design(0.5, 0.05)).warnings == ["5 units met both variants and are left out"]
    assert "met both variants" in judge(many, Design(0.5, 0.05)).reasons[0]


def wins(found: Judged) -> bool:
    return found.verdict in ("challenger_wins", "champion_wins")


@pytest.mark.parametrize(("rate", "share"), [(0.5, 0.5), (0.03, 0.5), (0.2, 0.1)])
def test_equal_rates_have_a_winner_in_at_most_alpha_of_tests_looked_at_after_every_unit(
    rate: float, share: float
) -> None:
    design = Design(share=share, mde=0.05, alpha=0.1)
    false = sum(wins(judge(rates(seed, 1_500, rate, rate, share), design)) for seed in range(200))
    assert false <= at_most(200, 0.1)


def test_equal_heavy_tailed_outcomes_have_a_winner_in_at_most_alpha_of_tests() -> None:
    false = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        units = Units(random.random(3_000) < 0.5, random.lognormal(0.0, 1.0, 3_000))
        false += wins(judge(units, Design(share=0.5, mde=0.3, alpha=0.1, upper=None, variance=4.7)))
    assert false <= at_most(400, 0.1)


def test_the_confidence_sequence_covers_the_difference_at_all_looks_at_once() -> None:
    missed = 0
    for seed in range(200):
        effect = judge(rates(seed, 1_500, 0.3, 0.4), Design(share=0.5, mde=0.1, alpha=0.1)).effect
        missed += not effect.low <= 0.1 <= effect.high
    assert missed <= at_most(200, 0.1)


def test_the_verdict_does_not_depend_on_when_it_is_asked_for() -> None:
    units, design = rates(5, 4_000, 0.2, 0.3), Design(share=0.5, mde=0.05)
    whole = judge(units, design)
    assert whole.verdict == "challenger_wins" and whole.decided_at is not None
    for count in (whole.decided_at - 1, whole.decided_at, whole.decided_at + 500):
        part = judge(Units(units.challenger[:count], units.value[:count]), design)
        assert part.verdict == ("keep_running" if count < whole.decided_at else "challenger_wins")
        assert part.decided_at == (None if count < whole.decided_at else whole.decided_at)


def test_smaller_is_better_where_the_outcome_is_to_be_minimized() -> None:
    units = rates(5, 4_000, 0.3, 0.2)
    found = judge(units, Design(share=0.5, mde=0.05, minimize=True))
    assert found.verdict == "challenger_wins"
    assert found.effect.difference == pytest.approx(0.1, abs=0.04)
    assert judge(units, Design(share=0.5, mde=0.05)).verdict == "champion_wins"


def test_no_difference_ends_in_no_relevant_gain_and_says_that_they_are_equivalent() -> None:
    found = judge(rates(1, 6_000, 0.2, 0.2), Design(share=0.5, mde=0.05))
    assert found.verdict == "no_relevant_gain"
    assert "equivalent" in found.reasons[0]
    assert -0.05 < found.effect.low <= found.effect.high < 0.05


def test_a_worse_challenger_ends_the_test_as_soon_as_it_cannot_bring_the_gain() -> None:
    """An ordinary test would go on until it is proven worse; here its users are spared that."""
    units, design = rates(7, 6_000, 0.3, 0.25), Design(share=0.5, mde=0.05)
    whole = judge(units, design)
    assert whole.verdict == "champion_wins" and whole.decided_at is not None
    stopped = judge(Units(units.challenger[: whole.decided_at], units.value[: whole.decided_at]), design)
    assert stopped.verdict == "no_relevant_gain"
    assert "equivalent" not in stopped.reasons[0]
    assert whole.decided_at < 2_000


def test_nothing_is_decided_without_units_or_with_a_few() -> None:
    empty = Units(np.zeros(0, dtype=bool), np.zeros(0))
    assert judge(empty, Design(0.5, 0.05)).verdict == "keep_running"
    assert judge(rates(0, 10, 0.2, 0.9), Design(0.5, 0.05)).verdict == "keep_running"
    assert judge(rates(0, 10, 0.2, 0.9), Design(0.5, 0.05, upper=None)).effect.low == -np.inf


def test_values_outside_of_their_bounds_are_refused() -> None:
    units = Units(np.array([True, False]), np.array([0.0, 1.5]))
    with pytest.raises(ValueError, match=r"outcome must lie in \[0, 1\]"):
        judge(units, Design(0.5, 0.05))
    with pytest.raises(ValueError, match="no number"):
        judge(Units(units.challenger, np.array([0.0, np.nan])), Design(0.5, 0.05, upper=None))
    for wrong in ({"share": 0.0, "mde": 0.1}, {"share": 0.5, "mde": 0.0}, {"share": 0.5, "mde": 2.0}):
        with pytest.raises(ValueError, match="must be"):
            Design(**wrong)


def test_a_covariate_from_before_the_test_takes_variance_away() -> None:
    random = np.random.default_rng(3)
    before = random.normal(size=4_000)
    ours = random.random(4_000) < 0.5
    value = 5.0 + before + 0.3 * random.normal(size=4_000) + 0.1 * ours
    design = Design(share=0.5, mde=0.1, upper=None, variance=1.0)
    plain, adjusted = Units(ours, value), Units(ours, value, covariate=before)
    # 91 % of the variance is the covariate's.
    assert pseudo_outcomes(adjusted, design).var() < 0.15 * pseudo_outcomes(plain, design).var()
    first, second = judge(plain, design), judge(adjusted, design)
    assert second.verdict == "challenger_wins"
    assert second.effect.high - second.effect.low < 0.5 * (first.effect.high - first.effect.low)


def test_a_segment_that_is_harmed_although_the_whole_wins_is_named() -> None:
    """Simpson's case: nine in ten gain much, one in ten loses much."""
    random = np.random.default_rng(4)
    count = 12_000
    ours, tablet = random.random(count) < 0.5, random.random(count) < 0.1
    rate = np.where(tablet, np.where(ours, 0.2, 0.5), np.where(ours, 0.6, 0.5))
    segment = np.where(tablet, "tablet", "phone").astype(object)
    found = judge(Units(ours, (random.random(count) < rate).astype(float), segment), Design(0.5, 0.02))
    assert found.verdict == "challenger_wins"
    assert {s.name: (s.harmed, s.better) for s in found.segments} == {"phone": (False, True), "tablet": (True, False)}
    assert len(found.warnings) == 1
    assert "the segment tablet is harmed" in found.warnings[0] and "wins on the whole" in found.warnings[0]


def test_ten_segments_without_an_effect_are_seldom_called_harmed() -> None:
    false = 0
    for seed in range(60):
        units = rates(seed, 1_500, 0.3, 0.3)
        segment = np.array([f"s{i}" for i in np.random.default_rng(seed).integers(0, 10, 1_500)], dtype=object)
        found = judge(Units(units.challenger, units.value, segment), Design(0.5, 0.1, alpha=0.1))
        false += any(s.harmed or s.better for s in found.segments)
    assert false <= at_most(60, 0.1)


def test_a_harmed_guardrail_ends_the_test_for_the_champion_though_the_outcome_wins() -> None:
    random = np.random.default_rng(6)
    ours = random.random(4_000) < 0.5
    value = (random.random(4_000) < np.where(ours, 0.55, 0.5)).astype(float)
    failed = (random.random(4_000) < np.where(ours, 0.2, 0.01)).astype(float)
    found = judge(Units(ours, value, guardrails={"failed": failed}), Design(0.5, 0.02))
    assert found.verdict == "champion_wins"
    assert "guardrail failed" in found.reasons[0]
    fine = judge(Units(ours, value, guardrails={"failed": np.zeros(4_000)}), Design(0.5, 0.02))
    assert not fine.guardrails[0].harmed and fine.verdict != "champion_wins"
