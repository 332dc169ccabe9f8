"""What an option means, in words a person decides by: titles, consequences, numbers. Pure."""

from collections.abc import Sequence

from tools.core.contract import Option
from tools.integrations.people.tradeoff import Candidate, Pick, Scale

MIB = 2**20
IN_POINTS = frozenset(
    {"accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision"}
)  # shares, told in hundredths
_WORDS = {"latency": "fastest", "size": "smallest", "fairness": "fairest", "balanced": "balanced"}


def option_of(pick: Pick, best: Candidate, top: float, metric: str, objectives: Sequence[str], scale: Scale) -> Option:
    """A pick as an option: told by itself where it is the best in quality, else against that one.

    Args:
        best: the option of the best quality.
        top: the best value of any trial, which may be another's that cannot be told from it.
    """
    candidate = pick.candidate
    name, *more = pick.wishes
    if candidate.number == best.number:
        tied = "" if candidate.value == top else f" ({top:.4g} of another trial is no better beyond noise)"
        told = _alone(candidate, metric, tied)
    else:
        told = _against(candidate, best, metric, objectives, scale)
    return Option(
        name=name,
        title=title_of(pick, metric),
        consequences=f"{told}.",
        numbers=_numbers(candidate, metric),
        preferences=list(more),
    )


def title_of(pick: Pick, metric: str) -> str:
    """`Best roc_auc: boosting`, `Fastest and smallest: linear`."""
    words = [f"best {metric}" if wish == "quality" else _WORDS[wish] for wish in pick.wishes]
    joined = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    number = pick.candidate.number + 1  # counted as in the search's messages
    return f"{joined[0].upper()}{joined[1:]}: {pick.candidate.family} (trial {number})"


def _numbers(candidate: Candidate, metric: str) -> dict[str, float | int | None]:
    """The numbers at the digits that are told."""
    found: dict[str, float | int | None] = {metric: float(f"{candidate.value:.4g}")}
    if "latency" in candidate.costs:
        found["latency_ms"] = float(f"{candidate.costs['latency']:.3g}")
    if "size" in candidate.costs:
        found["size_mib"] = float(f"{candidate.costs['size'] / MIB:.3g}")
    if "fairness" in candidate.costs:
        found["fairness_gap"] = float(f"{candidate.costs['fairness']:.3g}")
    return found


def _alone(candidate: Candidate, metric: str, tied: str) -> str:
    parts = [f"{metric} {candidate.value:.4g} on the validation rows{tied}"]
    if "latency" in candidate.costs:
        parts.append(f"{candidate.costs['latency']:.3g} ms per prediction")
    if "size" in candidate.costs:
        parts.append(f"{candidate.costs['size'] / MIB:.3g} MiB")
    if "fairness" in candidate.costs:
        parts.append(f"fairness gap {candidate.costs['fairness']:.3g}")
    return ", ".join(parts)


def _against(candidate: Candidate, best: Candidate, metric: str, objectives: Sequence[str], scale: Scale) -> str:
    parts = [_quality(candidate, best, metric, scale)]
    if "latency" in objectives:
        ours, theirs = candidate.costs["latency"], best.costs["latency"]
        parts.append(_times(ours, theirs, "faster", "slower", "as fast", f"{ours:.3g} instead of {theirs:.3g} ms"))
    if "size" in objectives:
        ours, theirs = candidate.costs["size"], best.costs["size"]
        shown = f"{ours / MIB:.3g} instead of {theirs / MIB:.3g} MiB"
        parts.append(_times(ours, theirs, "smaller", "larger", "as large", shown))
    if "fairness" in objectives:
        parts.append(f"fairness gap {candidate.costs['fairness']:.3g} instead of {best.costs['fairness']:.3g}")
    return ", ".join(parts)


def _quality(candidate: Candidate, best: Candidate, metric: str, scale: Scale) -> str:
    difference = candidate.value - best.value
    shown = f"{candidate.value:.4g} instead of {best.value:.4g}"
    if not scale.worse(candidate, best, "quality"):
        return f"{metric} as good within the noise of the validation rows ({shown})"
    share = f" ({100 * abs(difference / best.value):.0f} %)" if best.value else ""
    size = f"{100 * abs(difference):.2g} points" if metric in IN_POINTS else f"{abs(difference):.3g}{share}"
    return f"{size} {'more' if difference > 0 else 'less'} {metric} ({shown})"


def _times(ours: float, theirs: float, less: str, more: str, same: str, shown: str) -> str:
    """`4.1 times faster (1.2 instead of 4.9 ms)`; the same where the numbers are told the same."""
    if ours == theirs:
        return same
    factor, word = (theirs / ours, less) if ours < theirs else (ours / theirs, more)
    times = f"{factor:.0f}" if factor >= 10 else f"{factor:.2g}"
    return f"{times} times {word} ({shown})" if factor >= 1.05 else f"about {same} ({shown})"
