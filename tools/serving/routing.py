"""Which variant answers a request: a pure function, so that a run with the same seed repeats it."""

from hashlib import blake2b
from typing import Literal

Variant = Literal["champion", "challenger"]
CHAMPION: Variant = "champion"
CHALLENGER: Variant = "challenger"


def route(request_id: str, seed: int, percent: float) -> Variant:
    """The variant for a request.

    Sticky: the same id and seed give the same answer, and raising `percent` never moves a request back to the
    champion (each id has one fixed point in [0, 100) and the challenger gets what lies below `percent`).

    Args:
        request_id: any string; equal ids are routed equally.
        seed: of the canary, so that another canary picks other requests.
        percent: the challenger's share, 0 to 100.
    """
    digest = blake2b(f"{seed}:{request_id}".encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "big") / 2**64 * 100.0
    return CHALLENGER if point < percent else CHAMPION
