"""Metrics that are no mean of requests are judged by their own value: average precision, F1, recall of classes."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.stats import norm

from tests.helpers.canary_traffic import traffic
from tools.judge.canary.quality import Evidence, Rules, quality_of
from tools.judge.canary.verdict import judge, trace
from tools.judge.estimates import Task

REQUESTS = 6000
Make = Callable[[int, int, float], Evidence]  # seed, requests, how much worse the challenger is: 0 to 1, below 0 better


def scored(seed: int, requests: int, worse: float) -> Evidence:
    """A tenth of the requests is positive; the classes lie two deviations apart, for the weaker model less."""
    random = np.random.default_rng([seed, 5])
    positive = random.random(requests) < 0.1
    shared = random.standard_normal(requests)
    columns: dict[str, np.ndarray] = {}
    for who, weaker in (("champion", max(-worse, 0)), ("challenger", max(worse, 0))):
        noise = 0.9 * shared + 0.44 * random.standard_normal(requests)
        probability = norm.cdf(noise + (2.0 - 1.2 * weaker) * positive - 2.0)
        wrong = ((probability > 0.5) != positive).astype(float)
        columns |= {f"{who}_probability": probability, f"{who}_error": wrong, f"{who}_loss": wrong}
    return replace(traffic(requests, seed), positive=positive.astype(float), **columns)


def classes(seed: int, requests: int, worse: float) -> Evidence:
    """Three classes, the rarest a tenth; only on that one does the challenger differ in how often it is right."""
    random = np.random.default_rng([seed, 6])
    label = random.choice(["a", "b", "c"], requests, p=[0.6, 0.3, 0.1])
    rare = label == "c"
    columns: dict[str, np.ndarray] = {}
    for who, loss in (("champion", max(-worse, 0)), ("challenger", max(worse, 0))):
        right = random.random(requests) < np.where(rare, 0.75 - loss * 0.4, 0.9)
        said = np.where(right, label, np.where(label == "a", "b", "a"))
        wrong = (~right).astype(float)
        columns |= {f"{who}_prediction": said, f"{who}_error": wrong, f"{who}_loss": wrong}
    return replace(traffic(requests, seed), label=label.astype(object), **columns)


METRICS: list[tuple[str, Task, Make]] = [
    ("average_precision", "binary", scored),
    ("f1", "binary", scored),
    ("f1", "multiclass", classes),
    ("balanced_accuracy", "multiclass", classes),
]


@pytest.mark.parametrize(("metric", "task", "make"), METRICS)
def test_a_worse_challenger_is_rolled_back_an_equal_one_rarely_and_a_better_one_promoted(
    metric: str, task: Task, make: Make
) -> None:
    rules = Rules(metric, task)
    worse = [judge(make(seed, REQUESTS, 0.5), rules).verdict for seed in range(5)]
    assert worse.count("rollback") >= 4 and "promote" not in worse
    better = [judge(make(seed, REQUESTS, -0.5), rules).verdict for seed in range(5)]
    assert better.count("promote") >= 4
    equal = [trace(make(seed, 3000, 0.0), rules).first("rollback") for seed in range(40)]
    assert sum(first is not None for first in equal) <= 2, "all looks together: at most 5 %"


def test_a_challenger_that_ranks_as_well_but_errs_at_the_top_is_not_promoted_for_its_auc() -> None:
    """The wrong positives are the highest of all: of no weight in the AUC, and half of the average precision."""
    found = []
    for seed in range(5):
        made = scored(seed, REQUESTS, -0.3)
        assert made.positive is not None and made.challenger_probability is not None
        lifted = (made.positive == 0) & (np.random.default_rng(seed).random(REQUESTS) < 0.02)
        made = replace(made, challenger_probability=np.where(lifted, 0.999999, made.challenger_probability))
        auc = [sk.roc_auc_score(made.positive, p) for p in (made.champion_probability, made.challenger_probability)]
        assert auc[1] > auc[0]
        found.append([judge(made, Rules(metric, "binary")).verdict for metric in ("average_precision", "roc_auc")])
    assert [by_ap for by_ap, _ in found].count("rollback") >= 4
    assert [by_auc for _, by_auc in found].count("promote") >= 4


def test_a_loss_of_a_small_average_precision_is_measured_by_what_there_is_to_lose() -> None:
    """At 0.1, two points are a fifth of all: by points alone it would be within the tolerance."""
    random = np.random.default_rng(1)
    requests = 40_000
    positive = random.random(requests) < 0.02
    shared = random.standard_normal(requests)
    columns = {
        f"{who}_probability": norm.cdf(0.97 * shared + 0.24 * random.standard_normal(requests) + gap * positive)
        for who, gap in (("champion", 1.05), ("challenger", 0.96))
    }
    made = replace(traffic(requests, 1), positive=positive.astype(float), **columns)
    values = [sk.average_precision_score(positive, p) for p in columns.values()]
    assert 0.05 < values[0] < 0.15 and 0 < values[0] - values[1] < 0.02
    assert judge(made, Rules("average_precision", "binary")).verdict == "rollback"


@pytest.mark.parametrize(("metric", "task", "make"), METRICS)
def test_a_loss_as_large_as_the_tolerance_is_rarely_proven_within_it(metric: str, task: Task, make: Make) -> None:
    """The tolerance is set to what the challenger loses, found on many requests."""
    rules = Rules(metric, task)
    many = quality_of(make(999, 60_000, 0.3), rules).running
    assert many is not None
    lost = float(many().harm[-1])
    assert lost > 0.01
    proven = [
        quality_of(make(seed, 3000, 0.3), replace(rules, tolerance=lost)).running().within_log_e(3000).max()
        >= np.log(20)  # type: ignore[misc]
        for seed in range(60)
    ]
    assert sum(proven) <= 4


@pytest.mark.parametrize(("metric", "task", "make"), METRICS)
def test_what_is_judged_is_the_goals_metric(metric: str, task: Task, make: Make) -> None:
    made = make(3, 4000, 0.3)
    quality = quality_of(made, Rules(metric, task))
    assert quality.running is not None and quality.parts == ()
    found = quality.running()
    n = int(found.count[-1])
    expected = []
    for who in ("champion", "challenger"):
        probability, said = (getattr(made, f"{who}_{what}") for what in ("probability", "prediction"))
        if task == "binary":
            truth, said = made.positive > 0, (made.positive > 0) ^ (getattr(made, f"{who}_error") > 0)  # type: ignore[operator]
        else:
            truth = made.label
        expected.append({
            "average_precision": lambda t=truth, p=probability: sk.average_precision_score(t[:n], p[:n]),
            "f1": lambda t=truth, s=said: sk.f1_score(t[:n], s[:n], average="binary" if task == "binary" else "macro"),
            "balanced_accuracy": lambda t=truth, s=said: sk.balanced_accuracy_score(t[:n], s[:n]),
        }[metric]())  # fmt: skip
    assert (found.champion[-1], found.challenger[-1]) == pytest.approx(expected)
    assert quality.values == pytest.approx([1 - value for value in expected])


@pytest.mark.parametrize(("metric", "task", "make"), METRICS)
def test_with_too_few_of_a_class_it_says_so_and_waits(metric: str, task: Task, make: Make) -> None:
    found = judge(make(1, 300, 0.0), Rules(metric, task))
    assert found.verdict == "wait" and found.champion_value is None
    told = next(reason for reason in found.reasons if reason.startswith("quality"))
    assert f"{metric} cannot be judged yet: it needs 50 labelled requests of every class" in told


def test_models_that_never_differ_are_not_proven_equal_by_a_handful_of_positives() -> None:
    """A loss of four in a hundred positives shows none in fifty in 13 of 100 runs."""
    rules, promoted = Rules("f1", "binary"), 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        positive = random.random(1500) < 0.1
        missed = positive & (random.random(1500) < 0.045)
        columns = {"champion_error": np.zeros(1500), "challenger_error": missed.astype(float)}
        made = replace(traffic(1500, seed), positive=positive.astype(float), **columns)
        quality = quality_of(made, rules)
        assert quality.running is not None
        promoted += bool((quality.running().within_log_e(1500) >= np.log(20)).any())
    assert promoted <= 5


def test_the_verdict_on_a_prefix_stays() -> None:
    whole = scored(4, 3000, 0.2)
    rules = Rules("average_precision", "binary")
    traced = trace(whole, rules)
    for n in (700, 1500, 2600):
        cut = {name: None if values is None else values[:n] for name, values in vars(whole).items()}
        prefix = trace(Evidence(**cut), rules)
        assert np.allclose(prefix.proof, traced.proof[:n])
        assert np.allclose(prefix.checks[0].log_e, traced.checks[0].log_e[:n])


def test_the_interval_of_the_difference_holds_and_shrinks() -> None:
    held = 0
    rules = Rules("average_precision", "binary")
    many = quality_of(scored(999, 80_000, 0.3), rules).running
    assert many is not None
    truth = -float(many().harm[-1])
    for seed in range(40):
        running = quality_of(scored(seed, 3000, 0.3), rules).running
        assert running is not None
        low, high = (-running().intervals(0.05)[:, ::-1]).T
        assert (np.diff(low) >= 0).all() and (np.diff(high) <= 0).all()
        held += bool((low <= truth).all() and (truth <= high).all())
    assert held >= 36, "at all looks at once"
    found = judge(scored(0, 3000, 0.3), rules)
    assert found.interval is not None and found.difference is not None
    assert found.interval[0] <= found.difference <= found.interval[1]
