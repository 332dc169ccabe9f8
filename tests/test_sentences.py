"""What people are told is true: sentences over grids of results, searched for contradictions in themselves."""

import itertools
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest

from crew import words
from crew.outcome import Outcome
from tasks import assess_champion, foresee
from tests.helpers.canary_traffic import traffic
from tests.helpers.results import data_like
from tools.integrations.judge.champion_spec import RetrainingDecision, RetrainingGain
from tools.integrations.judge.outlook_spec import ThresholdForecast
from tools.judge.canary.probation import judge_probation
from tools.judge.canary.quality import Rules
from tools.judge.canary.verdict import judge
from tools.judge.champion.compare import Comparison, compare
from tools.judge.champion.performance import estimate_performance
from tools.judge.champion.retrain import decide
from tools.judge.champion.retrain_plan import plan_retraining
from tools.judge.drift.harm import LossChange, severity_of
from tools.judge.estimates import Scores
from tools.judge.outlook.forecast import forecast_crossing

NUMBER = r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"


def contradictions(text: str) -> list[str]:
    """What in a text cannot all be so, or is no number that people would say."""
    wrong: list[str] = []

    def unless(fine: bool, what: str) -> None:
        if not fine:
            wrong.append(f"{what}: {text}")

    unless(re.search(r"(?:lose|less|more|better by|worse by|by) -\d", text) is None, "an amount below zero")
    unless(re.search(r"probability(?: that it pays is)? (?:100|0)%", text) is None, "certain by draws")
    unless(not ("no trend" in text and "is expected to cross" in text), "expected without a trend")
    unless(re.search(r"\b(?:nan|inf|None)\b", text) is None, "no number")
    for p, level in re.findall(rf"p = {NUMBER}, tested at {NUMBER}", text):
        denied = re.search(r"no (?:fall|rise) is proven", text) is not None
        if float(p) > float(level):
            unless(denied or "Proven" not in text, "proven, though not tested so")
            unless(
                re.search(rf"(?:fell|rose) from \S+ to \S+ \(p = {re.escape(p)},", text) is None, "a fact not proven"
            )
    for verb, before, now in re.findall(rf"(fell|rose) from {NUMBER} to {NUMBER}", text):
        unless((float(now) < float(before)) == (verb == "fell"), "the wrong way")
    for likely in re.findall(r"no crossing .*probability (?:under )?(\d+)%", text):
        unless(int(likely) <= 10, "not expected, though likely")
    for likely in re.findall(r"expected to cross .*probability (?:over )?(\d+)%", text):
        unless(int(likely) >= 50, "expected, though unlikely")
    for mine, theirs in re.findall(rf"is worse: {NUMBER} against {NUMBER}", text):
        unless(float(mine) >= float(theirs), "worse with the better value")
    for verb, likely in re.findall(r"it (pays|does not pay) \(the probability that it pays is (?:\w+ )?(\d+)%", text):
        unless((int(likely) >= 50) if verb == "pays" else (int(likely) <= 50), "pays against the odds")
    unless(not ("Do not retrain" in text and "So nothing is done yet" in text), "said twice, in two ways")
    return wrong


def said(texts: Iterable[str]) -> None:
    found = list(texts)
    assert len(found) > 10
    assert [problem for text in found for problem in contradictions(text)] == []


def scores(rows: int, positives: float, apart: float, seed: int, level: float = 0.5) -> Scores:
    random = np.random.default_rng(seed)
    truth = random.random(rows) < positives
    truth[:2] = True, False
    chance = np.clip(1 / (1 + np.exp(-(random.standard_normal(rows) + apart * (truth - 0.5)))), 0.01, 0.99)
    loss = -np.log(np.where(truth, chance, 1 - chance))
    return Scores(np.where(truth, "1", "0"), np.where(chance > level, "1", "0"), loss, chance, "1")


QUALITIES = list(itertools.product((60, 400, 3000), (0.05, 0.4), (0.2, 1.0, 3.0), (0.2, 1.0, 3.0)))
METRICS = ("average_precision", "accuracy", "log_loss")


def decisions() -> Iterator[Any]:
    for (rows, share, before, now), metric, minimum in itertools.product(QUALITIES, METRICS, (None, 0.6)):
        made = scores(rows, share, before, 1), scores(rows, share, now, 2)
        yield decide(*made, metric, "binary", min_metric=minimum, drift_share=0.5)


def test_whether_the_champion_became_worse_is_told_as_it_was_tested() -> None:
    said(reason for found in decisions() for reason in found.reasons)
    for found in decisions():
        proven = any("fell from" in reason or "rose from" in reason or "misses" in reason for reason in found.reasons)
        assert not found.act or proven, found.reasons
        assert not any("good enough" in reason or "still works" in reason for reason in found.reasons)


def test_the_assessment_never_says_not_to_do_what_is_done() -> None:
    for found, act in itertools.product(decisions(), (True, False)):
        verdict = f"{'Retrain' if found.act else 'Do not retrain'}: {found.reasons[0]}"
        decision = RetrainingDecision.model_validate(
            data_like(RetrainingDecision, act=found.act, reasons=found.reasons, message=verdict)
        )
        told = assess_champion._told(decision, act, None)  # pyright: ignore[reportPrivateUsage]
        assert not contradictions(told)
        assert told.startswith("Do not retrain") is (not act and not found.act), told
        assert told.startswith("Retrain") is (act and found.act), told
        if act and not found.act:
            wins = RetrainingGain.model_validate(data_like(RetrainingGain, wins=True))
            told = assess_champion._told(decision, act, wins)  # pyright: ignore[reportPrivateUsage]
            assert told.startswith("Retrain: the champion is not proven worse than it was, but a new model would win.")
            assert not contradictions(told)


def test_a_plan_says_less_or_more_and_no_less_than_a_loss_can_fall() -> None:
    def plans() -> Iterator[str]:
        for (rows, share, before, now), cost in itertools.product(QUALITIES, (0.0, 10.0, 5000.0)):
            made = scores(rows, share, before, 3), scores(rows, share, now, 4)
            plan = plan_retraining(*made, "binary", cost=cost, horizon=2000)
            shares = max(float(np.mean(made[0].y_true == "1")), 1e-3)
            truth = made[1].y_true == "1"
            unit = float(np.where(truth, -np.log(shares), -np.log(1 - shares)).mean())
            floor = -2000 * float(made[0].loss.mean()) / unit
            assert plan.interval[0] >= floor * 1.001, "less than no loss at all"
            assert plan.interval[0] <= plan.savings <= plan.interval[1]
            yield from plan.reasons

    said(plans())


def test_a_comparison_says_which_way_it_went_and_whether_that_is_proven() -> None:
    def comparisons() -> Iterator[str]:
        for (rows, share, before, now), least in itertools.product(QUALITIES, (0.0, 0.05)):
            made = scores(rows, share, before, 5), scores(rows, share, now, 6)
            truth = made[0].y_true
            pair = made[0], Scores(truth, made[1].prediction, made[1].loss, made[1].probability, "1")
            found = compare(*pair, "average_precision", "binary", min_effect=least)
            text = found.in_words("average_precision", rows, least)
            assert ("does not prove" in text) == (not found.better and found.difference >= 0), text
            unproven = found.interval[0] <= least <= found.interval[1]
            assert unproven == (found.p_value >= 0.05), text
            assert (f"against {least:g} better" in text) == (least > 0), "what the p-value is against"
            yield text

    said(comparisons())
    same = Comparison(False, 0.8, 0.8, 0.0, (0.0, 0.0), 1.0, "a test")
    assert "no better" in same.in_words("accuracy", 100, 0.0)


def test_an_estimate_stays_within_what_the_metric_can_be() -> None:
    for rows, apart in itertools.product((200, 500), (0.2, 3.0, 8.0)):
        made = scores(rows, 0.4, apart, 7), scores(rows, 0.4, apart, 8)
        for metric in METRICS:
            found = estimate_performance(*made, np.arange(rows) < 60, metric, "binary")
            bounds = [found.low, found.high, *(v for v in (found.actual_low, found.actual_high) if v is not None)]
            assert min(bounds) >= 0 and (metric == "log_loss" or max(bounds) <= 1), (metric, bounds)
            assert found.low <= found.high


@cache
def forecasts() -> list[Any]:
    step = np.arange(120, dtype=float)
    grid = itertools.product((-0.02, 0.0, 0.004, 0.1), (0.02, 0.3, 1.0), (0.2, 1.0, 5.0), (0.0, 1.5), (1.0, -1.0))
    found: list[Any] = []
    for seed, (slope, noise, away, wave, sign) in enumerate(grid):
        values = slope * step + wave * np.sin(step / 4) + np.random.default_rng(seed).normal(0, noise, 120)
        threshold = values[-5:].mean() + away
        side = "above" if sign > 0 else "below"
        found.append(forecast_crossing(step * 60, sign * values, sign * threshold, 3600.0, side=side))  # type: ignore[arg-type]
    return found


def test_a_forecast_is_worded_by_its_probability_and_by_whether_a_trend_is_proven() -> None:
    found = forecasts()
    said(each.reason for each in found)
    kinds = ("is expected to cross", "no trend", "but rather does not", "no crossing", "has crossed")
    told = {kind: sum(kind in each.reason for each in found) for kind in kinds}
    assert all(told.values()), told
    for each in found:
        if "is expected to cross" in each.reason:
            assert each.trend >= 0.8 and each.probability >= 0.5


def test_a_look_ahead_does_not_take_back_in_one_sentence_what_it_says_in_another() -> None:
    def told() -> Iterator[str]:
        for each in forecasts():
            known = {
                name: None if value is None or not np.isfinite(value) else value
                for name, value in (("probability", each.probability), ("trend", each.trend))
            }
            data = data_like(ThresholdForecast, outlook=each.outlook, message=each.reason, **known)
            found = ThresholdForecast.model_validate(data)
            quiet = found.model_copy(update={"outlook": "no_crossing"})
            yield foresee._summary("loss", found, quiet, "")  # pyright: ignore[reportPrivateUsage]

    said(told())


def canaries() -> Iterator[Any]:
    grid = list(itertools.product((0, 30, 150, 600), (-0.03, 0.0, 0.2), (0.0, 0.05), (10.0, 30.0), (0, 100)))
    long = [(2000, -0.03, 0.0, 10.0, 0), (2000, 0.03, 0.0, 10.0, 0), (2000, 0.0, 0.0, 10.0, 200)]
    for seed, (requests, loss, failing, slow, delay) in enumerate([*grid, *long]):
        made = traffic(requests, seed, loss=loss, failures=(0.0, failing), latency_ms=(10.0, slow))
        rules = Rules("accuracy", "binary", label_delay=delay)
        yield judge(made, rules), judge_probation(made, rules)


def test_a_canarys_reasons_go_with_its_verdict() -> None:
    found = list(canaries())
    said(reason for judged, probation in found for reason in (*judged.reasons, *probation.reasons))
    assert {judged.verdict for judged, _ in found} == {"promote", "rollback", "wait"}
    assert not any("the challenger" in reason for _, probation in found for reason in probation.reasons)
    for judged, _ in found:
        assert judged.reasons, judged
        worse = any("worse" in reason and "not" not in reason for reason in judged.reasons)
        assert worse == (judged.verdict == "rollback"), judged.reasons


def test_what_was_proven_worse_and_looks_better_since_is_not_told_as_worse_now() -> None:
    bad, good = traffic(300, 1, failures=(0.0, 0.2)), traffic(900, 2, failures=(0.3, 0.0))
    columns = {
        name: np.concatenate([value, getattr(good, name)]) for name, value in vars(bad).items() if value is not None
    }
    found = judge(type(bad)(**columns), Rules("accuracy", "binary"))
    failures = next(check for check in found.checks if check.name == "failures")
    assert found.verdict == "rollback" and failures.challenger_value is not None and failures.champion_value is not None
    assert failures.challenger_value < failures.champion_value
    assert found.reasons[0].startswith("failures: the challenger was proven worse after"), found.reasons
    assert not contradictions(found.reasons[0])


def test_the_severity_of_a_drift_says_what_it_rests_on() -> None:
    rises = [LossChange(0.5, 0.5 * (1 + r), r, r - w, r + w) for r in (-0.3, 0.0, 0.05, 0.2, 1.0) for w in (0.02, 0.4)]
    grid = list(itertools.product((0.0, 0.05, 0.2, 0.6), (True, False), (None, *rises)))
    said(f"x{severity_of(harm, drifted, loss)[1]}" for harm, drifted, loss in grid)
    for harm, drifted, loss in grid:
        severity, told = severity_of(harm, drifted, loss)
        assert (severity == "none") == (not drifted)
        if drifted:
            assert ("no labels" in told) == (loss is None)
            if loss is not None and loss.proven and loss.rise >= 1:
                assert severity == "high", "the loss doubled"
            if loss is not None and loss.high < 0.1:
                assert severity == "low", "the labels rule harm out, however much moved"


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_a_headline_claims_no_more_than_the_outcome(outcome: str) -> None:
    headline, tone = words.headline(outcome)
    assert outcome in words.OUTCOMES
    assert "good enough" not in headline
    assert tone != "good" or outcome in ("promoted", "completed")
