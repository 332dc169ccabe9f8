"""Burn-rate alerts of a service level objective over several windows.

Source: The Site Reliability Workbook (Google, 2018), chapter 5, "Multiwindow, multi-burn-rate alerts", table 5-8. A
burn rate of 1 uses up exactly the error budget (1 - SLO) in the SLO's period of 30 days. An alert fires while both its
long window, which shows that a relevant part of the budget is gone, and its short one, a twelfth of it, which shows
that it is still being spent, burn at least that fast.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Severity = Literal["page", "ticket"]

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0
PERIOD_S = 30 * DAY_S


@dataclass(frozen=True)
class Rule:
    """Fires when both windows burn at `rate` or faster."""

    rate: float
    long_s: float
    short_s: float
    severity: Severity


RULES = (
    Rule(14.4, HOUR_S, 5 * MINUTE_S, "page"),  # 2 % of the budget in an hour
    Rule(6.0, 6 * HOUR_S, 30 * MINUTE_S, "page"),  # 5 % in six hours
    Rule(1.0, 3 * DAY_S, 6 * HOUR_S, "ticket"),  # 10 % in three days
)


@dataclass(frozen=True)
class Burn:
    """One rule at one time. A burn is None where its window has no reading; `covered_s` is how far back readings go."""

    rule: Rule
    long_burn: float | None
    short_burn: float | None
    covered_s: float
    firing: bool


@dataclass(frozen=True)
class BurnReport:
    """All rules at the last reading.

    `exhausted_in_s`: when a whole period's budget would be gone at the burn of `fastest`: of the long window of the
    fastest rule that fires; None while nothing fires. `slo`: as asked.
    """

    burns: list[Burn]
    severity: Severity | None
    exhausted_in_s: float | None
    fastest: Burn | None
    slo: float


def burn_rates(times: Floats, error_shares: Floats, slo: float, requests: Floats | None = None) -> BurnReport:
    """Evaluate the rules at the time of the last reading.

    Args:
        times: seconds, any order, shape (n,).
        error_shares: share of the requests since the reading before that failed, 0 to 1; NaN: unknown.
        slo: share of requests that must succeed, for example 0.999.
        requests: requests since the reading before; None counts every reading alike, as an average over a ratio in
            Prometheus does.

    Raises:
        ValueError: `slo` not strictly between 0 and 1, a share outside 0 to 1, negative requests, or no reading.
    """
    if not 0 < slo < 1:
        raise ValueError(f"slo must be between 0 and 1, for example 0.999; got {slo:g}")
    known = np.isfinite(times) & np.isfinite(error_shares)
    times, shares = times[known], error_shares[known]
    weights = np.ones(len(times)) if requests is None else np.nan_to_num(requests[known])
    if len(times) == 0:
        raise ValueError("no reading of the error share")
    if shares.min() < 0 or shares.max() > 1:
        raise ValueError(f"error shares must lie between 0 and 1; got {shares.min():g} to {shares.max():g}")
    if weights.min() < 0:
        raise ValueError(f"requests must not be negative; got {weights.min():g}")
    now = float(times.max())

    def burn(window_s: float) -> float | None:
        inside = times > now - window_s
        total = float(weights[inside].sum())
        return float(shares[inside] @ weights[inside]) / total / (1 - slo) if total > 0 else None

    covered = now - float(times.min())
    burns: list[Burn] = []
    for rule in RULES:
        long, short = burn(rule.long_s), burn(rule.short_s)
        firing = long is not None and short is not None and _reaches(long, rule.rate) and _reaches(short, rule.rate)
        burns.append(Burn(rule, long, short, min(covered, rule.long_s), firing))
    firing = [found for found in burns if found.firing]
    severity: Severity | None = None
    if firing:
        severity = "page" if any(found.rule.severity == "page" for found in firing) else "ticket"
    fastest = firing[0] if firing else None
    gone = PERIOD_S / fastest.long_burn if fastest is not None and fastest.long_burn else None
    return BurnReport(burns, severity, gone, fastest, slo)


def _reaches(burn: float, rate: float) -> bool:
    return burn >= rate * (1 - 1e-9)  # 1 - slo is not exact in binary
