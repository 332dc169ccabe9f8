"""Simulated shadow traffic of a canary, with what may be hidden of it: labels that are late, a holdout before it."""

from dataclasses import replace
from typing import Any

import numpy as np

from tools.judge.canary.proxies import Holdout
from tools.judge.canary.quality import Evidence, Rules
from tools.judge.canary.verdict import trace
from tools.judge.estimates import Scores

RULES = Rules("accuracy", "binary")
DELAY = 400  # requests until a label comes
LATE = replace(RULES, label_delay=DELAY)


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
