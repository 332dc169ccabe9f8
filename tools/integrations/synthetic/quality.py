"""How like the real rows synthetic rows are, and whether they give real rows away. Pure: tables in, numbers out.

Column and pair scores follow SDMetrics (KSComplement, TVComplement, CorrelationSimilarity, ContingencySimilarity;
docs.sdv.dev/sdmetrics). The detection test is the classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017). The
distance ratio compares distances to the closest record with those of real rows that were held back.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any
Series = Any

MAX_PAIRS = 300
MAX_DETECTION_ROWS = 3_000
MAX_DISTANCE_ROWS = 2_000
QUANTILE_BINS = 10

Kinds = dict[str, str]
"""Column -> "number" or "category"."""


def column_scores(real: Frame, synthetic: Frame, kinds: Kinds) -> dict[str, float]:
    """1 - KS statistic (numbers) or 1 - total variation distance (categories); a null counts as a value of its own."""
    from scipy.stats import ks_2samp

    made: dict[str, float] = {}
    for name, kind in kinds.items():
        before, after = real[name], synthetic[name]
        if kind == "number":
            lost = abs(float(before.isna().mean()) - float(after.isna().mean()))
            before, after = before.dropna(), after.dropna()
            test: Any = ks_2samp(before, after) if len(before) and len(after) else None
            distance = float(test.statistic) if test else 1.0
            made[name] = 1 - max(distance, lost)
        else:
            made[name] = 1 - _total_variation(before, after)
    return {name: round(score, 6) for name, score in made.items()}


def correlation_score(real: Frame, synthetic: Frame, kinds: Kinds, rng: np.random.Generator) -> float:
    """Mean over pairs of columns (at most 300, drawn): rank correlations for numbers, contingency tables otherwise."""
    import numpy as np

    pairs = list(combinations(kinds, 2))
    if not pairs:
        return 1.0
    if len(pairs) > MAX_PAIRS:
        pairs = [pairs[index] for index in sorted(rng.choice(len(pairs), MAX_PAIRS, replace=False))]
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    ranks = [frame[numbers].corr(method="spearman").fillna(0.0) for frame in (real, synthetic)]
    binned = {name: _binned(real[name], synthetic[name], kinds[name]) for name in kinds}
    scores: list[float] = []
    for first, second in pairs:
        if kinds[first] == kinds[second] == "number":
            scores.append(1 - abs(float(ranks[0].at[first, second]) - float(ranks[1].at[first, second])) / 2)
        else:
            joint = [binned[first][side].str.cat(binned[second][side], sep="\x1f") for side in (0, 1)]
            scores.append(1 - _total_variation(joint[0], joint[1]))
    return float(np.mean(scores))


def detection_auc(real: Frame, synthetic: Frame, kinds: Kinds, seed: int) -> float:
    """ROC AUC of a cross-validated classifier that tells synthetic rows from real ones; 0.5: it cannot.

    Never below 0.5: where the marginals are copied exactly, a held-out real row falls into the gap it left among the
    real ones, and a perfect likeness would score far below.
    """
    import numpy as np
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    size = min(len(real), len(synthetic), MAX_DETECTION_ROWS)
    both = pd.concat([frame.sample(size, random_state=seed)[list(kinds)] for frame in (real, synthetic)])
    features = np.column_stack(
        [both[name] if kind == "number" else pd.factorize(both[name], sort=True)[0] for name, kind in kinds.items()]
    ).astype("float64")
    labels = np.repeat([0, 1], size)
    model = HistGradientBoostingClassifier(max_iter=60, random_state=seed)
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    with threadpool_limits(limits=1):  # so little work is slower in threads, far slower on a busy machine
        predicted: Any = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    return max(0.5, float(roc_auc_score(labels, predicted[:, 1])))


def copy_shares(real: Frame, synthetic: Frame, kinds: Kinds) -> tuple[float, float]:
    """Share of synthetic rows equal to some real row, and share of real rows equal to another real row."""
    import pandas as pd

    names = list(kinds)
    hash_rows: Any = pd.util.hash_pandas_object  # pyright: ignore[reportAttributeAccessIssue] - a public name
    known = hash_rows(real[names], index=False)
    made = hash_rows(synthetic[names], index=False)
    return float(made.isin(known).mean()), float(known.duplicated(keep=False).mean())


def distance_ratio(real: Frame, synthetic: Frame, kinds: Kinds, seed: int) -> float | None:
    """Median distance of synthetic rows to one half of the real rows, over that of the other half's rows to it.

    None where the real halves lie on top of each other (median distance 0).
    """
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    shuffled = real.sample(frac=1, random_state=seed)
    half = min(len(shuffled) // 2, 5 * MAX_DISTANCE_ROWS)
    known, unseen = shuffled.iloc[:half], shuffled.iloc[half : half + MAX_DISTANCE_ROWS]
    tested = synthetic.sample(min(len(synthetic), MAX_DISTANCE_ROWS), random_state=seed)
    points = [_points(real, frame, kinds) for frame in (known, unseen, tested)]
    index = NearestNeighbors(n_neighbors=1).fit(points[0])
    medians = [float(np.median(index.kneighbors(part)[0])) for part in points[1:]]
    return medians[1] / medians[0] if medians[0] > 0 else None


def _points(real: Frame, frame: Frame, kinds: Kinds) -> np.ndarray:
    """Rows as points: numbers as their rank in the real column (0 to 1), categories as corners at distance 1."""
    import numpy as np

    parts: list[np.ndarray] = []
    for name, kind in kinds.items():
        if kind == "number":
            known = np.sort(real[name].dropna().to_numpy(dtype="float64"))
            ranks = np.searchsorted(known, frame[name].to_numpy(dtype="float64")) / max(len(known), 1)
            parts.append(np.where(frame[name].isna(), -0.5, ranks)[:, None])
        else:
            values = real[name].fillna("").value_counts().index[:QUANTILE_BINS]
            parts.append((frame[name].fillna("").to_numpy()[:, None] == values.to_numpy()[None, :]) / np.sqrt(2))
    return np.hstack(parts)


def _binned(real: Series, synthetic: Series, kind: str) -> tuple[Series, Series]:
    import numpy as np
    import pandas as pd

    if kind != "number":
        texts = [column.fillna("").astype(str).reset_index(drop=True) for column in (real, synthetic)]
        return texts[0], texts[1]
    edges = np.unique(np.nanquantile(real.to_numpy(dtype="float64"), np.linspace(0, 1, QUANTILE_BINS + 1)[1:-1]))
    codes = [np.where(c.isna(), -1, np.searchsorted(edges, c.to_numpy(dtype="float64"))) for c in (real, synthetic)]
    return pd.Series(codes[0]).astype(str), pd.Series(codes[1]).astype(str)


def _total_variation(first: Series, second: Series) -> float:
    shares = [column.value_counts(normalize=True, dropna=False) for column in (first, second)]
    return float(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)
