"""When a level crosses a threshold, with its interval; what cannot be forecast says so."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tools.judge.outlook.forecast import Forecast, even_series, first_passage, forecast_crossing

Floats = NDArray[np.float64]

minutes = np.arange(200, dtype=np.float64)


def noise(seed: int, n: int = 200, size: float = 0.2) -> Floats:
    return np.random.default_rng(seed).normal(0, size, n)


def ahead(values: Floats, threshold: float = 6.0, horizon_s: float = 7200.0) -> Forecast:
    return forecast_crossing(np.arange(len(values)) * 60.0, values, threshold, horizon_s)


def test_a_slow_burn_is_foretold_and_the_interval_holds_the_crossing():
    held = 0
    for seed in range(20):
        found = ahead(1 + 0.04 * np.maximum(0, minutes - 120) + noise(seed))
        truth = (5 / 0.04 + 120 - 199) * 60
        assert found.outlook == "crossing"
        assert found.expected_s == pytest.approx(truth, rel=0.4)
        low, high = found.interval_s
        held += low is not None and low <= truth and (high is None or high >= truth)
    assert held >= 16


def test_noise_is_no_trend():
    assert [ahead(4 + noise(seed)).outlook for seed in range(20)] == ["no_crossing"] * 20


def test_a_rising_flank_of_a_season_is_no_burn():
    for seed in range(10):
        wave = 2.5 * np.sin(2 * np.pi * (minutes - 199) / 60)  # crosses its own middle, upwards, at the end
        found = ahead(3 + wave + noise(seed))
        assert found.outlook == "no_crossing"
        assert found.season_s == pytest.approx(3600, rel=0.05)


def test_a_season_that_will_reach_the_threshold_does():
    found = ahead(4 + 2.5 * np.sin(2 * np.pi * (minutes - 199) / 60) + noise(1))
    assert found.outlook == "crossing"
    assert found.expected_s is not None and found.expected_s < 1200


@pytest.mark.parametrize("minutes_ago", [4, 8, 12])
def test_an_abrupt_change_is_declared_not_forecastable(minutes_ago: int):
    for seed in range(5):
        found = ahead(1 + 3.0 * (minutes >= 200 - minutes_ago) + noise(seed))
        assert found.outlook == "not_forecastable"
        assert found.change_s == pytest.approx(minutes_ago * 60, abs=121)
        assert "abrupt" in found.reason


def test_long_after_a_jump_the_course_since_counts():
    since = np.maximum(0, minutes - 100)
    settled = ahead(1 + 2.0 * (since > 0) + noise(3))
    assert settled.outlook == "no_crossing"
    rising = ahead(1 + 2.0 * (since > 0) + 0.02 * since + noise(3))
    assert rising.outlook == "crossing"


def test_one_outlier_at_the_end_is_neither_a_trend_nor_a_jump():
    values = 1 + noise(2)
    values[-1] += 3
    assert ahead(values).outlook == "no_crossing"


def test_falling_below_a_threshold_is_the_same_upside_down():
    values = 0.9 - 0.002 * np.maximum(0, minutes - 120) + noise(1, size=0.01)
    found = forecast_crossing(minutes * 60, values, 0.7, 3600.0, side="below")
    mirrored = forecast_crossing(minutes * 60, -values, -0.7, 3600.0)
    assert found.outlook == "crossing"
    assert found.expected_s == mirrored.expected_s
    assert found.slope_per_s < 0 < mirrored.slope_per_s


def test_a_level_beyond_the_threshold_has_crossed():
    assert ahead(7 + noise(1)).outlook == "crossed"


def test_few_points_are_not_forecastable_and_say_so():
    found = ahead(np.arange(5.0))
    assert found.outlook == "not_forecastable"
    assert "5 points" in found.reason


def test_the_same_series_gives_the_same_forecast_whatever_its_order():
    values = 1 + 0.04 * np.maximum(0, minutes - 120) + noise(1)
    order = np.random.default_rng(0).permutation(200)
    again = forecast_crossing(minutes[order] * 60.0, values[order], 6.0, 7200.0)
    assert again == ahead(values)


def test_gaps_and_missing_readings_change_little():
    values = 1 + 0.04 * np.maximum(0, minutes - 120) + noise(1)
    whole = ahead(values)
    values[40:60], values[150] = np.nan, np.nan
    found = ahead(values)
    assert found.outlook == "crossing"
    assert found.expected_s == pytest.approx(whole.expected_s, rel=0.25)


def test_a_perfectly_smooth_course_is_forecast():
    assert ahead(np.exp(minutes / 100), threshold=12.0).outlook == "crossing"


def test_a_constant_series_never_crosses():
    assert ahead(np.full(200, 2.0)).outlook == "no_crossing"


def test_a_long_series_is_reduced_to_even_steps_that_end_with_the_last_reading():
    step, values = even_series(np.arange(1000) * 10.0, np.arange(1000.0))
    assert len(values) <= 144
    assert step == 70.0
    assert values[-1] > 990


def test_a_path_crosses_between_the_steps_or_never():
    paths = np.array([[2.0, 6.0, 8.0], [5.0, 5.5, 5.9], [7.0, 3.0, 9.0], [1.0, 2.0, 6.0]])
    when = first_passage(np.array([10.0, 20.0, 30.0]), paths, 6.0, now=1.0)
    assert when == pytest.approx([20.0, np.inf, 10.0 * 5 / 6, 30.0])


def test_where_a_season_crosses_the_interval_holds_it_as_often_as_it_says():
    held, narrow = 0, 0
    for seed in range(40):
        level = 1 + 0.02 * minutes[:160] + 1.5 * np.sin(2 * np.pi * (minutes[:160] + 7 * seed) / 45)
        whole = 1 + 0.02 * np.arange(600) + 1.5 * np.sin(2 * np.pi * (np.arange(600) + 7 * seed) / 45)
        truth = (int(np.argmax(whole >= 6.0)) - 0.5 - 159) * 60  # it crosses within the minute before
        low, high = ahead(level + noise(seed, 160, 0.3), horizon_s=14400).interval_s
        assert low is not None
        held += low <= truth and (high is None or truth <= high)
        narrow += high is not None and high - low < 45 * 60
    assert held >= 34
    assert narrow >= 20


def test_bad_horizons_and_levels_are_refused():
    with pytest.raises(ValueError, match="horizon"):
        ahead(minutes, horizon_s=0)
    with pytest.raises(ValueError, match="level"):
        forecast_crossing(minutes, minutes, 1.0, 1.0, level=1.0)
