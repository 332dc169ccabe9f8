"""The front of a search with several objectives."""

import itertools

from tools.modeling.pareto import pareto_front, spread_of
from tools.modeling.trials import Trial


def trial(number: int, value: float, gap: float | None, size: float = 100.0, broken: float = 0.0) -> Trial:
    facts = {"value": value, "latency_ms": 1.0, "size_bytes": size, "fairness_gap": gap}
    return Trial.model_validate({"number": number, **facts, "violations": {"max_gap": broken}})


def test_the_front_keeps_the_fairer_of_two_and_leaves_out_what_breaks_a_constraint() -> None:
    trials = [trial(0, 0.9, 0.4), trial(1, 0.8, 0.2), trial(2, 0.7, 0.3), trial(3, 0.95, 0.6, broken=0.2)]
    assert [t.number for t in pareto_front(trials, 1.0)] == [0, 1]
    assert [t.number for t in pareto_front(trials[3:], 1.0)] == [3], "where none keeps to them"
    alike = [trial(0, 0.9, 0.401), trial(1, 0.89, 0.4), trial(2, 0.88, 0.1)]
    assert [t.number for t in pareto_front(alike, 1.0)] == [0, 2], "a difference of a few rows is none"
    assert [t.number for t in pareto_front([trial(0, 0.9, None), trial(1, 0.8, 0.1)], 1.0)] == [0, 1]


def test_a_shortened_front_keeps_the_ends() -> None:
    front = [trial(k, 1.0 - k / 100, 0.5 - k / 100, size=100.0 + (k != 7)) for k in range(10)]
    assert [t.number for t in spread_of(front, 4)] == [0, 1, 7, 9]
    assert spread_of(front, 20) == front
    assert spread_of([], 4) == []


def test_every_order_of_equal_trials_gives_the_same_front() -> None:
    trials = [trial(k, 0.9 - k / 10, 0.4 - k / 10) for k in range(4)]
    fronts = {tuple(t.number for t in pareto_front(order, 1.0)) for order in itertools.permutations(trials)}
    assert fronts == {(0, 1, 2, 3)}


def test_the_front_leaves_out_what_another_beats_in_value_latency_and_size() -> None:
    def trial(number: int, value: float | None, latency_ms: float, size_bytes: float) -> Trial:
        return Trial(number=number, value=value, latency_ms=latency_ms, size_bytes=size_bytes)

    trials = [
        trial(0, 0.80, 1.00, 100), trial(1, 0.90, 9.0, 900), trial(2, 0.79, 1.01, 100), trial(3, 0.85, 9.0, 950),
        trial(4, 0.70, 1.00, 50), trial(5, None, 0.1, 1), trial(6, 0.90, 9.1, 900),
    ]  # fmt: skip
    assert [t.number for t in pareto_front(trials, 1.0)] == [1, 0, 4]
    assert [t.number for t in pareto_front(trials, -1.0)] == [4]
