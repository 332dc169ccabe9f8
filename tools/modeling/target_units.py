"""Whether the numbers of a target are in another unit than before, or in two units at once.

Quantiles are compared, so that single values do not matter: a change of unit maps all of them by one factor (or one
straight line: Celsius and Fahrenheit), which a change of the world hardly does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_ROWS = 30
LEVELS = np.linspace(10, 90, 17)
# Factor -> what changes by it, for the sentence.
FACTORS: dict[float, str] = {
    10.0: "",
    100.0: "euros and cents, shares and percent",
    1000.0: "thousands, grams and kilograms, seconds and milliseconds",
    10_000.0: "",
    100_000.0: "",
    1e6: "millions",
    60.0: "minutes and hours",
    3600.0: "seconds and hours",
    24.0: "days and hours",
    86_400.0: "seconds and days",
    1024.0: "",
    1_048_576.0: "bytes and MiB",
    12.0: "months and years, inches and feet",
    25.4: "millimetres and inches",
    30.48: "centimetres and feet",
}
LINES: tuple[tuple[float, float, str], ...] = (
    (1.8, 32.0, "Celsius to Fahrenheit"),
    (1 / 1.8, -32.0 / 1.8, "Fahrenheit to Celsius"),
    (1.0, 273.15, "Celsius to Kelvin"),
    (1.0, -273.15, "Kelvin to Celsius"),
)
SAME_FACTOR = 1.25  # two factors that differ by less are the same
AS_A_WHOLE = 0.15  # decades by which the quantiles may depart from one common factor
CERTAIN_DECADES, SUSPECT_DECADES = 0.9, 0.6
FAR, NEAR = 2.0, 0.25  # of the quantiles, in interquartile ranges: before and after a straight line is undone
MIXED_SHARE = 0.005
EXPLAINED = 0.9  # of the rows that lie outside, by one factor
MARGIN = 0.2  # decades beyond the reference's range


@dataclass(frozen=True)
class UnitChange:
    """`words` go on after "the target". `certain`: no other cause is likely."""

    words: str
    certain: bool


@dataclass(frozen=True)
class MixedRows:
    """Rows whose values are `factor` times those of the others. `at`: their positions."""

    at: NDArray[np.int64]
    factor: float


def unit_change(before: Floats, now: Floats) -> UnitChange | None:
    """Whether all of the values changed by one factor, or one straight line; None where they did not."""
    before, now = before[np.isfinite(before)], now[np.isfinite(now)]
    if len(before) < MIN_ROWS or len(now) < MIN_ROWS:
        return None
    old, new = np.percentile(before, LEVELS), np.percentile(now, LEVELS)
    return _straight(old, new) or _factor(old, new)


def _factor(old: Floats, new: Floats) -> UnitChange | None:
    sign = np.sign(old[len(old) // 2])
    if not (np.all(old * sign > 0) and np.all(new * sign > 0)):
        return _factor_of_spread(old, new)
    moved = np.log10(new / old)
    shift = float(np.median(moved))
    if abs(shift) < SUSPECT_DECADES or np.mean(np.abs(moved - shift)) > AS_A_WHOLE:
        return None
    return _in_words(shift)


def _factor_of_spread(old: Floats, new: Floats) -> UnitChange | None:
    """Values on both sides of zero: their spread changed, and so did all quantiles."""
    width = float(old[-1] - old[0]), float(new[-1] - new[0])
    if min(width) <= 0 or abs(np.log10(width[1] / width[0])) < CERTAIN_DECADES:
        return None
    if np.mean(np.abs(new / width[1] - old / width[0])) > 0.1:
        return None
    return _in_words(float(np.log10(width[1] / width[0])))


def _in_words(shift: float) -> UnitChange:
    factor, name = 10 ** abs(shift), known_factor(10 ** abs(shift))
    direction = "larger" if shift > 0 else "smaller"
    certain = abs(shift) >= CERTAIN_DECADES
    hint = "" if name is None else f" (a change of unit{f', such as {name}' if name else ''}?)"
    return UnitChange(f"became {factor:.3g} times {direction} as a whole{hint}", certain)


def known_factor(factor: float) -> str | None:
    """What changes by such a factor, perhaps nothing by name; None where no unit does."""
    fits = [(abs(np.log(factor / known)), name) for known, name in FACTORS.items()]
    distance, name = min(fits)
    return name if distance <= np.log(SAME_FACTOR) else None


def _straight(old: Floats, new: Floats) -> UnitChange | None:
    scale = float(np.percentile(old, 75) - np.percentile(old, 25))
    if scale <= 0 or np.mean(np.abs(new - old)) / scale < FAR:
        return None
    for slope, offset, name in LINES:
        if np.mean(np.abs((new - offset) / slope - old)) / scale <= NEAR:
            return UnitChange(f"changed as from {name}", True)
    return None


def mixed_units(values: Floats, reference: Floats | None) -> MixedRows | None:
    """Rows of a file whose values are a known factor away from all others; None where there are none.

    With a reference, "the others" are its values; without, the larger of two groups with a gap between them.
    """
    at = np.flatnonzero(np.isfinite(values) & (values > 0))
    if len(at) < max(MIN_ROWS, 0.9 * np.isfinite(values).sum()):
        return None
    logs = np.log10(values[at])
    known: Floats | None = None
    if reference is not None:
        known = reference[np.isfinite(reference) & (reference > 0)]
        if len(known) < MIN_ROWS:
            return None
        low, high = np.percentile(np.log10(known), [0.5, 99.5])
        outside = (logs < low - MARGIN) | (logs > high + MARGIN)
    else:
        ordered = np.sort(logs)
        gaps = np.diff(ordered)
        least = max(1, int(MIXED_SHARE * len(logs)))
        inner = gaps[least - 1 : len(gaps) - least + 1]
        if not len(inner) or inner.max() < 3 * MARGIN:
            return None
        cut = int(np.argmax(inner)) + least
        upper = logs >= ordered[cut]
        outside = upper if upper.mean() <= 0.5 else ~upper
        low, high = np.percentile(logs[~outside], [0.5, 99.5])
    if high - low > CERTAIN_DECADES or outside.sum() < max(3, MIXED_SHARE * len(logs)) or outside.mean() > 0.95:
        return None
    inside = (logs >= low) & (logs <= high)
    if not inside.any() or np.sum(~outside & ~inside) > 0.02 * len(logs) + 0.2 * outside.sum():
        return None  # no gap between the two: a long tail
    main = np.log10(known) if known is not None else logs[inside]
    for factor in FACTORS:
        for sign in (1.0, -1.0):
            undone = logs[outside] - sign * np.log10(factor)
            fits = np.mean((undone >= low - MARGIN / 2) & (undone <= high + MARGIN / 2)) >= EXPLAINED
            if fits and abs(np.median(undone) - np.median(main)) <= MARGIN:
                return MixedRows(at[outside], factor if sign > 0 else 1 / factor)
    return None
