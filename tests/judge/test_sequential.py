"""The e-processes keep their promise at every look, and find losses as fast as TARGETS.md says they can."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

from tools.judge.sequential import (
    MIXTURE_ROWS,
    asymptotic_log_e,
    betting_log_e,
    clipped_log_e,
    discordant_log_e,
    log_threshold,
    mean_interval,
    rate_log_e,
    requests_needed,
    two_sample_log_e,
)

ALPHA = 0.05
SEEDS, REQUESTS = 800, 1500


def ever_rejected(log_e: np.ndarray, alpha: float = ALPHA) -> float:
    return float((log_e.max(axis=-1) >= log_threshold(alpha)).mean())


def counts(difference: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Running counts of harm and of benefit."""
    return np.cumsum(difference > 0, axis=1, dtype=np.int64), np.cumsum(difference < 0, axis=1, dtype=np.int64)


def paired_errors(loss: float, seed: int, shape: tuple[int, int], disagree: float = 0.02) -> np.ndarray:
    """Challenger's error minus champion's: -1, 0 or 1, disagreeing on `disagree` of requests and on `loss` more."""
    draw = np.random.default_rng(seed).random(shape)
    return (draw < disagree / 2 + loss).astype(float) - (draw > 1 - disagree / 2)


def test_an_equal_challenger_is_rejected_by_labels_at_no_look_in_95_of_100_runs():
    difference = paired_errors(0.0, 1, (SEEDS, REQUESTS), disagree=0.1)
    assert ever_rejected(discordant_log_e(*counts(difference))) <= ALPHA
    assert ever_rejected(betting_log_e(difference, 1.0)) <= ALPHA


def test_a_peeked_z_test_would_reject_an_equal_challenger_far_more_often():
    difference = paired_errors(0.0, 1, (SEEDS, REQUESTS), disagree=0.1)
    looks = np.arange(100, REQUESTS + 1, 100)
    total, squares = np.cumsum(difference, axis=1), np.cumsum(difference**2, axis=1)
    z = total[:, looks - 1] / np.sqrt(np.maximum(squares[:, looks - 1], 1))
    assert (z > 1.645).any(axis=1).mean() > 3 * ALPHA


def test_losses_with_heavy_symmetric_tails_and_no_known_bound_keep_the_level():
    values = np.random.default_rng(2).standard_t(2, size=(SEEDS, REQUESTS))
    assert ever_rejected(clipped_log_e(values)) <= ALPHA


def test_the_asymptotic_process_is_a_bet_on_every_positive_mean():
    for mean, deviation, count in ((0.03, 0.5, 400), (-0.02, 0.2, 150), (0.2, 1.5, 90)):
        scale = 1 / np.sqrt(MIXTURE_ROWS)

        def weighed(
            size: float, total: float = count * mean / deviation, n: int = count, scale: float = scale
        ) -> float:
            return 2 * norm.pdf(size, 0, scale) * np.exp(size * total - size**2 * n / 2)

        expected = quad(weighed, 0, 30 * scale, limit=200)[0]
        found = asymptotic_log_e(np.array([mean]), np.array([deviation]), np.array([count]))
        assert np.exp(found[0]) == pytest.approx(expected, rel=1e-6)


def test_the_asymptotic_process_keeps_the_level_on_skewed_values_from_a_hundred_rows_on():
    values = np.random.default_rng(11).exponential(1, (SEEDS, REQUESTS)) - 1
    looks = np.unique((100 * 1.05 ** np.arange(56)).astype(int))
    for signed in (values, -values):
        means = np.stack([signed[:, :n].mean(axis=1) for n in looks], axis=1)
        deviations = np.stack([signed[:, :n].std(axis=1) for n in looks], axis=1)
        assert ever_rejected(asymptotic_log_e(means, deviations, looks)) <= ALPHA


def test_skewed_loss_differences_keep_the_level():
    values = np.random.default_rng(3).exponential(size=(SEEDS, REQUESTS)) - 1.0
    assert ever_rejected(clipped_log_e(values)) <= ALPHA
    assert ever_rejected(clipped_log_e(-values)) <= ALPHA


def test_a_rate_at_its_limit_is_not_called_above_it():
    events = (np.random.default_rng(4).random((SEEDS, REQUESTS)) < 0.01).astype(float)
    assert ever_rejected(rate_log_e(events, 0.01)) <= ALPHA


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.3])
def test_equal_failure_rates_on_split_traffic_keep_the_level(rate: float):
    random = np.random.default_rng(5)
    champion_trials = random.geometric(0.05, size=(300, 200)).astype(float)
    rejected = [
        two_sample_log_e(
            random.binomial(trials.astype(int), rate).astype(float),
            trials,
            (random.random(len(trials)) < rate).astype(float),
            np.ones(len(trials)),
        ).max()
        >= log_threshold(ALPHA)
        for trials in champion_trials
    ]
    assert np.mean(rejected) <= ALPHA


@pytest.mark.parametrize(("loss", "reference"), [(0.04, 300), (0.02, 1100), (0.01, 4600)])
def test_a_loss_is_found_within_the_reference_number_of_labels(loss: float, reference: int):
    difference = paired_errors(loss, 6, (150, 8000))
    log_e = discordant_log_e(*counts(difference))
    found = log_e[:, 99::100] >= log_threshold(ALPHA)
    requests = np.where(found.any(axis=1), (found.argmax(axis=1) + 1) * 100, 8000)
    assert np.median(requests) <= reference * 1.1


def test_the_confidence_sequence_holds_at_all_looks_at_once_and_shrinks():
    looks = np.array([50, 100, 200, 400, 800])
    missed, widths = 0, []
    for seed in range(100):
        values = paired_errors(0.03, seed, (1, 800))[0]
        interval = mean_interval(values, ALPHA, looks, bound=1.0)
        missed += bool(((interval[:, 0] > 0.03) | (interval[:, 1] < 0.03)).any())
        widths.append(interval[:, 1] - interval[:, 0])
    assert missed <= 5
    assert (np.diff(np.mean(widths, axis=0)) < 0).all()
    assert np.mean(widths, axis=0)[-1] < 0.1


def test_the_plan_for_a_loss_is_near_what_the_simulation_needs():
    difference = paired_errors(0.02, 7, (200, 6000))
    log_e = discordant_log_e(*counts(difference))
    found = log_e >= log_threshold(ALPHA)
    median = np.median(np.where(found.any(axis=1), found.argmax(axis=1) + 1, 6000))
    assert requests_needed(0.02, 0.04, ALPHA) == pytest.approx(median, rel=0.25)
