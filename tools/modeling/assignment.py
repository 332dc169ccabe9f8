"""Which variant of an experiment a unit gets: a pure function, so that everyone who asks gets the same answer."""

import math
from collections.abc import Mapping
from hashlib import blake2b


def assign(salt: str, unit: str, weights: Mapping[str, float]) -> str:
    """The variant of a unit, by weighted rendezvous hashing (Schindelhauer and Schomaker 2005).

    Each variant draws a waiting time from an exponential distribution whose rate is its weight, fixed by the hash of
    salt, variant and unit; the shortest wins. So the assignment is sticky, in proportion to the weights, independent
    between salts, and a weight that is raised moves units into its variant only, never out of it or between others.

    Args:
        salt: of one experiment. Other salts split the same units independently.
        unit: any string; equal units get equal variants.
        weights: variant -> weight, 0 or more. Only their ratios count.

    Raises:
        ValueError: no variant has a weight above 0, or one has a negative or infinite weight.
    """
    if not any(weights.values()) or not all(0.0 <= weight < math.inf for weight in weights.values()):
        raise ValueError(f"weights must be finite, 0 or more, and one of them above 0; got {dict(weights)}")
    waits = {name: -math.log(_uniform(salt, name, unit)) / weight for name, weight in weights.items() if weight > 0}
    return min(waits, key=lambda name: (waits[name], name))


def _uniform(*parts: str) -> float:
    """A number in (0, 1] that depends on the parts alone. Lengths are hashed too, so that no two lists collide."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 11) + 1) / 2**53
