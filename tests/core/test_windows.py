"""The use of the last hour and day, shared by every process that uses a state folder."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.core.policy import Limit
from tools.core.policy.amounts import Window
from tools.core.windows import WindowsError, WindowStore

ROOT = Path(__file__).parents[2]
LIMITS = {"calls": Limit(per_hour=10, per_day=15), "trials": Limit(per_run=5)}
MANY = """
import sys
from pathlib import Path
from tools.core.policy import Limit
from tools.core.windows import WindowStore
store = WindowStore(Path(sys.argv[1]))
print(sum(not store.reserve({"calls": 1.0}, {"calls": Limit(per_hour=50)}, free=False)[0] for _ in range(30)))
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def take(store: WindowStore, count: int) -> int:
    """How many of as many calls were let through."""
    return sum(not store.reserve({"calls": 1.0}, LIMITS, free=False)[0] for _ in range(count))


def test_an_hour_and_a_day_are_bounded_and_go_by(tmp_path: Path) -> None:
    clock = Clock()
    store = WindowStore(tmp_path, clock)
    assert take(store, 12) == 10
    clock.now += 3600 - 120
    assert take(store, 1) == 0
    clock.now += 240
    assert take(store, 10) == 5, "the day has the rest"
    clock.now += 86400 + 900
    assert take(store, 20) == 10
    assert store.used(LIMITS) == {"calls": {Window.HOUR: 10.0, Window.DAY: 10.0}}


def test_the_refusal_says_what_was_used_and_the_bound(tmp_path: Path) -> None:
    store = WindowStore(tmp_path)
    take(store, 10)
    why, _ = store.reserve({"calls": 1.0}, LIMITS, free=False)
    assert (
        why == "calls 1 on top of the 10 that were used in the last hour is above the policy's limit of 10 for an hour"
    )


def test_what_is_released_can_be_used_again(tmp_path: Path) -> None:
    store = WindowStore(tmp_path)
    _, at = store.reserve({"calls": 10.0}, LIMITS, free=False)
    assert take(store, 1) == 0
    store.release({"calls": 10.0}, LIMITS, at)
    assert take(store, 10) == 10


def test_a_limit_without_a_time_window_leaves_no_file(tmp_path: Path) -> None:
    store = WindowStore(tmp_path / "home")
    assert store.reserve({"trials": 99.0}, LIMITS, free=False)[0] == ""
    assert store.used({"trials": Limit(per_run=1)}) == {}
    assert not (tmp_path / "home").exists()


def test_another_store_on_the_folder_goes_on_where_the_first_was(tmp_path: Path) -> None:
    assert take(WindowStore(tmp_path), 7) == 7
    assert take(WindowStore(tmp_path), 7) == 3


def test_threads_and_processes_together_stay_inside_the_bound(tmp_path: Path) -> None:
    def process(_: int) -> int:
        run = [sys.executable, "-c", MANY, str(tmp_path)]
        return int(subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True).stdout)

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(process, range(3))) == 50


@pytest.mark.parametrize("content", ["\0", "{", "[]", '{"v": 9, "used": {}}', '{"v": 1, "used": {"calls": 3}}', "null"])
def test_a_file_that_cannot_be_read_lets_nothing_through_and_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "limits.json").write_text(content)
    store = WindowStore(tmp_path)
    with pytest.raises(WindowsError, match="a person may remove it"):
        store.reserve({"calls": 1.0}, LIMITS, free=False)


def test_a_person_may_remove_the_file_while_it_is_used(tmp_path: Path) -> None:
    store = WindowStore(tmp_path)
    assert take(store, 12) == 10
    (tmp_path / "limits.json").unlink()
    assert take(store, 12) == 10
    assert take(WindowStore(tmp_path), 1) == 0


def test_a_shorter_text_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    clock = Clock()
    store = WindowStore(tmp_path, clock)
    for _ in range(60):
        clock.now += 60
        store.reserve({"calls": 0.125}, LIMITS, free=False)
    clock.now += 90_000
    assert take(store, 1) == 1
    assert WindowStore(tmp_path, clock).used(LIMITS) == {"calls": {Window.HOUR: 1.0, Window.DAY: 1.0}}


def test_the_file_stays_small_over_weeks(tmp_path: Path) -> None:
    clock = Clock()
    store = WindowStore(tmp_path, clock)
    for _ in range(400):
        clock.now += 1800
        store.reserve({"calls": 1.0}, {"calls": Limit(per_day=1e6)}, free=False)
    assert (tmp_path / "limits.json").stat().st_size < 8000
