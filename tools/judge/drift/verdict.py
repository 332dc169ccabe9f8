"""Whether a data set drifted: one decision over all columns, with a false alarm probability that is stated and kept.

Each column is tested on counts over cells: numbers by Anderson and Darling's statistic, categories by Pearson's. Both
are sums of squared normal variables under "nothing changed", with weights that follow from the cells (so ties and
discrete numbers are exact too), and their tail comes from Lugannani and Rice's saddlepoint formula (Kuonen 1999). The
columns' p-values are adjusted together (Holm 1979; weighted by importance, Genovese et al. 2006), so with nothing
changed a check raises an alarm with probability at most alpha however many columns there are.

A proven change counts only when it moves enough rows. The effect is the smallest share of rows that would have to be
changed to undo it (total variation for categories, the Kolmogorov-Smirnov distance for numbers), freed of what chance
alone adds, so the decision does not depend on the number of rows as a p-value's does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal
from scipy.optimize import brentq
from scipy.stats import chi2, norm

from tools.judge.distances import KS_MEAN
from tools.judge.drift.counts import Counts, Floats
from tools.judge.drift.harm import LossChange, Severity, severity_of
from tools.judge.drift.words import change_of

MAX_CELLS = 64  # of a test of numbers; more cells add cost, not power
MIN_EXPECTED = 5.0  # rows per category (Cochran 1954); rarer ones are tested together


@dataclass(frozen=True)
class ColumnVerdict:
    """One column.

    Args:
        effect: share of rows moved, in excess of what chance alone gives; 0 to 1.
        effect_error: by how much the effect may be larger, because it was computed on cells.
        p_value: of this column alone.
        adjusted_p: with all columns' tests taken into account; compared with alpha.
        importance: the column's share of all columns' importance; None if not known.
        change: what changed, in a few words.
        psi: population stability index on ten cells, for comparison only: it is not used.
    """

    name: str
    kind: Literal["number", "category"]
    effect: float
    effect_error: float
    p_value: float
    adjusted_p: float
    drifted: bool
    importance: float | None
    change: str
    psi: float


@dataclass(frozen=True)
class DriftVerdict:
    """The data set. `columns`: drifted first, then by importance times effect. `harm`: share of rows moved, weighted by
    importance."""

    drifted: bool
    severity: Severity
    harm: float
    p_value: float
    columns: list[ColumnVerdict]
    sentence: str


def judge(
    columns: list[Counts],
    *,
    alpha: float = 0.01,
    min_effect: float = 0.05,
    importance: Mapping[str, float] | None = None,
    loss: LossChange | None = None,
) -> DriftVerdict:
    """One decision on a data set.

    With nothing changed it says "drifted" with probability at most `alpha`: the rows may be dependent, as long as the
    dependence ends within about the square root of their number.

    Args:
        columns: at least one.
        alpha: probability of a false alarm per check; 1 / alpha checks is the expected time between false alarms.
        min_effect: share of rows that must have moved in a column for it to count.
        importance: column -> importance for the model (such as the loss its permutation adds). It weighs the tests
            and the harm. Columns not named have none; where no column has any, all weigh the same.
        loss: what labels say became of the champion's loss; None: there are none, and how much moved is the severity.

    Raises:
        ValueError: no column.
    """
    if not columns:
        raise ValueError("no column to compare")
    shares = _shares([column.name for column in columns], importance)
    tested = [_test(column) for column in columns]
    weights = np.full(len(columns), 1 / len(columns)) if shares is None else 0.5 / len(columns) + 0.5 * shares
    adjusted = holm(np.array([p for p, _ in tested]), weights)
    verdicts = [
        ColumnVerdict(
            column.name,
            column.kind,
            effect,
            column.distance_error,
            p_value,
            float(adjusted_p),
            bool(adjusted_p <= alpha and effect >= min_effect),
            None if shares is None else float(shares[i]),
            change_of(column),
            _psi(column.reference, column.current, column.kind),
        )
        for i, (column, (p_value, effect), adjusted_p) in enumerate(zip(columns, tested, adjusted, strict=True))
    ]
    verdicts.sort(key=lambda v: (not v.drifted, -(1.0 if v.importance is None else v.importance) * v.effect, v.p_value))
    moved = [v for v in verdicts if v.drifted]
    if shares is None:
        harm = max((v.effect for v in moved), default=0.0)
    else:
        harm = sum((v.importance or 0.0) * v.effect for v in moved)
    severity, rests_on = severity_of(harm, bool(moved), loss)
    told = [_sentence(verdicts, moved, severity, alpha, min_effect), rests_on]
    if importance is not None and shares is None:
        told.append("The model needs none of these columns, so all of them weigh the same.")
    sentence = " ".join(part for part in told if part)
    return DriftVerdict(bool(moved), severity, harm, float(adjusted.min()), verdicts, sentence)


def holm(p_values: Floats, weights: Floats) -> Floats:
    """Weighted Holm adjustment: the smallest level at which each hypothesis is rejected, family-wise.

    Valid for any dependence between the tests. `weights` are positive; only their ratios matter.
    """
    order = np.argsort(p_values / weights, kind="stable")
    remaining = np.cumsum(weights[order][::-1])[::-1]
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * remaining / weights[order]))
    return adjusted


def _test(column: Counts) -> tuple[float, float]:
    """P-value and effect of one column."""
    rows = column.reference.sum(), column.current.sum()
    # What so many dependent rows are worth in independent ones.
    sizes = rows[0] / column.inflation[0], rows[1] / column.inflation[1]
    if column.kind == "number":
        before, now = merge_cells(column.reference, column.current)
        share = before / rows[0], now / rows[1]
        distance = column.distance if column.distance is not None else np.abs(np.cumsum(share[0] - share[1])).max()
        by_chance = KS_MEAN * np.sqrt(1 / sizes[0] + 1 / sizes[1])
        p_value = anderson_darling(share[0], share[1], sizes[0], sizes[1])
    else:
        before, now = _pool_rare(column.reference, column.current, sizes)
        share = before / rows[0], now / rows[1]
        pooled = (share[0] * sizes[0] + share[1] * sizes[1]) / sum(sizes)
        spread = pooled * (1 - pooled) * (1 / sizes[0] + 1 / sizes[1])
        distance = 0.5 * np.abs(share[0] - share[1]).sum()
        by_chance = 0.5 * np.sqrt(2 / np.pi) * np.sqrt(spread).sum()
        p_value = pearson(share[0], share[1], sizes[0], sizes[1])
    return p_value, float(np.sqrt(max(0.0, distance**2 - by_chance**2)))


def merge_cells(reference: Floats, current: Floats) -> tuple[Floats, Floats]:
    """Neighbouring cells merged until at most about `MAX_CELLS` are left, with similar numbers of rows in each."""
    total = reference + current
    kept = total > 0
    reference, current, total = reference[kept], current[kept], total[kept]
    if len(total) <= MAX_CELLS:
        return reference, current
    group = np.floor((np.cumsum(total) - total / 2) / total.sum() * MAX_CELLS).astype(np.int64)
    _, starts = np.unique(group, return_index=True)
    return np.add.reduceat(reference, starts), np.add.reduceat(current, starts)


def _pool_rare(reference: Floats, current: Floats, sizes: tuple[float, float]) -> tuple[Floats, Floats]:
    """Categories too rare to be tested alone, as one."""
    pooled = (reference / reference.sum() * sizes[0] + current / current.sum() * sizes[1]) / sum(sizes)
    rare = pooled * min(sizes) < MIN_EXPECTED
    if rare.sum() < 2:
        return reference, current
    return (
        np.append(reference[~rare], reference[rare].sum()),
        np.append(current[~rare], current[rare].sum()),
    )


def anderson_darling(reference: Floats, current: Floats, n: float, m: float) -> float:
    """P-value of the two-sample Anderson-Darling test on ordered cells.

    Given the pooled shares, the difference of the two distribution functions at the cells' ends is a Brownian bridge,
    so the statistic is a weighted sum of squared normal variables; its weights are the eigenvalues computed here.

    Args:
        reference: share of rows per cell; shape (k,), sums to 1.
        current: the same of the other sample.
        n: rows of the reference (in independent ones); need not be whole.
        m: rows of the other.
    """
    pooled = (n * reference + m * current) / (n + m)
    used = pooled > 0
    pooled, reference, current = pooled[used], reference[used], current[used]
    if len(pooled) < 2:
        return 1.0
    below = np.cumsum(pooled)[:-1]
    weight = (pooled[:-1] + pooled[1:]) / 2 / (below * (1 - below))
    gap = np.cumsum(reference - current)[:-1]
    statistic = n * m / (n + m) * float(np.sum(weight * gap**2))
    # The bridge's covariance has a tridiagonal inverse, whose eigenvalues take a fraction of the time.
    root = np.sqrt(weight)
    diagonal = (1 / pooled[:-1] + 1 / pooled[1:]) / weight
    beside = -1 / (pooled[1:-1] * root[:-1] * root[1:])
    precision = cast(Floats, eigvalsh_tridiagonal(diagonal, beside))
    return squares_tail(statistic, 1 / precision)


def pearson(reference: Floats, current: Floats, n: float, m: float) -> float:
    """P-value of Pearson's test of homogeneity; arguments as in `anderson_darling`, in any order of cells."""
    pooled = (n * reference + m * current) / (n + m)
    used = pooled > 0
    if used.sum() < 2:
        return 1.0
    statistic = n * m / (n + m) * np.sum((reference - current)[used] ** 2 / pooled[used])
    return float(chi2.sf(statistic, int(used.sum()) - 1))


def squares_tail(value: float, weights: Floats) -> float:
    """P(sum of weights * squared standard normals > value), by the saddlepoint formula.

    Checked against exact values: the relative error is a few per cent, down to tails of 1e-12.
    """
    weights = weights[weights > weights.max() * 1e-10]
    mean, largest = float(weights.sum()), float(weights.max())
    if value <= 0:
        return 1.0
    if len(weights) == 1:
        return float(2 * norm.sf(np.sqrt(value / largest)))
    if abs(value - mean) < 1e-3 * mean:  # the formula has a removable hole at the mean
        value = mean * 1.001

    def slope(t: float) -> float:
        return float(np.sum(weights / (1 - 2 * weights * t))) - value

    low, high = -len(weights) / (2 * value), (1 - 1e-12) / (2 * largest)
    if slope(high) <= 0:
        return 0.0
    t = cast(float, brentq(slope, low, high, xtol=1e-14))
    factor = 1 - 2 * weights * t
    cumulant, curvature = -0.5 * float(np.log(factor).sum()), 2 * float(np.sum((weights / factor) ** 2))
    w = np.sign(t) * np.sqrt(2 * (t * value - cumulant))
    v = t * np.sqrt(curvature)
    return float(np.clip(norm.sf(w + np.log(v / w) / w), 0.0, 1.0))


def _psi(reference: Floats, current: Floats, kind: str) -> float:
    """The usual index: ten cells of the reference for numbers, one per category; empty ones count as 0.0001."""
    if kind == "number":
        group = np.floor((np.cumsum(reference) - reference / 2) / reference.sum() * 10).clip(0, 9).astype(np.int64)
        reference = np.bincount(group, weights=reference, minlength=10).astype(np.float64)
        current = np.bincount(group, weights=current, minlength=10).astype(np.float64)
    before = np.maximum(reference / reference.sum(), 1e-4)
    now = np.maximum(current / current.sum(), 1e-4)
    return float(np.sum((now - before) * np.log(now / before)))


def _shares(names: list[str], importance: Mapping[str, float] | None) -> Floats | None:
    if importance is None:
        return None
    values = np.array([max(0.0, importance.get(name, 0.0)) for name in names])
    return values / values.sum() if values.sum() > 0 else None


def _sentence(
    columns: list[ColumnVerdict], moved: list[ColumnVerdict], severity: Severity, alpha: float, min_effect: float
) -> str:
    every = f"{1 / alpha:,.0f}"
    if not moved:
        proven = [v for v in columns if v.adjusted_p <= alpha]
        if not proven:
            return f"No drift: none of {len(columns)} columns changed by more than chance explains."
        most = max(proven, key=lambda v: v.effect)
        return (
            f"No drift that matters: {len(proven)} of {len(columns)} columns changed, but less than {min_effect:.0%} "
            f"of the rows moved (most: {most.effect:.1%} in {most.name})."
        )
    named = [
        f"{v.name} ({v.effect:.0%} of the rows moved"
        + (f", {v.importance:.0%} of the model's importance" if v.importance is not None else "")
        + (f": {v.change})" if v.change else ")")
        for v in moved[:3]
    ]
    return (
        f"Drift of {severity} severity: {len(moved)} of {len(columns)} columns changed, above all {', '.join(named)}; "
        f"chance alone gives such an alarm at most once in {every} checks."
    )
