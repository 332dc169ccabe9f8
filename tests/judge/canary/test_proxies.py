"""Signs without labels: they may hold a promotion and nothing else."""

from dataclasses import replace

import pytest

from tests.helpers.canary_traffic import DELAY, LATE, RULES, holdout, traffic, with_predictions
from tools.judge.canary.proxies import Holdout
from tools.judge.canary.verdict import judge, trace


def test_a_challenger_that_disagrees_more_than_on_the_holdout_is_held_until_the_labels_decide():
    before = holdout(with_predictions(traffic(1500, 10), 11))
    n, unlabelled = 3000, replace(RULES, label_delay=3000)
    strange = with_predictions(traffic(n, 12, loss=0.1), 13)
    found = judge(strange, unlabelled, before)
    assert (found.verdict, found.held) == ("wait", True), "proxies hold; they never roll back"
    assert any(reason.startswith("disagreement: ") for reason in found.reasons)
    alarm = {p.name: p.raised_after for p in found.proxies}["disagreement"]
    assert alarm is not None and alarm < 1000
    # A challenger that disagrees as much because it is far better: once those requests are labelled, labels decide.
    better = replace(
        strange,
        **{f"champion_{what}": strange.challenger_error for what in ("error", "loss")},
        **{f"challenger_{what}": strange.champion_error for what in ("error", "loss")},
        champion_prediction=strange.challenger_prediction,
        challenger_prediction=strange.champion_prediction,
    )
    traced = trace(better, LATE, before)
    first = traced.first("promote")
    assert first is not None and first >= DELAY + alarm - 1
    assert traced.held[: first - 1].any() and not traced.held[first - 1]


def test_proxies_rarely_hold_a_challenger_that_behaves_as_on_the_holdout():
    held = 0
    for seed in range(100):
        before = holdout(with_predictions(traffic(1000, 1000 + seed), seed))
        made = with_predictions(traffic(1500, seed), 2000 + seed)
        held += bool(trace(made, replace(RULES, label_delay=1500), before).held.any())
    assert held <= 5


def test_scores_of_other_rows_are_no_holdout():
    one, other = (holdout(with_predictions(traffic(100, 14), seed)).champion for seed in (15, 16))
    with pytest.raises(ValueError, match="same rows"):
        Holdout(one, other)
