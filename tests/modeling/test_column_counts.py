"""Columns as counts: how much rows depend on each other."""

import numpy as np

from tools.modeling.column_counts import inflation


def test_inflation_is_one_for_independent_rows_and_large_for_repeated_ones() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=4000)
    assert inflation(values[:, None]) < 1.6
    assert inflation(np.repeat(values[:400], 10)[:, None]) > 5
