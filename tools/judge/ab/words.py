"""What an A/B test's verdict says to people: each sentence true of all units, or saying of which it is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.judge.ab.verdict import Effect, Judged, Segment


def units_of(count: int) -> str:
    return f"{count} unit{'' if count == 1 else 's'}"


def by(difference: float) -> str:
    """A difference in the challenger's favour, as people say it."""
    if f"{difference:.4f}" in ("0.0000", "-0.0000"):
        return "no better and no worse"
    return f"{abs(difference):.4f} {'better' if difference > 0 else 'worse'}"


def measured(effect: "Effect", alpha: float) -> str:
    """The difference over all units with its interval; empty where one variant has no unit yet."""
    if effect.difference is None:
        return ""
    told = f"over all units the challenger is {by(effect.difference)}"
    if effect.is_moving or not effect.is_bounded:
        return told
    return (
        f"{told}, between {by(effect.low)} and {by(effect.high)} with {100 * (1 - alpha):.4g}% confidence at every look"
    )


def moving(effect: "Effect") -> str:
    """The warning that no one difference goes with all looks; empty where one does."""
    if not effect.is_moving or effect.difference is None:
        return ""
    proven = (
        f"{effect.low:+.4f} or more at one look and {effect.high:+.4f} or less at another"
        if effect.low > effect.high
        else f"{effect.low:+.4f} to {effect.high:+.4f} on the way"
    )
    return (
        f"the looks contradict each other: in the challenger's favour they prove {proven}, and the means of all units "
        f"say {effect.difference:+.4f}; the difference may have changed during the test"
    )


def harmed_segment(segment: "Segment", verdict: str) -> str:
    effect = segment.effect
    told = f"the segment {segment.name} is harmed: the challenger was proven at least {by(effect.high)} there"
    if effect.difference is not None:
        told += f", and is {by(effect.difference)} over all its units"
    return told + (", although it wins on the whole" if verdict == "challenger_wins" else "")


def in_short(found: "Judged") -> str:
    """The verdict, why, and what to look at."""
    words = found.verdict.replace("_", " ").capitalize()
    warned = "".join(f" Warning: {warning}." for warning in found.warnings)
    return f"{words} after {units_of(found.effect.units)}: {'; '.join(found.reasons)}.{warned}"
