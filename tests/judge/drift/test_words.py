"""What a drift verdict says in words, and that it keeps its level for columns of every kind."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.signal import lfilter

from tools.judge.drift.verdict import judge
from tools.modeling.column_counts import count_categories, count_frames, count_numbers


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
