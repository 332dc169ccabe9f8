"""The worlds of the evaluation hold what they say."""

import itertools
from typing import Any

import numpy as np
import pytest

from evals import world
from evals.play import load_case, names

CASES = {name: load_case(name) for name in names()}


@pytest.mark.parametrize("name", CASES)
def test_a_world_is_the_same_for_the_same_seed_and_another_for_another(name: str) -> None:
    case = CASES[name]
    first, again, other = (world.build(case.changes, seed, 300, 400, case.label_noise) for seed in (1, 1, 2))
    assert first.current.equals(again.current) and first.fresh.equals(again.fresh)
    assert not first.reference.equals(other.reference)


def changed(**change: Any) -> world.Tables:
    kinds = {"shift": world.Shift, "rule": world.Rule, "lose": world.Lose, "repeat": world.Repeat, "move": world.Move}
    return world.build([kinds[change["kind"]].model_validate(change)], 0, 2000, 4000)


def test_a_shift_moves_the_column_from_its_start_on() -> None:
    load = changed(kind="shift", column="load", by=2.0, start=0.5).current["load"]
    assert abs(load[:2000].mean() - 50) < 1.5
    assert abs(load[2000:].mean() - (50 + 2 * 12)) < 1.5


def test_a_change_of_rule_leaves_every_column_as_it_was() -> None:
    plain, turned = world.build([], 0, 2000, 4000), changed(kind="rule", column="load", weight=1.6)
    columns = [name for name in plain.current if name != world.TARGET]
    assert plain.current[columns].equals(turned.current[columns])
    high = turned.current["load"] > 60
    assert (turned.current[world.TARGET] == "yes")[high].mean() > (plain.current[world.TARGET] == "yes")[
        high
    ].mean() + 0.3


def test_a_ramp_grows() -> None:
    load = changed(kind="shift", column="load", by=4.0, ramp=True).current["load"].to_numpy()
    quarters = [part.mean() for part in np.array_split(load, 4)]
    assert all(b - a > 6 for a, b in itertools.pairwise(quarters))


def test_lost_labels_and_doubled_rows_are_in_the_tables() -> None:
    late = changed(kind="lose", column=world.TARGET, share=1.0, start=0.75).current[world.TARGET]
    assert late[:3000].notna().all() and late[3000:].isna().all()
    doubled = changed(kind="repeat", share=0.6).current
    assert abs(doubled.duplicated().sum() - 2400) < 150


def test_the_attainable_value_is_that_of_the_rule_itself() -> None:
    noisy, plain = world.build([], 0, 500, 500, label_noise=0.9), world.build([], 0, 500, 500)
    assert plain.attainable > 0.8
    assert 0.5 < noisy.attainable < 0.6
