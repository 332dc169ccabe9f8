"""Whether a series is unusual: incidents are found, quiet series are left in peace, what cannot be judged is said."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.anomaly import QUIET, quiet_series
from tools.judge.outlook.anomaly import MIN_POINTS, Anomalies, AnomalyDetector, find_anomalies

Floats = NDArray[np.float64]
SIZE, AT = 1500, 1200


def found_in(values: Floats, times: Floats | None = None) -> Anomalies:
    return find_anomalies(np.arange(0, 60 * len(values), 60, dtype=np.float64) if times is None else times, values)


def noise(seed: int = 0, size: int = SIZE) -> Floats:
    return np.random.default_rng(seed).normal(0, 1, size)


def daily(seed: int = 0) -> Floats:
    return 50 + 20 * np.sin(2 * np.pi * np.arange(SIZE) / 144) + noise(seed)


def pulses(seed: int = 0) -> Floats:
    return 5 + 0.3 * noise(seed) + 20.0 * (np.arange(SIZE) % 20 == 0)


def with_(values: Floats, length: int, change: Floats | float) -> Floats:
    changed = values.copy()
    changed[AT : AT + length] += change
    return changed


INCIDENTS = {
    "level shift": with_(50 + noise(), SIZE - AT, 8.0),
    "hump": with_(50 + noise(1), 40, 8.0),
    "spread": with_(50 + noise(2), 40, 8 * noise(3, 40)),
    "standstill": np.where((np.arange(SIZE) >= AT) & (np.arange(SIZE) < AT + 60), 50.0, 50 + noise(4)),
    "shift within the daily range": with_(daily(), 30, -25.0),
    "missing pulses": np.where((np.arange(SIZE) >= AT) & (np.arange(SIZE) < AT + 80), 5 + 0.3 * noise(5), pulses()),
    "drop to zero": np.where((np.arange(SIZE) >= AT) & (np.arange(SIZE) < AT + 30), 0.0, daily(6)),
    "counter that stalls": np.cumsum(with_(20 + noise(7), 40, -20.0).clip(0)),
    "change of a constant": with_(np.full(SIZE, 7.0), SIZE - AT, 1.0),
}


@pytest.mark.parametrize("kind", INCIDENTS)
def test_an_incident_is_an_alarm_while_it_lasts(kind: str) -> None:
    alarms = [alarm.position for alarm in found_in(INCIDENTS[kind]).alarms]
    assert any(AT <= position <= AT + 90 for position in alarms), alarms


@pytest.mark.parametrize("kind", QUIET)
def test_quiet_series_alarm_at_most_once_in_300_points(kind: str) -> None:
    found = [found_in(quiet_series(kind, seed, SIZE)) for seed in (11, 12)]
    assert sum(len(one.alarms) for one in found) <= sum(one.judged for one in found) / 300


def test_most_quiet_series_alarm_at_most_once_in_800_points() -> None:
    found = [found_in(quiet_series(kind, 13, SIZE)) for kind in QUIET]
    assert sum(len(one.alarms) for one in found) <= sum(one.judged for one in found) / 800


def test_an_incident_does_not_hide_the_next_one() -> None:
    values = 50 + noise(8, 2400)
    values[1000:1030] += 400.0
    values[1800:1830] += 10.0
    alarms = [alarm.position for alarm in found_in(values).alarms]
    assert any(1000 <= position < 1030 for position in alarms)
    assert any(1800 <= position < 1830 for position in alarms)


def test_an_alarm_says_how_rare_it_is_and_what_was_usual() -> None:
    alarm = next(one for one in found_in(INCIDENTS["hump"]).alarms if one.position >= AT)
    assert alarm.once_in >= 1000
    assert alarm.score == pytest.approx(1 - 1 / alarm.once_in)
    assert 47 < alarm.usual[0] < 49 and 51 < alarm.usual[1] < 53


def test_a_series_is_judged_the_same_in_another_unit() -> None:
    values = daily(9)
    here = [alarm.position for alarm in found_in(with_(values, 40, 60.0)).alarms]
    there = [alarm.position for alarm in found_in(-1e6 * with_(values, 40, 60.0) + 3e8).alarms]
    assert here == there and here


def test_too_few_points_are_said() -> None:
    found = found_in(noise(size=12))
    assert (found.alarms, found.judged) == ((), 0)
    assert found.remarks == (f"cannot be judged: 12 points, more than {MIN_POINTS} are needed",)


def test_nothing_finite_is_said() -> None:
    found = found_in(np.full(200, np.nan))
    assert found.judged == 0
    assert "200 values are missing or infinite" in found.remarks[0] and "cannot be judged: 0 points" in found.remarks[1]


def test_missing_and_infinite_values_are_left_out_and_said() -> None:
    values = 50 + noise(10)
    values[[300, 700]], values[900] = np.nan, np.inf
    found = found_in(values)
    assert found.remarks == ("3 values are missing or infinite and left out",)
    assert found.judged == SIZE - 3 - MIN_POINTS
    assert all(math.isfinite(alarm.value) for alarm in found.alarms)


def test_positions_are_those_of_the_series_as_given() -> None:
    values = INCIDENTS["level shift"].copy()
    values[100:140] = np.nan
    assert any(AT <= alarm.position < AT + 30 for alarm in found_in(values).alarms)


def test_a_gap_is_no_anomaly_and_is_said() -> None:
    times = np.arange(0, 60 * SIZE, 60, dtype=np.float64)
    times[AT:] += 7200
    found = found_in(daily(11), times)
    assert found.remarks == ("1 gap: 24 values after each are not judged",)
    assert not [alarm for alarm in found.alarms if AT <= alarm.position < AT + 24]


def test_a_constant_series_is_said_and_quiet() -> None:
    found = found_in(np.full(400, 3.0))
    assert found.alarms == () and found.remarks == ("constant at 3",)


def test_a_counter_is_judged_by_its_increases_over_a_restart() -> None:
    values = np.concatenate([np.cumsum(20 + noise(12, 900)), np.cumsum(20 + noise(13, 600))])
    found = found_in(values)
    assert found.is_counter and "a counter: judged by its increases" in found.remarks
    assert not [alarm for alarm in found.alarms if 895 <= alarm.position <= 910]


def test_memory_stays_the_same_however_long_the_series() -> None:
    detector = AnomalyDetector()

    def held() -> int:
        stack, total, seen = [detector], 0, set[int]()
        while stack:
            one = stack.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            total += one.nbytes if isinstance(one, np.ndarray) else 0
            stack += one if isinstance(one, list) else list(vars(one).values()) if hasattr(one, "__dict__") else []
        return total

    for value in noise(14, 2600).tolist():
        detector.add(value)
    before = held()
    for value in noise(15, 600).tolist():
        detector.add(value)
    assert held() == before < 3_000_000
