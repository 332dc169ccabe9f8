"""The verdict on a canary, with the counter-examples that break today's canary tools (TARGETS.md, section 2)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from tools.judge.canary.checks import within_tolerance_log_e
from tools.judge.canary.quality import Evidence, Rules, quality_of
from tools.judge.canary.verdict import judge, trace

RULES = Rules("accuracy", "binary")


def traffic(
    requests: int,
    seed: int,
    *,
    loss: float = 0.0,
    failures: tuple[float, float] = (0.0, 0.0),
    latency_ms: tuple[float, float] = (10.0, 10.0),
    share: float = 0.05,
    **columns: Any,
) -> Evidence:
    """Simulated shadow traffic: both models are wrong on 10 % of requests together and on 4 % each alone."""
    random = np.random.default_rng(seed)
    draw = random.random(requests)
    both = draw < 0.10
    champion = (both | ((draw > 0.2) & (draw < 0.24))).astype(float)
    challenger = (both | ((draw > 0.3) & (draw < 0.34 + loss))).astype(float)
    status = [np.where(random.random(requests) < rate, 500.0, 200.0) for rate in failures]
    known = [np.where(s == 200, e, np.nan) for s, e in zip(status, (champion, challenger), strict=True)]
    made = Evidence(
        served_by_challenger=random.random(requests) < share,
        champion_error=known[0],
        challenger_error=known[1],
        champion_loss=known[0],
        challenger_loss=known[1],
        champion_status=status[0],
        challenger_status=status[1],
        champion_latency_ms=latency_ms[0] * random.lognormal(0, 0.3, requests),
        challenger_latency_ms=latency_ms[1] * random.lognormal(0, 0.3, requests),
    )
    return replace(made, **columns)


def verdicts(requests: int, seeds: int, rules: Rules = RULES, every: int = 50, **options: Any) -> dict[str, int]:
    """How often each verdict came first when somebody looks `every` so many requests."""
    counted = {"promote": 0, "rollback": 0, "wait": 0}
    for seed in range(seeds):
        traced = trace(traffic(requests, seed, **options), rules)
        rollback, promote = traced.first("rollback", every), traced.first("promote", every)
        if rollback is not None and (promote is None or rollback <= promote):
            counted["rollback"] += 1
        else:
            counted["wait" if promote is None else "promote"] += 1
    return counted


def test_an_equal_canary_at_995_per_mille_success_is_promoted_and_rarely_rolled_back():
    # Flagger rolls back 59-91 % of these.
    counted = verdicts(3000, 200, failures=(0.005, 0.005))
    assert counted["rollback"] <= 10
    assert counted["promote"] >= 150


def test_a_canary_whose_success_is_97_percent_is_never_promoted():
    # Flagger with threshold 10 at 60 requests a minute promotes 78 % of these.
    counted = verdicts(600, 200, every=60, failures=(0.0, 0.03))
    assert counted["promote"] == 0
    assert counted["rollback"] >= 160


def test_a_canary_whose_failures_show_on_split_traffic_alone_is_rolled_back():
    counted = []
    for seed in range(20):
        made = traffic(4000, seed, failures=(0.005, 0.10), share=0.05)
        mine = made.served_by_challenger
        made = replace(
            made,
            champion_status=np.where(mine, np.nan, made.champion_status),
            challenger_status=np.where(mine, made.challenger_status, np.nan),
        )
        counted.append(judge(made, RULES).verdict)
    assert counted.count("rollback") >= 18


def test_no_request_and_no_label_mean_wait():
    empty = traffic(0, 0)
    assert judge(empty, RULES).verdict == "wait"
    unlabelled = traffic(500, 0)
    nothing = np.full(500, np.nan)
    found = judge(
        replace(
            unlabelled, champion_error=nothing, challenger_error=nothing, champion_loss=nothing, challenger_loss=nothing
        ),
        RULES,
    )
    assert found.verdict == "wait"
    assert "no data means wait" in found.reasons[0].lower()


def test_too_few_labels_never_promote_however_good_the_challenger():
    made = traffic(3000, 1)
    better = np.zeros(3000)
    late = np.arange(3000) >= 60
    hidden = {
        name: np.where(late, np.nan, values)
        for name, values in {
            "champion_error": np.ones(3000),
            "challenger_error": better,
            "champion_loss": np.ones(3000),
            "challenger_loss": better,
        }.items()
    }
    found = judge(replace(made, **hidden), RULES)
    assert found.verdict == "wait"
    assert "60 labelled" in found.reasons[0]


def test_seven_of_ten_losses_at_100_against_all_1_are_no_pass():
    # Kayenta passes this (issue 780).
    for requests, valid in ((10, {"wait", "rollback"}), (200, {"rollback"})):
        loss = np.where(np.arange(requests) % 10 < 7, 100.0, 1.0)
        made = replace(
            traffic(requests, 2),
            champion_error=np.ones(requests),
            challenger_error=loss,
            champion_loss=np.ones(requests),
            challenger_loss=loss,
            y_true=np.ones(requests),
        )
        assert judge(made, Rules("mae", "regression")).verdict in valid


def test_seven_of_ten_latencies_at_100_ms_against_all_1_ms_are_rolled_back():
    requests = 4000
    made = replace(
        traffic(requests, 3),
        champion_latency_ms=np.ones(requests),
        challenger_latency_ms=np.where(np.arange(requests) % 10 < 7, 100.0, 1.0),
    )
    assert judge(made, RULES).verdict == "rollback"


def test_a_latency_with_the_same_median_and_a_longer_tail_is_not_promoted():
    # Variance increases pass in Kayenta.
    requests, verdict = 3000, []
    for seed in range(20):
        random = np.random.default_rng(seed)
        slow = np.where(random.random(requests) < 0.25, 100.0, 10.0) * random.lognormal(0, 0.05, requests)
        made = replace(traffic(requests, seed), challenger_latency_ms=slow)
        verdict.append(judge(made, replace(RULES, max_latency_ms=50.0)).verdict)
        assert judge(made, RULES).verdict != "promote"
    assert verdict.count("rollback") == 20


def test_sparse_failures_of_the_challenger_are_found():
    counted = verdicts(3000, 50, failures=(0.0, 0.01))
    assert counted["promote"] == 0
    assert counted["rollback"] >= 45


def test_all_checks_together_roll_back_at_most_5_percent_of_equal_canaries():
    segments = np.array(["north", "south", "east"])[np.arange(2000) % 3]
    rules = replace(RULES, max_latency_ms=17.0, max_error_rate=0.01)
    counted = verdicts(2000, 300, rules, every=1, failures=(0.01, 0.01), segment=segments)
    assert counted["rollback"] <= 15


def test_a_loss_of_four_points_is_rolled_back_and_a_gain_is_promoted_sooner_than_equality():
    assert verdicts(2000, 60, loss=0.04)["rollback"] >= 57
    gain = [trace(traffic(3000, s, loss=-0.03), RULES).first("promote") or 3000 for s in range(40)]
    equal = [trace(traffic(3000, s), RULES).first("promote") or 3000 for s in range(40)]
    assert np.median(gain) < np.median(equal)


def test_a_loss_as_large_as_the_tolerance_is_promoted_in_at_most_5_percent():
    counted = verdicts(3000, 200, loss=0.02)
    assert counted["promote"] <= 10


def test_looking_more_often_and_later_leaves_the_judgement_of_a_prefix_unchanged():
    whole = traffic(1500, 4, loss=0.03)
    columns = {name: values for name, values in vars(whole).items() if values is not None}
    traced = trace(whole, RULES)
    for n in (40, 300, 900):
        prefix = Evidence(**{name: values[:n] for name, values in columns.items()})
        found = judge(prefix, RULES)
        expected = "rollback" if traced.rollback[n - 1] else "promote" if traced.promote[n - 1] else "wait"
        assert found.verdict == expected
    assert judge(whole, RULES).trajectory == judge(whole, RULES).trajectory


def test_a_regression_in_one_segment_is_found_where_the_whole_looks_equal():
    requests = 4000
    segment = np.where(np.arange(requests) % 4 == 0, "small", "large")
    made = traffic(requests, 5)
    random = np.random.default_rng(6)
    worse = (segment == "small") & (random.random(requests) < 0.08)
    better = (segment == "large") & (made.champion_error == 1) & (random.random(requests) < 0.2)
    errors = np.where(worse, 1.0, np.where(better, 0.0, made.champion_error))
    made = replace(made, challenger_error=errors, challenger_loss=errors, segment=segment)
    found = judge(made, RULES)
    assert found.verdict == "rollback"
    assert "segment small" in found.reasons[0]
    assert judge(replace(made, segment=None), RULES).verdict != "rollback"


@pytest.mark.parametrize(("noise", "expected"), [(0.5, "promote"), (3.0, "rollback")])
def test_a_ranking_metric_is_judged_by_the_order_of_probabilities(noise: float, expected: str):
    requests = 3000
    random = np.random.default_rng(7)
    positive = (random.random(requests) < 0.1).astype(float)
    logit = 3 * positive + random.normal(0, 1, requests)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    made = replace(
        traffic(requests, 8),
        positive=positive,
        champion_probability=sigmoid(logit),
        challenger_probability=sigmoid(logit - 2 + random.normal(0, noise, requests)),
    )
    assert judge(made, Rules("roc_auc", "binary", tolerance=0.05)).verdict == expected


def ranked(seed: int, requests: int, worse: float, share: float = 0.2, auc: float = 0.8) -> Evidence:
    """Two models whose scores are normal per class and resemble each other; the challenger's AUC is `worse` lower."""
    random = np.random.default_rng([seed, 5])
    positive = random.random(requests) < share
    shared = random.standard_normal(requests)
    own = 0.8 * shared + 0.6 * random.standard_normal(requests)
    apart = [np.sqrt(2) * norm.ppf(value) for value in (auc, auc - worse)]
    made = traffic(requests, seed)
    return replace(
        made,
        positive=positive.astype(float),
        champion_probability=norm.cdf(shared + apart[0] * positive),
        challenger_probability=norm.cdf(own + apart[1] * positive),
    )


def test_a_challenger_whose_auc_is_worse_by_the_tolerance_is_rarely_proven_within_it():
    proven = [
        within_tolerance_log_e(quality_of(ranked(seed, 1500, 0.02), Rules("roc_auc", "binary")), 1500)[-1]
        for seed in range(100)
    ]
    assert np.mean(np.array(proven) >= np.log(20)) <= 0.05


def test_an_equal_auc_is_proven_with_fewer_requests_than_blocks_alone_need():
    with_all, blocks = [], []
    for seed in range(40):
        quality = quality_of(ranked(seed, 4000, 0.0), Rules("roc_auc", "binary"))
        with_all.append(within_tolerance_log_e(quality, 4000)[-1])
        blocks.append(within_tolerance_log_e(replace(quality, running=None), 4000)[-1])
    needed = np.log(20)
    assert np.mean(np.array(with_all) >= needed) >= np.mean(np.array(blocks) >= needed) + 0.15


def test_the_running_metric_is_the_metric_of_the_rows_so_far():
    made = ranked(3, 1200, 0.05)
    of_all = quality_of(made, Rules("roc_auc", "binary")).running
    assert of_all is not None
    running = of_all()
    assert len(running.count) > 10
    assert made.positive is not None
    for n, row, harm in zip(running.count, running.rows, running.harm, strict=True):
        auc = [
            roc_auc_score(made.positive[:n], p[:n]) for p in (made.champion_probability, made.challenger_probability)
        ]
        assert row == n - 1 and harm == pytest.approx(auc[0] - auc[1])
    assert min(made.positive[: running.count[0]].sum(), (1 - made.positive[: running.count[0]]).sum()) == 50


def test_too_few_rows_of_a_class_leave_it_to_the_blocks():
    made = ranked(3, 200, 0.0, share=0.05)
    of_all = quality_of(made, Rules("roc_auc", "binary")).running
    assert of_all is not None
    running = of_all()
    assert len(running.count) == 0
    assert np.isfinite(within_tolerance_log_e(quality_of(made, Rules("roc_auc", "binary")), 200)).all()


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2", "mape"])
def test_regression_losses_are_judged_whatever_their_unit(metric: str):
    requests = 2000
    random = np.random.default_rng(9)
    for unit in (1e-3, 1e6):
        champion = np.abs(random.normal(0, unit, requests))
        worse = np.abs(random.normal(0, 1.4 * unit, requests))
        made = replace(
            traffic(requests, 10),
            champion_error=champion,
            champion_loss=champion,
            challenger_error=worse,
            challenger_loss=worse,
            y_true=np.full(requests, 10 * unit),
        )
        assert judge(made, Rules(metric, "regression")).verdict == "rollback"
        swapped = replace(made, champion_loss=worse, challenger_loss=champion)
        assert judge(swapped, Rules(metric, "regression")).verdict == "promote"


def test_a_metric_of_another_task_is_refused():
    with pytest.raises(ValueError, match="valid: accuracy"):
        judge(traffic(10, 0), Rules("mae", "binary"))
