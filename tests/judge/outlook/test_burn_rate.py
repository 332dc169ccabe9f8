"""Burn rates and the alerts of the SRE workbook."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tools.judge.outlook.burn_rate import burn_rates

Floats = NDArray[np.float64]

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
