"""A trend with jumps and outliers."""

from dataclasses import replace

import numpy as np

from tools.judge.trend import fit_trend

minutes = np.arange(200, dtype=np.float64)


def test_a_jump_that_is_ruled_out_has_a_place_all_the_same():
    trend = fit_trend(minutes, 5.0)
    sure = replace(trend, weight=(trend.change == 0) / (trend.change == 0).sum())
    at, size = sure.likeliest("jump")
    assert sure.probability("jump") == 0
    assert 0 <= at < 200 and np.isfinite(size)
