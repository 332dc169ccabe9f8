"""Which variant answers a request: a pure function, so that a run with the same seed repeats it."""

from typing import Literal

from tools.modeling.assignment import assign

Variant = Literal["champion", "challenger"]
CHAMPION: Variant = "champion"
CHALLENGER: Variant = "challenger"
NOT_ASKED = 0  # status of a variant that was not asked for a score


def route(key: str, seed: int, percent: float) -> Variant:
    """The variant for a request, or for a unit such as a customer.

    Sticky: the same key and seed give the same answer, and raising `percent` never moves a key back to the champion.

    Args:
        key: any string; equal keys are routed equally.
        seed: of the canary, so that another canary picks other requests.
        percent: the challenger's share, 0 to 100.
    """
    chosen = assign(str(seed), key, {CHAMPION: 100.0 - percent, CHALLENGER: percent})
    return CHALLENGER if chosen == CHALLENGER else CHAMPION
