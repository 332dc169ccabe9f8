"""A/B tests that are looked at while they run: false winners, units to a verdict, sample ratio alarms.

    python bench/ab_test.py [--tests 400]

Three rules on the same simulated units, a look after every hundredth one:

- z test once: planned with the textbook formula, looked at only at the end. Valid, and what planning tools assume.
- z test, peeked: the same, stopped at the first look with p < alpha. What dashboards invite people to do.
- ours: `tools.judge.ab.verdict`, looked at after every unit, at most the units of `tools.judge.ab.plan`.

Doubt: units are independent draws from two rates (no seasons, no novelty effect), and the sequential rule may stop for
"no relevant gain", which the z tests cannot. "Winner" means challenger or champion is declared better; the units of
tests that never end are counted as the limit. Heavy users: a tenth of the units bring twenty requests with one outcome
for all of them, the others one; a rule that counts requests takes them for twenty observations.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.stats import chi2, norm

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.judge.ab.outcomes import Design, Units, ratio_log_e
from tools.judge.ab.plan import SamplePlan, plan, rate_variance
from tools.judge.ab.verdict import RATIO_LEVEL, judge
from tools.judge.sequential import log_threshold

ALPHA, POWER, RATE, MDE, EVERY = 0.05, 0.8, 0.2, 0.05, 100


def z_scores(ours: np.ndarray, value: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """The pooled two-proportion z statistic after each look, positive where the challenger is ahead."""
    n1, s1 = np.cumsum(ours)[looks - 1], np.cumsum(value * ours)[looks - 1]
    n0, s0 = looks - n1, np.cumsum(value)[looks - 1] - s1
    pooled = (s0 + s1) / looks
    spread = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n0 + 1 / n1), 1e-12))
    return (s1 / n1 - s0 / n0) / spread


def verdicts(tests: int, lift: float, planned: SamplePlan) -> dict[str, tuple[float, float, float, float]]:
    """Rule -> shares that name the challenger and the champion, mean and median units used."""
    bar = float(norm.isf(ALPHA / 2))
    design = Design(0.5, MDE, ALPHA, variance=rate_variance(RATE, MDE, 0.5))
    out: dict[str, list[tuple[int, int, int]]] = {"z test once": [], "z test, peeked": [], "ours": []}
    for seed in range(tests):
        random = np.random.default_rng(seed)
        ours = random.random(planned.units) < 0.5
        value = (random.random(planned.units) < np.where(ours, RATE + lift, RATE)).astype(float)
        once = float(z_scores(ours, value, np.array([planned.fixed_units]))[0])
        out["z test once"].append((once > bar, once < -bar, planned.fixed_units))
        looks = np.arange(EVERY, planned.units + 1, EVERY)
        z = z_scores(ours, value, looks)
        at = int(np.argmax(np.abs(z) > bar)) if (np.abs(z) > bar).any() else -1
        out["z test, peeked"].append((z[at] > bar, z[at] < -bar, int(looks[at])))
        found = judge(Units(ours, value), design)
        used = found.decided_at or planned.units
        out["ours"].append((found.verdict == "challenger_wins", found.verdict == "champion_wins", used))
    return {
        name: (
            *np.mean([row[:2] for row in rows], axis=0),
            np.mean([r[2] for r in rows]),
            np.median([r[2] for r in rows]),
        )
        for name, rows in out.items()
    }


def heavy_users(tests: int) -> tuple[float, float]:
    """False winners of a z test looked at once that counts requests, and of ours, in A/A tests with heavy users."""
    counted = by_unit = 0
    bar = float(norm.isf(ALPHA / 2))
    for seed in range(tests):
        random = np.random.default_rng(10_000 + seed)
        ours, value = random.random(2_000) < 0.5, (random.random(2_000) < RATE).astype(float)
        times = np.where(random.random(2_000) < 0.1, 20, 1)
        requests = np.repeat(ours, times), np.repeat(value, times)
        counted += abs(z_scores(*requests, np.array([int(times.sum())]))[0]) > bar
        by_unit += judge(Units(ours, value), Design(0.5, MDE, ALPHA)).verdict in ("challenger_wins", "champion_wins")
    return counted / tests, by_unit / tests


def ratio_alarms(tests: int, real: float, count: int) -> tuple[float, float, float]:
    """Share of tests in which a chi-squared test peeked at, and ours, call a mismatch; our median units to it."""
    peeked = ours_found = 0
    looks = np.arange(EVERY, count + 1, EVERY)
    first: list[float] = []
    for seed in range(tests):
        ours = np.random.default_rng(20_000 + seed).random(count) < real
        deviation = np.cumsum(ours)[looks - 1] - looks / 2
        peeked += bool((deviation**2 / (looks / 4) > chi2.isf(RATIO_LEVEL, 1)).any())
        log_e = ratio_log_e(ours, 0.5)
        crossed = log_e >= log_threshold(RATIO_LEVEL)
        ours_found += bool(crossed.any())
        first.append(float(np.argmax(crossed)) + 1 if crossed.any() else np.inf)
    return peeked / tests, ours_found / tests, float(np.median(first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=400, help="simulated tests per row")
    tests = parser.parse_args().tests
    planned = plan(rate_variance(RATE, MDE, 0.5), MDE, 0.5, ALPHA, POWER)
    print(f"Rate {RATE:g}, MDE {MDE:g}, alpha {ALPHA:g}, power {POWER:g}, {tests} tests per row.")
    print(f"Planned: {planned.units} units at most (ours), half of the tests within {planned.typical_units};")
    print(f"fixed horizon {planned.fixed_units}.\n")
    print("| true difference | rule | challenger wins | champion wins | mean units | median units |")
    print("|--:|---|--:|--:|--:|--:|")
    for lift in (0.0, MDE / 2, MDE, 2 * MDE, -MDE):
        for name, (ours, theirs, mean, median) in verdicts(tests, lift, planned).items():
            print(f"| {lift:+.3f} | {name} | {ours:.1%} | {theirs:.1%} | {mean:,.0f} | {median:,.0f} |")
    requests, units = heavy_users(tests)
    print("\n| A/A test with heavy users, 2,000 units | false winners |\n|---|--:|")
    print(f"| z test once, on requests | {requests:.1%} |\n| ours, on units, at every unit | {units:.1%} |")
    print(f"\n| real share (planned 50 %) | units | chi-squared, peeked | ours, level {RATIO_LEVEL:g} | our median |")
    print("|--:|--:|--:|--:|--:|")
    for real, count in ((0.5, 20_000), (0.52, 20_000), (0.55, 20_000)):
        peeked, found, first = ratio_alarms(tests, real, count)
        told = f"{first:,.0f}" if np.isfinite(first) else "none"
        print(f"| {real:.0%} | {count:,} | {peeked:.1%} | {found:.1%} | {told} |")


if __name__ == "__main__":
    main()
