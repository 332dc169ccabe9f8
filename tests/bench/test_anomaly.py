"""NAB's scoring, against figures worked out by hand and results that its repository stores."""

import math
from pathlib import Path

import numpy as np
import pytest

from bench.anomaly import Labelled, best_threshold, load, normalised, raw_score, windowed_gaussian

ONE = Labelled("g/one", np.zeros(100), ((50, 59),))

# numenta/NAB, results/windowedGaussian/windowedGaussian_standard_scores.csv at de8e91a4, threshold 1.0
STORED = {
    "realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv": -1.266678759349383,
    "realAWSCloudwatch/ec2_disk_write_bytes_1ef3de.csv": -4.190896785522053,
    "realAWSCloudwatch/grok_asg_anomaly.csv": 2.37942230674,
    "realAWSCloudwatch/ec2_cpu_utilization_c6585a.csv": -1.32,
    "realTweets/Twitter_volume_AMZN.csv": 1.55848299457,
    "realTweets/Twitter_volume_UPS.csv": -2.2051646682,
}


def sigmoid(x: float) -> float:
    return 2 / (1 + math.exp(5 * x)) - 1


def speaking(*at: int) -> np.ndarray:
    scores = np.zeros(100)
    scores[list(at)] = 1.0
    return scores


@pytest.mark.parametrize(
    ("at", "raw"),
    [
        ((), -1.0),  # a window missed
        ((50,), 1.0),  # found at its first value
        ((50, 55), 1.0),  # later ones in the window count nothing
        ((55,), sigmoid(-0.5) / sigmoid(-1)),
        ((20, 50), 1 - 0.11),  # a false alarm before any window
        ((50, 62), 1 + 0.11 * sigmoid(3 / 9)),  # shortly after one
        ((50, 95), 1 - 0.11),  # more than three widths after it
        ((3, 50), 1.0),  # in the first 15 %
    ],
)
def test_raw_scores_are_those_worked_out_by_hand(at: tuple[int, ...], raw: float) -> None:
    assert raw_score(ONE, speaking(*at), 0.5) == pytest.approx(raw)


def test_silence_is_0_and_perfection_100() -> None:
    assert normalised([ONE], [speaking()], 0.5) == pytest.approx(0)
    assert normalised([ONE], [speaking(50)], 0.5) == pytest.approx(100)


def test_the_threshold_is_the_best_one_over_all_series() -> None:
    other = Labelled("g/two", np.zeros(100), ((70, 79),))
    first, second = speaking(50) * 0.9, speaking(70) * 0.4
    first[30:36] = 0.4  # six false alarms cost less than the second window brings
    assert best_threshold([ONE, other], [first, second]) == pytest.approx(0.4)
    assert best_threshold([ONE], [speaking(20)]) == math.inf


@pytest.mark.parametrize("name", STORED)
def test_the_windowed_gaussian_scores_what_the_repository_stores(name: str, real_data: Path) -> None:
    series = next(one for one in load(real_data / "nab") if one.name == name)
    assert raw_score(series, windowed_gaussian(series.values), 1.0) == pytest.approx(STORED[name], abs=1e-6)
