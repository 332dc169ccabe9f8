"""Do labels still go with the scores: a test that keeps its level."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from tools.judge.champion.contradiction import contradiction
from tools.judge.estimates import Scores


def scored(
    rows: int, random: np.random.Generator, *, shift: float = 0.0, flip: float = 0.0, correlation: float = 0.0
) -> Scores:
    """Overconfident scores; `correlation` of neighbouring rows, `flip` a share of labels turned over."""
    noise = random.normal(size=rows + 200)
    x = shift + 1.5 * lfilter([np.sqrt(1 - correlation**2)], [1.0, -correlation], noise)[200:]
    truth = (random.random(rows) < 1 / (1 + np.exp(-x))) ^ (random.random(rows) < flip)
    probability = 1 / (1 + np.exp(-2 * x))
    names = np.array(["no", "yes"], dtype=object)
    right = np.clip(np.where(truth, probability, 1 - probability), 1e-6, 1)
    said = names[(probability > 0.5).astype(int)]
    return Scores(names[truth.astype(int)], said, -np.log(right), probability, "yes")


@pytest.mark.parametrize("shift", [0.0, 1.0], ids=["same population", "moved population"])
@pytest.mark.parametrize("correlation", [0.0, 0.8], ids=["independent", "dependent"])
@pytest.mark.parametrize(("before", "now"), [(1500, 500), (400, 1500)])
def test_at_level_5_percent_it_contradicts_sound_labels_in_at_most_5(
    shift: float, correlation: float, before: int, now: int
) -> None:
    seeds = 200
    alarms = 0
    for seed in range(seeds):
        random = np.random.default_rng([seed, before])
        reference = scored(before, random, correlation=correlation)
        alarms += contradiction(reference, scored(now, random, shift=shift, correlation=correlation), "binary") < 0.05
    assert alarms <= stats.binom.ppf(0.999, seeds, 0.05)
    assert alarms >= 1  # a test that never fires would pass the line above


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_change_of_concept_is_found_in_every_kind_of_task(task: Any) -> None:
    random = np.random.default_rng(0)
    if task == "regression":
        said = random.uniform(0, 10, 2000)
        before, now = said[:1500] + random.normal(size=1500), said[1500:] + random.normal(0.5, 1, 500)
        pair = [Scores(y, s, np.abs(y - s)) for y, s in ((before, said[:1500]), (now, said[1500:]))]
    else:
        pair = [scored(1500, random), scored(500, random, flip=0.2)]
        if task == "multiclass":
            pair = [Scores(s.y_true, s.prediction, s.loss) for s in pair]
    assert contradiction(pair[0], pair[1], task) < 1e-4
