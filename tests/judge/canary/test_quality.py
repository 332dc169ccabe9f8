"""What a canary's quality is judged by: rankings and losses of any unit."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from tests.helpers.canary_traffic import traffic
from tools.judge.canary.checks import within_tolerance_log_e
from tools.judge.canary.quality import Evidence, Rules, quality_of
from tools.judge.canary.verdict import judge


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
