"""Labels that come late: which count, and what waits for them."""

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.canary_traffic import DELAY, LATE, RULES, hide, traffic, with_predictions
from tools.judge.canary.maturity import maturity_of
from tools.judge.canary.quality import Evidence
from tools.judge.canary.verdict import judge, trace


def test_requests_younger_than_the_delay_count_for_neither_verdict():
    young = np.arange(2000) >= 2000 - DELAY
    for loss in (0.0, 0.06):
        made = traffic(2000, 1, loss=loss)
        early, late = trace(made, LATE), trace(hide(made, young), LATE)
        assert np.array_equal(early.promote, late.promote)
        assert np.array_equal(early.rollback, late.rollback)
        at_once = trace(made, RULES)
        shift = (trace(made, LATE).first("rollback") or 0) - (at_once.first("rollback") or 0)
        assert shift == (DELAY if loss else 0), "a label counts exactly the delay later"


def test_no_request_is_old_enough_means_wait_and_says_so():
    found = judge(traffic(DELAY, 2, loss=-0.05), LATE)
    assert (found.verdict, found.mature, found.label_share) == ("wait", 0, None)
    assert f"no request is older than the {DELAY} requests" in " ".join(found.reasons)


def test_a_promotion_waits_until_enough_of_the_old_requests_are_labelled():
    made = traffic(3000, 3, loss=-0.03)
    missing = np.random.default_rng(4).random(3000) < 0.3
    found = judge(hide(made, missing), LATE)
    assert found.verdict == "wait"
    assert found.label_share == pytest.approx(0.7, abs=0.03)
    assert "(70%)" in found.reasons[0] or "90% are needed" in " ".join(found.reasons)
    assert judge(hide(made, missing), replace(LATE, min_label_share=0.65)).verdict == "promote"
    assert judge(made, LATE).verdict == "promote"


def test_labels_that_lack_in_one_kind_of_request_hold_the_promotion_though_most_are_there():
    made = with_predictions(traffic(4000, 5, loss=-0.03), 6)
    assert made.champion_prediction is not None
    random = np.random.default_rng(7).random(4000)
    scattered = random < 0.08
    assert judge(hide(made, scattered), LATE).verdict == "promote"
    lacking = (made.champion_prediction == "yes") & (random < 0.25)  # as many are missing, all where it says yes
    found = judge(hide(made, lacking), LATE)
    assert found.label_share is not None and found.label_share > LATE.min_label_share
    assert found.verdict == "wait"
    assert "in the requests predicted yes" in " ".join(found.reasons)


def positives_first(seed: int, loss: float) -> Evidence:
    """Positives' labels are there at once, the others after the delay; the challenger trades one for the other."""
    random, n = np.random.default_rng(seed), 3000
    draw = random.random(n)
    positive = draw < 0.3
    champion = positive & (draw < 0.03 + max(loss, 0)) if loss else ~positive & (draw > 0.97)
    challenger = ~positive & (draw > 0.97 - 2 * max(loss, 0)) if loss else positive & (draw < 0.03)
    arrived = np.where(positive, np.arange(n) + 1, np.arange(n) + 1 + DELAY).astype(float)
    made = traffic(n, seed)
    errors = {"champion": champion.astype(float), "challenger": challenger.astype(float)}
    return replace(
        made,
        labelled_after=arrived,
        **{f"{who}_{what}": wrong for who, wrong in errors.items() for what in ("error", "loss")},
    )


def test_positives_whose_labels_come_first_mislead_only_a_judge_without_the_gate():
    naive = replace(RULES, min_label_share=0.0)
    misled = gated = 0
    for seed in range(20):
        made = positives_first(seed, 0.0)
        misled += trace(made, naive).first("rollback", 50) is not None
        gated += trace(made, LATE).first("rollback", 50) is not None
    assert misled >= 15
    assert gated <= 3  # at most 5 % are expected


def test_a_label_that_comes_later_than_stated_counts_when_it_comes():
    made = traffic(3000, 8, loss=0.06)
    stragglers = np.where(np.random.default_rng(9).random(3000) < 0.3, np.arange(3000) + 2.0 * DELAY, np.nan)
    late = replace(made, labelled_after=stragglers)
    traced, prompt = trace(late, LATE), trace(made, LATE)
    assert (traced.first("rollback") or 0) > (prompt.first("rollback") or 0) > 0
    # A look at a prefix sees what the whole sees there, although the labels came in another order than the requests.
    for n in (700, 1200, 2000):
        cut = {name: None if v is None else v[:n] for name, v in vars(late).items()}
        known = np.nan_to_num(stragglers[:n], nan=0) <= n
        prefix = trace(hide(Evidence(**cut), ~known), LATE)
        assert np.allclose(prefix.checks[0].log_e, traced.checks[0].log_e[:n])
        assert np.array_equal(maturity_of(hide(Evidence(**cut), ~known), LATE).labelled, traced.maturity.labelled[:n])
