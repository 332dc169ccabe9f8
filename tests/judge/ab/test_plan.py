"""The plan of an A/B test: units, days, and the price of looking."""

import numpy as np
import pytest
from scipy.stats import binom

from tools.judge.ab.outcomes import Design, Units
from tools.judge.ab.plan import plan, rate_variance, standard_times
from tools.judge.ab.verdict import judge


def rates(seed: int, count: int, champion: float, challenger: float, share: float = 0.5) -> Units:
    """Units whose outcome is 1 with the variant's rate."""
    random = np.random.default_rng(seed)
    ours = random.random(count) < share
    return Units(ours, (random.random(count) < np.where(ours, challenger, champion)).astype(float))


def test_the_planned_units_reach_the_power_in_simulated_tests() -> None:
    """At the planned units 80 % of tests find an effect of the MDE: not fewer, and not many more."""
    tests = 300
    variance = rate_variance(0.3, 0.1, 0.5)
    planned = plan(variance, 0.1, 0.5, 0.05, 0.8)
    design = Design(0.5, 0.1, variance=variance)
    ends = [judge(rates(seed, planned.units, 0.3, 0.4), design) for seed in range(tests)]
    found = sum(end.verdict == "challenger_wins" for end in ends)
    assert binom.ppf(0.0005, tests, 0.8) <= found <= binom.ppf(0.9995, tests, 0.88)
    typical = float(np.median([end.decided_at or np.inf for end in ends]))
    assert typical == pytest.approx(planned.typical_units, rel=0.2)


def test_the_plan_of_a_mean_holds_for_the_asymptotic_test_too() -> None:
    tests = 300
    planned = plan(1.0, 0.2, 0.5, 0.05, 0.8)
    found = 0
    for seed in range(tests):
        random = np.random.default_rng(seed)
        ours = random.random(planned.units) < 0.5
        value = random.normal(size=planned.units) + 0.2 * ours
        found += judge(Units(ours, value), Design(0.5, 0.2, upper=None, variance=1.0)).verdict == "challenger_wins"
    assert binom.ppf(0.0005, tests, 0.76) <= found <= binom.ppf(0.9995, tests, 0.9)


def test_the_plan_tells_the_price_of_looking_and_the_days_in_whole_weeks() -> None:
    planned = plan(0.16, 0.02, 0.5, 0.05, 0.8, units_per_day=1_000)
    assert planned.fixed_units == pytest.approx(7.849 * 0.64 / 0.02**2, abs=2)  # the textbook's formula
    assert 1.4 < planned.units / planned.fixed_units < 2.0
    assert planned.typical_units < 1.1 * planned.fixed_units
    assert planned.champion_units + planned.challenger_units == planned.units
    assert planned.days is not None and planned.days % 7 == 0
    assert planned.days - 7 < planned.units / 1_000 <= planned.days


def test_more_power_and_a_stricter_level_cost_more_units() -> None:
    assert standard_times(0.05, 0.8)[0] < standard_times(0.05, 0.9)[0]
    assert standard_times(0.05, 0.8)[0] < standard_times(0.01, 0.8)[0]
    lopsided = plan(0.16, 0.02, 0.1, 0.05, 0.8)
    assert lopsided.units > 2.5 * plan(0.16, 0.02, 0.5, 0.05, 0.8).units


@pytest.mark.parametrize(
    "wrong", [{"power": 0.99}, {"alpha": 0.0}, {"mde": 0.0}, {"share": 1.0}, {"variance": 0.0}, {"units_per_day": 0.0}]
)
def test_a_plan_without_sense_is_refused(wrong: dict[str, float]) -> None:
    good = {"variance": 0.2, "mde": 0.02, "share": 0.5, "alpha": 0.05, "power": 0.8, "units_per_day": 10.0}
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        plan(**{**good, **wrong})
