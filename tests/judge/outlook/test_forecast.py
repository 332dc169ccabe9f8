"""Looking ahead: threshold crossings, burn rates, anomaly scores, and NAB's scoring."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from bench import nab
from tests.conftest import Project
from tools.core.errors import ErrorKind
from tools.core.results import Status
from tools.judge.outlook.anomaly import AnomalyScorer, score_series
from tools.judge.outlook.burn_rate import burn_rates
from tools.judge.outlook.forecast import Forecast, even_series, first_passage, forecast_crossing
from tools.judge.outlook.season import find_season
from tools.judge.trend import fit_trend

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


def test_a_jump_that_is_ruled_out_has_a_place_all_the_same():
    trend = fit_trend(minutes, 5.0)
    sure = replace(trend, weight=(trend.change == 0) / (trend.change == 0).sum())
    at, size = sure.likeliest("jump")
    assert sure.probability("jump") == 0
    assert 0 <= at < 200 and np.isfinite(size)


def test_a_constant_series_never_crosses():
    assert ahead(np.full(200, 2.0)).outlook == "no_crossing"


def test_a_long_series_is_reduced_to_even_steps_that_end_with_the_last_reading():
    step, values = even_series(np.arange(1000) * 10.0, np.arange(1000.0))
    assert len(values) <= 144
    assert step == 70.0
    assert values[-1] > 990


def test_a_random_walk_has_no_season():
    walks = (np.cumsum(noise(seed, 144)) for seed in range(40))
    assert sum(find_season(walk) is not None for walk in walks) <= 2


def test_a_path_crosses_between_the_steps_or_never():
    paths = np.array([[2.0, 6.0, 8.0], [5.0, 5.5, 5.9], [7.0, 3.0, 9.0], [1.0, 2.0, 6.0]])
    when = first_passage(np.array([10.0, 20.0, 30.0]), paths, 6.0, now=1.0)
    assert when == pytest.approx([20.0, np.inf, 10.0 * 5 / 6, 30.0])


def test_possible_seasons_differ_as_much_as_fits_of_other_noise_do():
    steps = np.arange(300.0)
    pattern = 2 * np.sin(2 * np.pi * steps / 31.3) + np.cos(4 * np.pi * steps / 31.3)
    later = np.arange(300.0, 340.0)
    fits = [find_season(pattern[:140] + noise(seed, 140, 0.4)) for seed in range(60)]
    found = np.array([season.at(later) for season in fits if season is not None])
    assert len(found) == 60
    drawn = np.array([season.draw(200, later, 0).std(axis=0) for season in fits if season is not None])
    assert np.median(drawn) == pytest.approx(np.median(found.std(axis=0)), rel=0.3)


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


days = np.arange(0, 3 * 86400, 60, dtype=np.float64)


def errors(*parts: tuple[float, float]) -> Floats:
    """Error shares of three days: each (seconds before the end, share from then on)."""
    shares = np.zeros(len(days))
    for before_s, share in parts:
        shares[days > days[-1] - before_s] = share
    return shares


def test_burn_rates_fire_as_in_the_workbook():
    fast = burn_rates(days, errors((3600, 0.0145)), 0.999)
    assert [burn.firing for burn in fast.burns] == [True, False, False]
    assert fast.severity == "page"
    assert fast.burns[0].long_burn == pytest.approx(14.5, rel=0.02)
    slow = burn_rates(days, errors((3 * 86400, 0.0011)), 0.999)
    assert [burn.firing for burn in slow.burns] == [False, False, True]
    assert slow.severity == "ticket"
    assert slow.exhausted_in_s == pytest.approx(30 * 86400 / 1.1)
    assert burn_rates(days, errors((3 * 86400, 0.0009)), 0.999).severity is None


def test_exactly_the_limit_fires():
    assert burn_rates(days, np.full(len(days), 0.001), 0.999).severity == "ticket"


def test_an_alert_ends_soon_after_the_errors_do():
    found = burn_rates(days, errors((3600, 0.05), (360, 0.0)), 0.999)
    assert found.burns[0].long_burn is not None and found.burns[0].long_burn > 14.4
    assert found.burns[0].short_burn == 0
    assert not found.burns[0].firing


def test_requests_weigh_the_readings():
    times, shares = np.array([0.0, 60.0]), np.array([1.0, 0.0])
    found = burn_rates(times, shares, 0.9, np.array([1.0, 99.0]))
    assert found.burns[0].long_burn == pytest.approx(0.1)


@pytest.mark.parametrize("slo, share", [(1.0, 0.1), (0.0, 0.1), (0.99, 1.5)])
def test_bad_objectives_and_shares_are_refused(slo: float, share: float):
    with pytest.raises(ValueError, match="between 0 and 1"):
        burn_rates(np.zeros(1), np.array([share]), slo)


def test_a_score_depends_on_nothing_that_follows():
    values = noise(1, 600, 1.0)
    values[400] += 8
    scores, alarms = score_series(np.arange(600.0), values)
    early, early_alarms = score_series(np.arange(450.0), values[:450])
    assert np.array_equal(scores[:450], early)
    assert np.array_equal(alarms[:450], early_alarms)


def test_spikes_shifts_silence_and_unrest_raise_an_alarm_where_they_begin():
    for place, change in {
        "spike": lambda v: np.where(np.arange(900) == 700, v + 10, v),
        "shift": lambda v: np.where(np.arange(900) >= 700, v + 5, v),
        "silence": lambda v: np.where(np.arange(900) >= 700, v[700], v),
        "unrest": lambda v: np.where(np.arange(900) >= 700, 5 * v, v),
    }.items():
        found = 0
        for seed in range(3):
            _, alarms = score_series(np.arange(900.0), change(noise(seed, 900, 1.0)))
            found += bool(alarms[700:725].any())
        assert found >= 2, place


def test_a_shift_is_one_incident():
    values = noise(3, 900, 1.0) + 6.0 * (np.arange(900) >= 700)
    _, alarms = score_series(np.arange(900.0), values)
    assert 1 <= alarms[700:790].sum() <= 2


def test_false_alarms_are_as_rare_as_said_on_any_noise():
    for draw in ("standard_normal", "standard_cauchy", "standard_exponential"):
        values = getattr(np.random.default_rng(5), draw)(1500)
        scores, alarms = score_series(np.arange(1500.0), values)
        assert (scores[200:] >= 0.995).mean() <= 0.02, draw
        assert alarms.sum() <= 12, draw


def test_unit_and_offset_do_not_matter():
    values = noise(4, 400, 1.0)
    scores, _ = score_series(np.arange(400.0), values)
    other, _ = score_series(np.arange(400.0), 1e6 * values + 3e7)
    assert np.allclose(scores, other, atol=1e-3)


def test_missing_readings_score_nothing_and_teach_nothing():
    values = noise(4, 400, 1.0)
    with_gaps = np.insert(values, 200, [np.nan] * 5)
    scores, _ = score_series(np.arange(400.0), values)
    other, _ = score_series(np.arange(405.0), with_gaps)
    assert (other[200:205] == 0).all()
    assert np.array_equal(np.delete(other, np.arange(200, 205)), scores)


def test_a_usual_value_at_the_wrong_time_of_day_is_an_anomaly():
    rows = np.arange(2600)
    bump = 2.5 * np.exp(-0.5 * ((rows - 2232) / 10) ** 2)  # at the lowest hour, up to what is usual by day
    for seed in range(3):
        values = 5 + 2 * np.sin(2 * np.pi * rows / 288) + bump + noise(seed, 2600)
        scores, _ = score_series(300.0 * rows, values)
        timeless, _ = score_series(0.03 * rows, values)  # the same readings, but less than a day of them
        assert scores[2202:2262].max() >= 0.999 > timeless[2202:2262].max()


def test_known_values_in_an_unknown_order_are_an_anomaly():
    rows = np.arange(1200)
    for seed in range(4):
        rising = (rows % 20) / 20 + noise(seed, 1200, 0.1)
        falling = (-rows % 20) / 20 + noise(seed + 9, 1200, 0.1)
        scores, _ = score_series(1.0 * rows, np.where((rows >= 1000) & (rows < 1060), falling, rising))
        assert scores[1000:1090].max() >= 0.999


def test_one_reading_at_a_time_scores_as_the_whole_series_does():
    values, times = noise(6, 700), 900.0 * np.arange(700)
    scorer = AnomalyScorer()
    one_by_one = [scorer.update(float(v), float(t)).score for t, v in zip(times, values, strict=True)]
    assert np.array_equal(one_by_one, score_series(times, values)[0])


def test_of_readings_out_of_order_each_keeps_its_score():
    values, times = noise(7, 700), 900.0 * np.arange(700)
    shuffled = np.random.default_rng(1).permutation(700)
    assert np.array_equal(score_series(times[shuffled], values[shuffled])[0], score_series(times, values)[0][shuffled])


def test_an_impossible_alarm_level_is_refused():
    with pytest.raises(ValueError, match="alarm_at"):
        AnomalyScorer(alarm_at=1.0)


def labelled(n: int = 2000) -> nab.Labelled:
    return nab.Labelled("made", np.arange(float(n)), np.zeros(n), [(500, 599), (1200, 1299)])


def test_nab_gives_0_to_silence_and_100_to_the_first_row_of_every_window():
    series = labelled()
    silent, perfect = np.zeros(2000), np.zeros(2000)
    perfect[[500, 1200]] = 1.0
    assert nab.nab_score([series], [silent], 0.5)[0] == 0
    assert nab.nab_score([series], [perfect], 0.5)[0] == pytest.approx(100, abs=0.2)
    assert nab.nab_score([series], [perfect])[1] == 1.0


def test_nab_counts_one_detection_a_window_and_pays_less_for_later_ones():
    series = labelled()
    early, late, both = np.zeros(2000), np.zeros(2000), np.zeros(2000)
    early[510], late[590], both[[510, 590]] = 1.0, 1.0, 1.0
    first, last, twice = (nab.nab_score([series], [s], 0.5)[0] for s in (early, late, both))
    assert twice == first > last > 0


def test_nab_charges_011_for_a_false_alarm_and_nothing_in_the_probation():
    series = labelled()
    false, ignored = np.zeros(2000), np.zeros(2000)
    false[400], ignored[100] = 1.0, 1.0
    assert nab.nab_score([series], [false], 0.5)[0] == pytest.approx(-100 * 0.11 / 4)
    assert nab.nab_score([series], [ignored], 0.5)[0] == 0


def test_nab_scores_a_small_corpus_as_computed_by_hand():
    """By the rules of NAB's scorer, standard profile, with two windows of 100 rows and 300 rows of probation."""
    alarms = np.zeros(2000)
    alarms[[299, 300, 549, 560, 609]] = 1.0
    # 299: not scored. 300: before any window, -0.11. 549: place -(599 - 549 + 1) / 100 = -0.51 in the window, sigmoid
    # 2 / (1 + exp(-2.55)) - 1 = 0.855147, divided by the one at -1, 0.986614: 0.866749. 560: later in that window,
    # counts nothing. 609: (609 - 599) / 99 = 0.10101 widths behind it, 0.11 * (2 / (1 + exp(0.505051)) - 1) = -0.0272.
    # The second window is missed: -1. Normalised between -2 (nothing found) and 2 (both found at once).
    total = -0.11 + 0.866749 - 0.027202 - 1
    assert nab.nab_score([labelled()], [alarms], 0.5)[0] == pytest.approx(100 * (total + 2) / 4, abs=1e-3)


def test_nab_charges_less_for_an_alarm_just_behind_a_window():
    near, far = np.zeros(2000), np.zeros(2000)
    near[605], far[1000] = 1.0, 1.0
    assert 0 > nab.nab_score([labelled()], [near], 0.5)[0] > nab.nab_score([labelled()], [far], 0.5)[0]


def test_the_real_series_have_their_windows(real_data: Path):
    corpus = nab.load(real_data / "nab")
    assert len(corpus) == 27
    marks = [np.isin(np.arange(len(s.values)), [first for first, _ in s.windows]).astype(float) for s in corpus]
    assert nab.nab_score(corpus, marks)[0] == pytest.approx(100, abs=0.5)


def csv(path: Path, values: Floats, times: object = None, **columns: object) -> str:
    pd.DataFrame({"time": 60.0 * np.arange(len(values)) if times is None else times, "value": values} | columns).to_csv(
        path, index=False
    )
    return str(path)


def query_range(path: Path, *series: Floats) -> str:
    points = [[[1000 + 15.0 * i, None if np.isnan(v) else v] for i, v in enumerate(values)] for values in series]
    content = {"expr": "x", "series": [{"labels": {"i": str(i)}, "points": p} for i, p in enumerate(points)]}
    path.write_text(json.dumps(content))
    return str(path)


def test_a_file_of_query_range_is_forecast(project: Project, tmp_path: Path):
    values = 1 + 0.04 * np.maximum(0, minutes - 120) + noise(1)
    values[5] = np.nan
    path = query_range(tmp_path / "range.json", values)
    found = project.ok("judge", "forecast_threshold", series=path, threshold=6.0, horizon_s=1800)
    assert found["outlook"] == "crossing"
    assert found["readings"] == 199
    end = 1000 + 15.0 * 199
    assert found["earliest_at_s"] <= end + 46 * 15 <= found["latest_at_s"]
    assert found["expected_at_s"] == pytest.approx(end + found["expected_in_s"])


def test_date_times_are_read_as_unix_seconds(project: Project, tmp_path: Path):
    stamps = pd.date_range("2026-01-01", periods=200, freq="min", tz="UTC").astype(str)
    path = csv(tmp_path / "s.csv", 1 + 3.0 * (minutes >= 192) + noise(1), stamps)
    found = project.ok("judge", "forecast_threshold", series=path, threshold=6.0)
    assert found["outlook"] == "not_forecastable"
    assert found["probability"] is None
    assert "jumped" in found["message"]


def test_burn_rates_of_a_file(project: Project, tmp_path: Path):
    path = csv(tmp_path / "errors.csv", np.full(90, 0.02))
    found = project.ok("judge", "burn_rate", series=path, slo=0.999)
    assert found["severity"] == "page"
    assert [window["firing"] for window in found["windows"]] == [True, True, True]
    assert found["windows"][2]["covered_s"] == 89 * 60
    weighted = csv(tmp_path / "w.csv", np.array([1.0, 0.0]), requests=[1, 9999])
    assert project.ok("judge", "burn_rate", series=weighted, slo=0.999)["severity"] is None


def test_anomalies_of_a_file_are_written_beside_the_readings(project: Project, tmp_path: Path):
    values = noise(1, 500, 1.0)
    values[400] += 12
    found = project.ok("judge", "score_anomalies", series=csv(tmp_path / "s.csv", values))
    assert 400 * 60.0 in found["alarm_times_s"]
    written = pd.read_parquet(project.root / found["scores_path"])
    assert len(written) == 500 == found["readings"]
    assert written["alarm"].sum() == found["alarms"]


def test_a_series_too_short_to_learn_from_says_so(project: Project, tmp_path: Path):
    found = project.ok("judge", "score_anomalies", series=csv(tmp_path / "s.csv", noise(1, 40)))
    assert found["alarms"] == 0
    assert "too few readings" in found["message"]


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("missing.json", None, "no such file"),
        ("broken.json", "{", "JSON"),
        ("other.json", "[1]", "query_range"),
        ("points.json", '{"series": [{"points": [["a", "b"]]}]}', "pairs"),
        ("empty.csv", "", "empty"),
        ("columns.csv", "t,v\n1,2\n", "time"),
        ("text.csv", "time,value\n1,hello\n", "numeric"),
        ("clock.csv", "time,value\nyesterday,1\n", "time"),
    ],
)
def test_a_foreign_file_is_refused_with_what_is_valid(
    project: Project, tmp_path: Path, name: str, content: str | None, said: str
):
    if content is not None:
        (tmp_path / name).write_text(content)
    result = project.call("judge", "forecast_threshold", series=name, threshold=1.0)
    assert result.error is not None and result.error.kind is ErrorKind.FIXABLE
    assert said in result.error.message


def test_several_series_in_one_file_are_named(project: Project, tmp_path: Path):
    result = project.call(
        "judge", "forecast_threshold", series=query_range(tmp_path / "r.json", minutes, minutes), threshold=1.0
    )
    assert result.error is not None and result.error.kind is ErrorKind.FIXABLE
    assert '"i": "1"' in result.error.message


def test_a_series_without_a_finite_value_is_no_data(project: Project, tmp_path: Path):
    path = query_range(tmp_path / "r.json", np.full(20, np.nan))
    for action, more in (
        ("forecast_threshold", {"threshold": 1.0}),
        ("burn_rate", {"slo": 0.9}),
        ("score_anomalies", {}),
    ):
        assert project.call("judge", action, series=path, **more).status is Status.NO_DATA


def test_impossible_arguments_are_refused(project: Project, tmp_path: Path):
    path = csv(tmp_path / "s.csv", noise(1, 40))
    for action, more in (
        ("forecast_threshold", {"threshold": 1.0, "horizon_s": 0}),
        ("forecast_threshold", {"threshold": float("nan")}),
        ("burn_rate", {"slo": 1.0}),
        ("burn_rate", {"slo": 0.99}),  # the values are no shares
        ("score_anomalies", {"alarm_at": 1.0}),
    ):
        result = project.call("judge", action, series=path, **more)
        assert result.error is not None and result.error.kind is ErrorKind.FIXABLE, (action, more)
