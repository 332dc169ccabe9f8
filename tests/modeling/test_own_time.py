"""A clock that stands still while its thread waits for a core."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tools.modeling import own_time
from tools.modeling.own_time import OwnTime


def ticking(monkeypatch: pytest.MonkeyPatch, wall: list[float], waited: list[float]) -> None:
    """What the two clocks say, reading by reading."""
    at: Iterator[float] = iter(wall)
    delays: Iterator[float] = iter(waited)
    monkeypatch.setattr(own_time.time, "perf_counter", lambda: next(at))
    monkeypatch.setattr(OwnTime, "_starved", lambda self: next(delays))


def test_a_wait_for_a_core_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch, [10.0, 15.0], [1.0, 1.0, 5.5, 5.5])
    with OwnTime() as clock:
        started = clock.now()
        assert clock.now() - started == pytest.approx(0.5), "4.5 of the 5 s had no core"


def test_a_core_that_is_lost_between_the_two_readings_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch, [10.0, 14.0], [1.0, 5.0, 5.0])
    with OwnTime() as clock:
        assert clock.now() == 9.0


def test_sleeping_and_computing_count_wherever_one_is() -> None:
    with OwnTime() as clock:
        started = clock.now()
        time.sleep(0.05)
        slept = clock.now()
        busy = time.thread_time() + 0.05
        while time.thread_time() < busy:
            pass
        assert slept - started >= 0.04
        assert clock.now() - slept >= 0.045


def test_where_nobody_counts_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(own_time.os, "open", absent)
    with OwnTime() as clock:
        before = time.perf_counter()
        assert before <= clock.now() <= time.perf_counter()
        clock.close()
