"""A Gaussian copula with empirical marginals. Pure: a table in, a table out.

Every column is seen as a cut-up standard normal variable (an ordered probit: categories, ties and nulls are intervals
of it), the variables are correlated, and values are read back through the empirical distribution. Sklar's theorem
allows to treat marginals and dependence apart (Nelsen, An Introduction to Copulas, 2006, ch. 2); the use for tables
follows Patki, Wedge and Veeramachaneni, The Synthetic Data Vault (DSAA 2016). The latent correlation of cut-up
variables is the first-order polychoric estimate: with S = E[Z | interval], Cov(S1, S2) is about
rho * Var(S1) * Var(S2) (first term of the Hermite expansion; exact where one of the two is continuous, the polyserial
case of Olsson, Drasgow and Dorans, Psychometrika 1982).

Categories have no order of their own: they are ordered along the first principal axis of the table (as multiple
correspondence analysis would), so that "no internet" lies at the same end in every column that has it.

A classification target gets one copula per class, so that what tells the classes apart survives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any
Series = Any

MAX_CLASSES = 20  # a numeric target with more different values is a quantity, not a label
MIN_CLASS_ROWS = 5
OWN_CORRELATION_ROWS = 50  # a class with fewer rows borrows the correlations of all rows
DISCRETE_VALUES = 30  # numbers with at most this many different values are drawn, not interpolated
MAX_ORDERED = 100  # text with more values is not part of the axis that orders categories
MAX_CORRELATION = 0.98
MIN_SCORE_VARIANCE = 0.02  # a column that is nearly constant says nothing about correlation

Kind = Literal["number", "discrete", "time", "category", "identifier", "empty"]


@dataclass(frozen=True)
class _Marginal:
    """One column's empirical distribution: sorted support, the cumulative share at its upper ends, and null share."""

    name: str
    kind: Kind
    dtype: Any
    support: np.ndarray
    upper: np.ndarray
    null_share: float
    decimals: int


def class_labels(target: Series) -> list[Any] | None:
    """The classes of the target, or None if it is a quantity."""
    import pandas as pd

    present = target.dropna()
    numeric = pd.api.types.is_numeric_dtype(present.dtype) and not pd.api.types.is_bool_dtype(present.dtype)
    if numeric and (present.nunique() > MAX_CLASSES or (present % 1 != 0).any()):
        return None
    return sorted(present.unique().tolist(), key=str)


def allocate(counts: dict[Any, int], rows: int, balance: bool) -> dict[Any, int]:
    """How many of `rows` each class gets: in proportion, or to the rarest first until all are equal."""
    if not balance:
        total = sum(counts.values())
        shares = {label: rows * count / total for label, count in counts.items()}
        given = {label: int(share) for label, share in shares.items()}
        by_rest = sorted(counts, key=lambda label: given[label] - shares[label])
        for label in by_rest[: rows - sum(given.values())]:
            given[label] += 1
        return given
    low, high = 0, max(counts.values()) + rows
    while low < high:  # the highest level to which `rows` can fill all classes
        middle = (low + high + 1) // 2
        if sum(max(0, middle - count) for count in counts.values()) <= rows:
            low = middle
        else:
            high = middle - 1
    given = {label: max(0, low - count) for label, count in counts.items()}
    left = rows - sum(given.values())
    for label in sorted(counts, key=lambda label: counts[label] + given[label])[:left]:
        given[label] += 1
    return given


def synthesize(frame: Frame, rows: int, rng: np.random.Generator, pooled: np.ndarray | None = None) -> Frame:
    """`rows` new rows like those of `frame`, with its columns and types.

    Identifiers are made up, nulls stay as frequent as they are.

    Args:
        pooled: correlations (of `correlation`) to use where `frame` is too small to show its own.
    """
    ranked = _ranked(frame)
    small = pooled is not None and len(frame) < OWN_CORRELATION_ROWS
    latent = pooled if small and pooled is not None else correlation(ranked)
    marginals = [_marginal(str(name), frame[name], ranked[name]) for name in frame.columns]
    return _draw(marginals, latent, rows, rng)


def pooled_correlation(frame: Frame) -> np.ndarray:
    """The correlations of all rows, for `synthesize`."""
    return correlation(_ranked(frame))


def correlation(ranked: Frame) -> np.ndarray:
    """Latent correlations, a positive definite matrix of twice the number of columns: values, then null flags."""
    import numpy as np

    scores = [_scores(ranked[name]) for name in ranked.columns]
    scores += [_scores(ranked[name].isna().astype("float64")) for name in ranked.columns]
    matrix = np.column_stack(scores)
    variance = matrix.var(axis=0)
    usable = variance > MIN_SCORE_VARIANCE
    covariance = np.atleast_2d(np.cov(matrix, rowvar=False, bias=True))
    scale = np.where(usable, variance, 1.0)
    latent = np.clip(covariance / np.outer(scale, scale), -MAX_CORRELATION, MAX_CORRELATION)
    latent[~usable, :] = 0
    latent[:, ~usable] = 0
    np.fill_diagonal(latent, 1.0)
    values, vectors = np.linalg.eigh(latent)
    latent = (vectors * values.clip(1e-6)) @ vectors.T
    root = np.sqrt(np.diag(latent))
    return latent / np.outer(root, root)


def _ranked(frame: Frame) -> Frame:
    """Every column as floats in the column's order: numbers, seconds, or places of the categories; NaN is null."""
    import numpy as np
    import pandas as pd

    made: dict[str, np.ndarray] = {}
    codes: dict[str, tuple[np.ndarray, int]] = {}
    for name in frame.columns:
        column = frame[name]
        if _is_time(column):
            seconds = column.to_numpy(dtype="datetime64[ns]").astype("int64").astype("float64")
            made[name] = np.where(column.isna(), np.nan, seconds)
        elif pd.api.types.is_numeric_dtype(column.dtype):
            made[name] = column.to_numpy(dtype="float64", na_value=np.nan)
        else:
            found, uniques = pd.factorize(column.astype("string"), sort=True)
            codes[name] = (found, len(uniques))
    axis = _first_axis(made, {name: found for name, found in codes.items() if 1 < found[1] <= MAX_ORDERED})
    for name, (found, count) in codes.items():
        sums = np.bincount(found[found >= 0], weights=axis[found >= 0], minlength=count)
        means = sums / np.bincount(found[found >= 0], minlength=count).clip(1)
        places = np.empty(count)
        places[np.argsort(means, kind="stable")] = np.arange(count)
        made[name] = np.where(found >= 0, places[found] if count else np.nan, np.nan)
    return pd.DataFrame({name: made[name] for name in frame.columns})


def _first_axis(numbers: dict[str, np.ndarray], codes: dict[str, tuple[np.ndarray, int]]) -> np.ndarray:
    """Each row's place on the first principal axis of the standardised numbers and category flags."""
    import numpy as np

    parts = [_scores(_series(values))[:, None] for values in numbers.values()]
    for found, count in codes.values():
        flags = (found[:, None] == np.arange(count)[None, :]).astype("float64")
        share = flags.mean(axis=0)
        # Chi-square scaling: a rare category weighs as much as its information.
        parts.append((flags - share) / np.sqrt(share.clip(1e-9)) / np.sqrt(count))
    if not parts:
        return np.zeros(0)
    matrix = np.hstack(parts)
    _, vectors = np.linalg.eigh(matrix.T @ matrix)
    axis = matrix @ vectors[:, -1]
    # An eigenvector's sign is arbitrary; fix it, so that the same data give the same rows everywhere.
    return axis * (1.0 if axis[np.argmax(np.abs(axis))] >= 0 else -1.0)


def _series(values: np.ndarray) -> Series:
    import pandas as pd

    return pd.Series(values)


def _scores(column: Series) -> np.ndarray:
    """E[Z | the value's interval] per row; 0 where null."""
    import numpy as np
    import pandas as pd
    from scipy.stats import norm

    codes, _ = pd.factorize(column, sort=True)
    present = codes >= 0
    if not present.any():
        return np.zeros(len(column))
    counts = np.bincount(codes[present])
    edges = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    edges[-1] = 1.0
    density = norm.pdf(norm.ppf(edges))
    means = (density[:-1] - density[1:]) / np.diff(edges)
    return np.where(present, means[codes], 0.0)


def _is_time(column: Series) -> bool:
    import pandas as pd

    return pd.api.types.is_datetime64_any_dtype(column.dtype)


def _marginal(name: str, column: Series, ranked: Series) -> _Marginal:
    import numpy as np
    import pandas as pd

    from tools.modeling.columns import IDENTIFIER_ROWS, IDENTIFIER_SHARE

    present, places = column.dropna(), ranked.dropna()
    kind: Kind
    decimals = 0
    if present.empty:
        kind = "empty"
    elif _is_time(column):
        kind = "time"
    elif pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        kind = "discrete" if present.nunique() <= DISCRETE_VALUES else "number"
        decimals = _decimals(places.to_numpy())
    elif len(present) >= IDENTIFIER_ROWS and present.nunique() > IDENTIFIER_SHARE * len(present):
        kind = "identifier"
    else:
        kind = "category"
    if kind in ("number", "time"):
        support = np.sort(places.to_numpy())
        upper = (np.arange(len(support)) + 0.5) / max(len(support), 1)
    else:
        firsts = present.groupby(places).first()  # in rank order, the values as they were typed
        counts = places.value_counts().sort_index()
        support = firsts.to_numpy(dtype=object)
        upper = counts.cumsum().to_numpy() / max(len(places), 1)
    return _Marginal(name, kind, column.dtype, support, upper, float(column.isna().mean()), decimals)


def _decimals(values: np.ndarray) -> int:
    """The fewest decimal places (0 to 6) that hold nearly all the values."""
    import numpy as np

    for places in range(6):
        if np.isclose(values, np.round(values, places), rtol=0, atol=1e-9).mean() > 0.99:
            return places
    return 6


def _draw(marginals: list[_Marginal], latent: np.ndarray, rows: int, rng: np.random.Generator) -> Frame:
    import numpy as np
    import pandas as pd
    from scipy.stats import norm

    uniform = norm.cdf(rng.standard_normal((rows, len(latent))) @ np.linalg.cholesky(latent).T)
    made: dict[str, Series] = {}
    for position, marginal in enumerate(marginals):
        values = _values(marginal, uniform[:, position])
        # A null is the upper interval of its own latent variable: factorising False before True puts it there.
        is_null = uniform[:, len(marginals) + position] > 1 - marginal.null_share
        if is_null.any() and marginal.kind != "empty":
            values = values.where(~is_null)
        made[marginal.name] = values
    return pd.DataFrame(made)


def _values(marginal: _Marginal, uniform: np.ndarray) -> Series:
    """Read the marginal's quantiles at `uniform`."""
    import numpy as np
    import pandas as pd

    match marginal.kind:
        case "empty":
            return pd.Series([None] * len(uniform), dtype=marginal.dtype)
        case "identifier":
            return pd.Series([f"synthetic-{number}" for number in range(1, len(uniform) + 1)], dtype=object)
        case "number" | "time":
            numbers = np.interp(uniform, marginal.upper, marginal.support)
            if marginal.kind == "time":
                return pd.to_datetime(pd.Series(numbers.round().astype("int64"))).astype(marginal.dtype)
            return _as_type(pd.Series(numbers.round(marginal.decimals)), marginal.dtype)
        case _:
            places = np.searchsorted(marginal.upper, uniform, side="left").clip(0, len(marginal.support) - 1)
            return _as_type(pd.Series(marginal.support[places]), marginal.dtype)


def _as_type(values: Series, dtype: Any) -> Series:
    return values.astype(dtype) if values.dtype != dtype else values
