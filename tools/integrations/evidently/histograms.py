"""Histograms of two tables over shared bins, for the run's own report. Pure: tables in, plain data out."""

from __future__ import annotations

from typing import Any

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any
Series = Any

BINS = 20
TOP_CATEGORIES = 10
OTHER = "(other)"
MISSING = "(missing)"


def histograms(reference: Frame, current: Frame, kinds: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Per column, in the order of `kinds` (column -> "number" or "category"), counts of both tables.

    number: `edges` (one more than the counts) and `missing` {reference, current}; the outer bins also count what lies
    beyond the 0.5 % and 99.5 % quantiles, so that one outlier does not flatten the plot.
    category: `values`, the ten most frequent over both tables, then "(other)". Numbers with at most ten different
    values are shown this way too, in numeric order.
    Both: `reference` and `current`, the counts.
    """
    made: dict[str, dict[str, Any]] = {}
    for name, kind in kinds.items():
        before, now = reference[name], current[name]
        if kind == "category":
            made[name] = {"kind": "category", **_categories(before, now)}
        elif len(set(before.dropna().unique()) | set(now.dropna().unique())) <= TOP_CATEGORIES:
            made[name] = {"kind": "category", **_few_numbers(before, now)}
        else:
            made[name] = {"kind": "number", **_numbers(before, now)}
    return made


def _numbers(reference: Series, current: Series) -> dict[str, Any]:
    import numpy as np

    before, now = (column.dropna().to_numpy(dtype="float64") for column in (reference, current))
    both = np.concatenate([before, now])
    low, high = np.quantile(both, [0.005, 0.995])
    if low == high:
        low, high = both.min(), both.max()
    edges = np.histogram_bin_edges(both, bins=BINS, range=(low, high))
    return {
        "edges": [float(edge) for edge in edges],
        "reference": np.histogram(before.clip(edges[0], edges[-1]), edges)[0].tolist(),
        "current": np.histogram(now.clip(edges[0], edges[-1]), edges)[0].tolist(),
        "missing": {"reference": int(reference.isna().sum()), "current": int(current.isna().sum())},
    }


def _categories(reference: Series, current: Series) -> dict[str, Any]:
    counts = [column.fillna(MISSING).value_counts() for column in (reference, current)]
    total = counts[0].add(counts[1], fill_value=0)
    ordered = sorted(total.index, key=lambda value: (-total[value], str(value)))
    values = ordered[:TOP_CATEGORIES]
    made = [[int(count.get(value, 0)) for value in values] for count in counts]
    if len(ordered) > TOP_CATEGORIES:
        for counted, shown in zip(counts, made, strict=True):
            shown.append(int(counted.sum()) - sum(shown))
        values = [*values, OTHER]
    return {"values": [str(value) for value in values], "reference": made[0], "current": made[1]}


def _few_numbers(reference: Series, current: Series) -> dict[str, Any]:
    counts = [column.value_counts() for column in (reference, current)]
    values = sorted(set(counts[0].index) | set(counts[1].index))
    made = [[int(count.get(value, 0)) for value in values] for count in counts]
    shown = [f"{value:g}" for value in values]
    missing = [int(column.isna().sum()) for column in (reference, current)]
    if any(missing):
        shown.append(MISSING)
        made = [[*counted, lost] for counted, lost in zip(made, missing, strict=True)]
    return {"values": shown, "reference": made[0], "current": made[1]}
