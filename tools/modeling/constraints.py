"""What the trials of a search must keep to, and by how much one does not."""

from collections.abc import Mapping

from pydantic import ValidationError

from tools.core.bounds import parse_json
from tools.core.errors import FixableError, shorten
from tools.modeling.search import SearchConstraints
from tools.modeling.trials import Trial

MIB = 2**20
VALID = "{max_latency_ms, max_size_mib, fairness: {column, measure, max_gap}}, all optional but column and measure"


def read_constraints(text: str) -> SearchConstraints:
    """The constraints that an argument states; none where it is empty.

    Raises:
        FixableError: not JSON, or not those keys; says what is valid.
    """
    if not text.strip():
        return SearchConstraints()
    try:
        return SearchConstraints.model_validate(parse_json(text))
    except FixableError as error:
        raise FixableError(f"the constraints are {error.message}; got {shorten(text, 80)!r}; valid: {VALID}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "constraints"
        raise FixableError(
            f"constraints: {where}: {first['msg']}; got {shorten(text, 120)!r}; valid: {VALID}"
        ) from error


def violations(
    constraints: SearchConstraints, *, latency_ms: float, size_bytes: float, fairness_gap: float | None
) -> dict[str, float]:
    """Constraint -> how far beyond its bound, as a share of the bound (0.2: 20 % above); 0 or below keeps to it.

    Shares of the bounds, so that milliseconds, bytes and gaps can be added up.
    """
    fairness = constraints.fairness
    stated: dict[str, tuple[float | None, float | None]] = {
        "max_latency_ms": (latency_ms, constraints.max_latency_ms),
        "max_size_mib": (size_bytes / MIB, constraints.max_size_mib),
        "max_gap": (fairness_gap, fairness.max_gap if fairness else None),
    }
    return {
        name: value / bound - 1.0 for name, (value, bound) in stated.items() if value is not None and bound is not None
    }


def total_violation(found: Mapping[str, float]) -> float:
    """How far a trial is from keeping to all constraints; 0 when it does."""
    return sum(max(0.0, share) for share in found.values())


def broken_words(trial: Trial, constraints: SearchConstraints) -> str:
    """The constraints that a trial does not keep to, for people; empty when it keeps to all."""
    fairness = constraints.fairness
    words = {
        "max_latency_ms": f"latency {trial.latency_ms_p95 or 0.0:.3g} ms, at most {constraints.max_latency_ms} (p95)",
        "max_size_mib": f"size {(trial.size_bytes or 0.0) / MIB:.3g} MiB, at most {constraints.max_size_mib}",
        "max_gap": f"fairness gap {trial.fairness_gap or 0.0:.3g}, at most {fairness.max_gap if fairness else None}",
    }
    return "; ".join(words[name] for name, share in trial.violations.items() if share > 0)
