"""Constraints of a search."""

import pytest

from tools.core.errors import FixableError
from tools.modeling.constraints import read_constraints, total_violation, violations


def test_a_violation_is_a_share_of_its_bound() -> None:
    constraints = read_constraints('{"max_latency_ms": 10, "max_size_mib": 1}')
    found = violations(constraints, latency_ms=15.0, size_bytes=2**19, fairness_gap=None)
    assert found == {"max_latency_ms": 0.5, "max_size_mib": -0.5}
    assert total_violation(found) == 0.5, "what is kept to by far does not pay for what is not"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ('{"max_latency": 5}', "max_latency: Extra inputs"),
        ('{"max_size_mib": 0}', "greater than 0"),
        ('{"fairness": {"column": "g"}}', "fairness.measure"),
    ],
)
def test_wrong_constraints_say_what_is_valid(text: str, words: str) -> None:
    with pytest.raises(FixableError, match=words) as refused:
        read_constraints(text)
    assert "max_latency_ms, max_size_mib, fairness" in refused.value.message
