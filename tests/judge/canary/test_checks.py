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
