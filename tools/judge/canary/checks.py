"""The tests of harm that a canary must survive: quality, quality per segment, failures, latency, fallbacks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tools.judge.canary.quality import Evidence, Quality, Rules, quality_of
from tools.judge.sequential import (
    Floats,
    betting_log_e,
    clipped_log_e,
    discordant_log_e,
    log_threshold,
    mixture,
    rate_log_e,
    spread,
    targeted_log_e,
    two_sample_log_e,
)

FAILURE_MARGIN = 0.01  # promotion needs proof that failures rise by less
SLOWER = 1.5  # without a stated bound, a latency up to this many times the champion's is no harm
LATENCY_QUANTILE = 0.95
TOO_SLOW = 504
MIN_SERVED = 20  # promotion needs this many latencies of requests that the challenger really served
SUSPICION = float(np.log(4.0))  # promotion waits while any check leans this far towards harm
SHARES = {"quality": 0.5, "failures": 0.25, "latency": 0.25}  # of alpha; fallbacks share with the latency


@dataclass(frozen=True)
class Check:
    """One test of harm: its log e-process per request, and the log threshold that means rollback.

    Values are what is compared, in words a person reads (`unit`); `passed` says per request whether promotion may pass
    this check. `doubt`: log e-process of what stops a promotion and is not harm yet, where that is less than `log_e`.
    """

    name: str
    log_e: Floats
    threshold: float
    passed: NDArray[np.bool_]
    champion_value: float | None
    challenger_value: float | None
    unit: str
    doubt: Floats | None = None

    @property
    def doubted(self) -> NDArray[np.bool_]:
        """Per request: the evidence leans against a promotion."""
        return (self.log_e if self.doubt is None else self.doubt) >= SUSPICION

    @property
    def crossed(self) -> NDArray[np.bool_]:
        """Per request: harm was proven by then."""
        return np.maximum.accumulate(self.log_e) >= self.threshold


def checks_of(evidence: Evidence, quality: Quality, rules: Rules) -> list[Check]:
    """Every check that applies, the overall quality first; their levels add up to at most `rules.alpha`."""
    n, budget = len(evidence), rules.alpha * SHARES["quality"]
    segmented = evidence.segment is not None
    checks = [_quality_check(quality, n, budget / 2 if segmented else budget)]
    if segmented:
        checks += _segment_checks(evidence, rules, n, budget / 2)
    checks += [*_failure_checks(evidence, rules, n), _latency_check(evidence, rules, n)]
    return checks if evidence.late is None else [*checks, _fallback_check(evidence, evidence.late, rules)]


def within_tolerance_log_e(quality: Quality, n: int) -> Floats:
    """Log e-process of "the loss of quality is within the tolerance", per request, as a running maximum.

    It bets on what is hoped for: that the challenger is as good as the champion. For metrics of pairs of requests,
    whose blocks waste much of the evidence, the metric of all requests so far takes part: its level holds in the long
    run, that of the blocks always.
    """
    found = [
        spread(
            clipped_log_e(part.margin, part.hoped)
            if part.bound is None
            else targeted_log_e(part.margin, part.margin_bound, part.hoped),
            part.rows,
            n,
        )
        for part in quality.parts
    ]
    if quality.running is not None:
        found.append(quality.running().within_log_e(n))
    return np.maximum.accumulate(np.maximum(mixture(*found), 0.0))


def _quality_log_e(quality: Quality, n: int) -> Floats:
    """Log e-process of "the challenger is worse", per request."""
    if quality.whole and quality.running is not None:
        return quality.running().harm_log_e(n)
    return mixture(*(spread(_harm_log_e(part.harm, part.bound), part.rows, n) for part in quality.parts))


def _harm_log_e(harm: Floats, bound: float | None) -> Floats:
    if bound is None:
        return clipped_log_e(harm)
    if np.all(np.isin(harm, (-1.0, 0.0, 1.0))):
        return _disagreements_log_e(harm)
    return betting_log_e(harm, bound)


def _disagreements_log_e(difference: Floats) -> Floats:
    """Log e-process of "disagreements harm more often than they help"; it moves only where `difference` is not 0."""
    rows = np.flatnonzero(difference)
    harm = np.cumsum(difference[rows] > 0, dtype=np.int64)
    return spread(discordant_log_e(harm, np.arange(1, len(rows) + 1) - harm), rows, len(difference))


def _mean_or_none(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _quality_check(quality: Quality, n: int, alpha: float) -> Check:
    log_e = _quality_log_e(quality, n)
    return Check(
        "quality", log_e, log_threshold(alpha), np.ones(n, dtype=bool),  # promotion asks for proof, in `trace`
        *quality.values, quality.measure,
    )  # fmt: skip


def _segment_checks(evidence: Evidence, rules: Rules, n: int, alpha: float) -> list[Check]:
    """Quality per segment. The k-th segment to appear gets alpha / (k (k + 1)): valid for any number of segments."""
    assert evidence.segment is not None
    names = evidence.segment.astype(str)
    order: Sequence[str] = list(dict.fromkeys(names.tolist()))
    checks = []
    for k, name in enumerate(order, start=1):
        mine = quality_of(evidence, rules, names == name)
        log_e = _quality_log_e(mine, n)
        checks.append(Check(
            f"segment {name}", log_e, log_threshold(alpha / (k * (k + 1))), log_e < SUSPICION,
            *mine.values, mine.measure,
        ))  # fmt: skip
    return checks


def _failed(status: Floats) -> Floats:
    """1 where the answer failed, 0 where it did not, NaN where nothing was asked."""
    return np.where(np.isnan(status), np.nan, ~((status >= 200) & (status < 400)))


def _blocks_log_e(champion: Floats, challenger: Floats) -> Floats:
    """Two-sample process per request. `champion` and `challenger` are events (0, 1), NaN where there is no trial.

    A block is the champion's trials up to and including the next trial of the challenger.
    """
    n, trial = len(champion), np.isfinite(challenger)
    block = np.cumsum(trial) - trial  # the number of challenger trials before this row
    blocks = int(trial.sum())
    inside = block < blocks
    count = [
        np.bincount(block[inside], weights=np.nan_to_num(values[inside]), minlength=blocks).astype(float)
        for values in (champion, np.isfinite(champion).astype(float), challenger, trial.astype(float))
    ]
    return spread(two_sample_log_e(*count), np.flatnonzero(trial), n)


def _more_often_log_e(champion: Floats, challenger: Floats) -> Floats:
    """Log e-process of "an event (0, 1; NaN: no trial) befalls the challenger more often", per request.

    The same request tried by both is the sharper comparison; requests that only one was asked add to it.
    """
    both = np.isfinite(champion) & np.isfinite(challenger)
    log_e = _disagreements_log_e(np.where(both, np.nan_to_num(challenger) - np.nan_to_num(champion), 0.0))
    alone = np.where(both, np.nan, champion), np.where(both, np.nan, challenger)
    return log_e + _blocks_log_e(*alone) if np.isfinite(alone[1]).any() else log_e


def _failure_checks(evidence: Evidence, rules: Rules, n: int) -> list[Check]:
    champion, challenger = _failed(evidence.champion_status), _failed(evidence.challenger_status)
    both = np.isfinite(champion) & np.isfinite(challenger)
    paired = int(both.sum()) > 0
    alpha = rules.alpha * SHARES["failures"] / (2 if rules.max_error_rate is not None else 1)
    rates = _mean_or_none(champion[np.isfinite(champion)]), _mean_or_none(challenger[np.isfinite(challenger)])
    log_e = _more_often_log_e(champion, challenger)
    if paired:
        bets = betting_log_e(FAILURE_MARGIN - (challenger - champion)[both], 1 - FAILURE_MARGIN)
        proven = spread(bets, np.flatnonzero(both), n)
    else:
        proven = _unpaired_margin(champion, challenger, n)
    passed = np.maximum.accumulate(proven) >= log_threshold(rules.alpha)
    checks = [Check("failures", log_e, log_threshold(alpha), passed & (log_e < SUSPICION), *rates, "failed answers")]
    if rules.max_error_rate is not None:
        asked = np.flatnonzero(np.isfinite(challenger))
        log_e = spread(rate_log_e(challenger[asked], rules.max_error_rate), asked, n)
        unit = f"failed answers, at most {rules.max_error_rate:g} accepted"
        checks.append(Check("failure bound", log_e, log_threshold(alpha), log_e < SUSPICION, *rates, unit))
    return checks


def _unpaired_margin(champion: Floats, challenger: Floats, n: int) -> Floats:
    """Log e-process of "failures rise by less than the margin" on split traffic, one bet per challenger request."""
    trial = np.isfinite(challenger)
    before = np.cumsum(np.isfinite(champion)), np.cumsum(np.nan_to_num(champion))
    rows = np.flatnonzero(trial)
    tries = np.diff(before[0][rows], prepend=0)
    failed = np.diff(before[1][rows], prepend=0)
    usable = tries > 0
    gap = challenger[rows][usable] - failed[usable] / tries[usable]
    return spread(betting_log_e(FAILURE_MARGIN - gap, 1 - FAILURE_MARGIN), rows[usable], n)


def _latency_check(evidence: Evidence, rules: Rules, n: int) -> Check:
    """Against the stated bound on every answer of the challenger, else against the champion on the split traffic.

    A bound that is missed is harm where the challenger misses it more often than the champion, on the same requests at
    the same time: else the machine may be what is slow, and only the promotion waits.

    What was routed to the challenger and fell back as too slow belongs to it: without it the slowest would be missing.
    """
    alpha = rules.alpha * SHARES["latency"] / (1 if evidence.late is None else 2)
    mine = np.where(evidence.routed & _timed(evidence.challenger_status), evidence.challenger_latency_ms, np.nan)
    theirs = np.where(~evidence.routed & _timed(evidence.champion_status), evidence.champion_latency_ms, np.nan)
    served = np.cumsum(evidence.served_by_challenger & np.isfinite(evidence.challenger_latency_ms))
    values, passed, doubt = (_quantile(theirs), _quantile(mine)), np.ones(n, dtype=bool), None
    if rules.max_latency_ms is not None:
        each = evidence.champion_latency_ms, evidence.challenger_latency_ms
        missed = [np.where(np.isfinite(ms), ms > rules.max_latency_ms, np.nan) for ms in each]
        rows = np.flatnonzero(np.isfinite(missed[1]))
        doubt = spread(rate_log_e(missed[1][rows], 1 - LATENCY_QUANTILE), rows, n)
        log_e = np.minimum(doubt, _more_often_log_e(*missed))
        values = _quantile(each[0]), _quantile(each[1])
        unit = f"ms (95th percentile, measured here), at most {rules.max_latency_ms:g} accepted"
    else:
        typical, slow = (_exceedance_log_e(theirs, mine, q) for q in (0.5, LATENCY_QUANTILE))
        log_e = np.logaddexp(typical, slow) - np.log(2.0)
        unit = f"ms (95th percentile, measured here), at most {SLOWER:g} times the champion's accepted"
        # A challenger that is slower shows little in its first requests, so promotion needs proof that it is not.
        proof = np.maximum.accumulate(_exceedance_log_e(theirs, mine, 0.5, fewer=True))
        passed &= proof >= log_threshold(rules.alpha)
    found = Check("latency", log_e, log_threshold(alpha), passed, *values, unit, doubt)
    return replace(found, passed=passed & (served >= MIN_SERVED) & ~found.doubted)


def _timed(status: Floats) -> NDArray[np.bool_]:
    """Where a latency is that of an answer, or of one that came too late (504)."""
    return np.isnan(status) | (_failed(status) == 0) | (status == TOO_SLOW)


def _fallback_check(evidence: Evidence, late: Floats, rules: Rules) -> Check:
    """Requests not answered in time by the variant they were routed to, challenger against champion.

    Both are held to the same deadline on traffic that was split by chance, so a machine that is too slow for either
    blames neither; it only leaves fewer answers of the challenger to judge.
    """
    mine, theirs = np.where(evidence.routed, late, np.nan), np.where(evidence.routed, np.nan, late)
    log_e = _blocks_log_e(theirs, mine)
    return Check(
        "fallbacks", log_e, log_threshold(rules.alpha * SHARES["latency"] / 2), log_e < SUSPICION,
        _mean_or_none(theirs[np.isfinite(theirs)]), _mean_or_none(mine[np.isfinite(mine)]),
        "of its requests not answered in time",
    )  # fmt: skip


def _quantile(latency: Floats) -> float | None:
    known = latency[np.isfinite(latency)]
    return float(np.quantile(known, LATENCY_QUANTILE)) if len(known) else None


def _exceedance_log_e(champion: Floats, challenger: Floats, quantile: float, *, fewer: bool = False) -> Floats:
    """Log e-process against "the challenger exceeds the champion's latency quantile no more often than the champion".

    `fewer` turns it around: against "`SLOWER` times the champion's latency is exceeded no less often".

    The line is the champion's quantile over earlier requests, renewed whenever their number has doubled, so it never
    looks ahead; where it lies does not affect validity, for both are compared with the same line.
    """
    n, known = len(champion), np.flatnonzero(np.isfinite(champion))
    line = np.full(n, np.inf)
    size = MIN_SERVED
    while size <= len(known):
        line[known[size - 1] + 1 :] = np.quantile(champion[known[:size]], quantile)
        size *= 2
    usable = np.isfinite(line)
    events = [
        np.where(np.isfinite(values) & usable, ((values < line) if fewer else (values > line)).astype(float), np.nan)
        for values in (champion, challenger / SLOWER)
    ]
    return _blocks_log_e(events[0], events[1])
