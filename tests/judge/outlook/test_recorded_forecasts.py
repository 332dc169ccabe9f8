"""The figures of a look are those that a plain filter over all models gave, before it was made fast.

`recorded_forecasts.json` holds them for generated series of every kind. A change of the method changes them on purpose:
`python -m tests.judge.outlook.test_recorded_forecasts` writes them anew.
"""

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tools.judge.outlook.forecast import Forecast, forecast_crossing

Floats = NDArray[np.float64]
RECORDED = Path(__file__).with_name("recorded_forecasts.json")
SHAPES = (
    "noise", "burn", "bend", "curve", "season", "season and burn", "walk", "late jump", "old jump", "spikes",
    "flat", "over",
)  # fmt: skip
SIZES = (16, 90, 144, 500)


def series(shape: str, n: int) -> Floats:
    """Readings around 1, whose trouble is at 6."""
    random = np.random.default_rng([SHAPES.index(shape), n])
    step = np.arange(n) / n
    wave = np.sin(2 * np.pi * 5.3 * step) + 0.4 * np.cos(4 * np.pi * 5.3 * step)
    level = {
        "burn": 4 * step,
        "bend": 12 * np.maximum(step - 0.7, 0),
        "curve": 4 * step**3,
        "season": 2.5 * wave,
        "season and burn": 1.5 * wave + 2.5 * step,
        "walk": np.cumsum(random.normal(0, 0.15, n)),
        "over": 3 + 3 * step,
        "late jump": 2.5 * (np.arange(n) >= n - 4),
        "old jump": 2.5 * (step >= 0.4) + 2 * np.maximum(step - 0.4, 0),
    }.get(shape, np.zeros(n))
    if shape == "flat":
        return np.round(1 + random.normal(0, 0.3, n))  # many equal readings
    readings = 1 + level + random.normal(0, 0.2, n)
    if shape == "spikes":
        readings[random.choice(n, n // 12, replace=False)] += 3
    return readings


def look(shape: str, n: int) -> Forecast:
    """Even times for half of the sizes, irregular ones with gaps for the others; trouble below for one of them."""
    values = series(shape, n)
    times: Floats = np.arange(n, dtype=np.float64) * 60.0
    if n in SIZES[1::2]:
        times = np.sort(np.random.default_rng(n).uniform(0, n * 60.0, n))
    sign = -1.0 if n == SIZES[1] else 1.0
    return forecast_crossing(times, sign * values, sign * 6.0, 7200.0, side="below" if sign < 0 else "above")


def figures(found: Forecast) -> dict[str, Any]:
    """All of a look but its sentence; not a number is None, as in JSON."""
    fan = found.fan and {"low": found.fan.low[-1], "middle": found.fan.middle[-1], "high": found.fan.high[-1]}
    numbers = {
        "probability": found.probability,
        "trend": found.trend,
        "expected_s": found.expected_s,
        "earliest_s": found.interval_s[0],
        "latest_s": found.interval_s[1],
        "level": found.current_level,
        "slope_per_s": found.slope_per_s,
        "season_s": found.season_s,
        "change_s": found.change_s,
        **(fan or {}),
    }
    known = {name: None if value is None or math.isnan(value) else value for name, value in numbers.items()}
    return {"outlook": found.outlook, **known}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_look_gives_the_recorded_figures(shape: str):
    recorded = json.loads(RECORDED.read_text())
    for n in SIZES:
        now, before = figures(look(shape, n)), recorded[f"{shape}, {n}"]
        kept = [{name: value for name, value in look.items() if isinstance(value, float)} for look in (now, before)]
        assert kept[0] == pytest.approx(kept[1], rel=1e-6, abs=1e-9), (shape, n)
        assert {**now, **kept[1]} == before, (shape, n)  # what is no number, and None


def test_the_recorded_looks_hold_every_outlook_and_a_season():
    recorded = json.loads(RECORDED.read_text()).values()
    assert {look["outlook"] for look in recorded} == {"crossing", "crossed", "no_crossing", "not_forecastable"}
    assert sum(look["season_s"] is not None for look in recorded) == 4


if __name__ == "__main__":
    found = {f"{shape}, {n}": figures(look(shape, n)) for shape, n in product(SHAPES, SIZES)}
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
