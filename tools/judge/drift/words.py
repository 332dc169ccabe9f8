"""What changed in a column, in a few plain words, from its counts."""

import numpy as np

from tools.judge.drift.counts import NULL, Counts, Floats

NAMED_SHARE = 0.01  # a value that came or went is named from this share of rows on
NAMED_VALUES = 2
VALUE_CHARS = 30


def change_of(column: Counts) -> str:
    """The most telling difference of the two samples, such as `nulls 0%, now 12%`.

    Args:
        column: number cells hold the upper end of each cell in rising order, so a median is known to one cell.
    """
    before, now = column.reference / column.reference.sum(), column.current / column.current.sum()
    empty = np.array([cell == NULL for cell in column.cells])
    nulls = float(before[empty].sum()), float(now[empty].sum())
    if nulls[1] == 1 and nulls[0] < 1:
        return "every row is null now"
    if nulls[0] == 1 and nulls[1] < 1:
        return f"it was null in every row, now in {nulls[1]:.0%}"
    if abs(nulls[1] - nulls[0]) >= 0.25 * np.abs(now - before).sum():  # half of all that moved
        return f"nulls {nulls[0]:.0%}, now {nulls[1]:.0%}" if nulls[0] != nulls[1] else ""
    kept = ~empty
    names = [cell for cell, is_kept in zip(column.cells, kept, strict=True) if is_kept]
    if column.kind == "category":
        return _values(names, before[kept], now[kept])
    return _numbers(names, before[kept], now[kept])


def _values(names: list[str], before: Floats, now: Floats) -> str:
    came = [i for i in np.argsort(-now, kind="stable") if before[i] == 0 and now[i] >= NAMED_SHARE]
    went = [i for i in np.argsort(-before, kind="stable") if now[i] == 0 and before[i] >= NAMED_SHARE]
    parts: list[str] = []
    if came:
        parts.append("new: " + ", ".join(f"{_short(names[i])} {now[i]:.0%}" for i in came[:NAMED_VALUES]))
    if went:
        parts.append("gone: " + ", ".join(f"{_short(names[i])} {before[i]:.0%}" for i in went[:NAMED_VALUES]))
    if not parts:
        most = int(np.abs(now - before).argmax())
        parts.append(f"{_short(names[most])} {before[most]:.0%}, now {now[most]:.0%}")
    return "; ".join(parts)


def _numbers(names: list[str], before: Floats, now: Floats) -> str:
    used = before > 0, now > 0
    if used[1].sum() == 1 and used[0].sum() > 1:
        return f"always {names[int(used[1].argmax())]} now"
    if used[0].sum() == 1 and used[1].sum() > 1:
        return f"it was always {names[int(used[0].argmax())]}"
    median = [names[int(np.searchsorted(np.cumsum(share), share.sum() / 2))] for share in (before, now)]
    if median[0] == median[1]:
        return f"median about {median[0]} as before, another spread or shape"
    return f"median about {median[0]}, now {median[1]}"


def _short(value: str) -> str:
    flat = " ".join(value.split())
    return repr(flat if len(flat) <= VALUE_CHARS else f"{flat[: VALUE_CHARS - 1]}…")
