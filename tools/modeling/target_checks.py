"""The target of two files, checked harder than any feature: what is wrong with it becomes every model's idea of truth.

Empty, infinite, written as text, spelled in a way that no model knows, filled with a stand-in for "missing", or in
another unit than before: in the reference as in the current data.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tools.modeling.accepted import how_to_accept
from tools.modeling.doubts import Doubt
from tools.modeling.labels import Kind, as_numbers, as_text, is_blank, match, truth
from tools.modeling.target_units import mixed_units, unit_change

FILLERS = (0.0, -1.0, -9.0, -99.0, -999.0, -9999.0, 9.0, 99.0, 999.0, 9999.0, 99999.0, -99999.0)
FILLER_SHARE = 0.005  # of the current rows
FILLER_GROWTH = 10.0  # times as frequent as in the reference
GONE_ROWS = 10  # expected of a class; a rarer one may be absent by chance
OF_ONE_CLASS = ("f1", "average_precision")
EXAMPLES = 3


def check_target(
    reference: pd.Series | None, current: pd.Series, task: Kind, metric: str = "", positive: str = ""
) -> list[Doubt]:
    """What is wrong with the target, worst first for each file.

    Rows of the current file without a target are found by the suite's own check, with their positions.

    Args:
        reference, current: as read, with nulls; the reference is None where a file is checked for itself.
        metric, positive: as the goal states them; empty where it says nothing.
    """
    found: list[Doubt] = []
    for name, column, is_current in (("the reference", reference, False), ("the current data", current, True)):
        if column is not None:
            found += _of_one(column, task, metric, name, is_current)
    if task == "regression":
        found += _numbers(reference, current)
    else:
        found += _classes(reference, current, positive if task == "binary" else "", metric if task == "binary" else "")
    return found


def _of_one(column: pd.Series, task: Kind, metric: str, name: str, is_current: bool) -> list[Doubt]:
    target = str(column.name)
    found: list[Doubt] = []
    empty = is_blank(column)
    if not is_current and empty.any():
        found.append(
            Doubt(
                "target_missing",
                target,
                f"the target is missing in {int(empty.sum())} of the {len(column)} rows of {name}; fill these labels "
                "in, or drop the rows where that does not depend on the label (`data.on_bad_rows: quarantine`); a "
                "class that is written as NULL is read with `data.read.nulls: []`",
                rows=int(empty.sum()),
            )
        )
    numbers = as_numbers(column)
    infinite = np.isinf(numbers)
    if infinite.any():
        found.append(
            Doubt(
                "target_infinite",
                target,
                f"the target is infinite in {int(infinite.sum())} of the {len(column)} rows of {name}",
                rows=int(infinite.sum()),
                at=np.flatnonzero(infinite) if is_current else None,
                examples=("inf",),
            )
        )
    if task == "regression":
        text = ~empty & np.isnan(numbers)
        if text.any() and not is_current:
            shown = tuple(dict.fromkeys(as_text(column[text]).tolist()))[:EXAMPLES]
            found.append(
                Doubt(
                    "target_text",
                    target,
                    f"the target of a regression is numeric; in {name} {int(text.sum())} values are text",
                    rows=int(text.sum()),
                    examples=shown,
                )
            )
        zeros = int(np.sum(numbers == 0))
        if metric == "mape" and zeros:
            found.append(
                Doubt(
                    "mape_of_zero",
                    target,
                    f"mape divides by the target, which is 0 in {zeros} of the {len(column)} rows of {name} "
                    f"({zeros / len(column):.1%}), so it says nothing here; state another metric (mae, rmse, r2)",
                    rows=zeros,
                )
            )
    elif not is_current and len(labels := set(as_text(column[~empty]))) == 1:
        found.append(Doubt("target_one_class", target, f"the target has one class only in {name} ({labels.pop()})"))
    return found


def _numbers(reference: pd.Series | None, current: pd.Series) -> list[Doubt]:
    """The target of a regression: its unit, and values that stand for "missing"."""
    target, now = str(current.name), as_numbers(current)
    found: list[Doubt] = []
    accept = f"make it one unit, or state {how_to_accept('target_unit')} where the values are right"
    before = None if reference is None else as_numbers(reference)
    if before is not None and (change := unit_change(before, now)) is not None:
        said = f"the target {change.words} between the reference and the current data; {accept}"
        found.append(Doubt("target_unit", target, said, critical=change.certain, rows=int(np.isfinite(now).sum())))
    else:
        named = [("the current data", now, True)] + ([] if before is None else [("the reference", before, False)])
        for name, values, is_current in named:
            other = before if is_current else None
            rows = mixed_units(values, other)
            if rows is None:
                continue
            said = (
                f"in {len(rows.at)} of the {len(values)} rows of {name} the target is about {rows.factor:g} times as "
                f"large as in the others: two units in one column? {accept}"
            )
            found.append(Doubt("target_unit", target, said, rows=len(rows.at), at=rows.at if is_current else None))
    if before is not None:
        found += _fillers(before, now, target)
    return found


def _fillers(before: np.ndarray, now: np.ndarray, target: str) -> list[Doubt]:
    """One value, far from the others, that the reference hardly has: written where the target was not known."""
    found: list[Doubt] = []
    sizes = np.isfinite(before).sum(), np.isfinite(now).sum()
    if not all(sizes):
        return found
    for value in FILLERS:
        at = np.flatnonzero(now == value)
        share, earlier = len(at) / sizes[1], float(np.sum(before == value)) / sizes[0]
        others = now[np.isfinite(now) & (now != value)]
        if share < FILLER_SHARE or share < FILLER_GROWTH * earlier or len(others) < len(at):
            continue
        low, high = np.percentile(others, [1, 99])
        if low <= value <= high:
            continue
        found.append(
            Doubt(
                "target_filler",
                target,
                f"the target is exactly {value:g} in {len(at)} of the {len(now)} current rows ({share:.1%}; in the "
                f"reference {earlier:.1%}), outside of all other values: does it stand for a missing value? Leave "
                f"these targets empty, or state {how_to_accept('target_filler')} where they are right",
                rows=len(at),
                at=at,
                examples=(f"{value:g}",),
            )
        )
    return found


def _classes(reference: pd.Series | None, current: pd.Series, positive: str, metric: str) -> list[Doubt]:
    target, found = str(current.name), list[Doubt]()
    now = as_text(current)
    if reference is not None:
        before = as_text(reference)
        known = [str(text) for text in pd.unique(before) if text]
        here = [str(text) for text in pd.unique(now) if text]
        spelled = set(match(here, known).values()) | set(here)
        missing = int(np.sum(now == ""))
        for label in known:
            expected = float(np.mean(before == label)) * len(now)
            if label not in spelled and expected >= GONE_ROWS and missing:
                found.append(
                    Doubt(
                        "class_gone",
                        target,
                        f"the class {label!r} of the reference ({int(np.sum(before == label))} rows) is in no current "
                        f"row, while {missing} current rows have no label: are they its? Where a class is written as "
                        "an empty value, state `data.read.nulls`",
                        rows=missing,
                    )
                )
    texts = now if reference is None else as_text(reference)
    if metric in OF_ONE_CLASS and not positive:
        found += _unstated(texts[texts != ""], target, metric)
    return found


def _unstated(texts: np.ndarray, target: str, metric: str) -> list[Doubt]:
    """A metric of one class, where the last in the alphabet is the usual one and says nothing of being meant."""
    labels: Sequence[str] = sorted(set(texts))
    if len(labels) != 2 or all(_plain(label) for label in labels):
        return []
    share = float(np.mean(texts == labels[-1]))
    if share <= 0.5:
        return []
    return [
        Doubt(
            "positive_unstated",
            target,
            f"{metric} is of one class, and the goal does not say of which: {labels[-1]!r}, the last in the alphabet, "
            f"has {share:.0%} of the rows; state `positive: {labels[0]}` or `positive: {labels[-1]}`",
        )
    ]


def _plain(label: str) -> bool:
    """Whether a label says by itself whether it is the positive one."""
    if truth(label) is not None or label.casefold() in ("positive", "negative", "pos", "neg"):
        return True
    try:
        return bool(np.isfinite(float(label)))
    except ValueError:
        return False
