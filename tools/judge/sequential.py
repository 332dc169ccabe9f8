"""Tests that may be looked at after every request: e-processes and confidence sequences.

An e-process starts at 1 and, while its null hypothesis holds, exceeds 1/alpha at any time at all with probability at
most alpha (Ville's inequality). So a decision "reject when it exceeds 1/alpha" is valid however often one looks.

Everything here is a bet on bounded pay-offs (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", JRSS B 2024): with E[x_t | past] <= 0 and x_t >= -c, the product of (1 + l * x_t / c) is an e-process for
every fraction 0 <= l < 1, and so is the average over a fixed grid of fractions. Values are natural logarithms and time
runs along the last axis, so many streams can be tested at once.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincc, betaln, log_ndtr, logsumexp

Floats = NDArray[np.float64]

# Fractions of the capital that are bet, equally weighted. Log-spaced, because the best fraction is proportional to the
# unknown size of the effect: each factor of two in the effect is covered by about two of them.
FRACTIONS: Floats = np.geomspace(0.002, 0.95, 20)
# Ratios of event rates (challenger over champion) that the two-sample test bets on.
RATIOS: Floats = np.geomspace(1.15, 60.0, 14)
WARM_UP = 10  # values that only set the scale where no bound is known
PRIOR_VALUES = 2  # weight of the guess at the second moment of pay-offs, in values
MIXTURE_ROWS = 500  # rows after which the normal mixture is about tightest
DISCORDANT_PRIOR = 2.0  # Beta(2, 2): effects are more often small than total


def spread(values: Floats, rows: NDArray[np.int64], n: int) -> Floats:
    """A process known at `rows` as one value per request, shape (n,): 0 before the first, then the last known."""
    known = np.searchsorted(rows, np.arange(n), side="right")
    return np.concatenate([[0.0], values])[known]


def log_threshold(alpha: float) -> float:
    """The log e-value at which a null hypothesis is rejected at level `alpha`."""
    return float(np.log(1.0 / alpha))


def betting_log_e(payoff: Floats, bound: Floats | float) -> Floats:
    """Log e-process against "the mean pay-off is at most 0".

    Args:
        payoff: shape (..., n); never below `-bound`.
        bound: the largest possible loss, known before each pay-off; shape broadcastable to `payoff`, positive.

    Returns:
        Shape (..., n).
    """
    ratio = payoff / bound
    total = np.full(ratio.shape, -np.inf)
    for fraction in FRACTIONS:
        total = np.logaddexp(total, np.cumsum(np.log1p(fraction * ratio), axis=-1))
    return total - np.log(len(FRACTIONS))


def targeted_log_e(payoff: Floats, bound: Floats | float, hoped: Floats | float) -> Floats:
    """Log e-process against "the mean pay-off is at most 0", for a mean that is known if the hope is true.

    The best fraction is then the mean over the second moment (Kelly), and that is learned from earlier pay-offs
    (Waudby-Smith and Ramdas, "GRAPA"). That pays no price for an unknown size, as `betting_log_e` does; an equal
    mixture of both, which is returned, costs log 2 against the better one.

    Args:
        payoff, bound: as in `betting_log_e`, shape (n,).
        hoped: mean pay-off that is hoped for, known before each pay-off.
    """
    bound = np.broadcast_to(np.asarray(bound, dtype=np.float64), payoff.shape)
    square = (PRIOR_VALUES * bound**2 / 4 + np.concatenate([[0.0], np.cumsum(payoff**2)[:-1]])) / (
        PRIOR_VALUES + np.arange(len(payoff))
    )
    fraction = np.clip(bound * hoped / np.maximum(square, 1e-300), 0.0, FRACTIONS[-1])
    return mixture(np.log1p(fraction * payoff / bound).cumsum(), betting_log_e(payoff, bound))


def mixture(*log_e: Floats) -> Floats:
    """The equal mixture of e-processes of one hypothesis, which is one again."""
    return logsumexp(np.array(log_e), axis=0) - np.log(len(log_e))


def asymptotic_log_e(mean: Floats, deviation: Floats, count: NDArray[np.int64]) -> Floats:
    """Log e-process against "the mean is at most 0", for estimates that are means of influence values in the long run.

    One-sided normal mixture with the deviation estimated (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform
    central limit theory and asymptotic confidence sequences", Annals of Statistics 2024). Its level is reached as the
    first look gets late, so that one must not be early.

    Args:
        mean: the estimate after each look, shape (n,).
        deviation: of one row's influence on it, estimated at each look.
        count: rows at each look, increasing.
    """
    z = mean * np.sqrt(count) / np.maximum(deviation, 1e-300)
    share = count / (count + MIXTURE_ROWS)
    return np.log(2.0) - 0.5 * np.log1p(count / MIXTURE_ROWS) + 0.5 * z**2 * share + log_ndtr(z * np.sqrt(share))


def asymptotic_interval(mean: Floats, deviation: Floats, count: NDArray[np.int64], alpha: float) -> Floats:
    """Confidence sequence for a mean as in `asymptotic_log_e`: all intervals hold at once with about 1 - alpha.

    Returns:
        Shape (n, 2); the intervals only shrink.
    """
    reach = np.sqrt((2 * np.log(1 / alpha) + np.log1p(count / MIXTURE_ROWS)) * (1 + MIXTURE_ROWS / count) / count)
    low, high = mean - reach * deviation, mean + reach * deviation
    return np.stack([np.maximum.accumulate(low), np.minimum.accumulate(high)], axis=1)


def discordant_log_e(harm: NDArray[np.int64], benefit: NDArray[np.int64]) -> Floats:
    """Log e-process against "a disagreement harms at most as often as it helps".

    The same bet in closed form for pay-offs of -1, 0 and 1: a Beta prior on the share of harmful disagreements,
    truncated to more than one half. This is McNemar's test made safe under continuous monitoring.

    Args:
        harm: running count of disagreements that speak against the challenger; shape (..., n).
        benefit: running count of those that speak for it.
    """
    a, b = DISCORDANT_PRIOR + harm, DISCORDANT_PRIOR + benefit
    with np.errstate(divide="ignore"):  # a tail of 0 is an e-value of 0
        tail = np.log(betaincc(a, b, 0.5))
    prior = betaln(DISCORDANT_PRIOR, DISCORDANT_PRIOR) - np.log(2.0)
    return betaln(a, b) + tail - prior + (harm + benefit) * np.log(2.0)


def rate_log_e(events: Floats, limit: float) -> Floats:
    """Log e-process against "events happen at a rate of at most `limit`"; `events` are 0 or 1, shape (..., n)."""
    return betting_log_e(events - limit, limit)


def running_scale(values: Floats) -> Floats:
    """Twice the largest absolute value before each one, 0 for the first ten: a bound that never looks ahead."""
    largest = 2.0 * np.maximum.accumulate(np.abs(values), axis=-1)
    scale = np.concatenate([np.zeros((*values.shape[:-1], 1)), largest[..., :-1]], axis=-1)
    scale[..., :WARM_UP] = 0.0
    return scale


def clipped_log_e(values: Floats, hoped: Floats | None = None) -> Floats:
    """Log e-process against "the mean is at most 0" for values without a known bound.

    Values are clipped to twice the largest seen before (both ways, so that it stays exact for values that are symmetric
    around 0 whatever their tails). The hypothesis is about the clipped mean; only a new record by a factor of two is
    clipped, so this dies out.

    Args:
        hoped: as in `targeted_log_e`; None: nothing is known of the mean.
    """
    scale = running_scale(values)
    known = scale > 0
    bound = np.where(known, scale, 1.0)
    payoff = np.where(known, np.clip(values, -bound, bound), 0.0)
    return betting_log_e(payoff, bound) if hoped is None else targeted_log_e(payoff, bound, hoped)


def two_sample_log_e(
    champion_events: Floats, champion_trials: Floats, challenger_events: Floats, challenger_trials: Floats
) -> Floats:
    """Log e-process against "events are at most as frequent for the challenger", on different requests.

    Safe test of two proportions (Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests",
    2024): within a block, the likelihood of two different rates over that of their pooled rate. It is exact for any
    allocation of traffic that does not depend on the outcomes. The champion's rate is learned from earlier blocks.

    Args:
        champion_events: number of events per block, shape (n,); the other three likewise. A block needs trials of both
            to teach something.

    Returns:
        Shape (n,), after each block.
    """
    pooled_events = np.cumsum(champion_events + challenger_events) - (champion_events + challenger_events)
    pooled_trials = np.cumsum(champion_trials + challenger_trials) - (champion_trials + challenger_trials)
    base = (pooled_events + 0.5) / (pooled_trials + 20.0)  # before any data: 2.5 %
    trials = champion_trials + challenger_trials
    total = np.full((len(RATIOS), len(base)), 0.0)
    for i, ratio in enumerate(RATIOS):
        low = base / np.sqrt(ratio) if ratio < 4 else base
        high = np.minimum(low * ratio, 0.5 + 0.5 * low)
        middle = (champion_trials * low + challenger_trials * high) / np.maximum(trials, 1.0)
        middle = np.where(trials > 0, middle, low)
        total[i] = (
            champion_events * np.log(low / middle)
            + (champion_trials - champion_events) * np.log1p((middle - low) / (1 - middle))
            + challenger_events * np.log(high / middle)
            + (challenger_trials - challenger_events) * np.log1p((middle - high) / (1 - middle))
        )
    return logsumexp(np.cumsum(total, axis=1), axis=0) - np.log(len(RATIOS))


def mean_interval(values: Floats, alpha: float, looks: NDArray[np.int64], bound: float | None = None) -> Floats:
    """A confidence sequence for the running mean: all its intervals hold at once with probability 1 - alpha.

    A mean is excluded when a bet against it, upwards or downwards, has multiplied the capital by 2 / alpha. Intervals
    are intersected over the looks, so they only shrink.

    Args:
        values: shape (n,).
        looks: numbers of values after which an interval is wanted, increasing, each in 1..n.
        bound: largest absolute value possible; None clips at earlier records, as `clipped_log_e` does.

    Returns:
        Shape (len(looks), 2); infinite ends where nothing can be said yet.
    """
    if bound is None:
        scale = running_scale(values)
        known = scale > 0
        limit = np.where(known, scale, 1.0)
        values = np.where(known, np.clip(values, -limit, limit), 0.0)
    else:
        known, limit = np.ones(values.shape, dtype=bool), np.full(values.shape, bound)
    centre, largest = float(values.mean()), float(limit.max())
    spread = max(float(values.std()) / np.sqrt(len(values)), largest * 1e-6)
    offsets = np.unique(np.concatenate([-np.geomspace(spread / 4, 2 * largest, 90), [0.0],
                                        np.geomspace(spread / 4, 2 * largest, 90)]))  # fmt: skip
    means = centre + offsets
    starts = np.concatenate([[0], looks[:-1]])
    needed = log_threshold(alpha / 2) + np.log(len(FRACTIONS))
    above = np.full((len(looks), len(means)), -np.inf)  # evidence that the mean is above the candidate
    below = np.full_like(above, -np.inf)
    used, used_limit, gap = values[: looks[-1]], limit[: looks[-1]], np.asarray(starts)
    for j, mean in enumerate(means):
        reach = used_limit + abs(mean)
        ratio = np.where(known[: looks[-1]], (used - mean) / reach, 0.0)
        for fraction in FRACTIONS:
            up = np.cumsum(np.add.reduceat(np.log1p(fraction * ratio), gap))
            down = np.cumsum(np.add.reduceat(np.log1p(-fraction * ratio), gap))
            above[:, j] = np.logaddexp(above[:, j], up)
            below[:, j] = np.logaddexp(below[:, j], down)
    out = np.empty((len(looks), 2))
    for i in range(len(looks)):
        too_low = np.flatnonzero(above[i] >= needed)
        too_high = np.flatnonzero(below[i] >= needed)
        out[i, 0] = means[too_low[-1]] if len(too_low) else -np.inf
        out[i, 1] = means[too_high[0]] if len(too_high) else np.inf
    out[:, 0] = np.maximum.accumulate(out[:, 0])
    out[:, 1] = np.minimum.accumulate(out[:, 1])
    return out


def requests_needed(loss: float, disagreement: float, alpha: float) -> int:
    """About how many labelled requests find a loss of accuracy, with even odds.

    The e-process grows by the Kullback-Leibler rate of the disagreements; the unknown size of the loss costs about a
    tenth more (measured by simulation).

    Args:
        loss: true loss of accuracy, 0 < loss <= disagreement (0.02 is two points).
        disagreement: share of requests on which exactly one of the two models is wrong.
        alpha: level of the test.
    """
    harmful = 0.5 + 0.5 * loss / disagreement
    rate = np.log(2.0) + harmful * np.log(harmful) + (1 - harmful) * np.log(max(1 - harmful, 1e-12))
    return int(np.ceil(1.1 * log_threshold(alpha) / (disagreement * rate)))
