"""Do labels still go with the scores: a test that keeps its level, and what a verdict says in words."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.signal import lfilter

from tasks.goal import Goal
from tasks.unlabelled import to_watch
from tools.judge.champion.contradiction import contradiction
from tools.judge.drift.verdict import judge
from tools.judge.estimates import Scores
from tools.modeling.column_counts import count_categories, count_frames, count_numbers


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


@pytest.mark.parametrize("columns", [1, 20])
@pytest.mark.parametrize("kind", ["ties", "nulls", "many categories", "dependent"])
def test_the_family_wise_level_holds_for_columns_of_every_kind(columns: int, kind: str) -> None:
    def draw(random: np.random.Generator) -> Any:
        match kind:
            case "ties":
                return np.floor(random.exponential(2, 600)).clip(max=6)
            case "nulls":
                return np.where(random.random(600) < 0.3, np.nan, random.normal(size=600))
            case "many categories":
                return random.zipf(1.5, 600).clip(max=200).astype(str)
            case _:
                return lfilter([1.0], [1.0, -0.7], random.normal(size=800))[200:]

    seeds, alarms = 200 if columns == 1 else 40, 0
    count: Any = count_categories if kind == "many categories" else count_numbers
    for seed in range(seeds):
        random = np.random.default_rng([seed, columns])
        pairs = [count(f"c{i}", draw(random), draw(random)) for i in range(columns)]
        alarms += judge(pairs, alpha=0.05, min_effect=0.0).drifted
    assert alarms <= stats.binom.ppf(0.999, seeds, 0.05)


ROWS = 400
PLAIN = np.tile(["x", "x", "x", "z"], ROWS // 4)


@pytest.mark.parametrize(
    ("before", "now", "says"),
    [
        (PLAIN, np.where(np.arange(ROWS) % 5 == 0, "new", PLAIN), "new: 'new' 20%"),
        (PLAIN, np.full(ROWS, "x"), "gone: 'z' 25%"),
        (PLAIN, np.full(ROWS, None), "every row is null now"),
        (np.arange(ROWS) % 7, np.full(ROWS, np.nan), "every row is null now"),
        (np.arange(ROWS) % 7, np.full(ROWS, 3.0), "always 3 now"),
        (np.full(ROWS, 3.0), np.arange(ROWS) % 7, "it was always 3"),
        (np.arange(ROWS) % 7, np.where(np.arange(ROWS) % 5 == 0, np.nan, np.arange(ROWS) % 7), "nulls 0%, now 20%"),
        (np.arange(ROWS) % 7, np.arange(ROWS) % 7 + 4, "median about 3, now 7"),
        (PLAIN, np.tile(["x", "z", "z", "z"], ROWS // 4), "'x' 75%, now 25%"),
    ],
    ids=["new", "gone", "null category", "null number", "constant", "was constant", "nulls", "moved", "mix"],
)
def test_the_sentence_says_what_changed(before: Any, now: Any, says: str) -> None:
    pair = count_frames(pd.DataFrame({"a": before}), pd.DataFrame({"a": now}))
    found = judge(list(pair.columns))
    assert found.drifted
    assert f"a ({found.columns[0].effect:.0%} of the rows moved: " in found.sentence
    assert says in found.sentence


def test_a_constant_column_that_stays_is_no_drift() -> None:
    same = pd.DataFrame({"a": np.full(ROWS, 3.0), "b": PLAIN})
    assert not judge(list(count_frames(same, same).columns)).drifted


def goal(**extra: Any) -> Goal:
    data = {"reference": "a.csv", "current": "b.csv"}
    return Goal.model_validate(
        {"name": "g", "task": "binary", "target": "y", "metric": "accuracy", "data": data, **extra}
    )


def estimated(low: float, high: float, trusted: bool | None = True) -> dict[str, Any]:
    return {"reference_value": 0.8, "estimated_low": low, "estimated_high": high, "rows": 500, "trusted": trusted}


def test_only_an_estimate_wholly_beyond_the_floor_is_watched() -> None:
    assert to_watch(goal(), None) is None
    assert to_watch(goal(), estimated(0.75, 0.81)) is None
    assert "all of it worse than it was before (0.8000)." in str(to_watch(goal(), estimated(0.7, 0.79)))
    stated = goal(constraints={"min_metric": 0.7})
    assert to_watch(stated, estimated(0.65, 0.79)) is None
    assert "worse than the goal's minimum (0.7000)" in str(to_watch(stated, estimated(0.6, 0.69)))
    loss = goal(metric="log_loss")
    assert to_watch(loss, estimated(0.7, 0.79)) is None
    assert to_watch(loss, estimated(0.81, 0.9)) is not None
    assert "contradict the estimate" in str(to_watch(goal(), estimated(0.7, 0.79, trusted=False)))
