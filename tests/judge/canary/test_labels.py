"""A canary whose labels come late: when a label counts, what is held back until then, and the probation after it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks import canary
from tasks.base import Evidence as Calls
from tasks.base import Inputs
from tasks.goal import CanarySection, Goal
from tests.judge.canary.test_canary import RULES, traffic
from tools.judge.canary.maturity import maturity_of
from tools.judge.canary.probation import judge_probation
from tools.judge.canary.proxies import Holdout
from tools.judge.canary.quality import Evidence, Rules
from tools.judge.canary.verdict import judge, trace
from tools.judge.estimates import Scores

DELAY = 400
LATE = replace(RULES, label_delay=DELAY)


def hide(made: Evidence, hidden: Any) -> Evidence:
    """The evidence while the labels of the `hidden` requests are not there."""
    names = ("champion_error", "challenger_error", "champion_loss", "challenger_loss")
    return replace(made, **{name: np.where(hidden, np.nan, getattr(made, name)) for name in names})


def with_predictions(made: Evidence, seed: int) -> Evidence:
    positive = np.random.default_rng(seed).random(len(made)) < 0.3
    said = {
        f"{who}_prediction": np.where(positive ^ (getattr(made, f"{who}_error") == 1), "yes", "no")
        for who in ("champion", "challenger")
    }
    return replace(made, positive=positive.astype(float), **said)


def holdout(made: Evidence) -> Holdout:
    assert made.positive is not None and made.champion_prediction is not None
    assert made.challenger_prediction is not None
    truth = np.where(made.positive > 0, "yes", "no")
    return Holdout(
        Scores(truth, made.champion_prediction, made.champion_loss, None, "yes"),
        Scores(truth, made.challenger_prediction, made.challenger_loss, None, "yes"),
    )


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


@pytest.mark.parametrize(("loss", "verdict"), [(0.08, "restore"), (-0.03, "confirmed")])
def test_probation_judges_only_what_was_not_judged_before(loss: float, verdict: str):
    good, later = traffic(2000, 17, loss=-0.03), traffic(1500, 18, loss=loss)
    names = [name for name, values in vars(good).items() if values is not None]
    whole = Evidence(**{name: np.concatenate([getattr(good, name), getattr(later, name)]) for name in names})
    assert judge(whole, LATE).verdict != "rollback", "the whole hides what came after the promotion"
    found = judge_probation(whole.since(2000), LATE)
    assert found.verdict == verdict
    assert found.requests == 1500 and found.labelled == 1500 - DELAY
    assert judge_probation(whole.since(3400), LATE).verdict == "open"


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


def test_a_canary_that_ends_without_a_measurement_is_no_success():
    # Argo counts a run that was terminated before any measurement as successful.
    goal = Goal.model_validate(
        {
            "name": "g",
            "task": "binary",
            "target": "y",
            "metric": "accuracy",
            "data": {"reference": "a.csv", "current": "b.csv"},
        }
    )
    claimed = canary.Result(
        verdict="promote",
        undecided=False,
        requests=0,
        champion_value=None,
        challenger_value=None,
        evidence_path="",
        reasons=[],
        next_row=0,
        summary="",
    )
    assert "not judged" in canary.guardrail(claimed, Calls((), Inputs(goal, {})))[0]


def test_a_table_of_labels_needs_the_delay_after_which_they_are_due():
    assert CanarySection(labels="labels.csv", label_delay_requests=500).min_label_share == 0.9
    with pytest.raises(ValueError, match="label_delay_requests"):
        CanarySection(labels="labels.csv")
