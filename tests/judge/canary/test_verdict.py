"""The verdict on a canary, with the counter-examples that break the point checks of canary tools."""

from dataclasses import replace

import numpy as np

from tests.helpers.canary_traffic import RULES, traffic, verdicts
from tools.judge.canary.quality import Evidence, Rules
from tools.judge.canary.verdict import judge, trace


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
