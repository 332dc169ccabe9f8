"""Each check of harm: segments and latency."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.helpers.canary_traffic import RULES, traffic
from tools.judge.canary.quality import Rules
from tools.judge.canary.verdict import judge, trace


@pytest.mark.parametrize(
    ("metric", "task"),
    [("log_loss", "binary"), ("accuracy", "multiclass"), ("roc_auc", "binary"), ("mae", "regression")],
)
def test_a_regression_in_one_segment_is_found_in_any_metric_of_the_task(metric: str, task: Any):
    n = 6000
    random = np.random.default_rng(19)
    small = np.arange(n) % 4 == 0
    truth = random.random(n) < 0.4
    probability = {}
    for who, signal in (("champion", np.full(n, 0.5)), ("challenger", np.where(small, 0.0, 1.0))):
        probability[who] = 1 / (1 + np.exp(-(signal * (truth - 0.5) * 2 + random.normal(0, 1, n))))
    columns: dict[str, Any] = {"segment": np.where(small, "small", "large"), "positive": truth.astype(float)}
    for who, p in probability.items():
        wrong = (p > 0.5) != truth
        columns |= {f"{who}_probability": p, f"{who}_error": wrong.astype(float)}
        columns[f"{who}_loss"] = np.where(
            task == "regression", np.abs(truth - p), -np.log(np.clip(np.where(truth, p, 1 - p), 1e-6, 1))
        )
    made = replace(traffic(n, 20), y_true=truth.astype(float), **columns)
    found = judge(made, Rules(metric, task))
    assert found.verdict == "rollback"
    assert found.reasons[0].startswith("segment small")
    assert judge(replace(made, segment=None), Rules(metric, task)).verdict != "rollback"


def test_a_challenger_twice_as_slow_is_not_promoted_in_the_first_requests_that_do_not_show_it():
    # The old rule, no sign of harm in 20 requests, promoted some.
    for seed in range(40):
        made = traffic(4000, seed, loss=-0.03, latency_ms=(150.0, 300.0))
        assert trace(made, RULES).first("promote", 50) is None


def split(n: int, seed: int, late: tuple[float, float], share: float = 0.05) -> Any:
    """Traffic of two equal models in which requests are late, by the variant they were routed to."""
    made = traffic(n, seed, share=share)
    random = np.random.default_rng(1000 + seed)
    routed = made.served_by_challenger
    missed = random.random(n) < np.where(routed, late[1], late[0])
    return replace(
        made, routed_to_challenger=routed, served_by_challenger=routed & ~missed, late=missed.astype(np.float64)
    )


def test_a_challenger_that_alone_is_late_is_rolled_back_with_the_shares():
    found = [judge(split(1000, seed, (0.0, 0.9)), RULES) for seed in range(20)]
    assert all(each.verdict == "rollback" for each in found)
    assert found[0].reasons[0].startswith("fallbacks: the challenger is worse")


def test_a_machine_that_is_too_slow_for_both_blames_neither_and_is_named():
    found = [judge(split(2000, seed, (0.85, 0.85)), RULES) for seed in range(40)]
    assert sum(each.verdict == "rollback" for each in found) <= 1
    told = [each for each in found if each.served_by_challenger < 20]
    assert len(told) >= 30
    latency = next(reason for reason in told[0].reasons if reason.startswith("latency"))
    assert "of those routed to it were not answered in time" in latency and "% of the champion's own" in latency


def test_lateness_as_rare_as_the_champions_does_not_stop_a_promotion():
    firsts = [trace(split(4000, seed, (0.02, 0.02)), RULES).first("promote", 50) for seed in range(10)]
    plain = [trace(traffic(4000, seed), RULES).first("promote", 50) for seed in range(10)]
    assert sum(first is not None for first in firsts) >= sum(first is not None for first in plain) - 1


def test_the_slowest_answers_of_a_challenger_count_although_the_champion_gave_them():
    # Half of its answers take 30 times as long; all of these fell back, and the rest look like the champion's.
    made = split(4000, 3, (0.0, 0.5), share=0.2)
    assert made.late is not None
    slow = made.challenger_latency_ms * np.where(made.late > 0, 30.0, 1.0)
    found = trace(replace(made, challenger_latency_ms=slow), RULES)
    assert next(check for check in found.checks if check.name == "latency").crossed[-1]


def test_shadow_scores_that_were_left_out_are_no_failures_and_do_not_bend_the_comparison():
    whole = traffic(4000, 5, loss=0.03)
    missing = (np.arange(4000) % 3 == 0) & ~whole.served_by_challenger
    unknown = {
        f"challenger_{what}": np.where(missing, np.nan, getattr(whole, f"challenger_{what}"))
        for what in ("status", "error", "loss", "latency_ms")
    }
    part = judge(replace(whole, **unknown), RULES)
    assert part.labelled == 4000 - missing.sum()
    failures = next(check for check in part.checks if check.name == "failures")
    assert failures.challenger_value == 0.0 and not failures.crossed[-1]
    full = judge(whole, RULES)
    assert part.difference is not None and full.difference is not None
    assert abs(part.difference - full.difference) < 0.01


BOUND = replace(RULES, max_latency_ms=20.0)


def latency_of(found: Any) -> Any:
    return next(check for check in found.checks if check.name == "latency")


@pytest.mark.parametrize("ms", [60.0, 22.0])
def test_a_bound_that_a_slow_machine_makes_both_miss_rolls_nothing_back(ms: float):
    for seed in range(10):
        found = judge(traffic(1500, seed, loss=-0.03, latency_ms=(ms, ms), share=0.2), BOUND)
        assert found.verdict == "wait" and not found.harm_ruled_out, "more answers of it would prove nothing"
        assert not latency_of(found).passed[-1]
    told = next(reason for reason in found.reasons if reason.startswith("latency"))
    assert "at most 20 accepted; the champion takes" in told and "this machine may be what is slow" in told


def test_a_bound_that_the_challenger_alone_misses_rolls_it_back_on_an_idle_machine_and_a_busy_one():
    for seed in range(10):
        assert judge(traffic(1500, seed, latency_ms=(10.0, 60.0)), BOUND).verdict == "rollback"
        # A third of all answers are late for want of a core, whoever gives them.
        made = traffic(1500, seed, latency_ms=(10.0, 60.0))
        late = 1 + 30.0 * (np.random.default_rng(seed).random((2, 1500)) < 1 / 3)
        busy = {f"{who}_latency_ms": getattr(made, f"{who}_latency_ms") * by for who, by in
                zip(("champion", "challenger"), late, strict=True)}  # fmt: skip
        found = judge(replace(made, **busy), BOUND)
        assert found.verdict == "rollback" and found.reasons[0].startswith("latency: the challenger is worse")


def test_a_challenger_that_keeps_the_bound_is_promoted():
    found = judge(traffic(3000, 4, loss=-0.03, latency_ms=(8.0, 9.0)), BOUND)
    assert found.verdict == "promote"
