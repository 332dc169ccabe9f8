"""Whether an agent's claims are carried by what tools returned: numbers, paths, URIs and versions must occur there.

An agent may leave a fact out; it may not make one up. Rounding is allowed: a claimed number matches a recorded one
when it equals it rounded to the digits claimed.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

from tasks.base import Evidence, TaskResult, walk

# Decimals in a sentence: 0.83, 12.5 %, 1,234.5. Plain integers are left alone: sentences count and date things.
_DECIMAL = re.compile(r"(?<![\w.,])-?\d[\d,]*\.\d+(?!\.?\d)")
_REFERENCE_FIELD = re.compile(r"(?:_uri|_path|version|_id)$")


def ungrounded(result: TaskResult, evidence: Evidence) -> list[str]:
    """Every claim in `result` that no tool result, earlier task result or part of the goal carries."""
    sources = [r.model_dump(mode="json") for _, _, _, r in evidence.calls]
    sources += [earlier.model_dump(mode="json") for earlier in evidence.inputs.results.values()]
    sources.append(evidence.inputs.goal.model_dump(mode="json"))
    sources += [arguments for _, _, arguments, _ in evidence.calls]
    numbers, texts = _facts(sources)
    problems: list[str] = []
    for path, value in walk(result.model_dump(mode="json")):
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int | float):
            if not _known(float(value), repr(value), numbers):
                problems.append(f"{path} = {value!r} was returned by no tool")
        elif isinstance(value, str):
            if _REFERENCE_FIELD.search(path) and value and value not in texts:
                problems.append(f"{path} = {value!r} was returned by no tool")
            elif path == "summary":
                problems += [
                    f"the summary claims {match}, which no tool returned"
                    for match in _DECIMAL.findall(value)
                    if not _known(float(match.replace(",", "")), match.replace(",", ""), numbers)
                ]
    return problems


def _facts(sources: Iterable[Any]) -> tuple[list[float], set[str]]:
    numbers: list[float] = []
    texts: set[str] = set()
    for source in sources:
        for _, value in walk(source):
            if isinstance(value, bool) or value is None:
                continue
            if isinstance(value, int | float):
                numbers.append(float(value))
                texts.add(str(value))
            else:
                texts.add(str(value))
                numbers += [float(m.replace(",", "")) for m in _DECIMAL.findall(str(value))]
    return numbers, texts


def _known(claimed: float, written: str, numbers: list[float]) -> bool:
    """Whether some recorded number, or it as a percentage, rounds to the claimed one at the digits claimed."""
    digits = len(written.partition(".")[2]) if "e" not in written.lower() else 12
    tolerance = 0.5 * 10.0**-digits + 1e-12
    return any(
        math.isclose(claimed, scaled, rel_tol=1e-9, abs_tol=tolerance if digits else 1e-9)
        for number in numbers
        for scaled in (number, -number, number * 100, number / 100)
    )
