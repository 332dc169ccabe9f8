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
from tasks import assess_champion, foresee, unlabelled
from tasks.goal import Goal
from tests.helpers.canary_traffic import traffic
from tests.helpers.results import data_like
from tools.integrations.judge.champion_actions import CONTRADICTED, estimate_words
from tools.integrations.judge.champion_spec import PerformanceEstimate, RetrainingDecision, RetrainingGain
from tools.integrations.judge.outlook_actions import burn_words
from tools.integrations.judge.outlook_spec import ThresholdForecast
from tools.judge.ab import verdict as ab
from tools.judge.ab.outcomes import Design, Units
from tools.judge.ab.words import in_short
from tools.judge.canary.probation import judge_probation
from tools.judge.canary.quality import Rules
from tools.judge.canary.verdict import judge
from tools.judge.champion.compare import Comparison, compare
from tools.judge.champion.performance import MIN_ROWS, Performance, estimate_performance
from tools.judge.champion.retrain import decide
from tools.judge.champion.retrain_plan import plan_retraining
from tools.judge.drift.harm import LossChange, severity_of
from tools.judge.estimates import Scores
from tools.judge.outlook.burn_rate import RULES as BURN_RULES
from tools.judge.outlook.burn_rate import BurnReport, burn_rates
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
    unless(re.search(r"\b1 (?:units|labels|rows)\b|\b(?!1 )\d+ unit\b", text) is None, "one and many")
    unless(re.search(r"p = 0(?![.\d])|\b100% confidence", text) is None, "certain")
    for low, high in re.findall(r"between (\S+ \w+) and (\S+ \w+) with", text):
        unless(signed(low) <= signed(high), "an interval from its end to its start")
    for point, low, high in re.findall(r"the challenger is (\S+ \w+), between (\S+ \w+) and (\S+ \w+) with", text):
        unless(signed(low) <= signed(point) <= signed(high), "outside of its own interval")
    return wrong


def signed(told: str) -> float:
    """A difference in the challenger's favour, of the words for it."""
    number, way = told.split()
    return 0.0 if number == "no" else float(number) * {"better": 1, "worse": -1}[way]


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


@cache
def ab_tests() -> list[tuple[ab.Judged, Units, Design]]:
    """A/B tests of shares and of amounts, whose difference stays or turns round half-way, and what spoils one."""
    sizes, rates = (0, 1, 2, 30, 150, 4000), ((0.2, 0.2), (0.2, 0.5), (0.5, 0.2))
    stories = ("stays", "turns", "guardrail", "segment", "one mixed", "many mixed", "lost units")
    found: list[tuple[ab.Judged, Units, Design]] = []
    for count, (before, now), story, bounded, alpha in itertools.product(
        sizes, rates, stories, (True, False), (0.05, 0.0004)
    ):
        random = np.random.default_rng(count)
        ours = random.random(count) < (0.62 if story == "lost units" else 0.5)
        turned = (np.arange(count) >= count // 2) & (story == "turns")
        rate = np.where(ours ^ turned, now, before)
        value = (random.random(count) < rate).astype(float) if bounded else random.normal(10 * rate, 3.0)
        segment = np.where(random.random(count) < 0.3, "north", "south").astype(object)
        if story == "segment":
            value = np.where((segment == "north") & ours, 0.0, value)
        complained = (random.random(count) < np.where(ours, 0.3, 0.02)).astype(float)
        units = Units(
            ours,
            value,
            segment if story == "segment" else None,
            None,
            {"complaints": complained} if story == "guardrail" else {},
            {"one mixed": 1, "many mixed": 500}.get(story, 0),
        )
        design = Design(0.5, 0.05 if bounded else 0.5, alpha, upper=1.0 if bounded else None)
        found.append((ab.judge(units, design), units, design))
    return found


def test_an_ab_test_says_what_was_proven_when_and_what_all_units_show() -> None:
    tests = ab_tests()
    told = [in_short(found) for found, _, _ in tests]
    said(told)
    assert {found.verdict for found, _, _ in tests} == set(get_args(ab.Verdict))
    for (found, units, _), text in zip(tests, told, strict=True):
        if (difference := found.effect.difference) is not None:
            ours, theirs = units.value[units.challenger].mean(), units.value[~units.challenger].mean()
            shown = re.search(r"over all units the challenger is (\S+ \w+)", text)
            assert shown is not None and signed(shown[1]) == pytest.approx(ours - theirs, abs=1e-4), text
        proven = re.search(r"(?:proven|ruled out).* after (\d+) units?", found.reasons[0])
        if found.verdict in ("challenger_wins", "champion_wins", "no_relevant_gain"):
            assert proven is not None and found.decided_at is not None
            assert found.decided_at <= int(proven[1]) <= len(units)
        turned = found.verdict == "challenger_wins" and difference is not None and difference < 0
        assert not turned or "contradict each other" in text, "a winner that is worse over all units"
    assert any("contradict each other" in text for text in told)


def test_a_segment_that_is_harmed_is_told_by_what_is_proven_of_it() -> None:
    warned = [w for found, _, _ in ab_tests() for w in found.warnings if w.startswith("the segment")]
    assert warned
    for text in warned:
        least, mean = re.findall(r"(?:at least|and is) (\S+ \w+)", text)
        assert signed(mean) <= signed(least) < 0, text


@cache
def burns() -> list[tuple[BurnReport, float]]:
    """Reports, and how long the readings are that they rest on, in seconds."""
    times = np.arange(0, 3 * 86400.0 + 60, 60)
    spans, shares, objectives = (0.0, 600.0, 4 * 3600.0, 3 * 86400.0), (0.0, 0.0009, 0.002, 0.02, 1.0), (0.999, 0.9)
    late = np.where(times > times[-1] - 1800, 0.3, 0.0005)
    found = [
        (burn_rates(times, late, 0.999), spans[-1]),
        (burn_rates(times, late, 0.999, np.zeros(len(late))), spans[-1]),
    ]
    for span, share, slo in itertools.product(spans, shares, objectives):
        read = times[times >= times[-1] - span]
        found.append((burn_rates(read, np.full(len(read), share), slo), span))
    return found


def test_a_burn_rate_says_on_how_much_it_rests_and_never_more_than_a_burn_can_be() -> None:
    said(burn_words(report) for report, _ in burns())
    assert {report.severity for report, _ in burns()} == {None, "ticket", "page"}
    for report, span in burns():
        text = burn_words(report)
        assert text.startswith("No burn") is (report.severity is None)
        assert ("reach back" in text or "one reading" in text) is (span < BURN_RULES[-1].long_s), text
        assert not re.search(r"\d\.?\d*e\+|last 0 s", text), text
        for burn in re.findall(rf"{NUMBER} over", text.replace(",", "")):
            assert float(burn) <= 1.01 / (1 - report.slo)
        for rule in BURN_RULES:
            reached = f"limit {rule.rate:g}, which no burn reaches" not in text
            assert reached is (rule.rate <= 1 / (1 - report.slo) * (1 + 1e-9)), text
        if report.fastest is not None and report.severity == "page":
            assert report.fastest.rule.severity == "page", "the budget lasts as long as the alert's own rate says"


@cache
def estimated() -> list[tuple[Performance, str, str]]:
    """Estimates on rows without labels, with their metric and what is told of them."""
    rows, told = MIN_ROWS + 60, list[tuple[Performance, str, str]]()
    for before, now, labelled in itertools.product((0.2, 3.0), (0.2, 8.0), (0, 60, rows)):
        made = scores(rows, 0.4, before, 7), scores(rows, 0.4, now, 8)
        for metric in METRICS:
            found = estimate_performance(*made, np.arange(rows) < labelled, metric, "binary")
            told.append((found, metric, estimate_words(found, metric, labelled, rows)))
    return told


def test_an_estimate_without_labels_claims_no_more_than_its_labels_prove() -> None:
    kinds: set[bool] = set()
    for found, metric, text in estimated():
        assert contradictions(text) == []
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9, (metric, text)
        if found.unexplained_p is not None:
            kinds.add(found.unexplained_p < CONTRADICTED)
            assert ("cannot be trusted" in text) is (found.unexplained_p < CONTRADICTED), text
            assert ("no change in how" in text) is (found.unexplained_p >= CONTRADICTED), text
    assert kinds == {True, False}


def test_what_is_to_be_watched_is_worse_in_all_of_its_interval() -> None:
    told: list[str] = []
    for found, metric, _ in estimated():
        for minimum in (None, 0.3, 0.6, 0.9, 0.99):
            files = {"reference": "r.csv", "current": "c.csv"}
            stated = {"task": "binary", "target": "y", "metric": metric, "constraints": {"min_metric": minimum}}
            goal = Goal.model_validate({"name": "g", "data": files, **stated})
            known = {"estimated_low": found.low, "estimated_high": found.high, "reference_value": found.reference_value}
            made = PerformanceEstimate.model_validate(data_like(PerformanceEstimate, rows=found.rows, **known))
            warning = unlabelled.to_watch(goal, made)
            floor = found.reference_value if minimum is None else minimum
            worse = found.low > floor if goal.minimize else found.high < floor
            assert (warning is not None) is worse
            told += [warning] if warning else []
    said(told)
    for text in told:
        assert "goal's minimum" not in text or "log_loss" not in text
        low, high, floor = map(float, re.findall(rf"is {NUMBER} to {NUMBER}, .*\({NUMBER}\)", text)[0])
        assert (low > floor) if "log_loss" in text else (high < floor), text


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_a_headline_claims_no_more_than_the_outcome(outcome: str) -> None:
    headline, tone = words.headline(outcome)
    assert outcome in words.OUTCOMES
    assert "good enough" not in headline
    assert tone != "good" or outcome in ("promoted", "completed")
